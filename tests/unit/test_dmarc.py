"""DMARC: records, whose address is shown, and what follows."""

import pytest

from backstop import dmarc
from backstop.authentication import (
    Disposition,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcResult,
    Spf,
    SpfIdentity,
    SpfResult,
)
from backstop.dmarc import Alignment, NoAuthor, Policy, Scope, authors, evaluate, parse
from backstop.dmarc.author import MAX_FROM_OCTETS, domains

NONE, QUARANTINE, REJECT = Disposition
RELAXED, STRICT = Alignment


def same(disposition, **more):
    return Policy(disposition, disposition, disposition, **more)


class TestRecord:
    @pytest.mark.parametrize(
        ("record", "policy"),
        [
            (b"v=DMARC1; p=none", same(NONE)),
            (b"v=DMARC1;p=reject;", same(REJECT)),
            (b"v = DMARC1 ; p = Quarantine ; ", same(QUARANTINE)),
            (b"v=DMARC1; P=reject; SP=none", Policy(REJECT, NONE, NONE)),
            (b"v=DMARC1; p=none; sp=quarantine; np=reject", Policy(NONE, QUARANTINE, REJECT)),
            (b"v=DMARC1; p=reject; np=none", Policy(REJECT, REJECT, NONE)),
            (b"v=DMARC1; p=reject; np=wrong", same(REJECT)),
            (b"v=DMARC1; p=reject; adkim=s; aspf=S", same(REJECT, spf=STRICT, dkim=STRICT)),
            (b"v=DMARC1; p=reject; adkim=x; aspf=", same(REJECT)),
            (b"v=DMARC1; p=reject; pct=0", same(REJECT, per_cent=0)),
            (b"v=DMARC1; p=reject; pct=25", same(REJECT, per_cent=25)),
            (b"v=DMARC1; p=reject; pct=101", same(REJECT)),
            (b"v=DMARC1; p=reject; pct=-1", same(REJECT)),
            (b"v=DMARC1; p=reject; pct=%s" % ("9" * 50).encode(), same(REJECT)),
            (b"v=DMARC1; p=reject; pct=\xc2\xb2", same(REJECT)),
            (b"v=DMARC1; p=reject; t=y", same(REJECT, per_cent=0)),
            (b"v=DMARC1; p=reject; t=n; psd=n; fo=1; ri=x; unknown=1; =; ; junk", same(REJECT)),
            (b"v=DMARC1; rua=mailto:a@example.com; p=reject", same(REJECT)),
            (b"v=DMARC1; \xff=1; p=reject", same(REJECT)),
        ],
    )
    def test_a_policy(self, record, policy):
        assert parse(record) == policy

    @pytest.mark.parametrize(
        "record",
        [
            b"",
            b"v=DMARC1",
            b"v=DMARC1;",
            b"v=DMARC1; p=",
            b"v=DMARC1; p=rejct",
            b"v=DMARC1; p=reject; sp=wrong",
            b"v=DMARC1; p=none; p=reject",
            b"v=DMARC1 p=reject",
            b"v=dmarc1; p=reject",
            b"v=DMARC2; p=reject",
            b"v=DMARC10; p=reject",
            b" v=DMARC1; p=reject",
            b"p=reject; v=DMARC1",
            b"v=spf1 -all",
            b"v=DMARC1; rua=; p=oops",
            b"v=DMARC1; rua=nobody@example.com",
            b"v=DMARC1; rua=mailto:nobody",
            b"v=DMARC1; p=reject; " + b"x" * 5000,
            b"v=DMARC1;" + b"a=1;" * 100 + b"p=reject",
        ],
    )
    def test_none(self, record):
        assert parse(record) is None

    @pytest.mark.parametrize(
        "record",
        [
            b"v=DMARC1; rua=mailto:a@example.com",
            b"v=DMARC1; p=rejct; rua=mailto:a@example.com!10m",
            b"v=DMARC1; p=reject; sp=wrong; rua=oops, https://example.com/dmarc",
        ],
    )
    def test_a_damaged_one_that_wants_reports_asks_for_nothing_else(self, record):
        assert parse(record) == same(NONE)

    def test_addresses_for_reports(self):
        text = "mailto:a@example.com, mailto:b@example.com!5g ,c@example.com,mailto:d@e@f,mailto:g@h!x"
        assert dmarc.reporting(text) == ("mailto:a@example.com", "mailto:b@example.com!5g")


class TestAuthor:
    @pytest.mark.parametrize(
        ("field", "found"),
        [
            (b" a@Example.COM\r\n", "example.com"),
            (b' "b@bank.example" <x@evil.example>', "evil.example"),
            (b" b@bank.example <x@evil.example>", "evil.example"),
            (b" =?utf-8?q?b=40bank.example?= <x@evil.example>", "evil.example"),
            (b' (c (d) "<a@b.c>) x@(y)evil . example (\\) z)', "evil.example"),
            (b' "a \\" <b@c.d>" <x@evil.example>', "evil.example"),
            (b' "Doe, J." <j@example.com>', "example.com"),
            (b" Doe, J. <j@example.com>", "example.com"),
            (b" <@r.example,@s.example:u@example.com>", "example.com"),
            (b' "q@z.example"@example.com', "example.com"),
            (b" <a@example.com", "example.com"),
            (b" a@example.com.", "example.com"),
            (b" a@example.com Some One", "example.com"),
            (b" Team: <a@example.com>, b@EXAMPLE.com;", "example.com"),
            (b" Some\r\n One\r\n\t<a@\r\n example.com>", "example.com"),
            (b" u@\xc3\xbcmlaut.example", "xn--mlaut-jva.example"),
            (b" \xff\xfe <u@example.com>", "example.com"),
            (b" a@example.com\xc2\xa0", "example.com"),
            (b" <a@example.com..>", "example.com"),
            (b' <"b@bank.example"@evil.example>', "evil.example"),
            # Nobody knows what a program shows of these.
            (b" a@example.com <>", "example.com"),
            (b" a@example.com:", "example.com"),
            (b' "open <a@example.com>', "example.com"),
            (b" (open <a@example.com>", "example.com"),
            (b" " * MAX_FROM_OCTETS + b"a@example.com", "example.com"),
            (b' "' + b"x" * MAX_FROM_OCTETS + b'" <a@example.com>', "example.com"),
        ],
    )
    def test_one_domain(self, field, found):
        assert authors([field]) == (found,)

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ([], NoAuthor.NO_FIELD),
            ([b""], NoAuthor.NO_DOMAIN),
            ([b" <>"], NoAuthor.NO_DOMAIN),
            ([b" undisclosed:;"], NoAuthor.NO_DOMAIN),
            ([b" someone"], NoAuthor.NO_DOMAIN),
            ([b" a@[192.0.2.1]"], NoAuthor.NO_DOMAIN),
            ([b" u@\xff.example"], NoAuthor.NO_DOMAIN),
            ([b" u@exa\x00mple.com"], NoAuthor.NO_DOMAIN),
        ],
    )
    def test_nobody(self, fields, why):
        assert authors(fields) is why

    @pytest.mark.parametrize(
        "fields",
        [
            [b" a@example.com, b@example.net"],
            [b" <a@example.com> <b@example.net>"],
            [b" <a@example.com <b@example.net>"],
            [b" a@example.com", b" b@example.net", b" c@example.com", b""],
            # Python's own readers, to name one program, find the first of these, or both.
            [b" a@example.com b@example.net"],
            [b" a@example.com@example.net"],
            [b" <a@example.com b@example.net>"],
            [b" <a@example.com, b@example.net>"],
            [b" <a@example.com; b@example.net>"],
            [b" <a@example.com: b@example.net>"],
            [b" a@example.com: b@example.net;"],
            [b" a@example.com <>, b@example.net"],
            [b" <a@example.com> b@example.net"],
            [b" a@example.com\xe2\x80\x83, b@example.net"],
        ],
    )
    def test_everybody_who_is_shown(self, fields):
        assert authors(fields) == ("example.com", "example.net")

    def test_many_addresses_are_read_up_to_a_bound(self):
        assert len(domains(b",".join(b"a@d%d.example" % number for number in range(900)))) == 100


SUFFIXES = {"com", "co.uk", "example", "github.io"}


def organizational(domain):
    labels = domain.split(".")
    for at in range(len(labels)):
        if ".".join(labels[at:]) in SUFFIXES:
            return ".".join(labels[at - 1 :]) if at else None
    return None


class TestAlignment:
    @pytest.mark.parametrize(
        ("domain", "other", "relaxed", "strict"),
        [
            ("victim.com", "victim.com", True, True),
            ("victim.com", "mail.victim.com", True, False),
            ("a.victim.com", "b.victim.com", True, False),
            ("a.victim.com", "victim.com", True, False),
            ("victim.com", "com", False, False),
            ("victim.co.uk", "co.uk", False, False),
            ("victim.co.uk", "evil.co.uk", False, False),
            ("victim.com", "notvictim.com", False, False),
            ("one.github.io", "two.github.io", False, False),
            ("github.io", "one.github.io", False, False),
            ("co.uk", "co.uk", True, True),
            ("com", "co.uk", False, False),
            ("victim.com", "", False, False),
            ("", "", False, False),
        ],
    )
    def test_alignment(self, domain, other, relaxed, strict):
        assert dmarc.is_aligned(domain, other, RELAXED, organizational) is relaxed
        assert dmarc.is_aligned(domain, other, STRICT, organizational) is strict


def spf(result, domain="evil.example", identity=SpfIdentity.MAILFROM):
    return Spf(result, identity, domain)


def dkim(result, domain="evil.example"):
    return Dkim(result, domain, "s")


NO_SPF = spf(SpfResult.NONE)


def judged(policy, spf_=NO_SPF, *signatures, scope=Scope.OWN, sample=0.5):
    return evaluate(
        policy, scope, "www.victim.com", spf_, signatures, organizational=organizational, sample=sample
    )


class TestEvaluation:
    @pytest.mark.parametrize(
        ("spf_", "signatures"),
        [
            (spf(SpfResult.PASS, "victim.com"), ()),
            (spf(SpfResult.PASS, "mx.victim.com", SpfIdentity.HELO), ()),
            (NO_SPF, (dkim(DkimResult.FAIL), dkim(DkimResult.PASS, "victim.com"))),
            (None, (dkim(DkimResult.PASS, "victim.com"),)),
            (spf(SpfResult.TEMPERROR, "victim.com"), (dkim(DkimResult.PASS, "victim.com"),)),
            (spf(SpfResult.PASS, "victim.com"), (dkim(DkimResult.TEMPERROR, "victim.com"),)),
        ],
    )
    def test_pass(self, spf_, signatures):
        found = judged(same(REJECT), spf_, *signatures)
        assert (found.result, found.disposition) == (DmarcResult.PASS, NONE)

    @pytest.mark.parametrize(
        ("spf_", "signatures"),
        [
            (spf(SpfResult.PASS), ()),
            (spf(SpfResult.PASS, "com"), (dkim(DkimResult.PASS, "com"),)),
            (spf(SpfResult.FAIL, "victim.com"), ()),
            (spf(SpfResult.NEUTRAL, "victim.com"), ()),
            (spf(SpfResult.SOFTFAIL, "victim.com"), ()),
            (spf(SpfResult.PERMERROR, "victim.com"), ()),
            (NO_SPF, (dkim(DkimResult.FAIL, "victim.com"), dkim(DkimResult.PERMERROR, "victim.com"))),
            (NO_SPF, (dkim(DkimResult.POLICY, "victim.com"), dkim(DkimResult.NEUTRAL, "victim.com"))),
            (spf(SpfResult.TEMPERROR), (dkim(DkimResult.TEMPERROR),)),
        ],
    )
    def test_fail(self, spf_, signatures):
        assert judged(same(REJECT), spf_, *signatures) == Dmarc(
            DmarcResult.FAIL, "www.victim.com", REJECT, "p=reject"
        )

    @pytest.mark.parametrize(
        ("spf_", "signatures"),
        [
            (None, ()),
            (spf(SpfResult.TEMPERROR, "victim.com"), ()),
            (spf(SpfResult.TEMPERROR, ""), ()),
            (NO_SPF, (dkim(DkimResult.TEMPERROR, "victim.com"),)),
            (spf(SpfResult.FAIL, "victim.com"), (dkim(DkimResult.TEMPERROR, ""),)),
        ],
    )
    def test_from_what_nobody_could_say_nothing_follows(self, spf_, signatures):
        found = judged(same(REJECT), spf_, *signatures)
        assert (found.result, found.disposition) == (DmarcResult.TEMPERROR, NONE)

    def test_strict_alignment_is_by_kind_of_proof(self):
        policy = same(REJECT, spf=STRICT)
        assert judged(policy, spf(SpfResult.PASS, "victim.com")).result is DmarcResult.FAIL
        assert judged(policy, NO_SPF, dkim(DkimResult.PASS, "victim.com")).result is DmarcResult.PASS

    @pytest.mark.parametrize(
        ("scope", "expected"),
        [(Scope.OWN, NONE), (Scope.SUBDOMAIN, QUARANTINE), (Scope.NONEXISTENT, REJECT)],
    )
    def test_whose_record_it_is(self, scope, expected):
        assert judged(Policy(NONE, QUARANTINE, REJECT), scope=scope).disposition is expected

    @pytest.mark.parametrize(
        ("policy", "sample", "expected"),
        [
            (same(REJECT, per_cent=25), 0.0, REJECT),
            (same(REJECT, per_cent=25), 0.2499, REJECT),
            (same(REJECT, per_cent=25), 0.25, QUARANTINE),
            (same(QUARANTINE, per_cent=25), 0.25, NONE),
            (same(NONE, per_cent=25), 0.25, NONE),
            (same(REJECT, per_cent=0), 0.0, QUARANTINE),
            (same(REJECT), 0.9999999, REJECT),
        ],
    )
    def test_sampling_makes_it_one_step_milder(self, policy, sample, expected):
        found = judged(policy, sample=sample)
        assert (found.result, found.disposition) == (DmarcResult.FAIL, expected)
