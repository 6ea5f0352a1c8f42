"""SMTP replies, and the one place where text for a client or a header is escaped.

Codes are those of RFC 5321, section 4.2, enhanced status codes those of RFC 3463. A reply whose two
halves disagree cannot be made.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_TEXT: Final = 400
"""Characters of a reply's text; RFC 5321, section 4.5.3.1.5, allows 512 octets for the line."""

MAX_HEADER: Final = 800
"""Characters of a header value of ours; RFC 5322, section 2.1.1, allows 998 in a line."""

_STATUS = re.compile(r"([45])\.\d{1,3}\.\d{1,3}", re.ASCII)
_UNPRINTABLE = re.compile(r"[^ -~]")


class Stage(IntEnum):
    """When in a transaction a reply is given, in order."""

    RCPT = 1
    DATA = 2
    EOM = 3


def printable(text: str) -> str:
    """The text with everything but printable ASCII shown as `?`: fit for replies and headers."""
    return _UNPRINTABLE.sub("?", text)


@dataclass(frozen=True, slots=True)
class Reply:
    """A refusal: `code` 4xx or 5xx, `status` such as "5.7.1", `text` short and generic.

    Raises ValueError where code and status are of different classes.
    """

    code: int
    status: str
    text: str

    def __post_init__(self) -> None:
        match = _STATUS.fullmatch(self.status)
        if match is None or self.code // 100 not in (4, 5) or int(match[1]) != self.code // 100:
            raise ValueError(f"reply code {self.code} and enhanced status {self.status!r} do not agree")

    @property
    def is_permanent(self) -> bool:
        """Whether the client is told not to try again."""
        return self.code >= 500

    @property
    def milter_text(self) -> str:
        """The text for smfi_setreply: one line, and `%` doubled, as it is a format there."""
        return printable(self.text)[:MAX_TEXT].replace("%", "%%")

    def __str__(self) -> str:
        return f"{self.code} {self.status} {printable(self.text)[:MAX_TEXT]}"


def header_value(*parts: str) -> str:
    """A header value of ours, its parts joined by "; ", printable and bounded."""
    return printable("; ".join(parts))[:MAX_HEADER]
