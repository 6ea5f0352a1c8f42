"""What a next hop replies: read within bounds, and what it means for one recipient.

A reply comes from a program that may be broken or hostile. It is cut at 8 kB, read in linear time, and from
what is not clearly "no such user" it never follows that there is none. RFC 5321, section 4.2; RFC 3463.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from backstop.plain import plain
from backstop.value import value

MAX_REPLY_OCTETS: Final = 8192
"""Of one reply, all its lines together."""

MAX_SHOWN: Final = 160
"""Characters of a reply that go to people."""

_CHUNK = 4096
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"[#(\[]*([245]\.\d{1,3}\.\d{1,3})\b")


class BadReply(Exception):
    """What came is no reply of SMTP, or too long for one."""


@value
class TargetReply:
    """One reply: its code, and its lines without the code, joined by newlines."""

    code: int
    text: str

    @property
    def shown(self) -> str:
        """For people: on one line, escaped, cut."""
        text = plain(" ".join(self.text[:MAX_SHOWN].split()))
        more = "..." if max(len(text), len(self.text)) > MAX_SHOWN else ""
        return f"{self.code} {text[:MAX_SHOWN]}{more}".rstrip()

    @property
    def status(self) -> str:
        """The enhanced status code, as `5.1.1`; empty where there is none at the beginning or the end."""
        words = self.text.split()
        for word in (*words[:1], *words[-1:]):  # qmail writes it last: (#5.1.1)
            if match := _ENHANCED.match(word):
                return match[1]
        return ""


class ReplyReader:
    """Reads replies one after the other; `receive` gives at most so many octets, and none at the end."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = bytearray()

    @property
    def has_more(self) -> bool:
        """Whether something came that no reply took: it was said before it was asked for."""
        return bool(self._buffer)

    def read(self) -> TargetReply:
        """The next reply. Raises BadReply, and what `receive` raises."""
        code, texts, taken = b"", list[bytes](), 0
        while True:
            line = self._line(MAX_REPLY_OCTETS - taken)
            taken += len(line)
            match = _LINE.fullmatch(line.rstrip(b"\r\n"))
            if match is None or (code and match[1] != code):
                raise BadReply(f"{shown(line)} is no reply")
            code = match[1]
            texts.append(match[3] or b"")
            if match[2] != b"-":
                return TargetReply(int(code), b"\n".join(texts).decode("utf-8", "surrogateescape"))

    def _line(self, room: int) -> bytes:
        end, looked = -1, 0
        while (end := self._buffer.find(b"\n", looked)) < 0 and len(self._buffer) <= room:
            looked = len(self._buffer)
            octets = self._receive(_CHUNK)
            if not octets:
                raise BadReply("the connection ended within a reply" if self._buffer else "it hung up")
            self._buffer += octets
        if not 0 <= end < room:
            raise BadReply(f"the reply is longer than {MAX_REPLY_OCTETS} octets")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line


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


def meaning(reply: TargetReply) -> Meaning:
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


def shown(octets: bytes) -> str:
    """A piece of what came, for people."""
    return f'"{plain(octets[:MAX_SHOWN].decode("utf-8", "surrogateescape").rstrip())}"'


def _says_nobody(status: str, words: str) -> bool:
    if status in _NOBODY_STATUS:
        return not _SURELY_POLICY.search(words)
    if status in _PERHAPS_STATUS:
        return not _PERHAPS_POLICY.search(words)
    return status == _NOT_IN_DIRECTORY[0] and _NOT_IN_DIRECTORY[1] in words


def _words(text: str) -> str:
    """The text without addresses and host names: `spam@example.com` is a recipient, no policy."""
    return " ".join(word for word in text.lower().split() if "@" not in word and not _NAME.search(word))
