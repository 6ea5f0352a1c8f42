"""From marks to kinds, and from messages to marks: what is enough, and what never is."""

import pytest

from backstop.report import Kind, Mark, read
from backstop.report.kind import kind_of

N, M, B, A, L = Mark.NULL_SENDER, Mark.MAILER_FROM, Mark.ROBOT_FROM, Mark.ANSWER, Mark.LIST_MAIL
S, W, R, T = Mark.BOUNCE_SUBJECT, Mark.BOUNCE_WORDING, Mark.RETURNED, Mark.RETURNED_TO_AUTHOR
CODE, ADDRESS = Mark.NAMES_CODE, Mark.NAMES_ADDRESS


@pytest.mark.parametrize(
    "marks",
    [
        {Mark.STATUS_PART},
        {Mark.REPORT_TYPE, N},
        {Mark.REPORT_TYPE, M},
        {Mark.FAILED_RECIPIENTS, M},
        {Mark.FAILURE, S},
        {Mark.STATUS_PART, Mark.AUTO_REPLIED},
        {Mark.STATUS_PART, L, M},
        {M, S, W, CODE},
        {M, W, R},
        {M, S, ADDRESS},
        {N, M},
        {N, M, W, Mark.AUTO_REPLIED},
        {N, S, W},
        {N, W, CODE},
        {N, S, A, W},
        {N, R, T},
        {S, W, R, T},
        {B, W, R, T},
        {B, S, W, R},
        {B, L, S, W, R, T},
    ],
)
def test_is_a_bounce(marks: set[Mark]):
    assert kind_of(marks) is Kind.BOUNCE


@pytest.mark.parametrize(
    "marks",
    [
        set(),
        {S},
        {W},
        {S, W},
        {S, W, CODE, ADDRESS},
        {M},
        {M, W},
        {M, S},
        {M, W, ADDRESS},
        {M, S, W, R, A},
        {M, S, W, R, L},
        {S, W, R},
        {S, W, R, L, T},
        {N},
        {N, R},
        {B, S, CODE, ADDRESS},
        {M, S, W, CODE, Mark.PROGRAM_ATTACHED},
        {Mark.REPORT_TYPE},
        {Mark.STATUS_PART, L, S, W},
        {B, S, W, R, Mark.FEEDBACK_WORDING},
    ],
)
def test_is_not_enough_for_anything(marks: set[Mark]):
    assert kind_of(marks) is Kind.ORDINARY


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        ({Mark.FEEDBACK_PART, Mark.STATUS_PART, N, M}, Kind.FEEDBACK),
        ({Mark.FEEDBACK_FIELD, R, N}, Kind.FEEDBACK),
        ({Mark.RECEIPT_PART, N, W}, Kind.RECEIPT),
        ({Mark.RECEIPT_PART, Mark.STATUS_PART}, Kind.BOUNCE),
        ({Mark.RECEIPT_SUBJECT, Mark.RECEIPT_WORDING}, Kind.RECEIPT),
        ({Mark.RECEIPT_SUBJECT}, Kind.ORDINARY),
        ({Mark.CHALLENGE_SUBJECT, Mark.CHALLENGE_WORDING}, Kind.CHALLENGE),
        ({Mark.CHALLENGE_WORDING, N}, Kind.CHALLENGE),
        ({Mark.CHALLENGE_WORDING, N, S, W}, Kind.BOUNCE),
        ({Mark.CHALLENGE_SUBJECT, Mark.CHALLENGE_WORDING, L}, Kind.ORDINARY),
        ({Mark.CHALLENGE_WORDING}, Kind.ORDINARY),
        ({Mark.AUTO_REPLIED}, Kind.AUTO_REPLY),
        ({Mark.AUTO_REPLY_SUBJECT, N, W}, Kind.AUTO_REPLY),
        ({Mark.AUTO_REPLY_SUBJECT, M, S, W, ADDRESS}, Kind.AUTO_REPLY),
        ({Mark.AUTO_REPLY_WORDING, N}, Kind.AUTO_REPLY),
        ({Mark.AUTO_REPLY_WORDING, A}, Kind.AUTO_REPLY),
        ({Mark.AUTO_REPLY_WORDING}, Kind.ORDINARY),
        ({Mark.AUTO_REPLY_WORDING, Mark.ABSENCE}, Kind.AUTO_REPLY),
        ({Mark.AUTO_REPLY_SUBJECT, L}, Kind.ORDINARY),
    ],
)
def test_kinds_have_their_order(marks: set[Mark], kind: Kind):
    assert kind_of(marks) is kind


def letter(fields: bytes, body: bytes = b"Hello.\n") -> bytes:
    return b"From: bob@example.net\nTo: ann@example.com\n" + fields + b"\n" + body


@pytest.mark.parametrize(
    "message",
    [
        letter(b"Auto-Submitted: auto-generated\n"),
        letter(b"Content-Type: multipart/report; boundary=b\n", b"--b\n\nx\n--b--\n"),
        letter(b"Subject: Undelivered Mail Returned to Sender\n"),
        letter(b"Subject: x\n", b"Your mail could not be delivered: 550 5.1.1 user unknown\n"),
        letter(b"X-Auto-Response-Suppress: All\n"),
        letter(b"Precedence: bulk\n"),
    ],
)
def test_one_weak_mark_is_never_enough(message: bytes):
    assert read(message, "bob@example.net").kind is Kind.ORDINARY


@pytest.mark.parametrize(
    ("author", "mark"),
    [
        (b"MAILER-DAEMON", M),
        (b"MAILER-DAEMON (Mail Delivery System)", M),
        (b"<MAILER-DAEMON@mx.example.net>", M),
        (b"Mail Delivery Subsystem <mailer-daemon@mx.example.net>", M),
        (b"mx!MAILER-DAEMON@example.net", M),
        (b"postmaster@example.net (Postmaster)", M),
        (b'"Courier mail server at mx.example.net" <@>', M),
        (b"=?utf-8?Q?Postmaster?= <>", M),
        (b"MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@example.net", M),
        (b"System Administrator <system@example.net>", Mark.MAILER_NAME),
        (b"noreply@example.net", B),
        (b"users-bounces@lists.example.org", B),
        (b"", B),
    ],
)
def test_authors_that_are_no_persons(author: bytes, mark: Mark):
    assert mark in read(b"From: " + author + b"\nSubject: x\n\nx\n", "x@example.net").marks


@pytest.mark.parametrize(
    "author", [b"Bob <bob@example.net>", b"Mailer Smith <smith@example.net>", b"post@example.net"]
)
def test_authors_that_may_be_persons(author: bytes):
    marks = read(b"From: " + author + b"\nSubject: x\n\nx\n", "x@example.net").marks
    assert not {M, B, Mark.MAILER_NAME} & set(marks)


@pytest.mark.parametrize(
    ("field", "mark"),
    [
        (b"Auto-Submitted: auto-replied", Mark.AUTO_REPLIED),
        (b"Auto-Submitted: auto-replied (vacation)", Mark.AUTO_REPLIED),
        (b"Auto-Submitted: auto-generated (failure)", Mark.FAILURE),
        (b"X-Autoreply: yes", Mark.AUTO_REPLY_FIELD),
        (b"Precedence: auto_reply", Mark.AUTO_REPLY_FIELD),
        (b"X-POST-MessageClass: 9; Autoresponder", Mark.AUTO_REPLY_FIELD),
        (b"Delivered-To: Autoresponder", Mark.AUTO_REPLY_FIELD),
        (b"Subject: Out of Office AutoReply: x", Mark.AUTO_REPLY_SUBJECT),
        (b"Subject: =?utf-8?B?QWJ3ZXNlbmhlaXRzbm90aXo6IHg=?=", Mark.AUTO_REPLY_SUBJECT),
        (b"Subject: Re: x (Automatic Response)", Mark.AUTO_REPLY_SUBJECT),
        (b"X-Failed-Recipients: a@b.example", Mark.FAILED_RECIPIENTS),
        (b"List-Id: <users.lists.example.org>", L),
        (b"Precedence: list", L),
        (b"Subject: AW: x", A),
        (b"Subject: Re[2]: x", A),
    ],
)
def test_fields_that_tell(field: bytes, mark: Mark):
    assert mark in read(letter(field + b"\n"), "bob@example.net").marks
