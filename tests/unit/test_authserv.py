"""Authentication-Results: what is written, read again by authres, and which existing fields pass for ours."""

import re
import time

import authres
import pytest

from backstop.authentication import (
    Authenticity,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcResult,
    Spf,
    SpfIdentity,
    SpfResult,
)
from backstop.authserv import claims, header_value

OURS = "mx.example.org"
PASS = Dkim(DkimResult.PASS, "example.com", "s1", "it verifies")


def spf(domain: str = "example.net", identity: SpfIdentity = SpfIdentity.MAILFROM) -> Spf:
    return Spf(SpfResult.PASS, identity, domain, "a reason")


def judged(value: str) -> list[tuple[str, str, dict[str, str]]]:
    """The results as authres reads them."""
    unfolded = value.replace("\n", "\r\n")
    header = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {unfolded}")
    assert header.authserv_id == OURS
    return [
        (
            result.method,
            result.result,
            {f"{each.type}.{each.name}": str(each.value) for each in result.properties},
        )
        for result in header.results
    ]


class TestWriting:
    def test_all_of_it(self) -> None:
        found = Authenticity((PASS, Dkim(DkimResult.NEUTRAL)), Dmarc(DmarcResult.FAIL, "example.com"))
        value = header_value(OURS, spf(), "user@example.net", found)
        assert value == (
            "mx.example.org;\n"
            " spf=pass smtp.mailfrom=user@example.net;\n"
            " dkim=pass header.d=example.com header.s=s1;\n"
            " dkim=neutral;\n"
            " dmarc=fail header.from=example.com"
        )
        assert judged(value) == [
            ("spf", "pass", {"smtp.mailfrom": "user@example.net"}),
            ("dkim", "pass", {"header.d": "example.com", "header.s": "s1"}),
            ("dkim", "neutral", {}),
            ("dmarc", "fail", {"header.from": "example.com"}),
        ]

    @pytest.mark.parametrize(
        ("found", "value"),
        [
            (None, "mx.example.org; none"),
            (Authenticity(), "mx.example.org;\n dkim=none"),
            (
                Authenticity(dmarc=Dmarc(DmarcResult.NONE)),
                "mx.example.org;\n dkim=none;\n dmarc=none",
            ),
        ],
    )
    def test_what_was_not_looked_at_is_not_there(self, found, value) -> None:
        assert header_value(OURS, None, "", found) == value

    @pytest.mark.parametrize("result", SpfResult)
    def test_the_words_of_spf(self, result) -> None:
        value = header_value(OURS, Spf(result, SpfIdentity.HELO, "example.net"), "mail.example.net", None)
        assert judged(value) == [("spf", result.value, {"smtp.helo": "mail.example.net"})]

    @pytest.mark.parametrize("result", DkimResult)
    def test_the_words_of_dkim(self, result) -> None:
        assert judged(header_value(OURS, None, "", Authenticity((Dkim(result),)))) == [
            ("dkim", result.value, {})
        ]

    @pytest.mark.parametrize(
        ("asked", "written"),
        [
            ("user@example.net", "user@example.net"),
            ("@example.net", "@example.net"),
            ("a/b=c@example.net", "a/b=c@example.net"),
            ("example.net", "example.net"),
            ("[192.0.2.1]", '"[192.0.2.1]"'),
            ('"a b"@example.net', '"\\"a b\\"@example.net"'),
            ('a";x=y@example.net', '"a\\";x=y@example.net"'),
            ("a\\@example.net", '"a\\\\@example.net"'),
            ("a..b@example.net", '"a..b@example.net"'),
            ("(c)@example.net", '"(c)@example.net"'),
            ("a@b@example.net", '"a@b@example.net"'),
            ("a; dkim=pass header.d=bank.example", '"a; dkim=pass header.d=bank.example"'),
        ],
    )
    def test_what_was_asked_about_is_quoted_where_it_must(self, asked, written) -> None:
        value = header_value(OURS, spf(), asked, None)
        assert value == f"mx.example.org;\n spf=pass smtp.mailfrom={written}"
        assert [method for method, _, _ in judged(value)] == ["spf"]

    @pytest.mark.parametrize(
        "asked",
        [
            "",
            "a\r\nX-Injected: 1@example.net",
            "a\n b@example.net",
            "a\0@example.net",
            "\x7f@example.net",
            "j\u00f6rg@example.net",
            "a\u202e@example.net",
            "\udcff@example.net",
            "x" * 256,
        ],
    )
    def test_what_cannot_be_written_leaves_its_domain(self, asked) -> None:
        assert (
            header_value(OURS, spf(), asked, None) == "mx.example.org;\n spf=pass smtp.mailfrom=example.net"
        )
        assert header_value(OURS, spf(asked), asked, None) == "mx.example.org;\n spf=pass"

    def test_the_null_sender_is_known_by_its_helo_name(self) -> None:
        value = header_value(OURS, spf(identity=SpfIdentity.HELO), "mail.example.net", None)
        assert value == "mx.example.org;\n spf=pass smtp.helo=mail.example.net"

    def test_it_is_bounded(self) -> None:
        many = Authenticity((Dkim(DkimResult.PASS, "d" * 255, "s" * 253),) * 100)
        value = header_value(OURS, spf(), "x" * 255, many)
        assert value.count("dkim=") == 10
        assert len(value) < 6000
        assert max(map(len, value.split("\n"))) < 998

    def test_a_name_of_ours_that_is_no_token(self) -> None:
        assert header_value("mx 1/x", None, "", None) == '"mx 1/x"; none'

    def test_every_character_stays_in_its_place(self) -> None:
        for number in (*range(0x500), 0x2028, 0xD800, 0xDCFF, 0xFEFF, 0x1F600):
            char = chr(number)
            dkim = Dkim(DkimResult.PASS, f"d{char}", f"s{char}")
            found = Authenticity((dkim,), Dmarc(DmarcResult.PASS, f"f{char}"))
            value = header_value(OURS, spf(f"h{char}"), f"u{char}@h{char}", found)
            assert re.fullmatch(r"[ -~]+(\n [ -~]+){3}", value), value
            assert [method for method, _, _ in judged(value)] == ["spf", "dkim", "dmarc"]


class TestForged:
    @pytest.mark.parametrize(
        "value",
        [
            b"mx.example.org; spf=pass",
            b"mx.example.org",
            b" MX.Example.ORG ; none",
            b"mx.example.org 1; none",
            b"\n\tmx.example.org\n\t1;\n\tnone",
            b"\r\n mx.example.org\r\n ; none",
            b'"mx.example.org"; none',
            b'"mx.exam\\ple.org" 1; none',
            b"(a comment) mx.example.org; none",
            b"(a (nested \\) one) (and\n another)mx.example.org(1)1; none",
            # broken, or nearly: somebody may still read them
            b"mx.example.org. ; none",
            b"mx.example.org/1; none",
            b"mx.example.org, none",
            b"mx.example.org@example.org; none",
            b"mx.example.org spf=pass",
            b"mx(c).example.org; none",
            b"mx.example.org(c)x; none",
            b"mx .example. org; none",
            b'"mx".example.org; none',
            b"<mx.example.org>; none",
            b'"mx.example.org; none',
            b"; mx.example.org; none",
            b"=mx.example.org; none",
            b"\0mx.example.org\0; none",
            b"mx.exa\0mple.org; none",
            b"mx.example.org\xff; none",
            "\ufeffmx.example\u200b.org; none".encode(),
            "\uff4d\uff58\uff0eexample.org; none".encode(),
            # nobody can say
            b"",
            b" \r\n ",
            b"(mx.example.org; none",
            b"(" * 5000 + b"mx.example.org; none",
            b"()" * 5000 + b"mx.example.org; none",
            b"(" + b"x" * 5000 + b") mx.example.org; none",
            b"(a)" * 17 + b" mx.example.org; none",
            b"mx" + b"(a)" * 17 + b".example.org; none",
            b"(" + b"x" * 990 + b") mx.example.org; none",
            b"mx(" + b"x" * 5000 + b").example.org; none",
            b"\\ " * 5000,
            b" " * 5000 + b"mx.example.org; none",
        ],
        ids=lambda value: repr(value[:40]),
    )
    def test_what_passes_for_ours(self, value) -> None:
        assert claims(value, OURS)
        assert claims(value, "MX.example.org")

    @pytest.mark.parametrize(
        "value",
        [
            b"mx.example.net; none",
            b"example.org; none",
            b"amx.example.org; none",
            b"mx.example.organic; none",
            b"mx.example.org.example.net; none",
            b"mx.example.org-2; none",
            b"mx.example.org+2; none",
            b"mx.example.net; spf=pass smtp.helo=mx.example.org",
            b"mx.example.net (mx.example.org); none",
            b"(mx.example.org) mx.example.net; none",
            b'mx.example.net "mx.example.org"; none',
            b"mx.example.net (a comment without end",
            b"mx.example.net " + b"(a)" * 17 + b"; none",
            b"mx.example.net; none " + b"(a)" * 500,
            b"mx.example.net (" + b"x" * 5000 + b"); none",
            b'mx.example.net "' + b"x" * 5000,
            "mx.ex\u00e4mple.org; none".encode(),
            b"i=1; mx.example.org; none",
        ],
        ids=lambda value: repr(value[:40]),
    )
    def test_what_is_anothers(self, value) -> None:
        assert not claims(value, OURS)

    def test_what_we_write_is_ours(self) -> None:
        for name in (OURS, "mx", "mx 1/x", 'a"b', "a\\b", "mx_1", "[192.0.2.1]"):
            for found in (None, Authenticity((PASS,))):
                written = header_value(name, None, "", found)
                assert claims(written.encode(), name), written

    def test_without_a_name_nothing_is_ours(self) -> None:
        assert not claims(b"mx.example.org; none", "")
        assert not claims(b"", "")

    @pytest.mark.parametrize(
        "piece", [b"(", b"()", b"(()", b'"', b"\\", b" ", b";", b"a", b"\xff", b"\xef\xb7\xba"]
    )
    def test_a_quarter_of_a_megabyte_takes_no_time(self, piece) -> None:
        value = piece * (256_000 // len(piece))
        began = time.thread_time()
        for at in range(0, 256_000, 1000):
            claims(value[at:], OURS)
        assert time.thread_time() - began < 0.2
