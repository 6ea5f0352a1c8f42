"""DMARC with the records of a real name server, and of one that does not answer."""

import time

import dns.rcode
import pytest

from backstop.adapters.dmarc_checker import DmarcChecker
from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.adapters.resolver import Budget, Resolver
from backstop.authentication import (
    Disposition,
    Dkim,
    DkimResult,
    DmarcResult,
    Spf,
    SpfIdentity,
    SpfResult,
)
from tests.harness.name_server import PROGRAM, NameServer
from tests.harness.odd_name_server import Odd, OddNameServer, answer
from tests.harness.servers import need

ZONES = {
    "example.com": """
_dmarc TXT "v=DMARC1; p=reject; sp=quarantine"
_dmarc TXT "something else"
a A 192.0.2.1
_dmarc.own TXT "v=DMARC1; p=none"
_dmarc.two TXT "v=DMARC1; p=none"
_dmarc.two TXT "v=DMARC1; p=reject"
_dmarc.damaged TXT "v=DMARC1; p=oops"
_dmarc.other TXT "v=spf1 -all"
_dmarc.alias CNAME _dmarc.own
_dmarc.split TXT "v=DMA" "RC1; p=re" "ject"
""",
    "example.net": """
_dmarc TXT "v=DMARC1; p=none; sp=none; np=reject"
there A 192.0.2.1
there6 AAAA 2001:db8::1
takes MX 10 there
text TXT "nothing else"
""",
    "example.org": "",
    "co.uk": '_dmarc TXT "v=DMARC1; p=reject"\nexample A 192.0.2.1\n',
}

NO_SPF = Spf(SpfResult.NONE, SpfIdentity.MAILFROM, "")
NONE, QUARANTINE, REJECT = Disposition


@pytest.fixture(scope="module")
def suffixes():
    suffixes = PublicSuffixes()
    try:
        suffixes.load()
    except LookupError as error:
        pytest.skip(str(error))
    return suffixes


@pytest.fixture(scope="module")
def checker(tmp_path_factory, suffixes):
    need(PROGRAM)
    with NameServer(tmp_path_factory.mktemp("nsd"), ZONES) as server:
        yield DmarcChecker(Resolver([server.address]), suffixes)


def checked(checker, domain, *, spf=NO_SPF, dkim=(), budget=None):
    return checker.check([f" a@{domain}".encode()], spf, dkim, budget or Budget(), 0.5)


@pytest.mark.parametrize(
    ("domain", "result", "disposition"),
    [
        ("example.com", DmarcResult.FAIL, REJECT),
        ("EXAMPLE.com", DmarcResult.FAIL, REJECT),
        ("a.example.com", DmarcResult.FAIL, QUARANTINE),
        ("a.b.c.example.com", DmarcResult.FAIL, QUARANTINE),
        ("own.example.com", DmarcResult.FAIL, NONE),
        ("below.own.example.com", DmarcResult.FAIL, QUARANTINE),
        ("alias.example.com", DmarcResult.FAIL, NONE),
        ("split.example.com", DmarcResult.FAIL, REJECT),
        ("other.example.com", DmarcResult.FAIL, QUARANTINE),
        ("two.example.com", DmarcResult.NONE, NONE),
        ("damaged.example.com", DmarcResult.PERMERROR, NONE),
        ("there.example.net", DmarcResult.FAIL, NONE),
        ("there6.example.net", DmarcResult.FAIL, NONE),
        ("takes.example.net", DmarcResult.FAIL, NONE),
        ("text.example.net", DmarcResult.FAIL, REJECT),
        ("nowhere.example.net", DmarcResult.FAIL, REJECT),
        ("example.org", DmarcResult.NONE, NONE),
        ("co.uk", DmarcResult.FAIL, REJECT),
        ("example.co.uk", DmarcResult.NONE, NONE),  # a public suffix speaks for nobody else
        ("refused.example", DmarcResult.TEMPERROR, NONE),
    ],
)
def test_the_record_that_speaks_for_a_domain(checker, domain, result, disposition):
    found = checked(checker, domain)
    assert (found.result, found.disposition, found.domain) == (result, disposition, domain.lower())
    assert found.reason


@pytest.mark.parametrize("fields", [[], [b" x"]])
def test_a_message_without_an_author_is_not_judged(checker, fields):
    found = checker.check(fields, NO_SPF, (), Budget(), 0.5)
    assert (found.result, found.disposition, found.domain) == (DmarcResult.NONE, NONE, "")


@pytest.mark.parametrize(
    "fields",
    [
        [b" a@example.org, b@example.com"],
        [b" a@example.com", b" b@example.org"],
        [b" a@other.example.com, b@refused.example, c@example.com"],
    ],
)
def test_a_second_author_does_not_save_a_forged_one(checker, fields):
    found = checker.check(fields, NO_SPF, (), Budget(), 0.5)
    assert (found.result, found.disposition, found.domain) == (DmarcResult.FAIL, REJECT, "example.com")


def test_nor_do_many_others_before_it(checker):
    others = b", ".join(b"a@d%d.example.org" % number for number in range(20))
    found = checker.check([others, b" a@example.com"], NO_SPF, (), Budget(), 0.5)
    assert (found.disposition, found.domain) == (REJECT, "example.com")


def test_of_several_authors_nothing_follows_while_one_is_unknown_and_none_fails(checker):
    found = checker.check([b" a@refused.example, b@example.org"], NO_SPF, (), Budget(), 0.5)
    assert found.result is DmarcResult.TEMPERROR


def test_proof(checker):
    by_spf = Spf(SpfResult.PASS, SpfIdentity.MAILFROM, "bounces.example.com")
    assert checked(checker, "example.com", spf=by_spf).result is DmarcResult.PASS
    by_dkim = (Dkim(DkimResult.PASS, "example.com", "s"),)
    assert checked(checker, "a.example.com", dkim=by_dkim).result is DmarcResult.PASS
    assert checked(checker, "example.net", spf=by_spf, dkim=by_dkim).result is DmarcResult.FAIL


def test_lookups_and_time_that_others_used_up_are_no_excuse(checker):
    spent = Budget(lookups=0, voids=0, seconds=0)
    assert checked(checker, "nowhere.example.net", budget=spent).disposition is REJECT


def test_vouching(checker):
    passed, failed = DkimResult.PASS, DkimResult.FAIL
    good, other = Dkim(passed, "mail.example.com", "s"), Dkim(passed, "example.net", "s")
    assert checker.vouches("example.com", (other, good))
    assert not checker.vouches("example.com", (other, Dkim(failed, "example.com", "s")))
    assert not checker.vouches("example.co.uk", (Dkim(passed, "co.uk", "s"),))
    assert not checker.vouches("", (good,))
    assert not checker.vouches("example.com", ())


SERVFAIL = Odd(udp=lambda query: [answer(query, rcode=dns.rcode.SERVFAIL)])
REJECTING = Odd(udp=lambda query: [answer(query, '@ 300 TXT "v=DMARC1; p=none; np=reject"')])
SILENT = Odd()
ABSENT = Odd(udp=lambda query: [answer(query, rcode=dns.rcode.NXDOMAIN)])


def test_what_does_not_answer_is_a_temporary_error(suffixes):
    with OddNameServer({}, otherwise=SERVFAIL) as server:
        found = checked(DmarcChecker(Resolver([server.address]), suffixes), "example.com")
    assert (found.result, found.disposition) == (DmarcResult.TEMPERROR, NONE)


def test_a_silent_server_costs_bounded_time(suffixes):
    with OddNameServer({}) as server:
        budget = Budget(seconds=0.3)
        checker = DmarcChecker(Resolver([server.address], lifetime=0.5), suffixes)
        assert checked(checker, "example.com", budget=budget).result is DmarcResult.TEMPERROR


@pytest.mark.parametrize("left", [0.0, 2.0])
def test_many_authors_who_are_silent_cost_no_more_time_than_one(suffixes, left):
    authors = b", ".join(b"a@silent%d.example" % number for number in range(5))
    with OddNameServer({}, otherwise=SILENT) as server:
        checker = DmarcChecker(Resolver([server.address]), suffixes)
        began = time.monotonic()
        found = checker.check([authors], NO_SPF, (), Budget(seconds=left), 0.5)
        assert time.monotonic() - began < max(left, 1.0) + 2
    assert found.result is DmarcResult.TEMPERROR


def test_an_author_who_is_silent_leaves_the_forged_one_his_time(suffixes):
    def by_name(query):
        return [] if b"silent" in query else REJECTING.udp(query)

    with OddNameServer({}, otherwise=Odd(udp=by_name)) as server:
        checker = DmarcChecker(Resolver([server.address]), suffixes)
        authors = b"a@silent1.example, b@silent2.example, c@example.com"
        found = checker.check([authors], NO_SPF, (), Budget(), 0.5)
    assert (found.result, found.domain) == (DmarcResult.FAIL, "example.com")


@pytest.mark.parametrize(("record", "absent"), [("p=none; np=reject", REJECT), ("p=reject; np=none", NONE)])
def test_of_a_domain_of_which_nobody_can_say_whether_it_exists_the_milder_policy_holds(
    suffixes, record, absent
):
    def by_name(query):
        if b"\x06_dmarc\x03sub" in query:
            return ABSENT.udp(query)
        return [answer(query, f'@ 300 TXT "v=DMARC1; {record}"')]

    odd = {"_dmarc": Odd(udp=by_name)}
    with OddNameServer(odd, otherwise=SERVFAIL) as server:
        checker = DmarcChecker(Resolver([server.address]), suffixes)
        assert checked(checker, "sub.example.com").disposition is NONE
    with OddNameServer(odd, otherwise=ABSENT) as server:
        checker = DmarcChecker(Resolver([server.address]), suffixes)
        assert checked(checker, "sub.example.com").disposition is absent
