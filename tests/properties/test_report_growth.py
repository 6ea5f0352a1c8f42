"""The reader of reports on families of hostile messages: time grows with their size, and no faster.

Each family makes a message of about so many octets. They are the shapes that cost other readers time in
the square of the size, or their stack: nesting, sibling parts, boundaries that are none, header fields of
one repeated letter, encodings without end.
"""

import base64
import math
from collections.abc import Callable
from time import process_time

import pytest

from backstop.report import Report, read

TOP = b"Return-Path: <>\nFrom: MAILER-DAEMON@x.example\nTo: a@example.com\nSubject: Undelivered\n"
SIZE = 1_000_000

Family = Callable[[int], bytes]


def repeated(before: bytes, piece: bytes, after: bytes = b"") -> Family:
    return lambda size: before + piece * (size // len(piece)) + after


def nested(size: int) -> bytes:
    parts = (b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(size // 60))
    return TOP + b"".join(parts)


def different_fields(size: int) -> bytes:
    return TOP + b"".join(b"X-%d: y\n" % n for n in range(size // 12)) + b"\nx"


def in_base64(piece: bytes) -> Family:
    def family(size: int) -> bytes:
        body = base64.encodebytes(piece * (size * 3 // 4 // len(piece)))
        return TOP + b"Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n" + body

    return family


FAMILIES: dict[str, Family] = {
    "nested multiparts": nested,
    "nested, one boundary": repeated(TOP, b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"),
    "nested messages": repeated(TOP, b"Content-Type: message/rfc822\n\n"),
    "sibling parts": repeated(TOP + b"Content-Type: multipart/mixed; boundary=b\n\n", b"--b\n\nx\n"),
    "boundaries that are none": repeated(TOP + b"Content-Type: multipart/mixed; boundary=b\n\n", b"--bx\n"),
    "dashes": repeated(TOP + b"Content-Type: multipart/mixed; boundary=zz\n\n", b"-"),
    "no boundary named": repeated(TOP + b"Content-Type: multipart/mixed\n\n", b"\n--a"),
    "endless boundary": repeated(
        TOP + b"Content-Type: multipart/mixed; boundary=" + b"a" * 250 + b"\n\n", b"--" + b"a" * 249 + b"b\n"
    ),
    "different fields": different_fields,
    "continuations": repeated(TOP + b"X: y\n", b" y\n", b"\n"),
    "no end of header": repeated(TOP, b"X: y\n"),
}
for _letters in (
    b'"',
    b"(",
    b'";"',
    b";",
    b"x*0*=",
    b"=?utf-8?q?a?=",
    b"=?",
    b"@",
    b"<",
    b">",
    b",",
    b"\\",
    b" ",
):
    for _field in (b"From", b"To", b"Subject", b"Content-Type", b"Message-ID", b"References", b"Received"):
        _name = f"{_field.decode()}: {_letters.decode()}"
        FAMILIES[_name] = repeated(b"Return-Path: <>\n" + _field + b": ", _letters, b"\n\nx")
    FAMILIES[f"body of {_letters.decode()}"] = repeated(TOP + b"\n", _letters)
    FAMILIES[f"HTML of {_letters.decode()}"] = repeated(TOP + b"Content-Type: text/html\n\n", _letters)
    FAMILIES[f"recipient of {_letters.decode()}"] = repeated(
        TOP + b"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; ", _letters, b"\n"
    )
    FAMILIES[f"quoted-printable of {_letters.decode()}"] = repeated(
        TOP + b"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n", _letters
    )
for _line in (
    b"\n",
    b"\r",
    b"\r\r\n",
    b"a\r",
    b"From: a\n",
    b"From: a\n\n",
    b"From: a\nTo: b\nSubject: c\n\n",
    b"Message-ID: <a@b>\n",
    b"> From: a\n",
    b">" * 40 + b"\n",
    b"From \n",
    b"Received: a\nstray\nstray\nstray\n",
    b"X-a: b\nstray\n",
    b"<br>\n",
    b"<a\n",
    b"<style>",
    b"a@b.example\n",
    b"Final-Recipient: rfc822; a@b\nStatus: 5.1.1\nAction: failed\n\n",
    b"--\n",
    b"\0",
):
    _name = _line.decode("unicode-escape").encode("unicode-escape").decode()
    FAMILIES[f"lines of {_name}"] = repeated(TOP + b"\n", _line)
    FAMILIES[f"header of {_name}"] = repeated(TOP, _line)
    FAMILIES[f"status of {_name}"] = repeated(TOP + b"Content-Type: message/delivery-status\n\n", _line)
    FAMILIES[f"HTML of {_name}"] = repeated(TOP + b"Content-Type: text/html\n\n", _line)
    FAMILIES[f"base64 of {_name}"] = in_base64(_line)
    FAMILIES[f"returned message of {_name}"] = repeated(
        TOP + b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/rfc822\n\n", _line
    )


def seconds(message: bytes) -> float:
    """CPU time of the quickest of several readings: a busy neighbour only makes them slower."""
    taken = []
    for _ in range(5):
        begun = process_time()
        read(message, None)
        taken.append(process_time() - begun)
    return min(taken)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hostile_message_is_read(name: str):
    report = read(FAMILIES[name](SIZE // 10), None)
    assert isinstance(report, Report)
    assert len(report.recipients) <= 1000
    assert report.returned is None or len(report.returned.block) <= 256_000


def test_more_than_a_megabyte_is_not_read():
    message = TOP + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"x" * SIZE
    late = b"\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822; a@b.example\n\n--b--\n"
    assert "status_part" not in read(message + late, "").marks


@pytest.mark.deep
@pytest.mark.parametrize("name", FAMILIES)
def test_time_grows_with_size(name: str):
    """An exponent of 1.2 at most; short times measure nothing, therefore the floor of two milliseconds."""
    small = max(seconds(FAMILIES[name](SIZE // 8)), 0.002)
    large = seconds(FAMILIES[name](SIZE))
    assert math.log(large / small, 8) <= 1.2
    assert large < 0.2
