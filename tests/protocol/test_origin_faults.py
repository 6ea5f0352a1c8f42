"""The daemon with every check of origin on, where name servers fail and records are bombs.

Nothing follows from what nobody could say, and nobody waits for it who does not need it. What is asked for of
DNS and of next hops, with its figure, and where it is shown; `contract/` has the parts, this ring the daemon.

A resolver that is silent, fails, cuts its answers, has 50,000 octets, a loop of aliases or 1,000 records:
    2 s for a message in all; temperror; no 5xx; others go on
        TestNameServer; contract/test_spf_limits.py::TestFaults, test_resolver.py::TestOddServer and
        ::TestSilence, test_dns_lists.py::TestFaults, test_origin_time.py
SPF with 11 lookups, 3 voids, deep includes, PTR: 12 questions a message, 100 of 100
        TestBombs; contract/test_spf_limits.py::TestLimits
10,000 mails that name 10,000 zones: 50 questions a second, the cache bounded
        TestFlood (deep: all of them); contract/test_resolver.py, test_dns_lists.py::TestFaults
Returned signatures: keys of our own domains only, in the same time
        TestReturnedSignature; contract/test_own_signature.py
A next hop that hangs at any step, stops halfway, or says an octet a second: 451 within 6 s
        test_next_hop_faults.py, test_daemon_asker.py::TestTime; contract/test_callahead_faults.py
One that says 421, 450 or 451: 451; asked again after a minute, and known at the second try
        test_next_hop_faults.py;
        contract/test_callahead.py::test_after_a_temporary_answer_the_second_try_tells
One that refuses by policy: unknown, 451, never a user who is missing
        test_next_hop_faults.py; contract/test_callahead.py, unit/test_callahead_replies.py
One that takes everybody: one random name an hour, and no questions meanwhile
        test_next_hop_faults.py; contract/test_callahead.py; e2e/test_callahead_postfix.py, test_gateway.py
10,000 guesses in a minute: 10 questions, 2 connections, 451 for the rest, the same words from memory
        test_next_hop_faults.py; contract/test_callahead.py
Two systems that ask each other: 2 connections in all
        contract/test_callahead.py::test_two_systems_that_ask_each_other_do_not_go_round
Replies of 10^6 lines, 1 MB, NUL, ESC: 8 kB are read, and what is shown is escaped
        test_next_hop_faults.py; contract/test_callahead_faults.py, unit/test_callahead_replies.py
MX records, null or not, and the domains of addresses: nobody but the next hop in the settings is contacted
        contract/test_callahead_faults.py::test_nobody_but_the_configured_next_hop_is_contacted
Etiquette: QUIT, never DATA, the sender as configured, TLS where it is offered
        contract/test_callahead.py, from test_it_says_quit_and_never_data on
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pytest

from backstop.adapters.public_suffixes import PublicSuffixes
from tests.harness.fake_mta import HeaderInserted, Message, Outcome, Session
from tests.harness.name_server import txt
from tests.harness.origin_host import (
    ALL,
    CHECKS,
    FAULTS,
    ID,
    INSIDE,
    OUTSIDE,
    OriginHost,
    World,
    actions,
    by_name,
    letter,
    signature,
)
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

AT_RCPT = 1.0
"""Seconds that lists and SPF take at RCPT before they give up, at least."""

IN_ALL = 2.0
"""Seconds for one message, its end counted."""

SLACK = 3.0
"""Seconds that a busy machine may take beyond them."""


@pytest.fixture(autouse=True)
def _suffixes() -> None:
    try:
        PublicSuffixes().load()
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[OriginHost]:
    with World({"bomb": by_name(_bomb)}) as world, OriginHost(world, shared_redis) as host:
        yield host
    assert "bug=" not in host_log(host)


def host_log(host: OriginHost) -> str:
    return host.log_text() if host.log.exists() else ""


def results(outcome: Outcome) -> str:
    """The value of our Authentication-Results."""
    (value,) = [
        change.value.strip()
        for change in outcome.changes
        if isinstance(change, HeaderInserted) and change.name == "Authentication-Results"
    ]
    assert value.startswith(ID)
    return value


class TestNameServer:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_that_gives_no_answer_refuses_nobody(self, host: OriginHost, fault: str) -> None:
        host.begin(ALL)
        host.world.everything = FAULTS[fault]
        with host.outside() as session:
            began = time.monotonic()
            outcome = session.send(letter("friend@somewhere.test"))
            assert time.monotonic() - began < IN_ALL + SLACK
            assert outcome.stage == "eom"
            assert not outcome.final.refused
            for result in ("spf=temperror", "dkim=temperror", "dmarc=temperror"):
                assert result in results(outcome)
            host.world.everything = None
            more = count()  # a name server that was silent is tried again each second
            wait_for(
                lambda: session.send(letter(f"friend@n{next(more)}.fail.test")).final.code == 550,
                5,
                "answers again",
            )
        for check in CHECKS:
            wait_for(lambda check=check: host.counter(f"{check}.temperror"), 5, f"{check}.temperror")

    def test_of_the_sender_costs_a_message_its_time_and_no_more(self, host: OriginHost) -> None:
        """Lists, sender, authors and signatures are in zones of their own, each of them silent."""
        host.begin(ALL)
        host.world.zones |= {"bl": FAULTS["silence"], "dbl": FAULTS["silence"]}
        domains = [f"n{number}.silence.test" for number in range(6)]
        fields = (
            *(("DKIM-Signature", signature(domain)) for domain in domains[1:]),
            ("From", ", ".join(f"<a@{domain}>" for domain in domains[1:])),
        )
        with host.outside() as session:
            began = time.monotonic()
            outcome = session.send(
                Message(f"<friend@{domains[0]}>", ("<alice@our.example>",), headers=fields)
            )
            seconds = time.monotonic() - began
        assert outcome.accepted
        assert AT_RCPT < seconds < IN_ALL + SLACK
        with host.outside(replace(OUTSIDE, address="198.51.100.99")) as session:
            began = time.monotonic()
            assert not session.probe("<alice@our.example>", "<friend@n7.silence.test>").refused
            assert time.monotonic() - began < AT_RCPT + SLACK

    def test_of_one_domain_keeps_nobody_who_can_do_without_it(self, host: OriginHost) -> None:
        """All in one worker: by the order of events, not by the time they take."""
        host.begin(ALL, 'recipients = ["redis"]')
        with host.redis.client() as client:
            client.sadd("backstop:recipients:our.example", "alice")
        good = f"<{host.tagged('alice@our.example')}>"
        with ThreadPoolExecutor(20) as threads:
            waiting = [
                threads.submit(self._sent, host, letter(f"friend@n{number}.silence.test"))
                for number in range(20)
            ]
            wait_for(lambda: len(host.world.seen) >= 20, 5, "their questions")
            for _ in range(20):
                assert self._sent(host, Message(recipients=(good,))).accepted == (good,)
                unknown = self._sent(host, Message("<a@x.silence.test>", ("<nosuch@our.example>",)))
                assert unknown.recipients[0][1].text.startswith("550 5.1.1")
                forged = Message(recipients=("<prvs=1234abcdef=alice@our.example>",))
                assert self._sent(host, forged).recipients[0][1].code == 550
                with Session(host.target, INSIDE) as inside:
                    sent = inside.send(Message("<alice@our.example>", ("<a@x.silence.test>",)))
                assert sent.changes
            assert not any(one.done() for one in waiting)
            assert all(one.result().accepted for one in waiting)

    @staticmethod
    def _sent(host: OriginHost, message: Message) -> Outcome:
        with host.outside() as session:
            return session.send(message)


BOMBS = ("eleven", "voids", "deep", "names")


def _bomb(name: str, kind: str) -> Iterable[str]:
    """A world of bombs: `*.eleven.bomb.test` and its like."""
    if name.startswith("_dmarc."):
        return ['TXT "v=DMARC1; p=reject"']
    which = name.removesuffix(".bomb.test").rpartition(".")[2]
    terms = {
        "eleven": [f"include:i{number}.%{{d}}" for number in range(11)],
        "voids": [f"a:void{number}.%{{d}}" for number in range(30)],
        "deep": ["include:i.%{d}"],
        "names": ["mx:a.%{d}", "mx:b.%{d}", "ptr:%{d}"],
    }[which]
    if which == "eleven" and name.startswith("i"):
        terms = [f"a:h{number}.%{{d}}" for number in range(11)]
    records = [f"TXT {txt(' '.join(('v=spf1', *terms, '-all')))}"]
    if not name.startswith("void"):
        records += ["A 192.0.2.1", *(f"MX {number} h{number}.{name}." for number in range(10))]
    return records


class TestBombs:
    """RFC 7208, section 4.6.4, and what one message may ask at all."""

    def asked(self, host: OriginHost, message: Message) -> tuple[Outcome, list[str]]:
        before = len(host.world.seen)
        with host.outside() as session:
            outcome = session.send(message)
        return outcome, host.world.seen[before:]

    def test_each_asks_twelve_questions_at_most(self, host: OriginHost) -> None:
        host.begin(actions("spf"))
        counts = {}
        for kind in BOMBS:
            outcome, seen = self.asked(host, letter(f"friend@d.{kind}.bomb.test"))
            assert outcome.accepted
            counts[kind] = len(seen)
        assert counts == {"eleven": 11, "voids": 4, "deep": 11, "names": 12}

    def test_a_hundred_with_all_checks_on(self, host: OriginHost) -> None:
        """Twelve for SPF, two lists, a key and a policy with where it might stand else."""
        host.begin(ALL)
        for number in range(100):
            domain = f"d{number}.{BOMBS[number % 4]}.bomb.test"
            outcome, seen = self.asked(host, letter(f"friend@{domain}"))
            policy = [name for name in seen if name.startswith("_dmarc.")]
            keys = [name for name in seen if "._domainkey." in name]
            lists = [name for name in seen if name.endswith((".bl.test", ".dbl.test"))]
            assert len(seen) - len(policy) - len(keys) - len(lists) <= 12
            assert len(policy) <= 2
            assert len(keys) <= 1
            assert len(lists) <= 4
            assert not outcome.final.refused or "spf" not in outcome.final.text


def _report(*signatures: str) -> Message:
    """A report that returns a header with such signatures."""
    returned = "".join(f"DKIM-Signature: {one}\r\n" for one in signatures)
    body = (
        "--b\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.remote.example\r\n\r\n"
        "Final-Recipient: rfc822; a@remote.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}"
        "From: <alice@our.example>\r\nTo: <a@remote.example>\r\nMessage-ID: <1@our.example>\r\n\r\n--b--\r\n"
    )
    headers = (
        ("From", "<mailer-daemon@mx.pass.test>"),
        ("MIME-Version", "1.0"),
        ("Content-Type", 'multipart/report; report-type=delivery-status; boundary="b"'),
    )
    return Message(recipients=("<alice@our.example>",), headers=headers, body=body.encode())


class TestReturnedSignature:
    def test_of_a_stranger_is_nobodys_question(self, host: OriginHost) -> None:
        host.begin()
        with host.outside() as session:
            signatures = [signature(f"n{number}.silence.test") for number in range(50)]
            assert session.send(_report(*signatures)).stage == "eom"
        assert host.world.seen == []

    @pytest.mark.parametrize("fault", ["silence", "large", "loop"])
    def test_of_ours_whose_key_cannot_be_had_is_no_refusal_for_good(
        self, host: OriginHost, fault: str
    ) -> None:
        """The selectors are the forger's, and the zone may be a child of ours that somebody else serves."""
        host.begin(ALL)
        host.world.zones["example"] = FAULTS[fault]
        names = [signature("our.example").replace("s=s1", f"s=s{number}") for number in range(50)]
        with host.outside(replace(OUTSIDE, helo="mx.silence.test")) as session:
            began = time.monotonic()
            outcome = session.send(_report(*names))
            assert time.monotonic() - began < IN_ALL + SLACK
        assert outcome.stage == "eom"
        assert outcome.final.code == 451
        ours = {name for name in host.world.seen if name.endswith("._domainkey.our.example")}
        assert 1 <= len(ours) <= 10


class TestFlood:
    def flood(self, host: OriginHost, mails: int, workers: int) -> None:
        host.begin(ALL, workers=workers)
        with host.outside() as session:  # what a worker loads at the first question
            session.send(letter("friend@first.pass.test"))
        began, before, asked = time.monotonic(), host.memory(), len(host.world.seen)

        def send(first: int) -> None:
            for number in range(first, mails, 8):
                with host.outside(replace(OUTSIDE, address=f"198.51.100.{number % 50 + 70}")) as session:
                    outcome = session.send(letter(f"friend@z{number}.pass.test"))
                assert not outcome.final.refused
                assert outcome.accepted

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, range(8)))
        seconds = time.monotonic() - began
        assert len(host.world.seen) - asked <= workers * (50 + 50 * seconds)
        assert len(host.workers()) == workers
        assert host.memory() - before < workers * 30_000_000
        wait_for(lambda: host.counter("spf.temperror"), 5, "those of whom nobody could say")

    def test_of_zones_becomes_fifty_questions_a_second(self, host: OriginHost) -> None:
        self.flood(host, 500, 2)

    @pytest.mark.deep
    def test_of_ten_thousand_zones(self, host: OriginHost) -> None:
        self.flood(host, 10_000, 2)
