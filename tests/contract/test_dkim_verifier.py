"""DKIM signatures of incoming messages: what passes, and what becomes of everything else."""

import base64
import hashlib
import re
import time
from collections.abc import Iterator

import dns.rcode
import pytest

from backstop.adapters.dkim_crypto import HAS_ED25519
from backstop.adapters.dkim_verifier import DkimVerifier
from backstop.adapters.resolver import Budget, Resolver
from backstop.authentication import Dkim, DkimResult
from backstop.dkim_body import BodyCanonicalization, BodyHash, wanted
from tests.harness.dkim_signer import MESSAGE, NOW, SIGNED, RsaKey, rsa_key, sign
from tests.harness.name_server import PROGRAM, NameServer, txt
from tests.harness.odd_name_server import Odd, OddNameServer, answer
from tests.harness.servers import free_port, need

NONE, PASS, FAIL, POLICY, NEUTRAL, TEMPERROR, PERMERROR = DkimResult

LETTER = MESSAGE + b"\r\nA  second\tparagraph. \t\r\n\t\r\n\r\nThe end.\r\n\r\n\r\n"
CANONS = ["relaxed/simple", "simple/simple", "relaxed/relaxed", "simple/relaxed", "simple", "relaxed"]


@pytest.fixture(scope="module")
def key() -> RsaKey:
    need("openssl")
    return rsa_key(2048)


@pytest.fixture(scope="module")
def dns_server(tmp_path_factory, key) -> Iterator[NameServer]:
    need(PROGRAM)
    record = key.record.decode()
    lines = f"""
s1._domainkey TXT {txt(record)}
s1._domainkey.mail TXT {txt(record)}
k1024._domainkey TXT {txt(rsa_key(1024).record)}
k512._domainkey TXT {txt(rsa_key(512).record)}
large._domainkey TXT {txt(b"p=" + base64.b64encode(b"0" * 3000))}
revoked._domainkey TXT "v=DKIM1; k=rsa; p="
empty._domainkey TXT ""
spf._domainkey TXT "v=spf1 -all"
wrongkind._domainkey TXT {txt(record.replace("k=rsa", "k=ed25519"))}
unknownkind._domainkey TXT {txt(record.replace("k=rsa", "k=dsa"))}
ed._domainkey TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
version._domainkey TXT {txt(record.replace("DKIM1", "DKIM2"))}
damaged._domainkey TXT {txt(record[:-20])}
tlsrpt._domainkey TXT {txt(record + "; s=tlsrpt")}
mail._domainkey TXT {txt(record + "; s=email:other; h=sha1:sha256")}
sha1._domainkey TXT {txt(record + "; h=sha1")}
testing._domainkey TXT {txt(record + "; t=y")}
strict._domainkey TXT {txt(record + "; t=s")}
several._domainkey TXT "v=spf1 -all"
several._domainkey TXT {txt(rsa_key(1024).record)}
several._domainkey TXT {txt(record)}
alias._domainkey CNAME s1._domainkey.example.com.
"""
    with NameServer(tmp_path_factory.mktemp("nsd"), {"example.com": lines, "example.net": lines}) as server:
        yield server


@pytest.fixture
def verifier(dns_server) -> DkimVerifier:
    return DkimVerifier(Resolver([dns_server.address]))


def values_of(header: bytes) -> list[bytes]:
    """Of the DKIM-Signature fields, as a mail server hands them over."""
    return re.findall(rb"(?mi)^dkim-signature:((?:.*\n[ \t])*.*\n?)", header)


def look(
    verifier: DkimVerifier, message: bytes, budget: Budget | None = None, *, is_read: bool = True
) -> tuple[Dkim, ...]:
    """What the verifier says of a message that comes as it does from a mail server: LF in the header."""
    header, _, body = message.partition(b"\r\n\r\n")
    header = header.replace(b"\r\n", b"\n") + b"\n"
    bodies = {}
    for canonicalization in wanted(values_of(header)) if is_read else ():
        total = BodyHash(canonicalization)
        for at in range(0, len(body), 7):
            total.update(body[at : at + 7])
        bodies[canonicalization] = total.digest()
    return verifier.verify(header, bodies, budget or Budget(), NOW)


def results(verifier: DkimVerifier, message: bytes) -> list[DkimResult]:
    return [dkim.result for dkim in look(verifier, message)]


class TestPass:
    @pytest.mark.parametrize("canon", CANONS)
    def test_a_message_as_it_was_sent(self, verifier, key, canon) -> None:
        message = sign(key, LETTER, canon=canon)
        assert look(verifier, message) == (Dkim(PASS, "example.com", "s1", "it verifies"),)

    @pytest.mark.parametrize("between", [b",\r\n ", b", "], ids=["one a line", "in one line"])
    def test_a_message_to_thousands(self, verifier, key, between) -> None:
        recipients = between.join(b"user%d@example.net" % number for number in range(5000))
        message = sign(key, LETTER.replace(b"king@example.net", recipients))
        assert results(verifier, message) == [PASS]

    @pytest.mark.parametrize("canon", CANONS)
    @pytest.mark.parametrize(
        "body", [b"", b"\r\n", b"\r\n\r\n\r\n", b" \r\n\t\r\n", b"x", b"x ", b"\r\nx\r\r\n"]
    )
    def test_any_body(self, verifier, key, canon, body) -> None:
        message = sign(key, MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body, canon=canon)
        assert results(verifier, message) == [PASS]

    @pytest.mark.parametrize(
        ("canon", "change"),
        [
            ("simple/simple", lambda text: text + b"\r\n\r\n"),
            ("relaxed/relaxed", lambda text: text + b" \t\r\n\r\n"),
            ("relaxed/relaxed", lambda text: text.replace(b"A  second\t", b"A\t\tsecond  ")),
            ("relaxed/relaxed", lambda text: text.replace(b"paragraph. \t", b"paragraph.")),
            ("relaxed/simple", lambda text: text.replace(b"Subject: A  letter", b"SUBJECT :  A\n\tletter")),
            ("relaxed/simple", lambda text: b"Received: from mx\r\n\tby mx2\r\nX-Spam: no\r\n" + text),
        ],
    )
    def test_what_a_canonicalisation_forgives(self, verifier, key, canon, change) -> None:
        message = sign(key, LETTER, canon=canon)
        assert change(message) != message
        assert results(verifier, change(message)) == [PASS]

    @pytest.mark.parametrize("selector", ["s1", "alias", "strict", "several", "S1", "mail"])
    def test_keys_as_dns_has_them(self, verifier, key, selector) -> None:
        assert look(verifier, sign(key, LETTER, selector=selector)) == (
            Dkim(PASS, "example.com", selector.lower(), "it verifies"),
        )

    def test_a_key_of_1024_bits(self, verifier) -> None:
        assert results(verifier, sign(rsa_key(1024), LETTER, selector="k1024")) == [PASS]

    @pytest.mark.parametrize(
        "tags",
        [
            [("t", None)],
            [("t", str(int(NOW) + 200))],
            [("x", str(int(NOW) + 86_400))],
            [("i", "user@example.com")],
            [("i", "user@sub.Example.com")],
            [("q", "dns/txt")],
            [("c", None)],
            [("unknown", "text")],
        ],
        ids=lambda tags: tags[0][0],
    )
    def test_tags_that_do_not_matter(self, verifier, key, tags) -> None:
        assert results(verifier, sign(key, LETTER, canon="simple/simple", tags=tags)) == [PASS]

    def test_from_signed_twice(self, verifier, key) -> None:
        names = ("from", "from", "to", "to", "subject", "reply-to")
        assert results(verifier, sign(key, LETTER, headers=names)) == [PASS]

    def test_signatures_of_two(self, verifier, key) -> None:
        message = sign(key, sign(key, LETTER, canon="simple/simple"), domain="example.net")
        assert look(verifier, message) == (
            Dkim(PASS, "example.net", "s1", "it verifies"),
            Dkim(PASS, "example.com", "s1", "it verifies"),
        )

    def test_a_signer_who_is_testing(self, verifier, key) -> None:
        assert look(verifier, sign(key, LETTER, selector="testing")) == (
            Dkim(PASS, "example.com", "testing", "it verifies; its signer is testing"),
        )


class TestNoPass:
    def test_without_a_signature(self, verifier) -> None:
        assert look(verifier, LETTER) == ()

    @pytest.mark.parametrize("canon", CANONS)
    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text + b"Buy now.\r\n",
            lambda text: text + b".",
            lambda text: text.replace(b"The end", b"The  end."),
            lambda text: text.replace(b"\r\n\r\nThe end", b"\r\nThe end"),
            lambda text: text.removesuffix(b"The end.\r\n\r\n\r\n"),
            lambda text: text.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        ],
    )
    def test_another_body(self, verifier, key, canon, change) -> None:
        [dkim] = look(verifier, change(sign(key, LETTER, canon=canon)))
        assert dkim == Dkim(
            FAIL, "example.com", "s1", "the body does not verify: forged, or changed on the way"
        )

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: text.replace(b"A  letter", b"A better"),
            lambda text: text.replace(b"user@example.com", b"ceo@example.com"),
            lambda text: b"From: ceo@example.com\r\n" + text,
            lambda text: text.replace(b"X-Octets", b"From: ceo@example.com\r\nX-Octets"),
            lambda text: b"To: other@example.org\r\n" + text,
            lambda text: re.sub(rb"From: .*\r\n", b"", text),
            lambda text: text.replace(b"c=relaxed/simple", b"c=simple/simple"),
            lambda text: text.replace(b"d=example.com", b"d=example.net"),
            lambda text: re.sub(rb"\bb=\s*\S{9}", b"b=AAAAAAAAA", text, count=1),
            lambda text: re.sub(rb"bh=\S{9}", b"bh=AAAAAAAAA", text),
        ],
        ids=(
            *("subject", "From", "From above", "From below", "To above", "no From", "other c", "other d"),
            *("b", "bh"),
        ),
    )
    def test_another_header(self, verifier, key, change) -> None:
        message = sign(key, LETTER, headers=("from", "to", "to", "subject"))
        assert change(message) != message
        [dkim] = look(verifier, change(message))
        assert dkim.result is FAIL
        assert dkim.reason == "its headers do not verify: forged, or changed on the way"

    @pytest.mark.parametrize(
        ("tags", "result", "reason"),
        [
            ([("x", str(int(NOW) - 310)), ("t", str(int(NOW) - 320))], FAIL, "it has expired"),
            ([("x", str(int(NOW) - 290)), ("t", str(int(NOW) - 300))], PASS, "it verifies"),
            ([("x", str(int(NOW) - 10))], NEUTRAL, "its tags are damaged, or one is missing"),
            ([("t", str(int(NOW) + 400))], POLICY, "it was made in the future"),
            ([("i", "user@example.net")], PERMERROR, "its user is of another domain: i= is not within d="),
            ([("i", "u@otherexample.com")], PERMERROR, "its user is of another domain: i= is not within d="),
            ([("i", "nobody")], PERMERROR, "its user is of another domain: i= is not within d="),
            ([("v", "2")], NEUTRAL, "its version is unknown: v= is not 1"),
            *(
                (tags, NEUTRAL, "its tags are damaged, or one is missing")
                for tags in (
                    [("v", None)],
                    [("t", "yesterday")],
                    [("t", "9" * 5000)],
                    [("x", "never")],
                    [("q", "dns/other")],
                    [("c", "nowsp/simple")],
                    [("bh", "")],
                    [("bh", "!!!!")],
                    [("s", "../s1")],
                    [("s", None)],
                )
            ),
        ],
    )
    def test_tags(self, verifier, key, tags, result, reason) -> None:
        [dkim] = look(verifier, sign(key, LETTER, canon="relaxed/simple", tags=tags))
        assert (dkim.result, dkim.reason) == (result, reason)

    @pytest.mark.parametrize("length", [0, 8, None])
    def test_a_length_counts_where_it_leaves_nothing_out(self, verifier, key, length) -> None:
        body = (LETTER.partition(b"\r\n\r\n")[2].rstrip(b"\r\n") + b"\r\n")[:length]
        tags = [("l", str(len(body))), ("bh", base64.b64encode(hashlib.sha256(body).digest()).decode())]
        message = sign(key, LETTER, tags=tags)
        why = "it lets anybody add to the body, and not all of it is signed: it has l="
        [dkim] = look(verifier, message)
        assert (dkim.result, dkim.reason) == ((PASS, "it verifies") if length is None else (POLICY, why))
        [dkim] = look(verifier, message + b"More.\r\n")
        assert (dkim.result, dkim.reason) == (POLICY, why)

    @pytest.mark.parametrize("others", [0, 1])
    def test_a_signature_never_signs_itself_whatever_it_names(self, verifier, key, others) -> None:
        """RFC 6376, section 3.5: named once more than there are, it signs that there are no more."""
        message = b"".join([b"DKIM-Signature: v=2\r\n"] * others) + LETTER
        signed = sign(key, message, headers=("from", "to", "subject", *("dkim-signature",) * (others + 1)))
        assert results(verifier, signed)[0] is PASS

    def test_names_in_u_labels(self, key, tmp_path) -> None:
        """RFC 8616, section 5."""
        domain, selector = "xn--bcher-kva.example", "xn--schlssel-95a"
        message = LETTER.replace(b"example.com", "bücher.example".encode())
        with NameServer(tmp_path, {domain: f"{selector}._domainkey TXT {txt(key.record)}"}) as server:
            verifier = DkimVerifier(Resolver([server.address]))
            for d, s in (("bücher.example", selector), ("BÜCHER.example", "schlüssel")):
                signed = sign(key, message, tags=[("d", d), ("s", s), ("i", f"büro@{d}")])
                [dkim] = look(verifier, signed)
                assert (dkim.result, dkim.domain, dkim.selector) == (PASS, domain, selector)

    def test_rsa_with_sha1(self, verifier, key) -> None:
        [dkim] = look(verifier, sign(key, LETTER, algorithm="rsa-sha1"))
        assert dkim.result is POLICY
        assert dkim.reason == "it is made with rsa-sha1, which nobody may trust any more"

    def test_an_algorithm_that_nobody_knows(self, verifier, key) -> None:
        message = sign(key, LETTER).replace(b"a=rsa-sha256", b"a=rsa-sha512")
        assert results(verifier, message) == [NEUTRAL]

    def test_a_signature_that_does_not_cover_from(self, verifier, key) -> None:
        assert results(verifier, sign(key, LETTER, headers=SIGNED[1:])) == [PERMERROR]

    @pytest.mark.parametrize(
        ("selector", "result", "reason"),
        [
            ("nobody", PERMERROR, "there is no key of its selector"),
            ("revoked", PERMERROR, "its key is revoked: its p= is empty"),
            ("empty", PERMERROR, "its key is no DKIM key record"),
            ("spf", PERMERROR, "its key is no DKIM key record"),
            ("wrongkind", PERMERROR, "its key is damaged: its p= cannot be read"),
            ("unknownkind", PERMERROR, "its key is of an unknown kind: k= is neither rsa nor ed25519"),
            ("ed", PERMERROR, "its key is for another algorithm"),
            ("version", PERMERROR, "its key is of another version than DKIM1"),
            ("damaged", PERMERROR, "its key is damaged: its p= cannot be read"),
            ("tlsrpt", PERMERROR, "its key is not for mail: s= does not name it"),
            ("sha1", PERMERROR, "its key is not for SHA-256: h= does not name it"),
            ("large", POLICY, "its key is too large: RSA has 8192 bits at most"),
        ],
    )
    def test_a_key_that_is_none(self, verifier, key, selector, result, reason) -> None:
        [dkim] = look(verifier, sign(key, LETTER, selector=selector))
        assert dkim == Dkim(result, "example.com", selector, reason)

    def test_a_key_of_512_bits(self, verifier) -> None:
        [dkim] = look(verifier, sign(rsa_key(512), LETTER, selector="k512"))
        assert dkim == Dkim(POLICY, "example.com", "k512", "its key is too small: RSA needs 1024 bits")

    def test_a_strict_key_is_not_for_users_of_subdomains(self, verifier, key) -> None:
        [dkim] = look(verifier, sign(key, LETTER, selector="strict", tags=[("i", "u@sub.example.com")]))
        assert (dkim.result, dkim.reason) == (PERMERROR, "its key is not for users of subdomains")

    def test_who_is_testing_does_not_fail(self, verifier, key) -> None:
        [dkim] = look(verifier, sign(key, LETTER, selector="testing") + b"More.\r\n")
        assert dkim.result is NEUTRAL
        assert dkim.reason == (
            "the body does not verify: forged, or changed on the way; its signer is testing"
        )

    @pytest.mark.parametrize(
        "field",
        [
            b"DKIM-Signature:",
            b"DKIM-Signature: v=1; v=1",
            b"DKIM-Signature: \xff\xfe; d=\xff",
            b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=AAAA; b=",
        ],
    )
    def test_a_field_that_is_no_signature(self, verifier, field) -> None:
        [dkim] = look(verifier, field + b"\r\n" + LETTER)
        assert dkim.result is NEUTRAL
        assert dkim.domain in ("", "example.com")

    def test_the_twenty_first_signature_is_not_looked_at(self, verifier, key) -> None:
        message = b"DKIM-Signature: v=1\r\n" * 19 + sign(key, LETTER)
        assert results(verifier, message) == [NEUTRAL] * 4 + [PASS]
        assert results(verifier, b"DKIM-Signature: v=1\r\n" + message) == [NEUTRAL] * 5


class TestNobodyCouldSay:
    def test_a_name_server_that_fails(self, key) -> None:
        message = sign(key, LETTER)
        with OddNameServer({}) as silent:
            assert results(DkimVerifier(Resolver([silent.address])), message) == [TEMPERROR]
        closed = DkimVerifier(Resolver([f"127.0.0.1:{free_port()}"]))
        assert results(closed, message) == [TEMPERROR]

    @pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
    def test_a_name_server_that_refuses(self, key, rcode) -> None:
        with OddNameServer({}, Odd(lambda query: [answer(query, rcode=rcode)])) as server:
            [dkim] = look(DkimVerifier(Resolver([server.address])), sign(key, LETTER))
            assert dkim == Dkim(TEMPERROR, "example.com", "s1", "its key could not be asked for")

    def test_what_spf_has_used_up_is_not_missing_here(self, verifier, key) -> None:
        """Else a forger's own SPF record would save him from the question that refutes his signature."""
        spent = Budget(lookups=0, voids=0)
        assert [dkim.result for dkim in look(verifier, sign(key, LETTER), spent)] == [PASS]
        missing = sign(key, LETTER, selector="nobody")
        assert [dkim.result for dkim in look(verifier, missing, spent)] == [PERMERROR]

    def test_the_time_is_shared(self, key) -> None:
        with OddNameServer({}) as silent:
            began = time.monotonic()
            [dkim] = look(DkimVerifier(Resolver([silent.address])), sign(key, LETTER), Budget(seconds=0.1))
            assert dkim.result is TEMPERROR
            assert time.monotonic() - began < 3

    def test_a_body_that_was_not_read(self, verifier, key) -> None:
        [dkim] = look(verifier, sign(key, LETTER), is_read=False)
        assert dkim == Dkim(TEMPERROR, "example.com", "s1", "the body was not read to its end")

    def test_but_only_the_signer_gets_that_mercy(self, verifier, key) -> None:
        message = sign(key, LETTER).replace(b"A  letter", b"An order")
        assert [dkim.result for dkim in look(verifier, message, is_read=False)] == [FAIL]

    def test_selectors_that_are_not_there_use_up_nothing(self, verifier, key) -> None:
        message = sign(key, LETTER)
        for number in range(4):
            message = sign(key, message, selector=f"none{number}")
        assert results(verifier, message) == [PERMERROR] * 4 + [PASS]

    def test_a_strangers_silent_name_server_costs_the_author_nothing(self, key) -> None:
        """Else whoever forges an author would sign by such a name too, and never be refused."""
        message = sign(key, LETTER, selector="s1")
        for number in range(4):
            message = sign(key, message, domain="silent.example.org", selector=f"x{number}")
        record = f"@ 300 TXT {txt(key.record)}"
        odd = {"s1": Odd(lambda query: [answer(query, record)], lambda query: answer(query, record))}
        with OddNameServer(odd) as server:
            began = time.monotonic()
            found = results(DkimVerifier(Resolver([server.address])), message)
            assert time.monotonic() - began < 3
        assert found == [TEMPERROR] * 4 + [PASS]


class TestPublishedVector:
    """RFC 8463, appendix A.3: a message with a signature of each kind."""

    ED25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    RSA = (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3id"
        "Y6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lx"
        "j+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    )
    TEXT = (
        b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
        b" d=football.example.com; i=@football.example.com;\r\n"
        b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
        b" subject : date : message-id : from : subject : date;\r\n"
        b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
        b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
        b" Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
        b" d=football.example.com; i=@football.example.com;\r\n"
        b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
        b" date : message-id : from : subject : date;\r\n"
        b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
        b" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
        b" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
        b" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
        b"From: Joe SixPack <joe@football.example.com>\r\n"
        b"To: Suzie Q <suzie@shopping.example.net>\r\n"
        b"Subject: Is dinner ready?\r\n"
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
        b"\r\n"
        b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
    )

    @pytest.fixture
    def verifier(self, tmp_path) -> Iterator[DkimVerifier]:
        need(PROGRAM)
        lines = f"brisbane._domainkey TXT {txt(self.ED25519)}\ntest._domainkey TXT {txt(self.RSA)}"
        with NameServer(tmp_path, {"football.example.com": lines}) as server:
            yield DkimVerifier(Resolver([server.address]))

    def test_both_pass_where_pynacl_is_installed(self, verifier) -> None:
        assert results(verifier, self.TEXT) == [PASS if HAS_ED25519 else TEMPERROR, PASS]
        changed = self.TEXT.replace(b"lost", b"won")
        assert results(verifier, changed) == [FAIL if HAS_ED25519 else TEMPERROR, FAIL]


class TestWhatIsWanted:
    @pytest.mark.parametrize(
        ("values", "names"),
        [
            ([], ""),
            ([b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=x"], "relaxed"),
            ([b" v=1; c=relaxed/simple"], "simple"),
            ([b" v=1; c=relaxed"], "simple"),
            ([b" v=1"], "simple"),
            ([b"\n c =\r\n\t Relaxed/RELAXED\r\n ;v=1"], "relaxed"),
            ([b"c=simple/relaxed", b"c=relaxed/simple"], "relaxed simple"),
            ([b"\xff\x00;;=;c;c==/"], "simple"),
            ([b"v=1"] * 19 + [b"c=simple/relaxed"], "simple relaxed"),
            ([b"v=1"] * 20 + [b"c=simple/relaxed"], "simple"),
        ],
    )
    def test_by_the_first_signatures(self, values, names) -> None:
        assert wanted(iter(values)) == {BodyCanonicalization(name.encode()) for name in names.split()}
