"""The reader of reports on what nobody meant to send: no exception, no invented id, bounds kept."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstop.report import Kind, Report, read

FOLDER = Path(__file__).parent.parent / "data" / "reports"
MESSAGES = [path.read_bytes() for path in sorted(FOLDER.glob("*.eml"))]
PATHS: list[str | None] = [None, "", "<>", "ann@example.com"]

PIECES = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"--",
    b"<",
    b">",
    b"@",
    b";",
    b":",
    b'"',
    b"=",
    b"=?utf-8?b?",
    b"?=",
    b"Message-ID: <",
    b"Content-Type: multipart/report; boundary=",
    b"Content-Type: message/rfc822\n\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Content-Type: text/html; charset=utf-16\n",
    b"Final-Recipient: utf-8; \\x{110000}",
    b"Received: ",
    b"From MAILER-DAEMON \n",
]


def check(report: Report, message: bytes) -> None:
    """What holds of every reading."""
    assert isinstance(report, Report)
    assert len(report.recipients) <= 1000
    assert len(report.mentioned) <= 100
    if report.kind is Kind.ORDINARY:
        assert report.returned is None
    if report.returned is not None:
        assert report.returned.block
        assert "<" not in report.returned.message_id
        assert all(letter > " " for letter in report.returned.message_id)


def mutated(chance: random.Random) -> bytes:
    octets = bytearray(chance.choice(MESSAGES))
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(octets) + 1)
        to = min(len(octets), at + chance.choice((0, 1, 1, 5, 50, 400)))
        match chance.randrange(5):
            case 0:
                octets[at:to] = b""
            case 1:
                octets[at:at] = chance.choice(PIECES) * chance.choice((1, 1, 2, 100))
            case 2:
                octets[at:to] = bytes(chance.randrange(256) for _ in range(chance.randrange(8)))
            case 3:
                octets[at:at] = octets[at:to]
            case _:
                other = chance.choice(MESSAGES)
                begin = chance.randrange(len(other))
                octets[at:at] = other[begin : begin + chance.choice((10, 200, 2000))]
    return bytes(octets)


@given(st.binary(max_size=2000), st.sampled_from(PATHS))
def test_any_octets_are_read(message: bytes, reverse_path: str | None):
    check(read(message, reverse_path), message)


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=60), st.sampled_from(PATHS))
def test_any_pieces_of_reports_are_read(pieces: list[bytes], reverse_path: str | None):
    message = b"".join(pieces)
    check(read(message, reverse_path), message)


@given(st.integers(0, 2**32), st.sampled_from(PATHS))
def test_mutated_reports_are_read(seed: int, reverse_path: str | None):
    message = mutated(random.Random(seed))
    check(read(message, reverse_path), message)


@given(st.integers(0, 2**32))
def test_an_id_is_never_made_up(seed: int):
    """An id found stands in the message as it is, or there are encodings that may hide it."""
    message = mutated(random.Random(seed))
    returned = read(message, "").returned
    if returned is None or not returned.message_id or b"\xff" in message:
        return
    plain = message.replace(b"\n", b"").replace(b"\r", b"").replace(b" ", b"").replace(b"\t", b"")
    encoded = any(
        word in message.lower() for word in (b"base64", b"quoted-printable", b"&lt;", b"utf-16", b"\0")
    )
    assert encoded or returned.message_id.encode("utf-8") in plain or "\ufffd" in returned.message_id


@given(st.text(max_size=30), st.sampled_from(["Re: ", "Fwd: ", "AW: "]))
def test_an_answer_of_a_person_is_no_bounce(words: str, prefix: str):
    quoted = b"".join(b"> " + line for line in MESSAGES[0].splitlines(keepends=True))
    subject = " ".join(words.split()).encode("utf-8", "replace")
    message = b"From: Bob <bob@example.net>\nTo: ann@example.com\nSubject: " + prefix.encode() + subject
    report = read(message + b"\n\n" + quoted, "bob@example.net")
    assert report.kind is not Kind.BOUNCE


@pytest.mark.deep
@pytest.mark.parametrize("part", range(20))
def test_a_million_mutated_reports(part: int):
    chance = random.Random(part)
    for _ in range(50_000):
        message = mutated(chance)
        check(read(message, chance.choice(PATHS)), message)
