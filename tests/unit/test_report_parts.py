"""The parts of messages, whole and damaged, and the limits within which they are read."""

import base64

import pytest

from backstop.report import read
from backstop.report.charsets import from_base64, readable
from backstop.report.header import message_header, part_header
from backstop.report.octets import Text, text_of
from backstop.report.parts import MAX_DEPTH, MAX_PARTS, parts_of
from backstop.report.status import status_recipients


def types(message: bytes) -> list[bytes]:
    return [part.type for part in parts_of(text_of(message))]


def contents(message: bytes) -> list[bytes]:
    return [part.text.raw[part.start : part.end] for part in parts_of(text_of(message))]


def multipart(*parts: bytes, boundary: bytes = b"b") -> bytes:
    body = b"".join(b"--" + boundary + b"\n" + part + b"\n" for part in parts)
    return (
        b"Content-Type: multipart/mixed; boundary=" + boundary + b"\n\n" + body + b"--" + boundary + b"--\n"
    )


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\nb\n"),
        (b"a\rb\r\nc\n", b"a\nb\r\nc\n"),
        (b"a\r\r\nb\r\r\n", b"a\r\r\nb\r\r\n"),
        (b"", b""),
    ],
)
def test_line_ends_are_leveled_in_place(raw: bytes, lines: bytes):
    assert text_of(raw) == Text(raw, lines)


def test_parts_come_in_order():
    inner = multipart(b"\none", b"Content-Type: text/html\n\ntwo", boundary=b"inner")
    message = multipart(inner, b"Content-Type: message/rfc822\n\nSubject: x\n\nthree")
    assert types(message) == [
        b"multipart/mixed",
        b"multipart/mixed",
        b"text/plain",
        b"text/html",
        b"message/rfc822",
        b"text/plain",
    ]
    assert contents(message)[2:4] == [b"one\n", b"two\n"]


def test_a_longer_boundary_is_another():
    message = multipart(b"\none\n--b2\nstill one", b"\ntwo")
    assert contents(message)[1:] == [b"one\n--b2\nstill one\n", b"two\n"]


def test_a_boundary_with_quotes_and_spaces():
    message = b'Content-Type: multipart/mixed;\n boundary="=== a b"\n\n--=== a b\n\none\n--=== a b--\n'
    assert contents(message)[1:] == [b"one\n"]


def test_a_boundary_that_is_not_named_is_found():
    message = b"Content-Type: multipart/mixed\n\n\n--xyz\nContent-Type: text/html\n\none\n--xyz--\n"
    assert types(message) == [b"multipart/mixed", b"text/html"]


def test_a_boundary_that_is_never_closed():
    message = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo"
    assert contents(message)[1:] == [b"one\n", b"two"]


def test_depth_and_number_have_limits():
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(100))
    assert max(part.depth for part in parts_of(text_of(deep))) == MAX_DEPTH
    assert len(types(multipart(*[b"\nx"] * 1000))) <= MAX_PARTS + 1


@pytest.mark.parametrize(
    ("encoding", "octets"),
    [
        (b"base64", base64.encodebytes(b"Hello\n")),
        (b"BASE64", b"SGVsbG8K"),
        (b"base64", b"SGVsbG8\n=== and more"[:8]),
        (b"quoted-printable", b"Hel=6Co\n"),
    ],
)
def test_transfer_encodings_are_undone(encoding: bytes, octets: bytes):
    message = b"Content-Transfer-Encoding: " + encoding + b"\n\n" + octets
    assert contents(message)[0].startswith(b"Hello")


def test_text_that_is_only_said_to_be_base64_stays():
    message = b"Content-Transfer-Encoding: base64\n\nThis is plain text.\n"
    assert contents(message) == [b"This is plain text.\n"]


def test_utf_16_becomes_readable():
    text = base64.encodebytes("Subject: \u00fc\n".encode("utf-16"))
    message = b"Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64\n\n" + text
    assert contents(message) == ["Subject: \u00fc\n".encode()]


@pytest.mark.parametrize("octets", [b"", b"A", b"AB", b"ABC", b"ABCD", b"AB=C", b"====", b"\xff" * 9])
def test_base64_never_fails(octets: bytes):
    assert isinstance(from_base64(octets), bytes)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?f=C3=BCr_dich?=", "f\u00fcr dich"),
        (b"=?utf-8?B?w7w=?= =?utf-8?B?w7w=?= x", "\u00fc\u00fc x"),
        (b"=?iso-2022-jp?B?GyRCJCIbKEI=?=", "\u3042"),
        (b"=?idna?Q?xn--a?=", "xn--a"),
        (b"=?broken?Q?", "=?broken?Q?"),
        (b"\xfc", "\u00fc"),
    ],
)
def test_encoded_words_are_decoded(value: bytes, text: str):
    assert readable(value) == text


def test_a_header_is_read_behind_what_mailboxes_add():
    text = text_of(b"\n\nFrom x@example.net Tue Nov  3\n>From y\nSubject: a\n b\nX: c\n\nbody")
    header = message_header(text, 0, len(text.lines))
    assert (header.first(b"subject"), header.first(b"x"), text.raw[header.body :]) == (b"a b", b"c", b"body")


def test_a_blank_line_by_damage_does_not_end_a_header():
    text = text_of(b"From: a\nTo: b\n\nSubject: c\nDate: d\nMessage-ID: <e@f>\n\nbody")
    header = message_header(text, 0, len(text.lines))
    assert (header.first(b"message-id"), text.raw[header.body :]) == (b"<e@f>", b"body")


def test_a_part_may_have_no_header():
    text = text_of(b"\nSubject: this is text\n")
    assert part_header(text, 0, len(text.lines)).fields == {}


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"Final-Recipient: rfc822;a@b\nAction: Failed\nStatus: 5.1.1 (no)\n", ("a@b", "5.1.1", "failed")),
        (b"Final-Recipient: a@b\nStatus: 5 1 1\n", ("a@b", "5.1.1", "")),
        (b"Final-Recipient: RFC822; <a@b>\nStatus: 9.9.999\n", ("a@b", "", "")),
        (b"Status: 5.0.0\nAction: failed\nFinal-Recipient: x;a@b\n", ("a@b", "5.0.0", "failed")),
        (b"Original-Recipient: rfc822;o@b\nFinal-Recipient: rfc822;f@b\n", ("o@b", "", "")),
        (b"Original-Recipient: unknown;x\nFinal-Recipient: rfc822;f@b\n", ("f@b", "", "")),
        (b"Final-Recipient: rfc822;\n a@b\nStatus:\n 5.1.1\n", ("a@b", "5.1.1", "")),
        (b"Final-Recipient: X400; /C=gb/S=bob/\nStatus: 5.1.1\n", ("/C=gb/S=bob/", "5.1.1", "")),
    ],
)
def test_status_fields_are_read_as_they_come(octets: bytes, found: tuple[str, str, str]):
    (recipient,) = status_recipients(b"Reporting-MTA: dns; x\n\n" + octets)
    assert (recipient.address, recipient.status, recipient.action) == found


def test_recipients_without_a_blank_line_between():
    octets = b"Final-Recipient: rfc822;a@b\nStatus: 5.1.1\nFinal-Recipient: rfc822;c@d\nStatus: 5.2.2\n"
    assert [(one.address, one.status) for one in status_recipients(octets)] == [
        ("a@b", "5.1.1"),
        ("c@d", "5.2.2"),
    ]


def test_at_most_a_thousand_recipients():
    octets = b"Final-Recipient: rfc822;a@b\nStatus: 5.1.1\n\n" * 5000
    assert len(status_recipients(octets)) == 1000


NOTICE = b"From: MAILER-DAEMON@x.example\nTo: ann@example.com\nSubject: Undelivered\n\nUser unknown\n\n"


@pytest.mark.parametrize(
    ("block", "message_id"),
    [
        (b"Received: x\nMessage-ID: <a.1@b>\n", "a.1@b"),
        (b"Received: x\nMESSAGE-ID:<a.1@b>\n", "a.1@b"),
        (b"Received: x\nMessage-ID:\n <a.1@b>\n", "a.1@b"),
        (b"Received: x\nMessage-ID:\n<a.1@b>\nFrom: c\n", "a.1@b"),
        (b"Received: x\nMessage-ID: <a.1@\n b>\n", "a.1@b"),
        (b"Received: x\nMessage-ID: a.1@b\n", "a.1@b"),
        (b"Received: x\nMessage-ID: <0a1b2c3d-4e5f>\n", "0a1b2c3d-4e5f"),
        (b"Received: x\nstray words\nMessage-ID: <a.1@b>\n", "a.1@b"),
        (b"Received: x\nMessage-ID: <a.1@b", ""),
        (b"Received: x\nMessage-ID: none\n", ""),
        (b"Received: x\nX-Message-ID: <a.1@b>\nFrom: c\n", ""),
        (b"Received: x\nResent-Message-ID: <a.1@b>\nFrom: c\n", ""),
        (b"From: c\nTo: d\n\nMessage-ID: <a.1@b>\n", ""),
        (b"Message-ID: <a.1@b>\n", ""),
    ],
)
def test_the_id_of_a_returned_header(block: bytes, message_id: str):
    returned = read(NOTICE + block, "").returned
    assert (returned.message_id if returned else "") == message_id


def test_status_fields_are_no_returned_header():
    fields = b"From: x\nDate: y\nMessage-ID: <a.1@b>\nFinal-Recipient: rfc822; a@b\nAction: failed\n"
    assert read(NOTICE + fields, "").returned is None
