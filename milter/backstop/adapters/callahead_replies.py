"""What a next hop replies to RCPT, and what that means for the recipient.

From what is not clearly "no such user" it never follows that there is none. RFC 5321, section 4.2; RFC 3463.
"""

import re
from enum import Enum
from typing import Final

from backstop.adapters.smtp_reply import SmtpReply


class Meaning(Enum):
    """What the reply to RCPT says of the recipient."""

    TAKEN = "taken"
    UNSEEN = "taken without a look"
    """252: it takes the mail, and says itself that it does not know the recipient."""

    FULL = "there, but full"
    NOBODY = "no such user"
    VAGUE = "refused in words that may mean no such user"
    """Without a status, and in words that are not known here, or in another language than English."""

    TEMPORARY = "temporary"
    REFUSED = "refused for another reason"
    """Of which it cannot be said that it is about the recipient."""


_NOBODY_CODES: Final = (550, 551, 553)
_NOBODY_STATUS: Final = ("5.1.1", "5.1.6", "5.1.10")  # the last is Exchange's (RFC 7505 uses it for null MX)
_PERHAPS_STATUS: Final = ("", "5.1.0")  # these are used for anything: the text must not speak of policy
_FULL_STATUS: Final = ("5.2.2", "5.2.3")

# Exchange Online says this of recipients its directory does not have (directory-based edge blocking), and
# nothing of a refused client, which gets 5.7.x.
_NOT_IN_DIRECTORY: Final = ("5.4.1", "recipient address rejected: access denied")

_OUTRIGHT: Final = re.compile(
    "unknown|no such|no (?:known |valid )?(?:user|mailbox|recipient|account)|unrout|undeliver|invalid"
    r"|not? (?:an? )?(?:be )?(?:found|exist|listed|known|valid|local|here)|n't (?:exist|have|found)"
    "|(?:mailbox|user|recipient|account) (?:is )?(?:unavailable|not available)"
)
# These name where was looked, and no trouble with it: "Recipient not found by SMTP address lookup".
_LOOKED: Final = re.compile(
    r"((?:unknown|not (?:found|listed|known|present)|no such \w+|n't exist|not exist)) (?:in|by)"
    r" (?:\w+ ){0,4}?(?:directory|database|table|lookup)\b"
)

# With 5.1.1 the reply speaks of the recipient, unless it surely does not. "relay" is not here: Postfix says
# "User unknown in relay recipient table"; nor is "authori", which Cyrus says. Whose mailbox is full or
# switched off is known there.
_SURELY_POLICY: Final = re.compile(
    "blocked|black ?list|block ?list|dnsbl|rbl|spam|policy|reputation|banned|access denied|your ip|sender"
    r"|helo|ehlo|gr[ae]y ?list|tempor|later|\bretry|try again|time(?:d )?-?out|look-?up|directory|database"
    r"|ldap|\bsql|backend|too (?:many|much|fast)|\brate\b|limit (?:is |was )?reached|exceed|quota|storage"
    r"|\bfull\b|busy|overload|unreachable|disabled|suspend|locked|inactive"
)
# These say nothing beside "no such user", and without it that something is broken.
_FAULT: Final = re.compile(r"error|fail|\bserver|service|system|internal|connect|unable|could not|cannot")
_PERHAPS_POLICY: Final = re.compile(
    _SURELY_POLICY.pattern + "|relay|den(?:y|ie)|block|polic|allow|permit|permission|prohibit|forbid|authenti"
    r"|authori|access|refus|ptr|rdns|reverse|spf|dkim|dmarc|tls|encrypt|secur|virus|gr[ae]y|verif|limit"
    r"|call-?(?:back|out|ahead)|bounce|null|command|syntax|protocol|expired|loop|client|\bhost\b"
)
_NAME: Final = re.compile(r"\w\.\w")


def meaning(reply: SmtpReply) -> Meaning:
    """What a reply to RCPT means; NOBODY only where nothing speaks against it."""
    code, status = reply.code, reply.status
    if code in (250, 251):
        return Meaning.TAKEN
    if code == 252:
        return Meaning.UNSEEN
    if 400 <= code < 500:
        return Meaning.TEMPORARY
    if status in _FULL_STATUS or (code == 552 and not status):
        return Meaning.FULL
    if code in _NOBODY_CODES:
        return _of_words(status, _words(reply.text))
    return Meaning.REFUSED


def _of_words(status: str, words: str) -> Meaning:
    if status == _NOT_IN_DIRECTORY[0]:
        return Meaning.NOBODY if _NOT_IN_DIRECTORY[1] in words else Meaning.REFUSED
    if status not in (*_NOBODY_STATUS, *_PERHAPS_STATUS):
        return Meaning.REFUSED
    says_so = bool(_OUTRIGHT.search(words))
    policy = _SURELY_POLICY if status in _NOBODY_STATUS else _PERHAPS_POLICY
    if policy.search(_LOOKED.sub(r"\1", words)) or (not says_so and _FAULT.search(words)):
        return Meaning.REFUSED
    return Meaning.NOBODY if says_so or status else Meaning.VAGUE


def _words(text: str) -> str:
    """The text without addresses and host names: `spam@example.com` is a recipient, no policy."""
    return " ".join(word for word in text.lower().split() if "@" not in word and not _NAME.search(word))
