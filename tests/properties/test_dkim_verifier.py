"""Any message at all: no exception, no time, and never a pass that dkimpy would not give."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import dkim
import pytest

from backstop.adapters.dkim_verifier import DkimVerifier
from backstop.adapters.resolver import Answer, Budget, Outcome, Resolver
from backstop.authentication import DkimResult
from backstop.dkim_body import BodyHash, wanted
from tests.harness.dkim_signer import MESSAGE, NOW, RsaKey, rsa_key, sign
from tests.harness.servers import need
from tests.properties.test_own_signature import FAMILIES, HUNDRED_THOUSAND, JUNK, mutated

CANONS = ("relaxed/simple", "simple/simple", "relaxed/relaxed", "simple/relaxed")
LETTER = MESSAGE + b"\r\nA  second\tparagraph. \t\r\n\t\r\n\r\nThe end.\r\n\r\n\r\n"


@dataclass
class OneKey(Resolver):
    """Knows one name."""

    record: bytes
    asked: int = 0

    def txt(self, name: str, budget: Budget | None = None) -> Answer[bytes]:
        if budget and not budget.take():
            return Answer(Outcome.SPENT)
        self.asked += 1
        if name == "s1._domainkey.example.com":
            return Answer(Outcome.FOUND, (self.record,))
        return Answer(Outcome.ABSENT)


@pytest.fixture(scope="module")
def key() -> RsaKey:
    need("openssl")
    return rsa_key(1024)


@pytest.fixture(scope="module")
def verifier(key) -> DkimVerifier:
    return DkimVerifier(OneKey(key.record))


def verify(verifier: DkimVerifier, header: bytes, body: bytes) -> list[DkimResult]:
    values = re.findall(rb"(?mi)^dkim-signature[ \t]*:(.*(?:\n[ \t].*)*)", header)
    bodies = {}
    for canonicalization in wanted(values):
        total = BodyHash(canonicalization)
        for at in range(0, len(body), 65_535):
            total.update(body[at : at + 65_535])
        bodies[canonicalization] = total.digest()
    found = verifier.verify(header, bodies, Budget(10, 10), NOW)
    assert len(found) <= 5
    return [each.result for each in found]


def passes_dkimpy(message: bytes, record: bytes, number: int) -> bool | None:
    """What dkimpy says of one signature; None where it gives up."""
    try:
        return bool(dkim.DKIM(message).verify(number, dnsfunc=lambda _name, timeout=5: record))  # noqa: ARG005 - dkimpy's own names
    except (dkim.DKIMException, ValueError, IndexError):
        return None


@pytest.mark.parametrize("count", [3000, *HUNDRED_THOUSAND])
def test_a_mutated_message_raises_nothing_and_passes_only_where_dkimpy_says_so(verifier, key, count) -> None:
    chance = random.Random(count)
    messages = [sign(key, LETTER, canon=canon) for canon in CANONS]
    passed = 0
    for _ in range(count):
        header, _, body = chance.choice(messages).partition(b"\r\n\r\n")
        if chance.random() < 0.7:
            header = mutated(header, chance)
        else:
            body = mutated(body, chance)
        # As a mail server hands it over: the header has no empty line, every line of the body ends in CR LF.
        header = re.sub(rb"(\r?\n)(?:[\r\n]+)", rb"\1", re.sub(rb"\r+\n", b"\r\n", header))
        header = header.strip(b"\r\n") + b"\r\n"
        body = re.sub(rb"\r+\n|\r|\n", b"\r\n", body)
        results = verify(verifier, header, body)
        judged = [
            passes_dkimpy(header + b"\r\n" + body, key.record, number) for number in range(len(results))
        ]
        if DkimResult.PASS in results:
            passed += 1
            # Where dkimpy gives up, at a line that is no field, nothing that was signed is another.
            assert True in judged or None in judged, (header, body)
        elif True in judged:
            assert DkimResult.POLICY in results, (header, body)
    assert passed > count / 50


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.deep)])
def test_any_octets_raise_nothing(verifier, count) -> None:
    chance = random.Random(count)
    for _ in range(count):
        pieces = b"".join(chance.choice(JUNK) for _ in range(chance.randrange(200)))
        for header in (pieces, b"DKIM-Signature: d=example.com;" + pieces, chance.randbytes(500)):
            assert DkimResult.PASS not in verify(verifier, header, pieces)


MORE: dict[str, Callable[[bytes, int], bytes]] = {
    "names signed": lambda block, size: block.replace(
        b"h=", b"h=" + b":".join(b"a%d" % number for number in range(size // 6)) + b":"
    ),
    "other fields": lambda block, size: b"".join(b"A%d: x\r\n" % n for n in range(size // 9)) + block,
    "five large signatures": lambda block, size: (
        block.partition(b"Return-Path")[0].replace(b"; h=", b"; n=" + b"x " * (size // 10) + b"; h=") * 5
        + block
    ),
    "hosts in From": lambda block, size: block.replace(
        b"From: ", b"From: " + b"@a.b" * (size // 4) + b"\r\n "
    ),
    "dots in From": lambda block, size: block.replace(b"From: ", b"From: @" + b"a." * (size // 2)),
}


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
@pytest.mark.parametrize("canon", ["relaxed/relaxed", "simple/simple"])
def test_time_grows_with_the_length_of_the_header_and_no_faster(verifier, key, family, canon) -> None:
    message = sign(key, LETTER, canon=canon)
    header, _, body = message.partition(b"\r\n\r\n")

    def seconds(size: int) -> float:
        hostile = {**FAMILIES, **MORE}[family](header + b"\r\n", size)
        return min(timed(verifier, hostile, body) for _ in range(3))

    assert seconds(16_000) < 0.002 + seconds(2000) * 8**1.2
    assert seconds(250_000) < 0.06


def timed(verifier: DkimVerifier, header: bytes, body: bytes) -> float:
    began = time.thread_time()
    verify(verifier, header, body)
    return time.thread_time() - began


@pytest.mark.parametrize("piece", [b" ", b"\r\n", b"a  ", b" \r\n", b"\t ", b"x"])
def test_a_hostile_message_of_a_megabyte(verifier, key, piece) -> None:
    header, _, body = sign(key, LETTER, canon="relaxed/relaxed").partition(b"\r\n\r\n")
    field = header[: header.index(b"Return-Path")]
    header = field * 100 + b"X: y\r\n" * 1800 + header
    body += piece * (750_000 // len(piece))
    assert min(timed(verifier, header, body) for _ in range(3)) < 0.05


def test_of_many_signatures_five_are_looked_at(key) -> None:
    resolver = OneKey(key.record)
    header, _, body = sign(key, LETTER).partition(b"\r\n\r\n")
    field = header[: header.index(b"Return-Path")]
    fields = b"".join(field.replace(b"s=s1", b"s=x%d" % number) for number in range(100))
    assert verify(DkimVerifier(resolver), fields + header, body) == [DkimResult.PERMERROR] * 5
    assert resolver.asked == 5


def test_strangers_signatures_above_the_authors_do_not_hide_it(key) -> None:
    message = sign(key, LETTER)
    strangers = b"".join(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=list%d.example.net; s=a; h=from; bh=eA==; b=eA==\r\n" % number
        for number in range(15)
    )
    header, _, body = message.partition(b"\r\n\r\n")
    found = verify(DkimVerifier(OneKey(key.record)), strangers + header, body)
    assert len(found) == 5
    assert DkimResult.PASS in found
