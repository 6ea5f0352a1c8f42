"""What replies of a next hop mean."""

import io
import random
import time

import pytest

from backstop.adapters.callahead_replies import Meaning, meaning
from backstop.adapters.smtp_reply import BadReply, ReplyReader, SmtpReply

# As mail servers say it.
NOBODY = [
    "550 5.1.1 <bob@example.com>: Recipient address rejected: User unknown in local recipient table",
    "550 5.1.1 <bob@example.com>: Recipient address rejected: User unknown in relay recipient table",
    "550 5.1.1 <spam@example.com>: Recipient address rejected: User unknown in virtual mailbox table",
    "550 5.1.1 <policy@blocked.example.com>... User unknown",
    "550 5.1.1 The email account that you tried to reach does not exist. Please try",
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
    "550 5.4.1 Recipient address rejected: Access denied. [AM0EUR.prod.protection.outlook.com]",
    "551 5.1.6 Mailbox has moved",
    "550 Unrouteable address",
    "550 No such user here",
    "550 no such recipient",
    "550 #5.1.0 Address rejected.",
    "550 Requested action not taken: mailbox unavailable",
    "550 sorry, no mailbox here by that name (#5.1.1)",
    "553 bob... User not listed in public directory",
    "550 bob@example.com... User not listed in Domino Directory",
    "550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found",
    "550 5.1.1 <bob@example.com> User doesn't exist: bob@example.com",
    (
        "550 5.1.1 <bob@example.com>: Recipient address rejected: undeliverable address: host"
        " mx.example.com[::1] said: 550 5.1.1 <bob@example.com>: Recipient address rejected: User unknown"
        " in virtual mailbox table (in reply to RCPT TO command)"
    ),
    (
        "550 5.1.1 Mailbox unknown.  Either there is no mailbox associated with this name or you do not have"
        " authorization to see it."
    ),
    (
        "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the"
        " recipient's email address for typos or unnecessary spaces. For more information, go to"
        " https://support.example.com/mail/?p=NoSuchUser"
    ),
    "550 permanent failure for one or more recipients (bob@example.com:550 5.1.1 User unknown)",
    "550 Invalid Recipient",
    "550 5.1.1 Delivery error: no such user",
    "550 5.1.1 <bob@example.com>... User unknown in LDAP directory",
    "550 5.1.1 Empfänger unbekannt",
]
VAGUE = [
    "550 Unbekannter Empfänger",
    "550 Usuario desconocido",
    "550 Zugriff verweigert",
    "550 Acceso denegado",
    "550 Annahme abgelehnt",
    "550 no",
    "553 Rejected",
]
REFUSED = [
    "550 5.7.1 <bob@example.com>: Relay access denied",
    "550 5.7.1 Unable to relay",
    "550 5.7.23 SPF",
    "550 5.1.1 blocked using zen.example",
    "550 5.1.1 Access denied",
    "550 5.1.1 Temporary lookup failure, try again later",
    "550 5.1.1 User lookup failed",
    "550 5.1.1 Recipient lookup: cannot look in the table",
    "550 5.1.1 Directory unavailable",
    "550 5.1.1 LDAP error",
    "550 5.1.1 User unknown (LDAP server is down)",
    "550 5.1.1 Database connection failed",
    "550 5.1.1 Internal error",
    "550 5.1.1 Service unavailable",
    "550 5.1.1 rate limit exceeded",
    "550 5.1.1 Too many recipients",
    "550 5.1.1 mailbox full",
    "550 5.1.1 Over quota",
    "550 5.1.1 Mailbox temporarily disabled",
    "550 5.1.1 Account is locked",
    "550 5.1.1 Greylisted, come back",
    "550 5.1.1 Helo invalid",
    "550 Directory unavailable",
    "550 Server error",
    "550 Client host rejected: cannot find your hostname",
    "550 relay not permitted",
    "550 Rejected by policy",
    "550 Administrative prohibition",
    "550 your host is on a blacklist",
    "550 This looks like spam",
    "550 authentication required",
    "550 Sender verify failed",
    "550 5.1.8 Bad sender",
    "550 5.1.2 Bad destination system",
    "550 5.1.3 Bad syntax",
    "550 5.2.1 The email account is disabled",
    "550 5.4.1 Recipient address rejected: too bad",
    "550 5.4.1 Access denied",
    "550 4.1.1 who knows",
    "550 account disabled",
    "551 we do not relay",
    "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
    "554 5.1.1 User unknown",
    "554 no",
    "521 5.1.1 no",
    "503 5.5.1 MAIL first",
    "530 5.7.0 Must issue a STARTTLS command first",
    "501 5.1.3 Bad recipient address syntax",
    "220 hello",
    "354 go on",
]


def heard(line: str) -> SmtpReply:
    return SmtpReply(int(line[:3]), line[4:])


@pytest.mark.parametrize("line", NOBODY)
def test_no_such_user(line):
    assert meaning(heard(line)) is Meaning.NOBODY


@pytest.mark.parametrize("line", VAGUE)
def test_refused_in_words_that_say_nothing_here(line):
    assert meaning(heard(line)) is Meaning.VAGUE


@pytest.mark.parametrize("line", REFUSED)
def test_refused_for_another_reason(line):
    """I6."""
    assert meaning(heard(line)) is Meaning.REFUSED


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("250 2.1.5 Ok", Meaning.TAKEN),
        ("251 User not local; will forward", Meaning.TAKEN),
        ("252 Cannot say", Meaning.UNSEEN),
        ("552 5.2.2 Mailbox full", Meaning.FULL),
        ("552 Exceeded storage allocation", Meaning.FULL),
        ("552 5.7.0 Content", Meaning.REFUSED),
        ("550 5.2.2 Over quota", Meaning.FULL),
        ("421 4.3.2 Bye", Meaning.TEMPORARY),
        ("450 5.1.1 User unknown", Meaning.TEMPORARY),
        ("452 4.5.3 One recipient at a time", Meaning.TEMPORARY),
    ],
)
def test_other_replies(line, expected):
    assert meaning(heard(line)) is expected


CODES = [b"%d" % code for code in (199, 220, 250, 251, 252, 421, 450, 550, 551, 552, 553, 554, 599, 600)]
WORDS = [
    b"5.1.1",
    b"5.7.1",
    b"(#5.1.1)",
    b"User unknown",
    b"blocked",
    b"\x00",
    b"\x1b[0m",
    b"\xff",
    b"<@>",
    b"",
]


def hostile(chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(200))
    lines = []
    for _ in range(chance.randrange(1, 5)):
        words = b" ".join(chance.choices(WORDS, k=chance.randrange(6)))
        code = chance.choice(CODES) if chance.random() < 0.4 else b"550"
        lines.append(code + chance.choice([b" ", b"-", b"", b"_"]) + words * chance.choice([1, 1, 1, 400]))
    return b"".join(line + chance.choice([b"\r\n", b"\r\n", b"\n", b"\r"]) for line in lines)


@pytest.mark.parametrize("rounds", [5_000, pytest.param(100_000, marks=pytest.mark.deep)])
def test_hostile_replies_always_have_one_of_the_meanings(rounds):
    """H8: nothing is raised but BadReply, nobody is unknown but by 550, 551 and 553, and it is quick."""
    chance = random.Random(rounds)
    slowest = 0.0
    for _ in range(rounds):
        octets = hostile(chance)
        began = time.thread_time()
        try:
            stream, piece = io.BytesIO(octets), chance.choice([1, 7, 4096]) if len(octets) < 2000 else 4096
            reply = ReplyReader(lambda _size: stream.read(piece)).read()  # noqa: B023 - it is called here
        except BadReply as error:
            shown = str(error)
        else:
            shown = reply.shown
            found = meaning(reply)
            assert found in Meaning
            assert found not in (Meaning.NOBODY, Meaning.VAGUE) or reply.code in (550, 551, 553)
            assert found is not Meaning.TAKEN or reply.code in (250, 251)
        assert shown.isprintable()
        assert len(shown) < 700
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 0.1
