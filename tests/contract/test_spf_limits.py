"""SPF where records are bombs and name servers fail: what is asked, how long it takes, what is remembered."""

import threading
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from backstop.adapters import spf as spf_module
from backstop.adapters import spf_query
from backstop.adapters.resolver import Budget, Resolver
from backstop.adapters.spf import SpfChecker
from backstop.address import parse
from backstop.authentication import Spf, SpfResult
from tests.harness.name_server import txt
from tests.harness.odd_name_server import Odd, OddNameServer, answer, cut, framed
from tests.harness.servers import free_port
from tests.harness.waiting import wait_for

NONE, NEUTRAL, PASS, FAIL, SOFTFAIL, TEMPERROR, PERMERROR = SpfResult

OURS = "192.0.2.10"


class Clock:
    """The time of both caches."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def zone(records: Mapping[str, Iterable[str]]) -> Odd:
    """Says what stands in a table of `name: TYPE VALUE`; `*` names what is not there, else it is absent."""

    def says(query: bytes) -> list[bytes]:
        asked = dns.message.from_wire(query).question[0]
        name, kind = asked.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(asked.rdtype)
        values = [line for line in records.get(name, records.get("*", ())) if line.split(" ")[0] == kind]
        return [answer(query, *(f"@ 300 {line}" for line in values))]

    return Odd(says)


def spf(*terms: str) -> list[str]:
    return [f"TXT {txt(' '.join(['v=spf1', *terms]))}"]


def check(checker: SpfChecker, sender: str = "user@example.com", client: str = OURS) -> Spf:
    reverse_path = parse(sender)
    assert reverse_path is not None
    return checker.check(client, "mail.example.net", reverse_path, Budget())


def judged(records: Mapping[str, Iterable[str]], client: str = OURS) -> tuple[SpfResult, int]:
    """The result, and how many questions the name server saw."""
    with OddNameServer({}, zone(records)) as server:
        checker = SpfChecker(Resolver([server.address]))
        return check(checker, client=client).result, len(server.seen)


def chain(length: int) -> dict[str, list[str]]:
    """Records that include one another, `length` lookups in all; the last one knows us."""
    names = ["example.com", *(f"i{number}.example.com" for number in range(length))]
    records = {name: spf(f"include:{other}", "-all") for name, other in pairwise(names)}
    return records | {names[-1]: spf(f"ip4:{OURS}")}


A_OTHER = ["A 198.51.100.1"]


class TestLimits:
    """RFC 7208, section 4.6.4; I2: at most 10 + 2 questions a message."""

    @pytest.mark.parametrize(
        ("terms", "expected", "questions"),
        [
            ([f"a:h{n}.example.com" for n in range(10)], FAIL, 11),
            ([f"a:h{n}.example.com" for n in range(11)], PERMERROR, 11),
            ([f"a:h{n}.example.com" for n in range(9)] + [f"ip4:{OURS}", "a:h9.example.com"], PASS, 10),
            (["a:void0.example.com", "a:void1.example.com", "mx:h.example.com"], PERMERROR, 4),
            (["a:void0.example.com", "a:void1.example.com", "a:h.example.com"], FAIL, 4),
            (["exists:void0.example.com"] * 3, PERMERROR, 2),
            (["a:void0.example.com", f"ip4:{OURS}", "a:void1.example.com", "a:void2.example.com"], PASS, 2),
        ],
    )
    def test_lookups_and_voids(self, terms, expected, questions) -> None:
        records = {f"void{n}.example.com": [] for n in range(3)} | {"*": A_OTHER}
        records["example.com"] = spf(*terms, "-all")
        assert judged(records) == (expected, questions)

    @pytest.mark.parametrize(
        ("length", "expected"), [(1, PASS), (10, PASS), (11, PERMERROR), (30, PERMERROR)]
    )
    def test_a_deep_include(self, length, expected) -> None:
        result, questions = judged(chain(length))
        assert result is expected
        assert questions <= 12

    def test_a_chain_of_redirects(self) -> None:
        records = {f"r{n}.example.com": spf(f"redirect=r{n + 1}.example.com") for n in range(30)}
        records["example.com"] = spf("redirect=r0.example.com")
        result, questions = judged(records)
        assert result is PERMERROR
        assert questions <= 12

    def test_of_the_client_s_names_ten_are_looked_at(self) -> None:
        names = [f"PTR n{n}.example.com." for n in range(20)]
        records = {"10.2.0.192.in-addr.arpa": names, "example.com": spf("ptr", "-all"), "*": A_OTHER}
        assert judged(records) == (FAIL, 12)

    def test_exchanges_without_ipv6_are_one_void(self) -> None:
        records = {
            "example.com": [
                *spf("mx", "ip6:2001:db8::/32", "-all"),
                *(f"MX {n} h{n}.example.com." for n in range(5)),
            ]
        }
        assert judged(records | {"*": A_OTHER}, "2001:db8::1")[0] is PASS

    def test_a_record_that_needs_more_questions_is_known_after_a_while(self) -> None:
        """Two `mx` with ten hosts each are 23 questions: allowed to them, and too many for us at once."""
        mx = [f"MX {n} {{}}{n}.example.com." for n in range(10)]
        records = {
            "example.com": spf("mx:a.example.com", "mx:b.example.com", f"ip4:{OURS}", "-all"),
            "a.example.com": [line.format("a") for line in mx],
            "b.example.com": [line.format("b") for line in mx],
            "*": A_OTHER,
        }
        clock = Clock()
        with OddNameServer({}, zone(records)) as server:
            checker = SpfChecker(Resolver([server.address], clock=clock), clock=clock)
            seen = []
            for expected in (TEMPERROR, PASS):
                assert check(checker).result is expected
                found = check(checker)
                assert found.result is expected
                assert ("more than 12 questions" in found.reason) is (expected is TEMPERROR)
                seen.append(len(server.seen))
                clock.now += 6
            assert seen == [12, 23]

    def test_a_hundred_messages_with_bombs(self) -> None:
        """I2 and T14: 100 of 100 stay within 12 questions and 2 s; nothing of it is a refusal."""
        bombs = [
            spf(*(f"include:%{{l}}.{n}.example.com" for n in range(10)), "-all"),
            spf("mx:%{d}", "mx:x.%{d}", "mx:y.%{d}", "-all") + [f"MX 1 h{n}.example.com." for n in range(10)],
            spf(*(f"a:%{{ir}}.{n}.%{{d}}" for n in range(30)), "-all"),
            spf("ptr:a.example.com", "a:%{p}.%{d}", "mx:%{p}.x.%{d}", "-all"),
        ]
        common = ["MX 1 m.example.com.", *(f"PTR p{n}.example.com." for n in range(50))]

        def says(query: bytes) -> list[bytes]:
            asked = dns.message.from_wire(query).question[0]
            name = asked.name.to_text(omit_final_dot=True)
            return zone({name: bombs[len(name) % len(bombs)] + common + A_OTHER}).udp(query)

        with OddNameServer({}, Odd(says)) as server:
            checker = SpfChecker(Resolver([server.address], rate=10_000))
            for number in range(100):
                before, began = len(server.seen), time.monotonic()
                result = check(checker, f"user@{'x' * (number % 4)}bomb{number}.example.com").result
                assert result in (PERMERROR, TEMPERROR)
                assert len(server.seen) - before <= 12
                assert time.monotonic() - began < 4


class TestFaults:
    """I1: a temporary error within 2 s, whatever the name server does."""

    @pytest.mark.parametrize(
        ("odd", "expected"),
        [
            (Odd(), TEMPERROR),
            (Odd(lambda q: [answer(q, rcode=dns.rcode.SERVFAIL)]), TEMPERROR),
            (Odd(lambda q: [answer(q, rcode=dns.rcode.REFUSED)]), TEMPERROR),
            (Odd(lambda q: [answer(q, rcode=dns.rcode.NXDOMAIN)]), NONE),
            (Odd(lambda q: [answer(q)]), NONE),
            (Odd(lambda q: [cut(q)]), TEMPERROR),
            (Odd(lambda q: [cut(q)], lambda q: framed(answer(q, large(50_000)))), TEMPERROR),
            (Odd(lambda q: [cut(q)], lambda q: framed(answer(q, large(3_000)))), FAIL),
            (Odd(lambda q: [answer(q, '@ 60 TXT "v=spf1 -all"')], pause=3), TEMPERROR),
            (Odd(lambda q: [answer(q, "@ 60 CNAME b.", "b. 60 CNAME c.", "c. 60 CNAME b.")]), TEMPERROR),
            (
                Odd(
                    lambda q: [cut(q)], lambda q: framed(answer(q, *(f'@ 60 TXT "{n}"' for n in range(1000))))
                ),
                TEMPERROR,
            ),
            (Odd(lambda q: [b"\x00" * 12, q]), TEMPERROR),
        ],
    )
    def test_the_record_cannot_be_had(self, odd, expected) -> None:
        with OddNameServer({}, odd) as server:
            began = time.monotonic()
            assert check(SpfChecker(Resolver([server.address]))).result is expected
            assert time.monotonic() - began < 4
            assert len(server.seen) <= 12

    @pytest.mark.parametrize("term", ["include", "a", "mx", "exists", "redirect", "ptr"])
    def test_a_term_that_is_silent(self, term) -> None:
        mark = "=" if term == "redirect" else ":"

        def says(query: bytes) -> list[bytes]:
            if b"silent" in query or b"in-addr" in query:
                return []
            return zone({"example.com": spf(f"{term}{mark}silent.example.com")}).udp(query)

        with OddNameServer({}, Odd(says)) as server:
            budget, began = Budget(), time.monotonic()
            checker = SpfChecker(Resolver([server.address]))
            sender = parse("user@example.com")
            assert checker.check(OURS, "h.example", sender, budget).result is TEMPERROR
            assert time.monotonic() - began < 4
            assert budget.seconds_left < 0.1

    def test_ten_slow_terms_have_two_seconds_together(self) -> None:
        records = {"example.com": spf(*(f"a:h{n}.example.com" for n in range(10)), "-all"), "*": A_OTHER}
        with OddNameServer({}, Odd(zone(records).udp, pause=0.4)) as server:
            began = time.monotonic()
            assert check(SpfChecker(Resolver([server.address]))).result is TEMPERROR
            assert 1.5 < time.monotonic() - began < 4

    def test_a_server_that_is_gone(self) -> None:
        assert check(SpfChecker(Resolver([f"127.0.0.1:{free_port()}"]))).result is TEMPERROR


class TestMemory:
    def test_a_result_is_remembered_for_a_minute(self, counted) -> None:
        clock = Clock()
        with OddNameServer({}, zone({"example.com": spf("a:h.example.com", "-all"), "*": A_OTHER})) as server:
            checker = SpfChecker(Resolver([server.address], clock=clock), clock=clock)
            for local in ("a", "b", "c"):
                assert check(checker, f"{local}@example.com").result is FAIL
            assert len(counted) == 1
            assert check(checker, client="198.51.100.1").result is PASS
            assert check(checker, "user@other.example.com").result is NONE
            assert len(counted) == 3
            clock.now += 61
            assert check(checker).result is FAIL
            assert len(counted) == 4

    @pytest.mark.parametrize(
        ("macro", "same", "other"),
        [
            ("%{l}", ("a@example.com", "h.example.net"), ("b@example.com", "h.example.net")),
            ("%{s}", ("a@example.com", "h.example.net"), ("b@example.com", "h.example.net")),
            ("%{h}", ("a@example.com", "h.example.net"), ("a@example.com", "i.example.net")),
        ],
    )
    def test_what_a_macro_reads_is_told_apart(self, counted, macro, same, other) -> None:
        expansion = {"%{l}": "a", "%{s}": "a\\@example.com", "%{h}": "h.example.net"}[macro]
        records = {
            "example.com": spf(f"exists:{macro}.x.example.com", "-all"),
            f"{expansion}.x.example.com": A_OTHER,
        }
        with OddNameServer({}, zone(records)) as server:
            checker = SpfChecker(Resolver([server.address]))
            for _ in range(3):
                for (sender, helo), expected in ((same, PASS), (other, FAIL)):
                    assert checker.check(OURS, helo, parse(sender), Budget()).result is expected
            assert len(counted) == 2

    def test_that_a_message_had_no_time_left_is_not_remembered(self) -> None:
        with OddNameServer({}, zone({"example.com": spf("-all")})) as server:
            checker = SpfChecker(Resolver([server.address]))
            sender = parse("user@example.com")
            assert checker.check(OURS, "h.example", sender, Budget(seconds=0)).result is TEMPERROR
            assert checker.check(OURS, "h.example", sender, Budget()).result is FAIL
            assert checker.check(OURS, "h.example", sender, Budget(seconds=0)).result is FAIL

    def test_other_checks_keep_their_lookups(self) -> None:
        with OddNameServer({}, zone(chain(10))) as server:
            checker, budget = SpfChecker(Resolver([server.address])), Budget()
            assert checker.check(OURS, "h.example", parse("user@example.com"), budget).result is PASS
            assert all(budget.take() for _ in range(10))

    def test_memory_is_bounded(self) -> None:
        with OddNameServer({}, zone({"example.com": spf("exists:%{l}.example.com", "-all")})) as server:
            checker = SpfChecker(Resolver([server.address], rate=10))
            for number in range(2 * spf_module.MAX_KEPT):
                check(checker, f"user{number}@example.com", f"10.0.{number // 250}.{number % 250}")
            assert len(checker._kept) == spf_module.MAX_KEPT

    def test_threads(self) -> None:
        records = {f"d{n}.example.com": spf(f"ip4:10.0.0.{n}", "-all") for n in range(20)}
        with OddNameServer({}, zone(records)) as server:
            checker = SpfChecker(Resolver([server.address], rate=10_000))
            results = in_threads(checker)
        assert results == [PASS if n % 20 == n // 20 else FAIL for n in range(400)]


@pytest.fixture
def counted(monkeypatch) -> list[object]:
    """The evaluations made."""
    made: list[object] = []
    evaluate = spf_query.evaluate

    def count(client: spf_query.Client, resolver: Resolver, budget: Budget) -> spf_query.Evaluation:
        made.append(client)
        return evaluate(client, resolver, budget)

    monkeypatch.setattr(spf_query, "evaluate", count)
    return made


def large(octets: int) -> str:
    """A TXT record of our policy with so many octets of anything beside it."""
    return "@ 60 TXT " + txt("v=spf1 -all " + " ".join(f"x{at}=" + "y" * 195 for at in range(octets // 200)))


def in_threads(checker: SpfChecker) -> list[SpfResult]:
    results: dict[int, SpfResult] = {}

    def run(number: int) -> None:
        client, domain = f"10.0.0.{number % 20}", f"d{number // 20}.example.com"
        results[number] = check(checker, f"user@{domain}", client).result

    threads = [threading.Thread(target=run, args=(number,)) for number in range(400)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(results) == 400, 20, "the results")
    for thread in threads:
        thread.join()
    return [results[number] for number in range(400)]
