"""Any body in any chunks: the hash that dkimpy makes of it, in time by its length and in no memory."""

import hashlib
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from backstop.adapters import dkim_signature
from backstop.dkim_body import BodyCanonicalization, BodyHash, wanted

JUDGES = {BodyCanonicalization.SIMPLE: Simple, BodyCanonicalization.RELAXED: Relaxed}
PIECES = [b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"b.", b"\r\n\r\n", b"  ", b"\x00", b"\xff", b" \r\n"]
CHUNK = 65_535  # what libmilter hands over at once


def hashed(canonicalization: BodyCanonicalization, chunks: Iterator[bytes]) -> bytes:
    total = BodyHash(canonicalization)
    for chunk in chunks:
        total.update(chunk)
    return total.digest()


def cut(body: bytes, sizes: Callable[[], int]) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size = sizes()
        yield body[at : at + size]
        at += size


@pytest.mark.parametrize("canonicalization", BodyCanonicalization)
@pytest.mark.parametrize("count", [10_000, pytest.param(500_000, marks=pytest.mark.deep)])
def test_the_hash_is_dkimpys(canonicalization, count) -> None:
    chance = random.Random(count)
    for _ in range(count):
        body = b"".join(chance.choice(PIECES) for _ in range(chance.randrange(16)))
        found = hashed(canonicalization, cut(body, lambda: chance.choice((0, 1, 1, 2, 3, 20))))
        assert found == hashlib.sha256(JUDGES[canonicalization].canonicalize_body(body)).digest(), body


@pytest.mark.parametrize("canonicalization", BodyCanonicalization)
@given(chunks=st.lists(st.binary(max_size=40)))
def test_where_it_is_cut_does_not_matter(canonicalization, chunks) -> None:
    whole = hashed(canonicalization, iter([b"".join(chunks)]))
    assert hashed(canonicalization, iter(chunks)) == whole
    assert whole == hashlib.sha256(JUDGES[canonicalization].canonicalize_body(b"".join(chunks))).digest()


FAMILIES = {
    "blanks": b" ",
    "tabs and blanks": b"\t ",
    "empty lines": b"\r\n",
    "lines of one blank": b" \r\n",
    "lines of blanks": b" " * 100 + b"\r\n",
    "CR": b"\r",
    "LF": b"\n",
    "CR CR LF": b"\r\r\n",
    "blank and CR": b" \r",
    "words": b"a  ",
    "runs of any length": b"".join(b" " * size + b"x" for size in range(200)),
    "prose": b"It was the best of times, it was the worst of times.\r\n",
}


def seconds(canonicalization: BodyCanonicalization, body: bytes, chunk: int) -> float:
    began = time.thread_time()
    hashed(canonicalization, cut(body, lambda: chunk))
    return time.thread_time() - began


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("canonicalization", BodyCanonicalization)
def test_time_grows_with_the_length_and_no_faster(canonicalization, family) -> None:
    piece = FAMILIES[family]

    def best(size: int, chunk: int) -> float:
        body = (piece * (size // len(piece) + 1))[:size] + b"end\r\n"
        return min(seconds(canonicalization, body, chunk) for _ in range(3))

    assert best(1_600_000, CHUNK) < 0.005 + best(200_000, CHUNK) * 8**1.2
    assert best(1_000_000, CHUNK) < 0.05
    # As one octet at a time comes no body from libmilter; it must not grow by the square either.
    assert best(100_000, 1) < 0.05 + best(25_000, 1) * 4**1.4


@pytest.mark.parametrize("piece", [b" ", b"\r\n", b" \r\n", b"a  "])
@pytest.mark.parametrize("canonicalization", BodyCanonicalization)
def test_nothing_is_kept(canonicalization, piece) -> None:
    chunk = piece * (CHUNK // len(piece))
    total = BodyHash(canonicalization)
    tracemalloc.start()
    try:
        for _ in range(50):
            total.update(chunk)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    total.digest()
    assert kept < 20_000  # of 3 MB; the runner of the tests may keep something meanwhile
    assert most < 10 * CHUNK


def test_what_a_signature_needs_is_always_wanted() -> None:
    chance = random.Random(1)
    pieces = [
        *(b"c=", b"c =", b";", b"; ", b"\r\n ", b"\n\t", b"relaxed", b"simple", b"RELAXED", b"/", b" ", b"c"),
        *(b"v=1;", b"x", b"=", b"\x00", b"\xff"),
    ]
    start, end = b"v=1;a=rsa-sha256;d=example.com;s=s;h=from;bh=AAAA;", b";b=AAAA"
    seen = set()
    for _ in range(20_000):
        value = start + b"".join(chance.choice(pieces) for _ in range(chance.randrange(7))) + end
        [field] = dkim_signature.fields(b"DKIM-Signature:" + value) or [None]
        tags = dkim_signature.tags(field) if field else None
        signature = dkim_signature.parse(tags) if tags else None
        if isinstance(signature, dkim_signature.Signature):
            seen.add(signature.body)
            assert signature.body in wanted([value]), value
    assert seen == set(BodyCanonicalization)
