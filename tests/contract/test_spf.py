"""SPF against a real name server that serves a case for each clause of RFC 7208, sections 4, 5, 6.1 and 7."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from backstop.adapters.resolver import Budget, Resolver
from backstop.adapters.spf import SpfChecker
from backstop.address import NULL_SENDER, parse
from backstop.authentication import Spf, SpfIdentity, SpfResult
from tests.harness.name_server import PROGRAM, NameServer, txt
from tests.harness.servers import need

NONE, NEUTRAL, PASS, FAIL, SOFTFAIL, TEMPERROR, PERMERROR = SpfResult

OURS = "192.0.2.10"
OURS6 = "2001:db8::10"


class Case(NamedTuple):
    """A record, and what follows from it for a client."""

    clause: str
    record: str
    expected: SpfResult
    client: str = OURS
    local: str = "user"
    helo: str = "mail.example.net"


CASES = [
    # 4.5 selecting records, 4.6 evaluation
    Case("4.5", "v=spf1", NEUTRAL),
    Case("4.5", "V=sPF1 -all", FAIL),
    Case("4.5", "v=spf10 -all", NONE),
    Case("4.5", "v=spf1-all", NONE),
    Case("4.5", " v=spf1 -all", NONE),
    Case("4.5", "spf2.0/pra -all", NONE),
    Case("4.6.1", "v=spf1  ip4:192.0.2.10   -all  ", PASS),
    Case("4.6.1", "v=spf1 ip4:192.0.2.10 -all moo", PERMERROR),
    Case("4.6.1", "v=spf1 ip4:192.0.2.10 -all moo:", PERMERROR),
    Case("4.6.1", "v=spf1 -all moo=cow", FAIL),
    Case("4.6.1", "v=spf1 moo.cow-far_out=man:dog/cat ip4:192.0.2.10 -all", PASS),
    Case("4.6.1", "v=spf1 1moo=x -all", PERMERROR),
    Case("4.6.1", "v=spf1 moo=%{ -all", PERMERROR),
    Case("4.6.1", "v=spf1\tip4:192.0.2.10\t-all", NONE),
    Case("4.6.1", "v=spf1 ip4:192.0.2.10\t-all", PERMERROR),
    Case("4.6.1", "v=spf1 IP4:192.0.2.10 -ALL", PASS),
    Case("4.6.1", "v=spf1 -IP4:192.0.2.10 +all", FAIL),
    Case("4.6.2", "v=spf1 +ip4:192.0.2.10 -all", PASS),
    Case("4.6.2", "v=spf1 -ip4:192.0.2.10 +all", FAIL),
    Case("4.6.2", "v=spf1 ~ip4:192.0.2.10 +all", SOFTFAIL),
    Case("4.6.2", "v=spf1 ?ip4:192.0.2.10 +all", NEUTRAL),
    Case("4.6.2", "v=spf1 =ip4:192.0.2.10 +all", PERMERROR),
    Case("4.6.2", "v=spf1 --all", PERMERROR),
    Case("4.6.2", "v=spf1 ip4:192.0.2.11 ip4:192.0.2.10 -all", PASS),
    Case("4.6.3", "v=spf1 redirect=fails.%{d2} ip4:192.0.2.10", PASS),
    Case("4.6.3", "v=spf1 redirect=passes.example.com -all", FAIL),
    Case("4.7", "v=spf1 ip4:192.0.2.11", NEUTRAL),
    Case("4.8", "v=spf1 a:host..example.com -all", FAIL),
    Case("4.8", "v=spf1 a:" + "a" * 64 + ".example.com -all", FAIL),
    Case("4.8", "v=spf1 a:host.example.com. -all", PASS),
    # 5.1 all
    Case("5.1", "v=spf1 all", PASS),
    Case("5.1", "v=spf1 -all ip4:192.0.2.10", FAIL),
    Case("5.1", "v=spf1 -all:example.com", PERMERROR),
    Case("5.1", "v=spf1 -all/8", PERMERROR),
    Case("5.1", "v=spf1 -all.", PERMERROR),
    # 5.2 include: each result of the record that is included
    Case("5.2", "v=spf1 include:passes.example.com -all", PASS),
    Case("5.2", "v=spf1 ~include:passes.example.com -all", SOFTFAIL),
    Case("5.2", "v=spf1 -include:passes.example.com +all", FAIL),
    Case("5.2", "v=spf1 include:fails.example.com ~all", SOFTFAIL),
    Case("5.2", "v=spf1 include:softfails.example.com -all", FAIL),
    Case("5.2", "v=spf1 include:neutral.example.com -all", FAIL),
    Case("5.2", "v=spf1 include:refused.example.org ip4:192.0.2.10 -all", TEMPERROR),
    Case("5.2", "v=spf1 include:damaged.example.com ip4:192.0.2.10 -all", PERMERROR),
    Case("5.2", "v=spf1 include:host.example.com ip4:192.0.2.10 -all", PERMERROR),
    Case("5.2", "v=spf1 include:nobody.example.com -all", PERMERROR),
    Case("5.2", "v=spf1 ip4:192.0.2.10 include:nobody.example.com -all", PASS),
    Case("5.2", "v=spf1 include", PERMERROR),
    Case("5.2", "v=spf1 include: -all", PERMERROR),
    Case("5.2", "v=spf1 include:passes.example.com/24 -all", PERMERROR),
    Case("5.2", "v=spf1 include:%{d} -all", PERMERROR),
    # 5.3 a
    Case("5.3", "v=spf1 a:host.example.com -all", PASS),
    Case("5.3", "v=spf1 a:HOST.example.com -all", PASS),
    Case("5.3", "v=spf1 a:alias.example.com -all", PASS),
    Case("5.3", "v=spf1 a:host.example.com -all", FAIL, "192.0.2.11"),
    Case("5.3", "v=spf1 a:host.example.com/31 -all", PASS, "192.0.2.11"),
    Case("5.3", "v=spf1 a:host.example.com/24 -all", PASS, "192.0.2.200"),
    Case("5.3", "v=spf1 a:host.example.com/0 -all", PASS, "198.51.100.1"),
    Case("5.3", "v=spf1 a:host.example.com/33 -all", PERMERROR),
    Case("5.3", "v=spf1 a:host.example.com/024 -all", PERMERROR),
    Case("5.3", "v=spf1 a:host.example.com -all", PASS, OURS6),
    Case("5.3", "v=spf1 a:host.example.com/24//64 -all", PASS, "2001:db8::ffff"),
    Case("5.3", "v=spf1 a:host.example.com/24 -all", FAIL, "2001:db8::ffff"),
    Case("5.3", "v=spf1 a:host.example.com//129 -all", PERMERROR),
    Case("5.3", "v=spf1 a:host.example.com -all", FAIL, "2001:db8::11"),
    Case("5.3", "v=spf1 a -all", FAIL),
    Case("5.3", "v=spf1 a:nobody.example.com -all", FAIL),
    Case("5.3", "v=spf1 a:refused.example.org -all", TEMPERROR),
    Case("5.3", "v=spf1 a:host.example.com:80 -all", PERMERROR),
    Case("5.3", "v=spf1 a: -all", PERMERROR),
    Case("5.3", "v=spf1 a:host -all", PERMERROR),
    Case("5.3", "v=spf1 a:192.0.2.10 -all", PERMERROR),
    Case("5.3", "v=spf1 a:many.example.com -all", PASS, "10.0.0.99"),
    # 5.4 mx
    Case("5.4", "v=spf1 mx:mx.example.com -all", PASS),
    Case("5.4", "v=spf1 mx:mx.example.com -all", FAIL, "192.0.2.99"),
    Case("5.4", "v=spf1 mx:mx.example.com/24 -all", PASS, "192.0.2.99"),
    Case("5.4", "v=spf1 mx:mx.example.com//64 -all", PASS, "2001:db8::99"),
    Case("5.4", "v=spf1 mx:host.example.com -all", FAIL),  # no fall back to the address
    Case("5.4", "v=spf1 mx:tenmx.example.com -all", PASS),
    Case("5.4", "v=spf1 mx:elevenmx.example.com -all", PERMERROR),
    Case("5.4", "v=spf1 mx:nullmx.example.com -all", FAIL),
    Case("5.4", "v=spf1 mx:refused.example.org -all", TEMPERROR),
    # 5.5 ptr
    Case("5.5", "v=spf1 ptr:example.com -all", PASS),
    Case("5.5", "v=spf1 ptr:xample.com -all", FAIL),
    Case("5.5", "v=spf1 ptr:EXAMPLE.com -all", PASS),
    Case("5.5", "v=spf1 ptr:host.example.com -all", PASS),
    Case("5.5", "v=spf1 ptr:example.com -all", FAIL, "192.0.2.66"),  # its name says so, and it does not
    Case("5.5", "v=spf1 ptr:example.com -all", FAIL, "192.0.2.12"),
    Case("5.5", "v=spf1 ptr:example.com -all", PASS, OURS6),
    Case(
        "5.5", "v=spf1 ptr:example.com -all", TEMPERROR, "198.51.100.1"
    ),  # from a failure no refusal follows
    # 5.6 ip4, ip6
    Case("5.6", "v=spf1 ip4:192.0.2.0/24 -all", PASS),
    Case("5.6", "v=spf1 ip4:192.0.2.10/32 -all", PASS),
    Case("5.6", "v=spf1 ip4:192.0.2.77/24 -all", PASS),
    Case("5.6", "v=spf1 ip4:192.0.2.10/33 -all", PERMERROR),
    Case("5.6", "v=spf1 ip4:192.0.2.10/24//64 -all", PERMERROR),
    Case("5.6", "v=spf1 ip4:192.0.2 -all", PERMERROR),
    Case("5.6", "v=spf1 ip4:192.0.2.256 -all", PERMERROR),
    Case("5.6", "v=spf1 ip4 -all", PERMERROR),
    Case("5.6", "v=spf1 ip4: -all", PERMERROR),
    Case("5.6", "v=spf1 ip4:0.0.0.0/0 -all", PASS),
    Case("5.6", "v=spf1 ip4:0.0.0.0/0 -all", FAIL, OURS6),
    Case("5.6", "v=spf1 ip6:2001:db8::/32 -all", PASS, OURS6),
    Case("5.6", "v=spf1 ip6:2001:DB8::10 -all", PASS, OURS6),
    Case("5.6", "v=spf1 ip6:2001:db8::/129 -all", PERMERROR, OURS6),
    Case("5.6", "v=spf1 ip6:2001:db8:::10 -all", PERMERROR, OURS6),
    Case("5.6", "v=spf1 ip6:::/0 -all", FAIL),
    Case("5.6", "v=spf1 ip6:::1.2.3.4 -all", PASS, "::1.2.3.4"),
    Case("5.6", "v=spf1 ip4:192.0.2.10 -all", PASS, "::ffff:192.0.2.10"),
    Case("5.6", "v=spf1 ip4:192.0.2.10 -all", PASS, "::FFFF:C000:20A"),
    # 5.7 exists
    Case("5.7", "v=spf1 exists:host.example.com -all", PASS, "198.51.100.7"),
    Case("5.7", "v=spf1 exists:nobody.example.com -all", FAIL),
    Case("5.7", "v=spf1 exists:six.example.com -all", FAIL, OURS6),  # A, whatever the client has
    Case("5.7", "v=spf1 exists:host.example.com -all", PASS, OURS6),
    Case("5.7", "v=spf1 exists -all", PERMERROR),
    Case("5.7", "v=spf1 exists:host.example.com/24 -all", PERMERROR),
    Case("5.7", "v=spf1 exists:refused.example.org -all", TEMPERROR),
    # 6.1 redirect, 6.2 exp
    Case("6.1", "v=spf1 redirect=passes.example.com", PASS),
    Case("6.1", "v=spf1 Redirect=fails.example.com", FAIL),
    Case("6.1", "v=spf1 redirect=nobody.example.com", PERMERROR),
    Case("6.1", "v=spf1 redirect=host.example.com", PERMERROR),
    Case("6.1", "v=spf1 redirect=refused.example.org", TEMPERROR),
    Case("6.1", "v=spf1 redirect=damaged.example.com", PERMERROR),
    Case("6.1", "v=spf1 redirect=", PERMERROR),
    Case("6.1", "v=spf1 redirect=passes.example.com redirect=fails.example.com", PERMERROR),
    Case("6.1", "v=spf1 redirect=self.example.com", PERMERROR),
    Case("6.2", "v=spf1 -all exp=nobody.example.com", FAIL),
    Case("6.2", "v=spf1 -all exp=refused.example.org", FAIL),
    Case("6.2", "v=spf1 -all exp=", PERMERROR),
    Case("6.2", "v=spf1 -all exp=a.example.com exp=b.example.com", PERMERROR),
    Case("6", "v=spf1 -all foo=a foo=b", FAIL),
    # 7 macros
    Case("7.2", "v=spf1 exists:%{l}.l.example.com -all", PASS, OURS, "exists"),
    Case("7.2", "v=spf1 exists:%{l}.l.example.com -all", FAIL),
    Case("7.2", "v=spf1 exists:%{L}.l.example.com -all", PASS, OURS, "a b"),
    Case("7.2", "v=spf1 exists:%{s}.s.example.com -all", FAIL),
    Case("7.2", "v=spf1 exists:%{o}.o.example.com -all", FAIL),
    Case("7.2", "v=spf1 exists:%{i}.i.example.com -all", PASS),
    Case("7.2", "v=spf1 exists:%{ir}.%{v}.i.example.com -all", PASS),
    Case("7.2", "v=spf1 exists:%{ir}.%{v}.i.example.com -all", PASS, OURS6),
    Case("7.2", "v=spf1 exists:%{p}.p.example.com -all", PASS),
    Case("7.2", "v=spf1 exists:%{p}.p.example.com -all", PASS, "192.0.2.66"),  # unknown
    Case("7.2", "v=spf1 exists:%{h}.h.example.com -all", PASS),
    Case("7.2", "v=spf1 exists:%{h}.h.example.com -all", FAIL, helo="other.example.net"),
    Case("7.2", "v=spf1 exists:%{c}.example.com -all", PERMERROR),
    Case("7.2", "v=spf1 exists:%{t}.example.com -all", PERMERROR),
    Case("7.2", "v=spf1 exists:%{x}.example.com -all", PERMERROR),
    Case("7.3", "v=spf1 exists:%{l-}.l.example.com -all", PASS, OURS, "strong-bad"),
    Case("7.3", "v=spf1 exists:%{lr-}.l.example.com -all", PASS, OURS, "bad-strong"),
    Case("7.3", "v=spf1 exists:%{l1r-}.l.example.com -all", PASS, OURS, "exists-bad"),
    Case("7.3", "v=spf1 a:host.%{d2} -all", PASS),
    Case("7.3", "v=spf1 a:host.%{d99} -all", FAIL),
    Case("7.1", "v=spf1 a:host.%{d0} -all", PERMERROR),
    Case("7.1", "v=spf1 a:host.%{d -all", PERMERROR),
    Case("7.1", "v=spf1 a:host.%(d2) -all", PERMERROR),
    Case("7.1", "v=spf1 a:host.%{d2!} -all", PERMERROR),
    Case("7.1", "v=spf1 a:host.%{2d} -all", PERMERROR),
    Case("7.1", "v=spf1 a:host.example.com% -all", PERMERROR),
    Case("7.1", "v=spf1 exists:%%%_%-.l.example.com -all", FAIL),
    Case(
        "7.3", "v=spf1 a:" + "%{l}." * 8 + "cut.example.com -all", PASS, OURS, "a" * 60
    ),  # cut from the left
]

HOSTS = f"""
host A 192.0.2.10
host AAAA 2001:db8::10
six AAAA 2001:db8::10
alias CNAME host
mx MX 10 nobody
mx MX 20 host
nullmx MX 0 .
*.cut A 192.0.2.10
passes TXT "v=spf1 ip4:192.0.2.10 -all"
fails TXT "v=spf1 -all"
softfails TXT "v=spf1 ~all"
neutral TXT "v=spf1 ?all"
damaged TXT "v=spf1 moo -all"
self TXT "v=spf1 redirect=self.example.com"
two TXT "v=spf1 -all"
two TXT "v=spf1 +all"
one TXT "v=spf1 -all"
one TXT "something else"
one TXT {txt(b"v=spf1" + bytes([0xFF]))}
pieces TXT "v=spf1 ip4:192.0" ".2.10 -all"
octets TXT {txt(b"v=spf1 -all " + bytes([0xC3, 0xA4]))}
octets2 TXT {txt(b"v=spf1 ip4:192.0.2.10" + bytes(1) + b" -all")}
aliased CNAME passes
xn--mnchen-3ya TXT "v=spf1 ip4:192.0.2.10 -all"
_under.score TXT "v=spf1 -all"
exists.l A 127.0.0.2
a%20b.l A 127.0.0.2
strong.bad.l A 127.0.0.2
192.0.2.10.i A 127.0.0.2
10.2.0.192.in-addr.i A 127.0.0.2
0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.i A 127.0.0.2
host.example.com.p A 127.0.0.2
unknown.p A 127.0.0.2
mail.example.net.h A 127.0.0.2
long TXT {txt("v=spf1 " + "ip4:192.0.2.1 " * 400 + "-all")}
longterm TXT {txt("v=spf1 exists:" + "a." * 200 + "example.com -all")}
helo TXT "v=spf1 ip4:192.0.2.10 -all"
asks-helo TXT "v=spf1 exists:%{{h}}.h.example.com -all"
""" + "\n".join(
    [
        *(f"tenmx MX {number} h{number}" for number in range(10)),
        *(f"elevenmx MX {number} h{number}" for number in range(11)),
        *(f"h{number} A 192.0.2.{number + 1}" for number in range(11)),
        *(f"many A 10.0.0.{number}" for number in range(100)),
    ]
)

REVERSE = """
10 PTR host.example.com.
12 PTR nobody.example.com.
66 PTR host.example.com.
"""

REVERSE6 = "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR host.example.com."


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[NameServer]:
    need(PROGRAM)
    records = "\n".join(f"c{number} TXT {txt(case.record)}" for number, case in enumerate(CASES))
    zones = {
        "example.com": HOSTS + "\n" + records,
        "2.0.192.in-addr.arpa": REVERSE,
        "8.b.d.0.1.0.0.2.ip6.arpa": REVERSE6,
    }
    with NameServer(tmp_path_factory.mktemp("nsd"), zones) as server:
        yield server


@pytest.fixture(scope="module")
def resolver(server) -> Resolver:
    return Resolver([server.address], rate=10_000)


@pytest.fixture
def checker(resolver) -> SpfChecker:
    return SpfChecker(resolver)


def check(checker: SpfChecker, sender: str, client: str = OURS, helo: str = "mail.example.net") -> Spf:
    reverse_path = parse(sender)
    assert reverse_path is not None
    return checker.check(client, helo, reverse_path, Budget())


def named(case: object) -> str:
    return f"{case.clause} {case.record[:40]}" if isinstance(case, Case) else str(case)


class TestRecords:
    @pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=named)
    def test_each_clause(self, checker, number, case) -> None:
        domain = f"c{number}.example.com"
        local = case.local if " " not in case.local else f'"{case.local}"'
        spf = check(checker, f"{local}@{domain}", case.client, case.helo)
        assert (spf.result, spf.identity, spf.domain) == (case.expected, SpfIdentity.MAILFROM, domain), (
            spf.reason
        )

    @pytest.mark.parametrize(
        ("domain", "expected"),
        [
            ("nobody.example.com", NONE),
            ("host.example.com", NONE),
            ("refused.example.org", TEMPERROR),
            ("two.example.com", PERMERROR),
            ("one.example.com", FAIL),
            ("pieces.example.com", PASS),
            ("octets.example.com", PERMERROR),
            ("octets2.example.com", PERMERROR),
            ("aliased.example.com", PASS),
            ("PASSES.Example.COM", PASS),
            ("passes.example.com.", PASS),
            ("münchen.example.com", PASS),
            ("_under.score.example.com", FAIL),
            ("long.example.com", PERMERROR),
            ("longterm.example.com", PERMERROR),
            ("a" * 64 + ".example.com", NONE),
            ("a..example.com", NONE),
            ("localhost", NONE),
            ("[192.0.2.10]", NONE),
            (".".join(["a" * 63] * 4), NONE),
        ],
    )
    def test_domains(self, checker, domain, expected) -> None:
        """RFC 7208, sections 4.3 to 4.5; RFC 8616."""
        assert check(checker, f"user@{domain}").result is expected


class TestIdentities:
    def test_a_record_that_asks_for_a_helo_name_nobody_knows_fails_nobody(self, checker) -> None:
        spf = check(checker, "user@asks-helo.example.com", helo="")
        assert spf.result is TEMPERROR
        assert "the HELO name, which is not known" in spf.reason
        assert check(checker, "user@asks-helo.example.com", helo="other.example.net").result is FAIL

    @pytest.mark.parametrize(
        ("helo", "client", "expected", "domain"),
        [
            ("helo.example.com", OURS, PASS, "helo.example.com"),
            ("HELO.example.com.", OURS, PASS, "helo.example.com"),
            ("helo.example.com", "192.0.2.11", FAIL, "helo.example.com"),
            ("nobody.example.com", OURS, NONE, "nobody.example.com"),
            ("localhost", OURS, NONE, "localhost"),
            ("[192.0.2.10]", OURS, NONE, "[192.0.2.10]"),
            ("", OURS, NONE, ""),
            ("%{s}.example.com", OURS, NONE, ""),
            ("two words.example.com", OURS, NONE, ""),
            ("a\r\nb.example.com", OURS, NONE, ""),
            ("\udcff.example.com", OURS, NONE, ""),
            ("x" * 5000 + ".com", OURS, NONE, ""),
            ("..", OURS, NONE, ""),
        ],
    )
    def test_the_helo_name_stands_in_for_the_null_sender(
        self, checker, helo, client, expected, domain
    ) -> None:
        """RFC 7208, section 2.4."""
        spf = checker.check(client, helo, NULL_SENDER, Budget())
        assert (spf.result, spf.identity, spf.domain) == (expected, SpfIdentity.HELO, domain)

    def test_an_address_without_a_domain_has_no_policy(self, checker) -> None:
        spf = check(checker, "postmaster")
        assert (spf.result, spf.identity, spf.domain) == (NONE, SpfIdentity.MAILFROM, "")

    def test_a_quoted_local_part_does_not_name_the_domain(self, checker) -> None:
        assert check(checker, '"user@passes.example.com"@fails.example.com').result is FAIL

    @pytest.mark.parametrize(
        "client", ["", "unknown", "192.0.2.256", "list", "list6", "192.0.2.10\n", "fe80::1%eth0", "::1%a.b"]
    )
    def test_without_an_address_there_is_no_result(self, checker, client) -> None:
        assert check(checker, "user@fails.example.com", client).result is NONE

    @pytest.mark.parametrize("local", ["\udcff", "ü", "a" * 900, '"%{l}%"', '"\\\\"', "%", "a..b"])
    def test_any_local_part(self, checker, local) -> None:
        number = next(at for at, case in enumerate(CASES) if "%{L}" in case.record)
        assert check(checker, f"{local}@c{number}.example.com").result is FAIL
