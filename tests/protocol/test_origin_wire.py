"""The checks of origin on the wire: what mail servers offer, and leave out, and what is told them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from backstop.adapters.public_suffixes import PublicSuffixes
from tests.harness.dkim_signer import rsa_key, sign
from tests.harness.fake_mta import (
    Change,
    Client,
    HeaderChanged,
    HeaderInserted,
    Message,
    Outcome,
    Recipient,
    RecipientAdded,
    RecipientRemoved,
    Session,
    Step,
)
from tests.harness.milter_wire import ALL_STEPS
from tests.harness.name_server import txt
from tests.harness.origin_host import (
    ALL,
    ID,
    INSIDE,
    LISTED,
    OUTSIDE,
    OriginHost,
    World,
    actions,
    by_name,
    letter,
)
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

RESULTS = "Authentication-Results"
PASS, FAIL, SOFTFAIL = "friend@pass.test", "friend@fail.test", "friend@softfail.test"
BOUNCE = Message(recipients=("<alice@our.example>",))
KEY = rsa_key(1024)


@pytest.fixture(autouse=True)
def _suffixes() -> None:
    try:
        PublicSuffixes().load()
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def world() -> Iterator[World]:
    with World({"signed": by_name(_signed)}) as world:
        yield world


@pytest.fixture
def host(world: World, shared_redis: RedisServer) -> Iterator[OriginHost]:
    with OriginHost(world, shared_redis) as host:
        yield host
        assert "bug=" not in host.log_text()


def _signed(name: str, _kind: str) -> list[str]:
    """A domain for which SPF does not speak, but a key does."""
    if name.startswith("_dmarc."):
        return ['TXT "v=DMARC1; p=reject"']
    return [f"TXT {txt(KEY.record)}"] if "._domainkey." in name else []


def signed(canon: str) -> Message:
    """A letter with a good signature."""
    text = b"From: A  Friend <friend@signed.test>\r\nTo: x@our.example\r\nSubject: a\r\n\tb\r\n\r\nHello.\r\n"
    octets = sign(KEY, text, domain="signed.test", canon=canon, headers=("from", "to", "subject"))
    head, _, body = octets.partition(b"\r\n\r\n")
    fields = head.decode().replace("\r\n", "\n").replace("\n\t", "\0\t").replace("\n ", "\0 ").split("\n")
    headers = tuple(field.replace("\0", "\n").split(": ", 1) for field in fields)
    return Message(
        "<friend@signed.test>",
        ("<alice@our.example>",),
        headers=tuple((name, value) for name, value in headers),
        body=body,
    )


def called(helo: str) -> Client:
    return replace(OUTSIDE, helo=helo)


def results(outcome: Outcome) -> str:
    """The value of our field; empty without it."""
    return "".join(
        change.value.strip()
        for change in outcome.changes
        if isinstance(change, HeaderInserted) and change.name == RESULTS
    )


OFFERS = {
    "all": ALL_STEPS,
    "no leading space": ALL_STEPS & ~Step.LEADING_SPACE,
    "no SKIP": ALL_STEPS & ~Step.SKIP,
    "HELO with an answer": ALL_STEPS & ~(Step.NO_HELO | Step.NR_HELO),
    "what Sendmail 8.13 had": 0x7F,
    "nothing we want": int(Step.NO_HEADERS),  # libmilter takes 0 for a mail server of version 1
}


class TestNegotiation:
    @pytest.mark.parametrize("offer", OFFERS)
    def test_whatever_a_mail_server_offers(self, host: OriginHost, offer: str) -> None:
        host.begin(ALL)

        def send(message: Message, client: Client = OUTSIDE) -> Outcome:
            with host.outside(client, offered=OFFERS[offer]) as session:
                assert session.negotiated.steps & ~OFFERS[offer] == 0
                return session.send(message)

        refused = send(letter(FAIL))
        assert (refused.stage, refused.final.code) == ("rcpt", 550)
        assert send(letter(PASS), replace(OUTSIDE, address=LISTED)).final.text.startswith("550 5.7.1")
        assert send(letter(PASS, author=FAIL)).final.text.startswith("550 5.7.1")
        passed = send(letter(PASS))
        assert passed.accepted
        for result in ("spf=pass smtp.mailfrom=pass.test", "dkim=permerror", "dmarc=pass"):
            assert result in results(passed)
        for canon in ("simple/simple", "relaxed/relaxed"):
            outcome = send(signed(canon))
            assert outcome.accepted
            for result in ("spf=none", "dkim=pass header.d=signed.test", "dmarc=pass"):
                assert result in results(outcome)
        large = replace(letter(PASS), body=b"x" * 78 * 30_000)
        assert send(large).accepted

    @pytest.mark.parametrize("offer", ["all", "nothing we want"])
    def test_a_bounce_has_its_helo_name_or_none(self, host: OriginHost, offer: str) -> None:
        host.begin('actions = { spf = "reject" }', 'proof = ["tag"]')
        for helo, code, found in [
            ("mx.fail.test", 550, ""),
            ("mx.pass.test", 250, "spf=pass smtp.helo=mx.pass.test"),
            ("", 250, "spf=none"),
            ("[198.51.100.25]", 250, "spf=none"),
            ("localhost", 250, "spf=none"),
            ("mx.servfail.test", 250, "spf=temperror smtp.helo=mx.servfail.test"),
        ]:
            with host.outside(called(helo), offered=OFFERS[offer]) as session:
                outcome = session.send(BOUNCE)
            assert outcome.final.code == code, helo
            assert outcome.stage == ("data" if code == 550 else "eom")
            assert found in results(outcome), helo


class TestConnection:
    def test_another_ehlo_counts_from_the_next_message(self, host: OriginHost) -> None:
        host.begin('actions = { spf = "reject" }')
        with host.outside(called("mx.pass.test")) as session:
            assert "spf=pass" in results(session.send(BOUNCE))
            for helo, code in [("mx.fail.test", 550), ("", 250), ("mx.fail.test", 550), ("x", 250)]:
                session.helo(helo)
                assert session.send(BOUNCE).final.code == code

    def test_of_one_message_nothing_counts_for_the_next(self, host: OriginHost) -> None:
        host.begin(ALL)
        with host.outside() as session:
            for _ in range(5):
                assert session.send(letter(FAIL)).final.code == 550
                assert "spf=pass smtp.mailfrom=pass.test" in results(session.send(letter(PASS)))
                assert not session.probe("<alice@our.example>", f"<{PASS}>").refused  # and RSET
                assert session.probe("<alice@our.example>", f"<{FAIL}>").code == 550
                assert session.send(letter(PASS, author=FAIL)).final.code == 550
                assert not session.probe("<alice@our.example>").refused
                softfail = session.send(letter(SOFTFAIL, author="friend@nothing.test"))
                assert "spf=softfail" in results(softfail)
        asked = [name for name in host.world.seen if name == "fail.test"]
        assert len(asked) == 1

    def test_bad_tags_and_recipients_in_doubt_are_as_before(self, host: OriginHost) -> None:
        host.begin(ALL)
        good = f"<{host.tagged('alice@our.example')}>"
        bad = "<prvs=1234abcdef=alice@our.example>"
        with host.outside(called("mx.fail.test")) as session:
            assert session.send(Message(recipients=(good,))).accepted == (good,)
            assert session.send(Message(recipients=(bad,))).recipients[0][1].text.startswith("550")
        seen = len(host.world.seen)
        with host.outside() as session:
            assert session.send(Message(recipients=(good,))).accepted == (good,)
            assert session.send(Message(recipients=(bad,))).stage == "rcpt"
            assert len(host.world.seen) == seen  # neither is a question
            several = session.send(Message(recipients=("<alice@our.example>", "<bob@our.example>")))
            assert [answer.code for _, answer in several.recipients] == [250, 452]
            assert several.final.code == 550
            assert session.send(Message(recipients=("<postmaster@our.example>",))).accepted
        with Session(host.target, INSIDE) as inside:
            assert inside.send(Message("<alice@our.example>", ("<a@fail.test>",))).changes


class TestStore:
    def test_without_it_the_file_says_what_is_checked(self, world: World) -> None:
        with OriginHost(world) as host:
            host.begin(ALL)
            with host.outside() as session:
                self._judges(session)
                assert "dmarc=pass" in results(session.send(letter(PASS)))

    def test_while_it_hangs_or_is_gone_nothing_changes(self, world: World, redis_server: RedisServer) -> None:
        with OriginHost(world, redis_server) as host:
            host.begin(ALL)
            with host.outside() as session:
                self._judges(session)
                redis_server.freeze()
                for _ in range(5):
                    self._judges(session)
                redis_server.thaw()
                redis_server.kill()
                for _ in range(5):
                    self._judges(session)

    @staticmethod
    def _judges(session: Session) -> None:
        assert session.send(letter(FAIL)).final.text.startswith("550 5.7.23")
        assert session.send(letter(PASS, author=FAIL)).final.text.startswith("550 5.7.1")
        assert session.send(letter(PASS)).accepted

    def test_a_setting_in_it_counts_from_the_next_message(self, host: OriginHost) -> None:
        host.begin()
        with host.outside(called("mx.fail.test")) as session, host.redis_client() as client:
            assert session.send(letter(FAIL)).accepted
            client.hset("backstop:domain:our.example", "spf", "reject")
            assert session.send(letter(FAIL)).final.code == 550
            # The HELO name, by which a bounce is judged, was not negotiated: nobody is refused for want of it
            assert session.send(BOUNCE).accepted
            with host.outside(called("mx.fail.test")) as later:
                assert later.send(BOUNCE).final.code == 550
            client.hset("backstop:domain:our.example", "spf", "off")
            assert session.send(letter(FAIL)).accepted

    def test_one_that_wants_signatures_counts_from_the_next_connection_too(self, host: OriginHost) -> None:
        """That bodies are shown already for another reason is not enough: headers lost their spaces."""
        host.begin('proof = ["tag", "memory"]')
        forged = letter(PASS, author=FAIL)
        with host.outside() as session, host.redis_client() as client:
            assert session.send(forged).accepted
            client.hset("backstop:domain:our.example", "dmarc", "reject")
            assert session.send(forged).accepted
            assert session.send(forged).accepted
            with host.outside() as later:
                assert later.send(forged).final.code == 550

    def test_one_that_wants_messages_read_counts_from_the_next_connection(self, host: OriginHost) -> None:
        host.begin('proof = ["tag"]')
        forged = letter(PASS, author=FAIL)
        with host.outside() as session, host.redis_client() as client:
            assert session.send(forged).accepted
            client.hset("backstop:domain:our.example", "dmarc", "reject")
            assert session.send(forged).accepted  # its body is not shown here
            with host.outside() as later:
                assert later.negotiated.steps & Step.NO_BODY == 0
                assert later.send(forged).final.code == 550
                assert "dkim=pass" in results(later.send(signed("simple/simple")))
                client.hdel("backstop:domain:our.example", "dmarc")
                assert later.send(forged).accepted


QUIET = 'quiet = "unvouched"'


def recipients(changes: tuple[Change, ...]) -> list[Change]:
    return [change for change in changes if isinstance(change, RecipientAdded | RecipientRemoved)]


class TestQuiet:
    def test_only_whom_it_is_about_is_replaced(self, host: OriginHost) -> None:
        host.begin(QUIET, 'strip = "milter"', 'recipients = ["redis"]', 'source_down = "continue"')
        with host.redis_client() as client:
            client.sadd("backstop:domains", "unknown.example")
            client.hset("backstop:domain:unknown.example", "recipients", "mta")
            client.sadd("backstop:recipients:our.example", "alice")
        tagged = f"<{host.tagged('Bob@unknown.example')}>"
        message = replace(
            letter(FAIL),
            recipients=(
                Recipient("<alice@our.example>", ("NOTIFY=FAILURE",)),
                Recipient(
                    "<a@unknown.example>", ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;A@unknown.example")
                ),
                Recipient("<gone@unknown.example>", ("NOTIFY=FAILURE",), refused="5.1.1 User unknown"),
                Recipient(tagged, ("ORCPT=rfc822;bob@unknown.example",)),
                Recipient("<c@else.example>", ("NOTIFY=FAILURE",)),
                "<nosuch@our.example>",
            ),
        )
        with host.outside() as session:
            outcome = session.send(message)
        assert [answer.code for _, answer in outcome.recipients] == [250, 250, 550, 250, 250, 550]
        assert recipients(outcome.changes) == [
            RecipientRemoved("<a@unknown.example>"),
            RecipientAdded("<a@unknown.example>", "ORCPT=rfc822;A@unknown.example NOTIFY=NEVER"),
            RecipientRemoved(tagged),
            RecipientAdded("<Bob@unknown.example>", "ORCPT=rfc822;bob@unknown.example NOTIFY=NEVER"),
        ]
        wait_for(lambda: host.counter("quiet.set", "unknown.example") == 2, 5, "the counter")

    @pytest.mark.parametrize(
        ("sender", "author", "is_set"),
        [
            (FAIL, FAIL, True),
            (SOFTFAIL, SOFTFAIL, True),
            (PASS, FAIL, False),
            ("friend@nothing.test", FAIL, False),
            ("friend@servfail.test", FAIL, False),
            ("friend@thousand.test", FAIL, False),
        ],
    )
    def test_whom_it_is_about(self, host: OriginHost, sender: str, author: str, is_set: bool) -> None:
        host.begin(QUIET)
        with host.outside() as session:
            outcome = session.send(letter(sender, author=author))
            assert outcome.accepted
            assert len(recipients(outcome.changes)) == (2 if is_set else 0)
            assert not recipients(session.send(BOUNCE).changes)


class TestResults:
    @pytest.mark.parametrize("count", [1, 200])
    def test_all_forged_ones_go_and_ours_stands_on_top(self, host: OriginHost, count: int) -> None:
        """The highest first: each that goes renumbers those below it."""
        host.begin(ALL)
        forged = ((RESULTS, f"{ID}; spf=pass"), ("authentication-RESULTS", "else.example; spf=fail")) * count
        with host.outside() as session:
            outcome = session.send(letter(PASS, more=forged))
        assert outcome.accepted
        *removed, ours = outcome.changes
        assert removed == [HeaderChanged(number, RESULTS, "") for number in range(2 * count - 1, 0, -2)]
        assert isinstance(ours, HeaderInserted)
        assert (ours.index, ours.name) == (0, RESULTS)
        assert results(outcome).startswith(f"{ID};")

    def test_one_does_not_hide_below_many_of_others(self, host: OriginHost) -> None:
        host.begin()
        fields = (*[(RESULTS, "else.example; none")] * 2000, (RESULTS, f"{ID}; dkim=pass"))
        with host.outside() as session:
            outcome = session.send(letter(PASS, more=fields))
        assert outcome.changes == (HeaderChanged(2001, RESULTS, ""),)

    def test_a_relay_of_ours_may_write_them(self, host: OriginHost) -> None:
        host.begin(actions("spf"), top=('relays = ["198.51.100.25"]',))
        with host.outside() as session:
            assert not session.send(letter(FAIL, more=((RESULTS, f"{ID}; spf=pass"),))).changes
