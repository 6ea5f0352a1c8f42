"""The reader of reports on messages of many systems: `tests/data/reports`, message beside expected reading.

The messages are our own, written after what the systems' sources and manuals say they send.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from backstop.report import Kind, Report, read

FOLDER = Path(__file__).parent.parent / "data" / "reports"


@dataclass(frozen=True)
class Expected:
    """How a message of the folder is to be read."""

    system: str
    kind: str
    reverse_path: str | None
    message_id: str
    recipients: list[list[str]]


def message(name: str) -> bytes:
    return (FOLDER / f"{name}.eml").read_bytes()


def expected(name: str) -> Expected:
    return Expected(**json.loads((FOLDER / f"{name}.json").read_text("utf-8")))


NAMES = sorted(path.stem for path in FOLDER.glob("*.eml"))
BOUNCES = [name for name in NAMES if expected(name).kind == "bounce"]
ORDINARY = [name for name in NAMES if expected(name).kind == "ordinary"]


def test_every_message_has_its_reading():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES
    assert len(BOUNCES) >= 90
    assert len(ORDINARY) >= 25


@pytest.mark.parametrize("name", NAMES)
def test_is_read_as_expected(name: str):
    want = expected(name)
    report = read(message(name), want.reverse_path)
    returned = report.returned.message_id if report.returned else ""
    recipients = [[found.address, found.status, found.action] for found in report.recipients]
    assert (report.kind.value, returned, recipients) == (want.kind, want.message_id, want.recipients), (
        report.marks
    )


@pytest.mark.parametrize("name", BOUNCES)
def test_a_bounce_is_known_with_the_null_sender(name: str):
    assert read(message(name), "").kind is Kind.BOUNCE


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_mail_is_ordinary_without_its_envelope(name: str):
    assert read(message(name), None).kind is Kind.ORDINARY


# These end their lines otherwise, encode, quote or indent what they return, or return HTML.
ALTERED = {
    "exchange-2007",
    "shape-base64",
    "shape-base64-part",
    "shape-double-spaced",
    "shape-html-only",
    "shape-indented",
    "shape-quoted",
}


@pytest.mark.parametrize(
    "name", [name for name in BOUNCES if expected(name).message_id and name not in ALTERED]
)
def test_the_returned_header_is_unchanged(name: str):
    octets = message(name)
    returned = read(octets, "").returned
    assert returned is not None
    assert returned.block in octets
    assert returned.block.endswith((b"\n", b"\r"))


RETURNED = b"""Return-Path: <ann@example.com>
Received: from mail.example.com (mail.example.com [192.0.2.10])
\tby mx.example.net (Postfix) with ESMTPS id 4XYZ
\tfor <bob@example.net>; Tue,  3 Nov 2026 09:59:58 +0100 (CET)
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=example.com;
\ts=mail; t=1793696398; h=From:To:Subject:Date:Message-ID;
\tbh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; b=AAAA
From: Ann Author <ann@example.com>
To: bob@example.net
Subject: Invoice 4711
Date: Tue, 3 Nov 2026 09:59:50 +0100
Message-ID: <%s>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
"""


@pytest.mark.parametrize(
    ("name", "message_id"),
    [
        ("postfix", b"postfix.1@example.com"),
        ("qmail", b"qmail.1@example.com"),
        ("opensmtpd", b"opensmtpd.1@example.com"),
        ("shape-base64", b"b64.1@example.com"),
        ("shape-base64-part", b"b64.2@example.com"),
        ("shape-indented", b"indented.1@example.com"),
        ("shape-quoted", b"quoted.1@example.com"),
    ],
)
def test_the_returned_header_is_whole(name: str, message_id: bytes):
    returned = read(message(name), "").returned
    assert returned is not None
    assert returned.block == RETURNED % message_id
    assert (returned.message_id, returned.from_, returned.to, returned.return_path) == (
        message_id.decode(),
        "Ann Author <ann@example.com>",
        "bob@example.net",
        "ann@example.com",
    )


def test_line_ends_stay_as_they_came():
    returned = read(message("shape-crlf"), "").returned
    assert returned is not None
    assert returned.block == (RETURNED % b"crlf.1@example.com").replace(b"\n", b"\r\n")
    returned = read(message("shape-cr-only"), "").returned
    assert returned is not None
    assert returned.block == (RETURNED % b"cr.1@example.com").replace(b"\n", b"\r")


def test_ids_are_mentioned_without_brackets():
    report = read(message("reply-rfc3834"), "<>")
    assert report.mentioned == ("orig.1@example.com", "orig.0@example.com")


@pytest.mark.parametrize("name", ["gmail", "receipt-mdn"])
def test_the_originals_id_is_mentioned_by_the_parts_for_programs(name: str):
    report = read(message(name), None)
    assert report.returned is not None
    assert report.returned.message_id in report.mentioned


@pytest.mark.parametrize("reverse_path", ["", "<>", "MAILER-DAEMON", "<MAILER-DAEMON>"])
def test_the_null_sender_has_several_names(reverse_path: str):
    assert "null_sender" in read(b"Subject: x\n\nx\n", reverse_path).marks


def test_the_envelope_is_believed_before_the_message():
    octets = b"Return-Path: <>\nSubject: x\n\nx\n"
    assert "null_sender" in read(octets, None).marks
    assert "null_sender" not in read(octets, "ann@example.com").marks


def test_what_is_ordinary_returns_nothing():
    report = read(message("ordinary-list-pasted-bounce"), "bob@example.net")
    assert (report.kind, report.returned, report.recipients) == (Kind.ORDINARY, None, ())


def test_nothing_is_an_ordinary_message():
    assert read(b"", None) == Report(Kind.ORDINARY, ("robot_from",), (), (), None)
