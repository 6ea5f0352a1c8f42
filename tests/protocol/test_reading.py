"""The real daemon and the bodies of messages: which it wants shown, how much of them, and for whom."""

from collections.abc import Iterator

import pytest

from tests.harness.fake_mta import (
    Client,
    HeaderAdded,
    Message,
    Outcome,
    SenderChanged,
    Session,
    Step,
    Verdict,
)
from tests.harness.milter_host import DOMAIN, REJECTING, MilterHost
from tests.harness.milter_wire import ALL_ACTIONS, ALL_STEPS, Connection
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

ALICE = f"<alice@{DOMAIN}>"
FRIEND = "<friend@else.example>"
OUTSIDE = Client(name="mx.victim.example", address="198.51.100.25")
INSIDE = Client(name="localhost", address="127.0.0.1")
EVERYTHING = '["tag", "memory", "dkim", "correspondent"]'
BIG = b"0123456789abcdef" * (5 * 65536)


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[MilterHost]:
    with MilterHost(shared_redis, proof=EVERYTHING) as made:
        yield made


class Watched(Session):
    """A session that counts what it showed of bodies."""

    def __init__(self, target: str, client: Client) -> None:
        super().__init__(target, client)
        self.chunks = 0
        shown = self.connection.body

        def body(chunk: bytes) -> object:
            self.chunks += 1
            return shown(chunk)

        self.connection.body = body  # type: ignore[method-assign,assignment]  # only counts


def send(host: MilterHost, message: Message, client: Client = OUTSIDE) -> tuple[Outcome, int]:
    """What becomes of a message, and how many pieces of its body were shown."""
    with Watched(host.daemon.target, client) as session:
        outcome = session.send(message)
        return outcome, session.chunks


def bounce(message_id: str, padding: bytes = b"") -> Message:
    body = (
        b"--b\r\n\r\nNo.\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: <alice@our.example>\r\n"
        b"To: <victim@else.example>\r\nMessage-ID: <%s>\r\n\r\n" % message_id.encode()
    )
    headers = (
        ("From", "MAILER-DAEMON@mx.victim.example"),
        ("Subject", "Undelivered Mail"),
        ("Content-Type", "multipart/report; report-type=delivery-status;\n\tboundary=b"),
    )
    return Message("<>", [ALICE], headers=headers, body=body + padding)


def letter(message_id: str, body: bytes = b"Hello.\r\n") -> Message:
    headers = (("From", ALICE), ("Subject", "a letter"), ("Message-ID", f"<{message_id}>"))
    return Message(ALICE, [FRIEND], headers=headers, body=body)


def remembered(host: MilterHost) -> int:
    with host.redis.client() as client:
        return sum(client.scard(key) for key in client.scan_iter("backstop:sent:*"))


class TestNegotiation:
    def test_bodies_are_asked_for_with_a_reply(self, host: MilterHost) -> None:
        host.start()
        with host.daemon.session() as session:
            steps = session.negotiated.steps
        assert not steps & (Step.NO_BODY | Step.NR_BODY | Step.NO_HEADERS)
        assert steps & Step.SKIP
        assert steps & Step.NR_HEADER
        assert steps & Step.NO_EOH

    def test_a_setting_in_redis_counts_from_the_next_connection(self, shared_redis: RedisServer) -> None:
        with MilterHost(shared_redis) as host, host.redis.client() as client:
            host.start(workers=1)
            with Watched(host.daemon.target, OUTSIDE) as session:
                assert session.negotiated.steps & Step.NO_BODY
                client.hset(f"backstop:domain:{DOMAIN}", "proof", "tag, memory")
                outcome = session.send(bounce("x@y"))
                assert (outcome.stage, outcome.final.code) == ("data", 550)
            with Watched(host.daemon.target, OUTSIDE) as session:
                assert not session.negotiated.steps & Step.NO_BODY
                outcome = session.send(bounce("x@y"))
                assert (outcome.stage, outcome.final.code) == ("eom", 550)


class TestWhatIsShown:
    def test_ordinary_mail_ends_at_data(self, host: MilterHost) -> None:
        host.start()
        outcome, chunks = send(host, Message("<friend@else.example>", [ALICE], body=BIG))
        assert (outcome.stage, outcome.final.verdict, chunks) == ("data", Verdict.ACCEPT, 0)

    def test_a_tagged_bounce_ends_at_data(self, host: MilterHost) -> None:
        host.start()
        tagged = f"<{host.tagged(ALICE.strip('<>'))}>"
        outcome, chunks = send(host, Message("<>", [tagged], body=BIG))
        assert (outcome.stage, outcome.final.verdict, chunks) == ("data", Verdict.ACCEPT, 0)

    def test_of_outgoing_mail_one_piece_is_declined(self, host: MilterHost) -> None:
        host.start()
        outcome, chunks = send(host, letter("one@our.example", BIG), INSIDE)
        assert (outcome.stage, chunks) == ("eom", 1)
        assert any(isinstance(change, SenderChanged) for change in outcome.changes)
        wait_for(lambda: remembered(host) == 1, 5, "the memory")

    def test_of_a_junked_message_that_is_not_read_too(self, host: MilterHost) -> None:
        host.start('actions = { forged_sender = "junk" }')
        outcome, chunks = send(host, Message(f"<bob@{DOMAIN}>", [ALICE], body=BIG))
        assert (outcome.stage, chunks) == ("eom", 1)
        assert any(isinstance(change, HeaderAdded) for change in outcome.changes)

    def test_a_bounce_is_shown_up_to_a_megabyte(self, host: MilterHost) -> None:
        host.start()
        outcome, chunks = send(host, bounce("x@y", BIG))
        assert (outcome.stage, outcome.final.code) == ("eom", 550)
        assert chunks == 16, "16 pieces of 64 kB are more than a million octets"

    def test_what_it_returns_counts(self, host: MilterHost) -> None:
        host.start()
        send(host, letter("one@our.example"), INSIDE)
        wait_for(lambda: remembered(host) == 1, 5, "the memory")
        outcome, _ = send(host, bounce("one@our.example", BIG))
        assert (outcome.final.verdict, outcome.changes) == (Verdict.ACCEPT, ())
        outcome, _ = send(host, bounce("two@our.example"))
        assert outcome.final.code == 550

    def test_a_mail_server_that_cannot_skip_shows_all(self, host: MilterHost) -> None:
        host.start()
        connection = Connection(host.daemon.target)
        connection.negotiate(ALL_ACTIONS, ALL_STEPS & ~Step.SKIP)
        connection.connect("mx", "198.51.100.25")
        connection.mail("<>")
        connection.rcpt(ALICE)
        connection.data()
        connection.header("From", "x@y.example")
        answers = {connection.body(b"x" * 60_000).verdict for _ in range(40)}
        assert answers == {Verdict.CONTINUE}
        assert connection.eom().code == 550
        connection.close()

    def test_a_thousand_headers_and_an_empty_body(self, host: MilterHost) -> None:
        host.start()
        many = [("X-Line", "y" * 900 + "\n\tz")] * 3000
        outcome, chunks = send(host, Message("<>", [ALICE], headers=many, body=b""))
        assert (outcome.stage, outcome.final.code, chunks) == ("eom", 550, 0)

    def test_odd_octets_in_headers(self, host: MilterHost) -> None:
        host.start()
        odd = [("From", "\udcff\udc80 <\udcfe@else.example>"), ("References", "<\udcff@x>"), ("X", "")]
        outcome, _ = send(host, Message("<>", [ALICE], headers=odd, body=b"\x00\xff\r\n"))
        assert outcome.final.code == 550
        assert "bug=" not in host.daemon.log_text()

    def test_one_message_leaves_nothing_for_the_next(self, host: MilterHost) -> None:
        host.start()
        with Session(host.daemon.target, OUTSIDE) as session:
            assert session.send(bounce("x@y")).final.code == 550
            session.probe(ALICE)
            assert session.send(Message("<friend@else.example>", [ALICE])).stage == "data"
            assert session.send(bounce("x@y")).final.code == 550


class TestRedisAway:
    def test_an_unproved_bounce_waits_and_a_proved_one_passes(self, redis_server: RedisServer) -> None:
        with MilterHost(redis_server, proof=EVERYTHING) as host:
            host.start(REJECTING)
            redis_server.kill()
            outcome, _ = send(host, bounce("x@y"))
            assert (outcome.stage, outcome.final.code) == ("eom", 451)
            tagged = f"<{host.tagged(ALICE.strip('<>'))}>"
            outcome, _ = send(host, Message("<>", [tagged]))
            assert outcome.final.verdict is Verdict.ACCEPT
            outcome, _ = send(host, letter("one@our.example"), INSIDE)
            assert any(isinstance(change, SenderChanged) for change in outcome.changes)
            redis_server.start()
            wait_for(lambda: remembered(host) == 1, 10, "the memory of the outage")
            outcome, _ = send(host, bounce("one@our.example"))
            assert outcome.final.verdict is Verdict.ACCEPT
