"""The resolver against a real name server, and against one that answers every wrong thing."""

import random
import threading
import time
from collections.abc import Callable, Iterator

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from backstop.adapters import name_servers
from backstop.adapters.name_servers import NameServer as Place
from backstop.adapters.name_servers import NoReply
from backstop.adapters.resolver import Answer, Budget, Exchange, Outcome, Resolver, _read
from tests.harness.name_server import PROGRAM, NameServer, txt
from tests.harness.odd_name_server import Odd, OddNameServer, answer, cut, framed
from tests.harness.servers import free_port, need
from tests.harness.waiting import wait_for

LONG = "v=DKIM1; k=rsa; p=" + "A" * 700
LARGE = "x" * 6000

ZONE = f"""
a A 192.0.2.1
a A 192.0.2.2
a AAAA 2001:db8::1
@ MX 10 mail
@ MX 20 mail.example.net.
1.2.0.192 PTR host
long TXT {txt(LONG)}
large TXT {txt(LARGE)}
two TXT "one" "and"
two TXT "two"
octets TXT {txt(bytes(range(256)))}
alias CNAME a
chain CNAME alias
loop1 CNAME loop2
loop2 CNAME loop1
dangling CNAME nowhere.example.net.
aliased CNAME nowhere
brief2 CNAME brief
delegated NS ns.example.net.
_under._score TXT "yes"
brief 1 A 192.0.2.3
endless 9999999 A 192.0.2.4
""" + "\n".join(f"many A 10.0.{number // 256}.{number % 256}" for number in range(1000))


class Clock:
    """The time of the cache."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[NameServer]:
    need(PROGRAM)
    with NameServer(tmp_path_factory.mktemp("nsd"), {"example.com": ZONE}) as server:
        yield server


@pytest.fixture
def resolver(server) -> Resolver:
    return Resolver([server.address])


FOUND, ABSENT, TEMPORARY, SPENT = Outcome


def found(*records) -> Answer:
    return Answer(FOUND, records)


class TestRealServer:
    @pytest.mark.parametrize(
        ("kind", "name", "expected"),
        [
            ("txt", "long.example.com", found(LONG.encode())),
            ("txt", "LONG.Example.COM.", found(LONG.encode())),
            ("txt", "octets.example.com", found(bytes(range(256)))),
            ("txt", "_under._score.example.com", found(b"yes")),
            ("aaaa", "a.example.com", found("2001:db8::1")),
            ("a", "brief.example.com", found("192.0.2.3")),
            ("ptr", "1.2.0.192.example.com", found("host.example.com")),
            ("txt", "a.example.com", Answer(ABSENT)),
            ("txt", "nobody.example.com", Answer(ABSENT)),
            ("a", "aliased.example.com", Answer(ABSENT)),
            ("aaaa", "brief2.example.com", Answer(ABSENT)),
            ("a", "dangling.example.com", Answer(TEMPORARY)),  # of the alias's end it says nothing
            ("a", "delegated.example.com", Answer(TEMPORARY)),  # a referral
            ("a", "elsewhere.example.net", Answer(TEMPORARY)),  # it answers REFUSED
            ("a", "a" * 64 + ".example.com", Answer(ABSENT)),
            ("a", ".".join(["a" * 60] * 5), Answer(ABSENT)),
            ("a", "a..example.com", Answer(ABSENT)),
            ("a", "", Answer(ABSENT)),
            ("a", ".", Answer(ABSENT)),
            ("a", "ümlaut.example.com", Answer(ABSENT)),
            ("a", "\udcff.example.com", Answer(ABSENT)),
            ("a", "a\\.b.example.com", Answer(ABSENT)),
            ("a", "a b\x00\r\n.example.com", Answer(ABSENT)),
        ],
    )
    def test_answers(self, resolver, kind, name, expected) -> None:
        assert getattr(resolver, kind)(name) == expected

    def test_several_records(self, resolver) -> None:
        assert set(resolver.a("a.example.com").records) == {"192.0.2.1", "192.0.2.2"}
        assert set(resolver.a("chain.example.com").records) == {"192.0.2.1", "192.0.2.2"}
        assert set(resolver.txt("two.example.com").records) == {b"oneand", b"two"}
        assert set(resolver.mx("example.com").records) == {
            Exchange(10, "mail.example.com"),
            Exchange(20, "mail.example.net"),
        }

    def test_an_answer_that_does_not_fit_a_datagram_is_fetched_by_tcp(self, resolver) -> None:
        assert resolver.txt("large.example.com") == found(LARGE.encode())

    def test_aliases_in_a_circle_and_a_thousand_records_are_no_answer(self, resolver) -> None:
        assert resolver.a("loop1.example.com") == Answer(TEMPORARY)
        assert resolver.a("many.example.com") == Answer(TEMPORARY)

    def test_a_server_that_is_gone_costs_no_time_and_the_next_is_asked(self, server) -> None:
        resolver = Resolver([f"127.0.0.1:{free_port()}", server.address])
        began = time.monotonic()
        assert resolver.a("brief.example.com") == found("192.0.2.3")
        assert time.monotonic() - began < 2

    def test_what_is_known_is_not_asked_again(self, tmp_path) -> None:
        need(PROGRAM)
        clock = Clock()
        with NameServer(tmp_path, {"example.com": ZONE}) as server:
            resolver = Resolver([server.address], clock=clock, lifetime=0.2)
            assert resolver.a("brief.example.com").outcome is FOUND
            assert resolver.a("endless.example.com").outcome is FOUND
            assert resolver.a("nobody.example.com").outcome is ABSENT
        clock.now += 29
        assert resolver.a("BRIEF.example.com").outcome is FOUND
        assert resolver.a("nobody.example.com").outcome is ABSENT
        clock.now += 29  # a TTL of one second counts as a minute
        assert resolver.a("brief.example.com").outcome is FOUND
        clock.now += 3
        assert resolver.a("brief.example.com").outcome is TEMPORARY
        clock.now += 60  # the SOA says 120 seconds
        assert resolver.a("nobody.example.com").outcome is TEMPORARY
        assert resolver.a("endless.example.com").outcome is FOUND
        clock.now += 6 * 3600
        assert resolver.a("endless.example.com").outcome is TEMPORARY


A = "@ 60 A 192.0.2.9"


def wrong_id(query: bytes) -> bytes:
    return bytes([query[0] ^ 1]) + answer(query, "@ 60 A 192.0.2.66")[1:]


def other_question(query: bytes) -> bytes:
    return answer(query, "@ 60 A 192.0.2.66").replace(b"\x0dotherquestion", b"\x0dOTHERquestios")


def chains_of_pointers(query: bytes) -> bytes:
    """An answer whose names are each a pointer to a pointer to a pointer ... RFC 1035, section 4.1.4."""
    head = bytearray(answer(query))[:-11]  # without the OPT record
    head[10:12] = b"\0\0"
    head += b"\0\x10\x00\x01\0\0\0\0\x1f\x40"  # a TXT record that holds the chain
    first = len(head)
    chain = b"".join(struct_pointer(max(first + at - 2, 12)) for at in range(0, 8000, 2))
    last = struct_pointer(first + 7998)
    records = (last + b"\x00\x01\x00\x01\0\0\0\x3c\0\x04\x7f\0\0\x01") * 199
    head[6:8] = (200).to_bytes(2, "big")
    return bytes(head) + chain + records


def struct_pointer(at: int) -> bytes:
    return (0xC000 | at).to_bytes(2, "big")


def garbage(query: bytes) -> bytes:
    return query[:2] + b"\x81\x80" + random.Random(7).randbytes(300)


MANY = [f"@ 60 A 10.0.{number // 250}.{number % 250}" for number in range(999)]
CHAIN = [*(f"c{number}. 60 CNAME c{number + 1}." for number in range(30)), "c30. 60 A 192.0.2.9"]

ODD = {
    "silent": Odd(),
    "servfail": Odd(lambda q: [answer(q, rcode=dns.rcode.SERVFAIL)]),
    "refused": Odd(lambda q: [answer(q, rcode=dns.rcode.REFUSED)]),
    "cut": Odd(lambda q: [cut(q)], lambda q: framed(answer(q, A))),
    "cutagain": Odd(lambda q: [cut(q)], lambda q: framed(cut(q))),
    "cutsilent": Odd(lambda q: [cut(q)]),
    "cutslow": Odd(lambda q: [cut(q)], lambda q: framed(answer(q, A)), pause=0.1, piece=1),
    "cuthalf": Odd(lambda q: [cut(q)], lambda q: framed(answer(q, A))[:-5]),
    "cutwrong": Odd(lambda q: [cut(q)], lambda q: framed(wrong_id(q))),
    "garbage": Odd(lambda q: [garbage(q)], lambda q: framed(garbage(q))),
    "empty": Odd(lambda q: [b"", q[:2], q[:11], b"\xff" * 4000]),
    "echo": Odd(lambda q: [q]),
    "wrongid": Odd(lambda q: [wrong_id(q)]),
    "otherquestion": Odd(lambda q: [other_question(q)]),
    "slow": Odd(lambda q: [answer(q, A)], pause=1.5),
    "late": Odd(lambda q: [answer(q, A)], pause=30),
    "huge": Odd(lambda q: [cut(q)], lambda q: framed(answer(q, f"@ 60 TXT {txt('x' * 50_000)}"))),
    "many": Odd(lambda q: [cut(q)], lambda q: framed(answer(q, *MANY))),
    "circle": Odd(lambda q: [answer(q, "@ 60 CNAME b.", "b. 60 CNAME circle.example.com.")]),
    "self": Odd(lambda q: [answer(q, "@ 60 CNAME self.example.com.")]),
    "chain": Odd(lambda q: [answer(q, "@ 60 CNAME c0.", *CHAIN)]),
    "both": Odd(lambda q: [answer(q, A, rcode=dns.rcode.NXDOMAIN)]),
    "pointers": Odd(lambda q: [cut(q)], lambda q: framed(chains_of_pointers(q))),
}


@pytest.fixture(scope="module")
def odd() -> Iterator[OddNameServer]:
    with OddNameServer(ODD, Odd(lambda q: [answer(q, A)])) as server:
        yield server


class TestOddServer:
    @pytest.mark.parametrize("name", [name for name in ODD if name not in ("cut", "slow")])
    def test_what_is_no_answer_is_temporary_in_time(self, odd, name) -> None:
        resolver = Resolver([odd.address], lifetime=0.5)
        began, cpu = time.monotonic(), time.thread_time()
        assert resolver.a(f"{name}.example.com") == Answer(TEMPORARY)
        assert time.monotonic() - began < 3
        assert time.thread_time() - cpu < 0.5

    def test_a_question_takes_two_seconds_at_most(self, odd) -> None:
        resolver = Resolver([odd.address])
        began = time.monotonic()
        assert resolver.a("cutslow.example.com") == Answer(TEMPORARY)
        assert 1.9 < time.monotonic() - began < 4

    def test_a_cut_answer_comes_by_tcp(self, odd) -> None:
        assert Resolver([odd.address]).a("cut.example.com") == found("192.0.2.9")

    def test_a_forged_answer_is_passed_over(self) -> None:
        both = Odd(lambda q: [wrong_id(q), q, b"?", answer(q, A)])
        with OddNameServer({}, both) as server:
            assert Resolver([server.address]).a("a.example.com") == found("192.0.2.9")

    def test_a_lost_datagram_is_sent_again(self) -> None:
        asked: list[bytes] = []

        def second_time(query: bytes) -> list[bytes]:
            asked.append(query)
            return [answer(query, A)] if len(asked) > 1 else []

        with OddNameServer({}, Odd(second_time)) as server:
            assert Resolver([server.address]).a("a.example.com") == found("192.0.2.9")
        assert len(asked) == 2
        assert asked[0][:2] != asked[1][:2]

    def test_a_failure_is_remembered_for_half_a_minute(self, odd) -> None:
        clock = Clock()
        resolver = Resolver([odd.address], clock=clock)
        before = odd.seen.count("servfail.example.com")
        for _ in range(20):
            assert resolver.a("servfail.example.com") == Answer(TEMPORARY)
        assert odd.seen.count("servfail.example.com") == before + 1
        clock.now += 31
        resolver.a("servfail.example.com")
        assert odd.seen.count("servfail.example.com") == before + 2

    def test_the_server_that_answers_is_asked_first_from_then_on(self, odd) -> None:
        with OddNameServer({}) as silent:
            resolver = Resolver([silent.address, odd.address], lifetime=1.0)
            for name in ("one", "two", "three"):
                assert resolver.a(f"{name}.example.com").outcome is FOUND
            assert silent.seen == ["one.example.com"]

    def test_threads_that_ask_the_same_share_one_question(self) -> None:
        with OddNameServer({}, Odd(lambda q: [answer(q, A)], pause=0.3)) as server:
            resolver = Resolver([server.address], lifetime=10)
            answers = in_threads(100, lambda _n: resolver.a("same.example.com"))
            assert answers == [found("192.0.2.9")] * 100
            assert server.seen == ["same.example.com"]

    def test_questions_under_way_are_limited(self) -> None:
        lock, now, most = threading.Lock(), [0], [0]

        def count(query: bytes) -> list[bytes]:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.05)
            with lock:
                now[0] -= 1
            return [answer(query, A)]

        with OddNameServer({}, Odd(count)) as server:
            resolver = Resolver([server.address], lifetime=10, rate=1000)
            answers = in_threads(100, lambda n: resolver.a(f"n{n}.example.com"))
        assert answers == [found("192.0.2.9")] * 100
        assert most[0] <= 32

    def test_ten_thousand_names_become_fifty_questions_a_second(self, odd) -> None:
        clock, said = Clock(), set()
        resolver = Resolver([odd.address], clock=clock, on_trouble=said.add)
        before = len(odd.seen)
        outcomes = [resolver.a(f"zone{n}.example.com").outcome for n in range(10_000)]
        assert outcomes == [FOUND] * 50 + [TEMPORARY] * 9950
        assert said == {"resolver: over 50 questions a second in a worker, so that some are not put"}
        clock.now += 1
        assert resolver.a("zone9999.example.com").outcome is FOUND  # that it was not asked is not kept
        assert len(odd.seen) - before == 51

    def test_the_cache_is_bounded_and_what_was_used_stays(self, odd) -> None:
        resolver = Resolver([odd.address], rate=10_000, cache_octets=100_000)
        for number in range(300):
            resolver.a(f"n{number}.example.com")
            resolver.a("used.example.com")
        assert len(resolver._cache) < 100
        assert odd.seen.count("used.example.com") == 1

    @pytest.mark.parametrize("count", [2000, pytest.param(100_000, marks=pytest.mark.deep)])
    def test_any_octets_are_an_answer_or_none(self, count) -> None:
        chance = random.Random(count)
        query = dns.message.make_query("a.example.com", "TXT")
        texts = ("@ 60 TXT hello", "@ 60 CNAME b.", "b. 60 TXT world", "@ 60 MX 10 m.example.com.", A)
        proper = answer(query.to_wire(), *texts)
        for _ in range(count):
            octets = bytearray(proper)
            for _ in range(chance.randint(1, 6)):
                octets[chance.randrange(2, len(octets))] = chance.randrange(256)
            try:
                reply = name_servers._parsed(bytes(octets[: chance.randint(12, len(octets) * 2)]), query)
            except NoReply:
                continue
            assert _read(reply, dns.rdatatype.TXT)[0].outcome in Outcome


class TestSilence:
    def test_servers_that_are_silent_altogether_are_not_waited_for_each_time(self) -> None:
        """I1: the messages after the third are late by the trial of one each second, and no more."""
        speaks = threading.Event()
        clock, said = Clock(), set()
        with OddNameServer({}, Odd(lambda q: [answer(q, A)] if speaks.is_set() else [])) as server:
            resolver = Resolver([server.address], clock=clock, lifetime=0.4, on_trouble=said.add)
            seconds = [timed(resolver, f"n{number}.example.com", TEMPORARY) for number in range(20)]
            assert max(seconds) < 2
            assert sum(seconds[3:]) < 3
            assert said == {"resolver: no name server answers, so that nothing is judged by DNS"}
            speaks.set()
            assert resolver.a("a.example.com").outcome is TEMPORARY  # the second is not over
            clock.now += 1
            assert resolver.a("a.example.com") == found("192.0.2.9")
            assert resolver.a("n19.example.com") == found("192.0.2.9")  # it was not asked, so it did not fail
            assert resolver.a("n1.example.com").outcome is TEMPORARY

    def test_zones_that_are_silent_do_not_silence_the_others(self) -> None:
        with OddNameServer({}, Odd(lambda q: [] if b"silent" in q else [answer(q, A)])) as server:
            resolver = Resolver([server.address], lifetime=0.4)
            for number in range(8):
                assert resolver.a(f"silent.zone{number}").outcome is TEMPORARY
            assert resolver.a("a.example.com") == found("192.0.2.9")
            assert len([name for name in server.seen if name.startswith("silent")]) == 16


def timed(resolver: Resolver, name: str, expected: Outcome) -> float:
    began = time.monotonic()
    assert resolver.a(name).outcome is expected
    return time.monotonic() - began


class TestBudget:
    def test_lookups_are_counted_for_the_message_and_not_for_the_question(self, odd) -> None:
        resolver, budget = Resolver([odd.address]), Budget(lookups=3)
        outcomes = [resolver.a("same.example.com", budget).outcome for _ in range(4)]
        assert outcomes == [FOUND, FOUND, FOUND, SPENT]

    def test_after_two_voids_nothing_more_is_asked(self, resolver) -> None:
        budget = Budget()
        names = ("nobody1", "a", "nobody2", "a")
        outcomes = [resolver.a(f"{name}.example.com", budget).outcome for name in names]
        assert outcomes == [ABSENT, FOUND, ABSENT, SPENT]

    def test_ten_silent_zones_cost_two_seconds_and_not_twenty(self, odd) -> None:
        resolver, budget = Resolver([odd.address]), Budget()
        began = time.monotonic()
        outcomes = {resolver.a(f"silent.zone{n}", budget).outcome for n in range(10)}
        assert outcomes == {TEMPORARY}
        assert time.monotonic() - began < 3

    def test_a_question_that_had_no_time_is_not_remembered_as_failed(self, odd) -> None:
        resolver = Resolver([odd.address])
        assert resolver.a("slow.example.com", Budget(seconds=0.1)).outcome is TEMPORARY
        assert resolver.a("a.example.com", Budget(seconds=0.0)).outcome is TEMPORARY
        assert resolver.a("a.example.com", Budget(seconds=1.0)).outcome is FOUND

    def test_nor_is_one_that_had_none_left_when_its_turn_came(self) -> None:
        odd = {"late": Odd(lambda query: [answer(query, A)], pause=0.85)}
        odd[""] = Odd(lambda query: [answer(query)])  # the root: it is up
        with OddNameServer(odd) as server:
            resolver = Resolver([server.address])
            silent = threading.Thread(
                target=in_threads, args=(32, lambda number: resolver.a(f"{number}.silent.example.com"))
            )
            silent.start()
            wait_for(lambda: len(server.seen) >= 32, 20, "the questions")
            assert resolver.a("late.example.com").outcome is TEMPORARY
            silent.join()
            assert resolver.a("late.example.com").outcome is FOUND

    def test_the_time_between_questions_is_the_client_s(self, odd) -> None:
        resolver, budget = Resolver([odd.address]), Budget(seconds=0.3)
        assert resolver.a("a.example.com", budget).outcome is FOUND
        time.sleep(0.4)
        assert budget.seconds_left > 0.1
        assert resolver.a("b.example.com", budget).outcome is FOUND

    def test_what_is_asked_in_parallel_counts_once(self) -> None:
        with OddNameServer({}, Odd(lambda q: [answer(q, A)], pause=0.3)) as server:
            resolver, budget = Resolver([server.address]), Budget()
            in_threads(5, lambda n: resolver.a(f"n{n}.example.com", budget))
            assert 1.2 < budget.seconds_left < 1.75

    def test_one_apart_shares_the_time_and_counts_for_itself(self, odd) -> None:
        resolver, budget = Resolver([odd.address]), Budget(lookups=1, seconds=0.4)
        other = budget.apart(questions=1)
        assert resolver.a("first.example.com", budget).outcome is FOUND
        assert resolver.a("first.example.com", budget).outcome is SPENT
        assert resolver.a("first.example.com", other).outcome is FOUND  # it is known
        assert resolver.a("silent.example.com", other).outcome is TEMPORARY
        assert resolver.a("second.example.com", other).outcome is SPENT
        assert budget.seconds_left < 0.05


class TestServers:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("192.0.2.1", Place("192.0.2.1")),
            ("192.0.2.1:5353", Place("192.0.2.1", 5353)),
            ("2001:db8::1", Place("2001:db8::1")),
            ("[2001:db8::1]", Place("2001:db8::1")),
            ("[2001:db8::1]:5353", Place("2001:db8::1", 5353)),
            ("192.0.2.1:0", None),
            ("192.0.2.1:65536", None),
            ("dns.example.com", None),
            ("[dns.example.com]:53", None),
            ("", None),
            (":53", None),
        ],
    )
    def test_addresses(self, text, expected) -> None:
        assert name_servers.parse(text) == expected

    def test_what_is_no_address_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^localhost is no address"):
            Resolver(["192.0.2.1", "localhost"])

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "search a\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\n",
                ["192.0.2.1", "2001:db8::1"],
            ),
            ("nameserver 1.1.1.1\n" * 5, ["1.1.1.1"] * 3),
            ("nameserver\nnameserver nonsense\n#nameserver 192.0.2.1\n", ["127.0.0.1"]),
            ("", ["127.0.0.1"]),
        ],
    )
    def test_resolv_conf(self, tmp_path, text, expected) -> None:
        path = tmp_path / "resolv.conf"
        path.write_text(text)
        assert [server.host for server in name_servers.system_servers(path)] == expected
        assert name_servers.system_servers(tmp_path / "missing") == (Place("127.0.0.1"),)


def in_threads(count: int, call: Callable[[int], Answer]) -> list[Answer]:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(call(n))) for n in range(count)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) == count, 20, "the answers")
    for thread in threads:
        thread.join()
    return answers
