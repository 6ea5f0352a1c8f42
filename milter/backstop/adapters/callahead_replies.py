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

# With 5.1.1 the reply speaks of the recipient, unless it surely does not. "relay" is not here: Postfix says
# "User unknown in relay recipient table".
_SURELY_POLICY: Final = re.compile(
    "blocked|black ?list|block ?list|dnsbl|rbl|spam|policy|reputation|banned|access denied|your ip|sender"
)
_PERHAPS_POLICY: Final = re.compile(
    _SURELY_POLICY.pattern + "|relay|den(?:y|ie)|block|polic|allow|permit|permission|prohibit|forbid|authenti"
    "|authori|access|refus|helo|ehlo|ptr|rdns|reverse|spf|dkim|dmarc|tls|encrypt|secur|virus|grey|gray|tempor"
    "|later|too many|limit|verif|call-?(?:back|out|ahead)|bounce|null|command|syntax|protocol|disabled"
    "|suspend|inactive|expired|locked|quota|full|storage|loop"
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
    if code in _NOBODY_CODES and _says_nobody(status, _words(reply.text)):
        return Meaning.NOBODY
    return Meaning.REFUSED


def _says_nobody(status: str, words: str) -> bool:
    if status in _NOBODY_STATUS:
        return not _SURELY_POLICY.search(words)
    if status in _PERHAPS_STATUS:
        return not _PERHAPS_POLICY.search(words)
    return status == _NOT_IN_DIRECTORY[0] and _NOT_IN_DIRECTORY[1] in words


def _words(text: str) -> str:
    """The text without addresses and host names: `spam@example.com` is a recipient, no policy."""
    return " ".join(word for word in text.lower().split() if "@" not in word and not _NAME.search(word))
