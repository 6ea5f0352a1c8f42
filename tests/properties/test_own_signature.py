"""Any block at all: no exception, no time, and never a pass that dkimpy would not give."""

import random
import re
import time
from collections.abc import Callable

import dkim
import pytest

from backstop.adapters import dkim_signature
from backstop.adapters.own_signature import OwnSignature, SignatureResult
from backstop.adapters.resolver import Resolver
from tests.harness.dkim_signer import NOW, RsaKey, header, rsa_key, sign
from tests.harness.servers import need

JUNK = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\r\n \r\n", b"\r\n\r\n", b"\x00", b"\xff"),
    *(b";", b"=", b":", b"b=", b" b=", b"l=0;", b"x=1;", b"v=1;", b"d=example.com;", b"h=from;"),
    *(b"From ", b"From: x@y\r\n", b"Subject:", b"DKIM-Signature: "),
]


HUNDRED_THOUSAND = [
    pytest.param(10_000 + piece, marks=pytest.mark.deep, id=f"piece {piece}") for piece in range(10)
]
"""Counts, which are seeds as well."""


@pytest.fixture(scope="module")
def key() -> RsaKey:
    need("openssl")
    return rsa_key(1024)


@pytest.fixture(scope="module")
def own(tmp_path_factory, key) -> OwnSignature:
    folder = tmp_path_factory.mktemp("dkim.d")
    (folder / "s1._domainkey.example.com").write_bytes(key.record)
    # Nobody listens there: what is not in a file is not known.
    return OwnSignature(folder, Resolver(["127.0.0.1:1"], lifetime=0.01), pytest.fail)


def verify(own: OwnSignature, block: bytes) -> SignatureResult:
    return own.verify(block, lambda domain: domain == "example.com", NOW)


def mutated(block: bytes, chance: random.Random) -> bytes:
    octets = bytearray(block)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(octets) + 1)
        how = chance.randrange(7)
        if how == 0 and at < len(octets):
            octets[at] = chance.randrange(256)
        elif how == 1:
            octets[at:at] = chance.choice(JUNK)
        elif how == 2:
            del octets[at : at + chance.choice((1, 2, 10, 200))]
        elif how == 3:
            octets[at:at] = octets[at : at + chance.randrange(100)]
        elif how == 4:
            lines = bytes(octets).split(b"\r\n")
            chance.shuffle(lines) if chance.random() < 0.1 else lines.reverse()
            octets = bytearray(b"\r\n".join(lines))
        elif how == 5:
            octets = bytearray(bytes(octets).replace(b"\r\n", chance.choice((b"\n", b"\r\n\t"))))
        else:
            blanks = [match.start() for match in re.finditer(rb" ", octets)] or [0]
            at = chance.choice(blanks)
            octets[at:at] = chance.choice((b" ", b"\r\n", b"\t", b" " * 50))
    return bytes(octets)


def passes_dkimpy(block: bytes, record: bytes) -> bool | None:
    """The path through dkimpy that takes only the header hash; None where it gives up."""
    try:
        judge = dkim.DKIM(block)
        prepared = judge.verify_headerprep(0)
        if not prepared:
            return False
        tags, names, fields = prepared
        if tags[b"a"] != b"rsa-sha256" or b"l" in tags or b"from" not in names:
            return False
        if (tags[b"d"].lower(), tags[b"s"].lower()) != (b"example.com", b"s1"):
            return False
        judge.pk, judge.keysize, judge.ktag, judge.seqtlsrpt = dkim.evaluate_pk("s1", record)
        without = {tag: text for tag, text in tags.items() if tag != b"bh"}
        return bool(judge.verify_sig_process(without, names, fields[0], None))
    except (dkim.DKIMException, ValueError, IndexError):
        return None


@pytest.mark.parametrize("count", [2000, *HUNDRED_THOUSAND])
def test_a_mutated_block_raises_nothing_and_passes_only_where_dkimpy_says_so(own, key, count) -> None:
    chance = random.Random(count)
    blocks = [header(sign(key, canon=canon)) for canon in ("relaxed/simple", "simple/simple")]
    passed = 0
    for _ in range(count):
        block = mutated(chance.choice(blocks), chance)
        result = verify(own, block)
        assert result in SignatureResult
        judged = passes_dkimpy(block, key.record)
        if result is SignatureResult.PASS:
            passed += 1
            # Where dkimpy gives up or takes other octets for the end, the signed fields are still whole.
            assert judged or all_signed_fields_are_whole(block, blocks), block
        elif judged:
            raise AssertionError(block)
    assert passed > count / 50


def all_signed_fields_are_whole(block: bytes, blocks: list[bytes]) -> bool:
    """Whether each field that was signed is as it was in one of these, but for blanks and case."""

    def signed(octets: bytes) -> dict[bytes, bytes]:
        found = {}
        for field in reversed(dkim_signature.fields(octets)):
            name, _, text = field.octets.partition(b":")
            found.setdefault(name.strip().lower(), b" ".join(text.split()))
        names = (b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type")
        return {name: found.get(name, b"") for name in names}

    return signed(block) in [signed(one) for one in blocks]


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.deep)])
def test_any_octets_raise_nothing(own, count) -> None:
    chance = random.Random(count)
    for _ in range(count):
        pieces = [chance.choice(JUNK) for _ in range(chance.randrange(200))]
        assert verify(own, b"".join(pieces)) in SignatureResult
        assert verify(own, b"DKIM-Signature: d=example.com;" + b"".join(pieces)) in SignatureResult
        assert verify(own, chance.randbytes(chance.randrange(500))) in SignatureResult


def in_signature(tag: bytes) -> Callable[[bytes, int], bytes]:
    """Put something long into a tag of the signature."""
    return lambda block, size: block.replace(b"; h=", b"; " + tag + b" " * size + b"x; h=", 1)


FAMILIES: dict[str, Callable[[bytes, int], bytes]] = {
    "blanks in Subject": lambda block, size: block.replace(b"A  letter", b"A" + b" " * size + b"letter"),
    "blanks and a letter": lambda block, size: block.replace(b"A  letter", b" \t a" * (size // 4)),
    "folds": lambda block, size: block.replace(b"A  letter", b"A" + b"\r\n " * (size // 3) + b"letter"),
    "bare LF folds": lambda block, size: block.replace(b"A  letter", b"A" + b"\n\t" * (size // 2)),
    "CR": lambda block, size: block.replace(b"A  letter", b"\r" * size),
    "blanks in n": lambda block, size: block.replace(b"; h=", b"; n=" + b" " * size + b"; h="),
    "blanks after b=": lambda block, size: re.sub(rb"\bb=", b"b=" + b" " * size, block, count=1),
    "blanks before b=": lambda block, size: re.sub(rb"\bb=", b"b" + b" " * size + b"=", block, count=1),
    "folds after b=": lambda block, size: re.sub(rb"\bb=", b"b=" + b"\r\n " * (size // 3), block, count=1),
    "blanks in h": lambda block, size: block.replace(b"h=", b"h=" + b" " * size),
    "names in h": lambda block, size: block.replace(b"h=", b"h=" + b"to:" * (size // 3)),
    "colons in h": lambda block, size: block.replace(b"h=", b"h=" + b":" * size),
    "base64": lambda block, size: block.replace(b"bh=", b"bh=" + b"A" * size),
    "tags": lambda block, size: block.replace(b"; h=", b"; h=" + b";" * size, 1),
    "named tags": lambda block, size: block.replace(b"; h=", named_tags(size) + b"; h=", 1),
    "z": in_signature(b"z=b"),
    "i": in_signature(b"i=a@"),
    "d": lambda block, size: block.replace(b"d=example", b"d=" + b"a." * (size // 2) + b"example"),
    "s": lambda block, size: block.replace(b"s=s1", b"s=" + b"a-" * (size // 2)),
    "t": lambda block, size: re.sub(rb"\bt=\d+", b"t=" + b"9" * size, block),
    "fields": lambda block, size: b"To: x\r\n" * (size // 7) + block,
    "empty lines": lambda block, size: b"\r\n" * (size // 2) + block,
    "no colon": lambda block, size: b"abc\r\n" * (size // 5) + block,
    "name": lambda block, size: b"a" * size + b"\r\n" + block,
    "name and blanks": lambda block, size: b"a" * (size // 2) + b" " * (size // 2) + b"\r\n" + block,
    "signatures": lambda block, size: block.partition(b"Return-Path")[0] * (size // 500) + block,
    "signatures of others": lambda block, size: (
        block.partition(b"Return-Path")[0].replace(b"example.com", b"example.org") * (size // 500) + block
    ),
    "From": lambda block, size: b"From: a@b\r\n" * (size // 11) + block,
}


def named_tags(size: int) -> bytes:
    return b"".join(b"; t%d=1" % number for number in range(size // 8))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("canon", ["relaxed/simple", "simple/simple"])
def test_time_grows_with_the_length_of_the_block_and_no_faster(own, key, family, canon) -> None:
    block = header(sign(key, canon=canon))

    def seconds(size: int) -> float:
        hostile = FAMILIES[family](block, size)
        return min(timed(own, hostile) for _ in range(3))

    # Where the limit for a line does not cut yet, which would hide what grows by the square; and the most.
    small, large = seconds(2000), seconds(16_000)
    assert large < 0.001 + small * 8**1.2
    assert seconds(250_000) < 0.05


def timed(own: OwnSignature, block: bytes) -> float:
    began = time.thread_time()
    verify(own, block)
    return time.thread_time() - began


def test_a_block_of_megabytes_is_cut(own, key) -> None:
    block = header(sign(key))
    for hostile in (
        block * 10_000,
        b"\r\n" * 2_000_000 + block,
        b"X: " + b" " * 4_000_000,
        b"X:\r\n" + b" \r\n" * 10**6,
    ):
        assert timed(own, hostile) < 0.2
    assert len(dkim_signature.fields(b"X: 1\r\n" * 10_000)) == 2000
    assert sum(len(field.octets) for field in dkim_signature.fields(b"X: " + b"y" * 10**6)) == 16 * 1024
