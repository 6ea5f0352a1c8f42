"""DNS lists against a real name server, and against one that answers every wrong thing."""

import threading
import time
from collections.abc import Iterator

import dns.message
import dns.rcode
import dns.rrset
import pytest

from backstop.adapters.dns_lists import DnsLists
from backstop.adapters.resolver import Budget, Resolver
from backstop.authentication import Listing
from backstop.settings import DnsList, ListOf
from tests.harness.name_server import PROGRAM, NameServer
from tests.harness.odd_name_server import Odd, OddNameServer, answer
from tests.harness.servers import free_port, need

CLIENTS = """
2.0.0.127 A 127.0.0.2
9.2.0.192 A 127.0.0.2
9.2.0.192 A 127.0.0.10
2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 A 127.0.0.2
9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.4
1.0.0.10 A 127.0.0.2
"""

ZONES = {
    "clients.example": CLIENTS,
    "more.example": CLIENTS,
    "bounces.example": CLIENTS,
    "senders.example": "test A 127.0.1.2\nbad.example.net A 127.0.1.2\nxn--mnchen-3ya.example A 127.0.1.2",
    "everybody.example": "* A 127.0.0.2",
    "parked.example": "* A 198.51.100.7",
    "refuses.example": "* A 127.255.255.254",
    "denies.example": "* A 127.0.0.1",
}

CLIENT, SENDER = ListOf


class Told:
    """What was said of troubles."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[NameServer]:
    need(PROGRAM)
    with NameServer(tmp_path_factory.mktemp("nsd"), ZONES) as server:
        yield server


def clients(*zones: str) -> tuple[DnsList, ...]:
    return tuple(DnsList(zone, CLIENT) for zone in zones)


class TestClients:
    @pytest.mark.parametrize(
        ("address", "zones"),
        [
            ("192.0.2.9", ("clients.example", "more.example")),
            ("::ffff:192.0.2.9", ("clients.example", "more.example")),
            ("192.0.2.10", ()),
            ("2001:db8::9", ("clients.example", "more.example")),
            ("2001:0DB8:0::9", ("clients.example", "more.example")),
            ("2001:db8::9%eth0", ("clients.example", "more.example")),
            ("2001:db8::8", ()),
            ("10.0.0.1", ()),  # listed, but nobody is asked
            ("127.0.0.2", ()),
            ("::ffff:127.0.0.2", ()),
            ("::1", ()),
            ("fe80::1%eth0", ()),
            ("", ()),
            ("unknown", ()),
            ("192.0.2.9\n", ()),
            ("192.0.2.256", ()),
        ],
    )
    def test_listings(self, server, told, address, zones) -> None:
        lists = DnsLists(Resolver([server.address]), clients("clients.example", "more.example"), told)
        assert lists.client(address, null_sender=False, budget=Budget()) == Listing(zones)
        assert told.lines == []

    def test_lists_for_bounces_are_asked_for_the_null_sender_only(self, server, told) -> None:
        with OddNameServer({}, Odd(lambda q: [answer(q, "@ 60 A 127.0.0.2")])) as odd:
            only = (DnsList("bounces.example", CLIENT, bounces_only=True), *clients("clients.example"))
            for null_sender in (False, True):
                DnsLists(Resolver([odd.address]), only, told).client(
                    "192.0.2.9", null_sender=null_sender, budget=Budget()
                )
            asked = [name for name in odd.seen if name.endswith("bounces.example")]
            assert asked.count("9.2.0.192.bounces.example") == 1
        lists = DnsLists(Resolver([server.address]), only, told)
        assert lists.client("192.0.2.9", null_sender=False, budget=Budget()) == Listing(("clients.example",))
        assert lists.client("192.0.2.9", null_sender=True, budget=Budget()) == Listing(
            ("bounces.example", "clients.example")
        )

    def test_a_zone_that_holds_a_key_is_not_shown(self, server, told) -> None:
        zones = ("clients.example", "everybody.example")
        lists = [DnsList(zone, CLIENT, shown_as=f"shown-{zone}") for zone in zones]
        listing = DnsLists(Resolver([server.address]), tuple(lists), told).client(
            "192.0.2.9", null_sender=False, budget=Budget()
        )
        assert listing == Listing(("shown-clients.example",), ("shown-everybody.example",))
        assert told.lines == [
            "the DNS list shown-everybody.example names its own test point, and so everybody"
        ]

    def test_a_private_client_is_nobody_s_business(self, told) -> None:
        with OddNameServer({}, Odd(lambda q: [answer(q, "@ 60 A 127.0.0.2")])) as odd:
            lists = DnsLists(Resolver([odd.address]), clients("clients.example"), told)
            for address in ("10.1.2.3", "172.31.0.1", "192.168.7.7", "100.64.0.1", "fd00::1", "169.254.1.1"):
                assert lists.client(address, null_sender=True, budget=Budget()) == Listing()
            assert odd.seen == []

    def test_a_list_that_names_everybody_names_nobody(self, server, told) -> None:
        lists = DnsLists(Resolver([server.address]), clients("everybody.example", "clients.example"), told)
        for address in ("192.0.2.9", "2001:db8::9", "192.0.2.9"):
            listing = lists.client(address, null_sender=False, budget=Budget())
            assert listing == Listing(("clients.example",), ("everybody.example",))
        assert told.lines == ["the DNS list everybody.example names its own test point, and so everybody"]

    def test_a_list_that_begins_to_name_everybody_is_found_out_within_a_minute(self, told) -> None:
        now, everybody = [1000.0], [False]

        def answers(query: bytes) -> list[bytes]:
            if everybody[0] or b"\x019\x012\x010\x03192" in query:
                return [answer(query, "@ 3600 A 127.0.0.2")]
            nothing = dns.message.from_wire(answer(query))
            nothing.authority.append(dns.rrset.from_text("a.example.", 900, "IN", "SOA", ". . 1 1 1 1 900"))
            return [nothing.to_wire()]

        with OddNameServer({}, Odd(answers)) as odd:
            lists = DnsLists(Resolver([odd.address], clock=lambda: now[0]), clients("a.example"), told)
            assert lists.client("192.0.2.9", null_sender=False, budget=Budget()).zones == ("a.example",)
            everybody[0] = True
            now[0] += 61
            for address in ("192.0.2.9", "192.0.2.8"):
                listing = lists.client(address, null_sender=False, budget=Budget())
                assert listing == Listing((), ("a.example",))

    def test_a_list_that_does_not_serve_us_and_one_that_is_gone(self, server, told) -> None:
        zones = ("refuses.example", "denies.example", "parked.example")
        lists = DnsLists(Resolver([server.address]), clients(*zones), told)
        for address in ("192.0.2.9", "192.0.2.8"):
            listing = lists.client(address, null_sender=False, budget=Budget())
            assert listing == Listing((), ("refuses.example", "denies.example"))
        assert told.lines == [
            "the DNS list refuses.example does not serve this resolver: it answers 127.255.255.254",
            "the DNS list denies.example does not serve this resolver: it answers 127.0.0.1",
            "the DNS list parked.example is no list any more: it answers 198.51.100.7",
        ]


class TestSenders:
    @pytest.mark.parametrize(
        ("domain", "zones"),
        [
            ("bad.example.net", ("senders.example",)),
            ("xn--mnchen-3ya.example", ("senders.example",)),
            ("good.example.net", ()),
            ("test", ()),  # no domain of mail
            ("", ()),
            ("[192.0.2.9]", ()),
            (".".join(["a" * 60] * 4), ()),
            ("a" * 64 + ".example.net", ()),
        ],
    )
    def test_listings(self, server, told, domain, zones) -> None:
        lists = DnsLists(
            Resolver([server.address]),
            (DnsList("senders.example", SENDER), *clients("clients.example")),
            told,
        )
        assert lists.sender(domain, Budget()) == Listing(zones)

    def test_a_list_of_domains_that_names_everybody_names_nobody(self, server, told) -> None:
        lists = DnsLists(Resolver([server.address]), (DnsList("everybody.example", SENDER),), told)
        assert lists.sender("bad.example.net", Budget()) == Listing((), ("everybody.example",))


def listed(query: bytes) -> list[bytes]:
    """What a list answers that names everybody but its test point."""
    name = query.lower()
    is_test = b"\x011\x010\x010\x03127" in name
    return [answer(query, rcode=dns.rcode.NXDOMAIN) if is_test else answer(query, "@ 60 A 127.0.0.2")]


class TestFaults:
    def test_silence_costs_the_time_of_the_message_once(self, told) -> None:
        with OddNameServer({}) as silent:
            lists = DnsLists(Resolver([silent.address]), clients("a.example", "b.example", "c.example"), told)
            budget, began = Budget(), time.monotonic()
            listing = lists.client("192.0.2.9", null_sender=True, budget=budget)
            assert listing == Listing((), ("a.example", "b.example", "c.example"))
            assert 1.9 < time.monotonic() - began < 4
            assert budget.seconds_left < 0.1
            assert sorted(set(silent.seen)) == [f"9.2.0.192.{zone}.example" for zone in "abc"]

    def test_one_silent_list_does_not_silence_the_others(self, told) -> None:
        def answers(query: bytes) -> list[bytes]:
            return [] if b"silent" in query else listed(query)

        with OddNameServer({}, Odd(answers)) as odd:
            for order in (("silent.example", "a.example"), ("a.example", "silent.example")):
                lists = DnsLists(Resolver([odd.address], lifetime=0.5), clients(*order), told)
                listing = lists.client("192.0.2.9", null_sender=True, budget=Budget())
                assert listing == Listing(("a.example",), ("silent.example",))

    def test_ten_lists_are_asked_at_once(self, told) -> None:
        with OddNameServer({}, Odd(listed, pause=0.3)) as odd:
            zones = tuple(f"z{number}.example" for number in range(10))
            lists = DnsLists(Resolver([odd.address]), clients(*zones), told)
            budget, began = Budget(), time.monotonic()
            assert lists.client("192.0.2.9", null_sender=True, budget=budget) == Listing(zones)
            assert time.monotonic() - began < 2.5  # the lists, then their test points
            assert budget.seconds_left > 0.5

    def test_what_is_known_is_asked_in_no_thread(self, server, told) -> None:
        lists = DnsLists(Resolver([server.address]), clients("clients.example", "more.example"), told)
        lists.client("192.0.2.9", null_sender=True, budget=Budget())
        before = threading.active_count()
        for _ in range(10):
            budget = Budget(seconds=0.0)
            assert lists.client("192.0.2.9", null_sender=True, budget=budget).zones == (
                "clients.example",
                "more.example",
            )
        assert threading.active_count() == before

    def test_one_list_needs_no_thread(self, server, told) -> None:
        lists = DnsLists(Resolver([server.address]), clients("clients.example"), told)
        assert lists.client("192.0.2.9", null_sender=True, budget=Budget()).zones == ("clients.example",)
        assert lists._askers._threads == 0

    def test_threads_and_what_waits_for_them_are_limited(self, told) -> None:
        with OddNameServer({}) as silent:
            lists = DnsLists(
                Resolver([silent.address], lifetime=0.5, rate=10_000),
                clients(*(f"z{number}.example" for number in range(200))),
                told,
            )
            listing = lists.client("192.0.2.9", null_sender=True, budget=Budget())
            assert len(listing.unanswered) == 200
            assert lists._askers._threads <= 16

    @pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
    def test_a_failure_is_no_listing(self, told, rcode) -> None:
        with OddNameServer({}, Odd(lambda q: [answer(q, rcode=rcode)])) as odd:
            lists = DnsLists(Resolver([odd.address]), clients("a.example"), told)
            expected = Listing((), ("a.example",))
            assert lists.client("192.0.2.9", null_sender=True, budget=Budget()) == expected

    def test_a_listing_whose_test_point_cannot_be_asked_does_not_count(self, told) -> None:
        def answers(query: bytes) -> list[bytes]:
            is_test = b"\x011\x010\x010\x03127" in query
            return [answer(query, rcode=dns.rcode.SERVFAIL)] if is_test else listed(query)

        with OddNameServer({}, Odd(answers)) as odd:
            lists = DnsLists(Resolver([odd.address]), clients("a.example"), told)
            expected = Listing((), ("a.example",))
            assert lists.client("192.0.2.9", null_sender=True, budget=Budget()) == expected
            assert told.lines == []

    def test_a_server_that_is_gone(self, told) -> None:
        lists = DnsLists(Resolver([f"127.0.0.1:{free_port()}"]), clients("a.example", "b.example"), told)
        listing = lists.client("192.0.2.9", null_sender=True, budget=Budget())
        assert listing == Listing((), ("a.example", "b.example"))

    def test_lists_leave_spf_its_lookups(self, server, told) -> None:
        zones = ("clients.example", "more.example", "bounces.example")
        lists, budget = (
            DnsLists(Resolver([server.address]), clients(*zones), told),
            Budget(lookups=1, voids=1),
        )
        assert lists.client("192.0.2.10", null_sender=True, budget=budget) == Listing()
        assert budget.take()

    def test_ten_thousand_domains_become_fifty_questions_a_second(self, told) -> None:
        """I3: 10,000 mails that name 10,000 zones."""
        with OddNameServer({}, Odd(lambda q: [answer(q, rcode=dns.rcode.NXDOMAIN)])) as odd:
            resolver = Resolver([odd.address])
            lists = DnsLists(resolver, (DnsList("senders.example", SENDER),), told)
            began = time.monotonic()
            for number in range(10_000):
                lists.sender(f"zone{number}.example.net", Budget())
            assert len(odd.seen) <= 50 + 50 * (time.monotonic() - began)
            assert len(resolver._cache) <= len(odd.seen)
