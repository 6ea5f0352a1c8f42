"""Our own DKIM signature in a returned header block: what is proof, and everything that is none."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backstop.adapters.own_signature import OwnSignature, SignatureResult
from backstop.adapters.resolver import Resolver
from tests.harness.dkim_signer import MESSAGE, NOW, SIGNED, RsaKey, header, rsa_key, sign
from tests.harness.name_server import PROGRAM, NameServer, txt
from tests.harness.odd_name_server import Odd, OddNameServer, answer
from tests.harness.servers import free_port, need

PASS, FAIL, NONE, TEMPERROR = SignatureResult

DAY = 86_400


def is_ours(domain: str) -> bool:
    return domain in ("example.com", "mail.example.com")


@pytest.fixture(scope="module")
def key() -> RsaKey:
    need("openssl")
    return rsa_key(2048)


@pytest.fixture(scope="module")
def dns_server(tmp_path_factory, key) -> Iterator[NameServer]:
    need(PROGRAM)
    record = key.record.decode()
    zones = {
        "example.com": f"""
s1._domainkey TXT {txt(record)}
s1._domainkey.mail TXT {txt(record)}
k1024._domainkey TXT {txt(rsa_key(1024).record)}
k512._domainkey TXT {txt(rsa_key(512).record)}
other._domainkey TXT {txt(rsa_key(1024, "other").record)}
revoked._domainkey TXT "v=DKIM1; k=rsa; p="
empty._domainkey TXT ""
spf._domainkey TXT "v=spf1 -all"
alias._domainkey CNAME s1._domainkey.example.com.
wrongkind._domainkey TXT {txt(record.replace("k=rsa", "k=ed25519"))}
unknownkind._domainkey TXT {txt(record.replace("k=rsa", "k=dsa"))}
version._domainkey TXT {txt(record.replace("DKIM1", "DKIM2"))}
damaged._domainkey TXT {txt(record[:-20])}
tlsrpt._domainkey TXT {txt(record + "; s=tlsrpt")}
sha1._domainkey TXT {txt(record + "; h=sha1")}
testing._domainkey TXT {txt(record + "; t=y")}
strict._domainkey TXT {txt(record + "; t=s")}
short._domainkey TXT {txt(record.removeprefix("v=DKIM1; k=rsa; "))}
several._domainkey TXT "v=spf1 -all"
several._domainkey TXT {txt(rsa_key(1024).record)}
several._domainkey TXT {txt(record)}
long._domainkey TXT {txt(record + "; n=" + "x" * 20_000)}
""",
        "example.net": f"s1._domainkey TXT {txt(record)}",
    }
    with NameServer(tmp_path_factory.mktemp("nsd"), zones) as server:
        yield server


@pytest.fixture
def own(dns_server) -> OwnSignature:
    return OwnSignature(None, Resolver([dns_server.address]), pytest.fail)


def result(own: OwnSignature, block: bytes, now: float = NOW) -> SignatureResult:
    return own.verify(block, is_ours, now)


@pytest.fixture(params=["relaxed/simple", "simple/simple", "relaxed/relaxed", "simple"])
def signed(request, key) -> bytes:
    return sign(key, canon=request.param)


class TestProof:
    def test_a_header_block_as_it_was_sent(self, own, signed) -> None:
        assert result(own, header(signed)) is PASS

    @pytest.mark.parametrize(
        "change",
        [
            lambda block: block.replace(b"\r\n", b"\n"),
            lambda block: block.replace(b"\r\n", b"\r\r\n"),
            lambda block: block.removesuffix(b"\r\n"),
            lambda block: b"\r\n\r\n" + block,
            lambda block: b"From user@example.com Fri Nov 20 10:00:00 2026\r\n" + block,
            lambda block: (
                block + b"\r\nThis is the text.\r\n\r\nFrom: other@example.org\r\nSubject: other\r\n"
            ),
            lambda block: b"----- The header of the original message -----\r\n" + block,
            lambda block: b"  and what continues that\r\n" + block,
            lambda block: (
                b"Received: from mx.example.net\r\n\tby x; Fri, 20 Nov 2026 10:00:01 +0000\r\n" + block
            ),
            lambda block: block + b"X-Added: by somebody\r\n",
            lambda block: block.replace(b"X-Octets", b"no header\r\n that continues\r\nX-Octets"),
            lambda block: b"".join(sorted_fields(block)),
        ],
        ids=(
            *(
                "LF",
                "CR CR LF",
                "no last newline",
                "empty lines first",
                "mbox",
                "text after",
                "a line before",
            ),
            *("a fold before", "a trace field", "a field after", "no colon", "other order"),
        ),
    )
    def test_what_systems_do_to_a_block_does_not_matter(self, own, signed, change) -> None:
        assert result(own, change(header(signed))) is PASS

    def test_a_relaxed_signature_survives_other_folds_and_blanks(self, own, key) -> None:
        block = header(sign(key))
        block = block.replace(
            b"Subject: A  letter\t of some\r\n   length", b"SUBJECT:A letter\r\n\t\tof some length  "
        )
        assert result(own, block.replace(b"From: ", b"from :\t")) is PASS

    def test_a_simple_signature_does_not(self, own, key) -> None:
        block = header(sign(key, canon="simple/simple"))
        assert result(own, block.replace(b"A  letter", b"A letter")) is FAIL

    @pytest.mark.parametrize("selector", ["s1", "alias", "testing", "strict", "short", "several", "S1"])
    def test_keys_as_dns_has_them(self, own, key, selector) -> None:
        assert result(own, header(sign(key, selector=selector))) is PASS

    def test_a_key_of_1024_bits(self, own) -> None:
        assert result(own, header(sign(rsa_key(1024), selector="k1024"))) is PASS

    @pytest.mark.parametrize("domain", ["example.com", "EXAMPLE.com", "mail.example.com"])
    def test_a_domain_of_ours(self, own, key, domain) -> None:
        assert result(own, header(sign(key, domain=domain))) is PASS

    @pytest.mark.parametrize(
        "tags",
        [
            [("x", str(int(NOW) - 20 * DAY)), ("t", str(int(NOW) - 30 * DAY))],
            [("t", None)],
            [("t", str(int(NOW) + DAY - 100))],
            [("i", "user@example.com")],
            [("i", "user@sub.Example.com")],
            [("i", "@example.com")],
            [("q", "dns/txt")],
            [("z", "From:user@example.com|Subject:A=20=20letter")],
            [("unknown", "text")],
        ],
        ids=lambda tags: tags[0][0],
    )
    def test_tags_that_do_not_matter(self, own, key, tags) -> None:
        assert result(own, header(sign(key, tags=tags))) is PASS

    def test_from_and_others_signed_once_more(self, own, key) -> None:
        names = ("from", "from", "to", "to", "subject", "subject", "reply-to", "cc", "message-id")
        assert result(own, header(sign(key, headers=names))) is PASS

    def test_what_somebody_else_signed_beside_ours(self, own, key) -> None:
        block = header(sign(key, sign(key), domain="example.net"))
        assert result(own, block) is PASS
        assert result(own, header(sign(rsa_key(1024), sign(key), selector="other"))) is PASS

    def test_one_good_signature_of_two(self, own, key) -> None:
        block = header(sign(key))
        signature = block[: block.index(b"Return-Path")]
        assert result(own, signature.replace(b"d=example.com", b"d=mail.example.com") + block) is PASS


def sorted_fields(block: bytes) -> list[bytes]:
    """Each field with what continues it, in the order of their names."""
    return sorted(re.findall(rb"(?m)^\S.*\n(?:[ \t].*\n)*", block))


class TestNoProof:
    @pytest.mark.parametrize(
        "change",
        [
            lambda block: block.replace(b"A  letter", b"A  better"),
            lambda block: block.replace(b"20261120100000", b"20261120100001"),
            lambda block: block.replace(b"king@", b"queen@"),
            lambda block: b"From: forger@example.org\r\n" + block,
            lambda block: block + b"From: forger@example.org\r\n",
            lambda block: block + b"To: victim@example.org\r\n",
            lambda block: block.partition(b"Message-ID:")[0],
            lambda block: re.sub(rb"From: .*\r\n", b"", block),
            lambda block: re.sub(rb"bh=[^;]+", b"bh=AAAA", block),
            lambda block: re.sub(rb"\bb=\s*\S+", b"b=AAAA", block),
            lambda block: re.sub(rb"\bb=\s*\S{9}", b"b=AAAAAAAAA", block),
            lambda block: re.sub(rb"\bb=[^:]+(?=\r\n\S)", b"b=", block, count=1),
            lambda block: re.sub(rb"\bb=\s*", b"b=!!!!", block),
            lambda block: block.replace(b"v=1", b"v=2"),
            lambda block: block.replace(b"v=1; ", b""),
            lambda block: block.replace(b"a=rsa-sha256", b"a=rsa-sha1"),
            lambda block: block.replace(b"s=s1", b"s=other"),
            lambda block: block.replace(b"s=s1", b"s=nobody"),
            lambda block: block.replace(b"s=s1", b"s=../../etc/passwd"),
            lambda block: block.replace(b"s=s1", b"s=" + b"a." * 200),
            lambda block: block.replace(b"s=s1;", b""),
            lambda block: block.replace(b"c=relaxed/simple", b"c=relaxed/odd"),
            lambda block: block.replace(b"c=relaxed/simple", b"c=simple/simple"),
        ],
        ids=(
            *("subject", "message-id", "to", "From above", "From below", "To below", "cut short", "no From"),
            *("bh", "b", "b begins", "b empty", "b no base64", "v=2", "no v", "rsa-sha1 written"),
            *("other selector", "no such selector", "a path", "too long", "no s", "odd c", "other c"),
        ),
    )
    def test_an_altered_block(self, own, key, change) -> None:
        block = header(sign(key))
        assert change(block) != block
        assert result(own, change(block)) is FAIL

    @pytest.mark.parametrize(
        "tags",
        [
            [("l", "0")],
            [("l", "10")],
            pytest.param([("t", str(int(NOW) + 2 * DAY))], id="made in two days"),
            [("t", "yesterday")],
            [("t", "9" * 5000)],
            [("i", "user@example.net")],
            [("i", "user@otherexample.com")],
            [("i", "nobody")],
            [("q", "dns/other")],
            [("bh", "")],
        ],
        ids=lambda tags: str(tags)[:30],
    )
    def test_a_signature_that_never_counts(self, own, key, tags) -> None:
        assert result(own, header(sign(key, tags=tags))) is FAIL

    def test_rsa_with_sha1(self, own, key) -> None:
        assert result(own, header(sign(key, algorithm="rsa-sha1"))) is FAIL

    def test_a_signature_that_does_not_cover_from(self, own, key) -> None:
        assert result(own, header(sign(key, headers=SIGNED[1:]))) is FAIL

    @pytest.mark.parametrize(
        "selector",
        ["revoked", "empty", "spf", "wrongkind", "unknownkind", "version", "damaged", "tlsrpt", "sha1"],
    )
    def test_a_key_that_is_none(self, own, key, selector) -> None:
        assert result(own, header(sign(key, selector=selector))) is FAIL

    def test_a_key_of_512_bits(self, own) -> None:
        assert result(own, header(sign(rsa_key(512), selector="k512"))) is FAIL

    def test_a_strict_key_is_not_for_users_of_subdomains(self, own, key) -> None:
        message = sign(key, selector="strict", tags=[("i", "user@sub.example.com")])
        assert result(own, header(message)) is FAIL

    @pytest.mark.parametrize("domain", ["example.net", "sub.mail.example.com", "com", "xn--mnchen-3ya.de"])
    def test_a_signature_of_others(self, own, key, domain) -> None:
        assert result(own, header(sign(key, domain=domain))) is NONE

    @pytest.mark.parametrize(
        "block",
        [
            b"",
            header(MESSAGE),
            b"\r\n\r\n",
            b"DKIM-Signature:\r\n",
            b"DKIM-Signature: d=\xff\xfe; s=s1\r\n",
            b"DKIM-Signature: v=1; d=example.com; d=example.com\r\n",
            b"Message-ID: <guessed@example.com>\r\nFrom: <user@example.com>\r\n",
            b"X: 1\r\n\r\nDKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=A; b=A\r\n",
        ],
    )
    def test_a_block_without_one(self, own, block) -> None:
        assert result(own, block) is NONE

    def test_the_sixth_signature_is_not_looked_at(self, own, key) -> None:
        good = header(sign(key))
        bad = good.replace(b"bh=", b"bh=A")
        bad = bad[: bad.index(b"Return-Path")]
        assert result(own, bad * 4 + good) is PASS
        assert result(own, bad * 5 + good) is FAIL
        of_others = bad.replace(b"d=example.com", b"d=example.org")
        assert result(own, of_others * 5 + good) is PASS


class TestKeys:
    def test_only_keys_of_our_domains_are_looked_up(self, key) -> None:
        block = header(sign(key, domain="slow.example.org"))
        with OddNameServer({}) as silent:
            assert result(OwnSignature(None, Resolver([silent.address]), pytest.fail), block) is NONE
            assert silent.seen == []

    def test_a_name_server_that_does_not_answer_is_no_verdict(self, key) -> None:
        block = header(sign(key))
        with OddNameServer({}) as silent:
            own = OwnSignature(None, Resolver([silent.address]), pytest.fail)
            began = time.monotonic()
            assert result(own, block) is TEMPERROR
            assert result(own, block) is TEMPERROR
            assert time.monotonic() - began < 3
        own = OwnSignature(None, Resolver([f"127.0.0.1:{free_port()}"]), pytest.fail)
        assert result(own, block) is TEMPERROR

    def test_a_key_of_many_octets_is_no_verdict(self, own, key) -> None:
        assert result(own, header(sign(key, selector="long"))) is TEMPERROR

    def test_many_selectors_do_not_buy_the_mercy_of_a_failure(self, key) -> None:
        """Else a forger would name three that are not there and one more, and never be refused."""
        block = header(sign(key))
        signature = block[: block.index(b"Return-Path")]
        many = b"".join(signature.replace(b"s=s1", b"s=x%d" % number) for number in range(5))
        with OddNameServer({}, Odd(lambda query: [answer(query)])) as nothing:
            own = OwnSignature(None, Resolver([nothing.address]), pytest.fail)
            assert result(own, many) is FAIL
            assert len(nothing.seen) == 2

    def test_a_file_is_read_first_and_dns_not_asked(self, tmp_path, key) -> None:
        (tmp_path / "example.com").mkdir()
        (tmp_path / "example.com" / "s1.txt").write_bytes(key.record)
        (tmp_path / "old._domainkey.mail.example.com").write_bytes(key.public_pem)
        (tmp_path / "gone._domainkey.example.com").write_bytes(b"v=DKIM1; p=")
        with OddNameServer({}) as silent:
            own = OwnSignature(tmp_path, Resolver([silent.address]), pytest.fail)
            assert result(own, header(sign(key))) is PASS
            assert result(own, header(sign(key, domain="mail.example.com", selector="old"))) is PASS
            assert result(own, header(sign(key, selector="gone"))) is FAIL
            assert result(own, header(sign(rsa_key(1024)))) is FAIL
            assert silent.seen == []

    def test_what_no_file_speaks_of_is_asked_of_dns(self, tmp_path, dns_server, key) -> None:
        (tmp_path / "other._domainkey.example.com").write_bytes(key.record)
        own = OwnSignature(tmp_path, Resolver([dns_server.address]), pytest.fail)
        assert result(own, header(sign(key))) is PASS

    def test_a_file_that_comes_or_changes_counts_a_second_later(self, tmp_path, key) -> None:
        own = OwnSignature(tmp_path, Resolver([f"127.0.0.1:{free_port()}"]), pytest.fail)
        block = header(sign(key))
        assert result(own, block) is TEMPERROR
        (tmp_path / "s1._domainkey.example.com").write_bytes(rsa_key(1024).record)
        assert result(own, block, NOW + 2) is FAIL
        (tmp_path / "s1._domainkey.example.com").write_bytes(key.record)
        assert result(own, block, NOW + 4) is PASS

    def test_a_folder_that_is_not_there_holds_no_keys(self, dns_server, key) -> None:
        own = OwnSignature(Path("/nonexistent/dkim.d"), Resolver([dns_server.address]), pytest.fail)
        assert result(own, header(sign(key))) is PASS


class TestEd25519:
    """RFC 8463, appendix A: its own keys and message, and what dkimpy signs."""

    RECORD = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    BLOCK = (
        b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
        b" d=football.example.com; i=@football.example.com;\r\n"
        b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
        b" subject : date : message-id : from : subject : date;\r\n"
        b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
        b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
        b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
        b"From: Joe SixPack <joe@football.example.com>\r\n"
        b"To: Suzie Q <suzie@shopping.example.net>\r\n"
        b"Subject: Is dinner ready?\r\n"
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    )

    @pytest.fixture
    def own(self, tmp_path) -> OwnSignature:
        (tmp_path / "brisbane._domainkey.football.example.com").write_bytes(self.RECORD)
        return OwnSignature(tmp_path, Resolver([f"127.0.0.1:{free_port()}"]), pytest.fail)

    def test_without_pynacl_there_is_none_and_with_it_a_pass(self, own) -> None:
        try:
            import nacl.signing  # noqa: F401, PLC0415 - whether it is there is the question
        except ImportError:
            expected, altered = NONE, NONE
        else:
            expected, altered = PASS, FAIL
        assert own.verify(self.BLOCK, lambda _: True, NOW) is expected
        assert own.verify(self.BLOCK.replace(b"dinner", b"supper"), lambda _: True, NOW) is altered

    def test_an_rsa_key_is_no_key_for_it(self, own, tmp_path, key) -> None:
        (tmp_path / "brisbane._domainkey.football.example.com").write_bytes(key.record)
        assert own.verify(self.BLOCK, lambda _: True, NOW) is not PASS
