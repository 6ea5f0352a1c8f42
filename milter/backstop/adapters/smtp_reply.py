"""A reply of SMTP, read within bounds.

It comes from a program that may be broken or hostile. It is cut at 8 kB and read in linear time. RFC 5321,
section 4.2; RFC 3463.
"""

import re
from collections.abc import Callable
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
class SmtpReply:
    """One reply: its code, and its lines without the code, joined by newlines."""

    code: int
    text: str

    @property
    def accepts(self) -> bool:
        """Whether it says yes."""
        return self.code < 400

    @property
    def refuses(self) -> bool:
        """Whether it says no for good."""
        return self.code >= 500

    @property
    def is_about_the_address(self) -> bool:
        """Whether a refusal speaks of the recipient's address (X.1.Z), as far as it says."""
        if not self.status:
            return self.code in (550, 551, 553)
        _, subject, detail = self.status.split(".")
        return subject == "1" and detail not in ("7", "8")  # those are the sender's

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

    def read(self) -> SmtpReply:
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
                return SmtpReply(int(code), b"\n".join(texts).decode("utf-8", "surrogateescape"))

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


def shown(octets: bytes) -> str:
    """A piece of what came, for people."""
    return f'"{plain(octets[:MAX_SHOWN].decode("utf-8", "surrogateescape").rstrip())}"'
