"""The real daemon on the wire: negotiation, verdicts, changes, escaping, and addresses made to hurt."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstop import batv
from backstop.address import parse
from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.fake_mta import (
    Client,
    HeaderAdded,
    HeaderChanged,
    Message,
    Outcome,
    Quarantined,
    Recipient,
    RecipientAdded,
    RecipientRemoved,
    SenderChanged,
    Session,
    Stage,
    Step,
    Verdict,
)
from tests.harness.odd_addresses import odd_path
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

KEY = batv.Key(1, b"a secret for the tests", batv.KeyState.SIGN, ("*",), 0, 11)
OUTSIDE = Client(name="mx.victim.example", address="198.51.100.25")
INSIDE = Client(name="localhost", address="127.0.0.1")

CONFIGURATION = """
socket = "{socket}"
workers = 2
store = "{store}"
state_directory = "{folder}"
keys = "{folder}/keys.toml"
domains = ["our.example"]
[limits]
bad_tags = "1000/1m"
[defaults]
tag_form = "prvs"
grace = "0d"
proof = ["tag"]
{settings}
"""


class Host:
    """A daemon with its Redis."""

    def __init__(self, daemon: Daemon, redis: RedisServer) -> None:
        self.daemon = daemon
        self.redis = redis

    def configure(self, *settings: str) -> None:
        self.daemon.configure(
            CONFIGURATION.format(
                socket=self.daemon.target,
                store=self.redis.unix_url,
                folder=self.daemon.folder,
                settings="\n".join(settings),
            )
        )

    def start(self, *settings: str) -> None:
        self.configure(*settings)
        self.daemon.start()

    def send(self, message: Message, client: Client = OUTSIDE, **macros: str) -> Outcome:
        named = {f"{{{name}}}": value for name, value in macros.items()}
        with Session(self.daemon.target, client, named) as session:
            return session.send(message)

    def tagged(self, address: str) -> str:
        parsed = parse(address)
        assert parsed is not None
        return batv.sign(parsed, KEY, batv.day_of(time.time()), 11, batv.TagForm.PRVS)

    def counter(self, name: str) -> int:
        with self.redis.client() as client:
            return int(client.hget("backstop:count:our.example", name) or 0)


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[Host]:
    with Daemon(BACKSTOP) as daemon:
        keys = daemon.folder / "keys.toml"
        keys.write_text(
            '[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\ndomains = ["*"]\n'
            'created = 2026-01-01\nmax_lifetime = "11d"\n'
        )
        keys.chmod(0o400)
        yield Host(daemon, shared_redis)


ENFORCING = 'actions = { tag = "reject", unproved = "reject" }'


class TestNegotiation:
    def test_only_what_is_needed_is_asked_for(self, host: Host) -> None:
        host.start()
        with Session(host.daemon.target) as session:
            steps = session.negotiated.steps
        for left_out in (Step.NO_HELO, Step.NO_BODY, Step.NO_EOH, Step.NO_UNKNOWN):
            assert steps & left_out
        for unanswered in (Step.NR_CONNECT, Step.NR_MAIL, Step.NR_HEADER):
            assert steps & unanswered
        assert steps & Step.RCPT_REJECTED

    def test_macros_are_few(self, host: Host) -> None:
        host.start()
        with Session(host.daemon.target) as session:
            macros = session.negotiated.macros
        assert macros[Stage.CONNECT] == "{daemon_name}"
        assert macros[Stage.MAIL] == "{auth_authen} {mail_addr}"
        assert macros[Stage.RCPT] == "i {rcpt_mailer} {rcpt_host}"


class TestVerdicts:
    def test_a_forged_tag_is_refused_at_rcpt(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message(recipients=("<prvs=1234abcdef=alice@our.example>",)))
        assert outcome.stage == "rcpt"
        assert outcome.recipients[0][1].code == 550

    def test_a_missing_tag_is_refused_at_data_and_a_callback_never(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message(recipients=("<alice@our.example>",)))
        assert (outcome.stage, outcome.final.code) == ("data", 550)
        with Session(host.daemon.target, OUTSIDE) as session:
            assert not session.probe("<alice@our.example>").refused

    def test_a_good_tag_passes_at_data(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message(recipients=(f"<{host.tagged('alice@our.example')}>",)))
        assert outcome.stage == "data"
        assert outcome.final.verdict is Verdict.ACCEPT
        wait_for(lambda: host.counter("proof.tag") == 1, 5, "the counter")

    def test_ordinary_mail_ends_at_data(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message("<a@b.example>", ("<alice@our.example>",)))
        assert (outcome.stage, outcome.final.verdict) == ("data", Verdict.ACCEPT)

    def test_outgoing_mail_is_tagged(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message("<alice@our.example>", ("<a@b.example>",)), INSIDE)
        assert outcome.changes == (SenderChanged(f"<{host.tagged('alice@our.example')}>"),)

    def test_a_login_is_outgoing_wherever_it_comes_from(self, host: Host) -> None:
        host.start(ENFORCING)
        message = Message("<alice@our.example>", ("<a@b.example>",), macros={"{auth_authen}": "alice"})
        assert host.send(message).changes

    def test_one_recipient_at_a_time(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message(recipients=("<alice@our.example>", "<bob@our.example>")))
        assert [answer.code for _, answer in outcome.recipients if answer.refused] == [452]
        assert outcome.final.code == 550

    def test_junk_is_marked_and_forged_marks_go(self, host: Host) -> None:
        host.start('actions = { unproved = "junk" }')
        headers = (("X-Backstop", "junk"), ("Subject", "x"), ("x-backstop", "none"))
        outcome = host.send(Message(recipients=("<alice@our.example>",), headers=headers))
        assert outcome.final.verdict is Verdict.ACCEPT
        removed = [change for change in outcome.changes if isinstance(change, HeaderChanged)]
        added = {change.name: change.value for change in outcome.changes if isinstance(change, HeaderAdded)}
        assert [change.index for change in removed] == [2, 1]
        assert added["X-Backstop"].startswith("junk; check=unproved")
        assert added["X-Spam-Flag"] == "YES"

    def test_quarantine_holds(self, host: Host) -> None:
        host.start('actions = { unproved = "quarantine" }')
        outcome = host.send(Message(recipients=("<alice@our.example>",)))
        assert any(isinstance(change, Quarantined) for change in outcome.changes)

    def test_discard_is_told_at_data(self, host: Host) -> None:
        host.start('actions = { unproved = "discard" }')
        outcome = host.send(Message(recipients=("<alice@our.example>",)))
        assert (outcome.stage, outcome.final.verdict) == ("data", Verdict.DISCARD)
        wait_for(lambda: host.counter("action.discard") == 1, 5, "the counter")

    def test_the_milter_strips_and_keeps_the_parameters(self, host: Host) -> None:
        host.start('strip = "milter"')
        tagged = f"<{host.tagged('Alice@our.example')}>"
        recipient = Recipient(tagged, ("NOTIFY=FAILURE", "ORCPT=rfc822;alice@our.example"))
        outcome = host.send(Message("<a@b.example>", (recipient,)))
        assert outcome.changes == (
            RecipientRemoved(tagged),
            RecipientAdded("<Alice@our.example>", "NOTIFY=FAILURE ORCPT=rfc822;alice@our.example"),
        )

    def test_a_recipient_the_server_refused_is_counted_and_left_alone(self, host: Host) -> None:
        host.start(ENFORCING)
        refused = Recipient("<nosuch@our.example>", refused="5.1.1 User unknown")
        outcome = host.send(Message("<a@b.example>", (refused, "<alice@our.example>")))
        assert outcome.final.verdict is Verdict.ACCEPT
        wait_for(lambda: host.counter("recipient.fail") == 1, 5, "the counter")
        with host.redis.client() as client:
            assert client.get("backstop:client:198.51.100.25:unknown_recipients") == "1"
            assert 0 < client.ttl("backstop:client:198.51.100.25:unknown_recipients") <= 600

    def test_a_reinjection_is_let_through_untouched(self, host: Host) -> None:
        host.start(ENFORCING)
        outcome = host.send(Message(recipients=("<alice@our.example>",)), INSIDE, daemon_name="REINJECT")
        assert outcome.final.verdict is Verdict.ACCEPT
        assert not outcome.changes

    def test_state_is_forgotten_at_mail(self, host: Host) -> None:
        """500 messages of all kinds in one connection, RSET between some of them."""
        host.start(ENFORCING)
        good = f"<{host.tagged('alice@our.example')}>"
        chance = random.Random(5)
        with Session(host.daemon.target, OUTSIDE) as session:
            for _ in range(500):
                kind = chance.randrange(4)
                if kind == 0:
                    assert session.send(Message(recipients=("<alice@our.example>",))).final.code == 550
                elif kind == 1:
                    assert session.send(Message(recipients=(good,))).accepted == (good,)
                elif kind == 2:
                    ordinary = Message("<a@b.example>", ("<alice@our.example>", "<bob@our.example>"))
                    assert len(session.send(ordinary).accepted) == 2
                else:
                    assert not session.probe("<alice@our.example>").refused


class TestSwitch:
    def test_it_changes_the_next_message_and_ends_by_itself(self, host: Host) -> None:
        host.start()
        forged = Message(recipients=("<alice@our.example>",))
        assert host.send(forged).stage == "data"
        with host.redis.client() as client:
            client.set("backstop:block:our.example", "reject", px=700)
        assert host.send(forged).final.code == 550
        good = f"<{host.tagged('alice@our.example')}>"
        assert host.send(Message(recipients=(good,))).accepted == (good,)
        wait_for(lambda: not host.send(forged).final.refused, 5, "the block to end")

    @pytest.mark.parametrize("name", ["postmaster", "abuse", "Postmaster", "ABUSE+x"])
    def test_postmaster_and_abuse_stay_reachable(self, host: Host, name: str) -> None:
        host.start('actions = { tag = "reject", unproved = "reject", recipient = "reject" }')
        with host.redis.client() as client:
            client.set("backstop:block", "reject")
        assert host.send(Message(recipients=(f"<{name}@our.example>",))).accepted


NASTY = [
    "<>",
    '<""@our.example>',
    '<"a b"@our.example>',
    '<"a\\"b"@our.example>',
    '<"a@b"@our.example>',
    '<"prvs=1234abcdef=alice"@our.example>',
    "<@relay.example:alice@our.example>",
    "<alice%else.example@our.example>",
    "<else!alice@our.example>",
    "<alice@our.example.>",
    "<alice@OUR.EXAMPLE>",
    "<@our.example>",
    "<alice>",
    "<alice@[127.0.0.1]>",
    "<m\u00fcller@our.example>",
    "<m\udcfcller@our.example>",
    "<alice\x1b[31m@our.example>",
    "<alice\r\nX: 1@our.example>",
    "<100%s%n@our.example>",
    f"<{'x' * 47}@our.example>",
    f"<{'x' * 48}@our.example>",
    f"<{'x' * 49}@our.example>",
    f"<{'x' * 64}@our.example>",
    f"<{'x' * 300}@our.example>",
    f"<prvs=1234abcdef={'x' * 300}@our.example>",
    f"<{'x' * 9000}@our.example>",
    "alice@our.example",
    "<a..b@our.example>",
    "<\u202ealice@our.example>",
    "<-oProxyCommand=x@our.example>",
    "<;id;@our.example>",
]


class TestNastyAddresses:
    """No exception ever reaches the mail server, and no 4xx takes the place of an answer."""

    def judge(self, host: Host, reverse_path: str, recipient: str, client: Client) -> None:
        outcome = host.send(Message(reverse_path, (recipient,)), client)
        for _, answer in outcome.recipients:
            assert answer.code in (250, 550, 452), (reverse_path, recipient, answer)
        assert outcome.final.code in (250, 550, 452), (reverse_path, recipient, outcome.final)

    @pytest.mark.parametrize("client", [OUTSIDE, INSIDE], ids=["outside", "inside"])
    def test_every_one_in_every_place(self, host: Host, client: Client) -> None:
        host.start('actions = { tag = "reject", unproved = "reject", forged_sender = "reject" }')
        for nasty in NASTY:
            self.judge(host, nasty, "<alice@our.example>", client)
            self.judge(host, "<>", nasty, client)
            self.judge(host, "<alice@our.example>", nasty, client)
        self.nothing_leaked(host)

    def test_a_grammar_of_them(self, host: Host) -> None:
        host.start('actions = { tag = "reject", unproved = "reject", forged_sender = "reject" }')
        chance = random.Random(20261121)
        for _ in range(200):
            sender, recipient = as_octets(odd_path(chance)), as_octets(odd_path(chance))
            if "\0" not in sender + recipient:  # the protocol itself ends a field there
                self.judge(host, f"<{sender}>", f"<{recipient}>", OUTSIDE)
        self.nothing_leaked(host)

    def nothing_leaked(self, host: Host) -> None:
        log = host.daemon.log_text()
        assert "bug=" not in log, log[-2000:]
        assert "\x1b" not in log
        assert "\u202e" not in log
        assert all("=" in line or " " not in line for line in log.splitlines())
        with Session(host.daemon.target, OUTSIDE) as session:
            assert session.send(Message("<a@b.example>", ("<alice@our.example>",))).accepted


def as_octets(text: str) -> str:
    """The same as the wire brings it: a surrogate stands for an octet there."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def test_replies_hide_nothing_of_the_address(host: Host, tmp_path: Path) -> None:
    """A percent sign in a recipient does not turn a 550 into a 451."""
    host.start(ENFORCING)
    outcome: Any = host.send(Message(recipients=("<prvs=1234abcdef=100%s%n@our.example>",)))
    assert outcome.recipients[0][1].code == 550
