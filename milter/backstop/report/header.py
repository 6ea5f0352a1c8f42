"""Header fields of messages and of their parts (RFC 5322, section 2.2), read within bounds.

Nothing here recurses, and no expression can match the same octets in two ways, so time is linear.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from backstop.report.octets import Text

MAX_HEADER_LINES: Final = 2000
MAX_LINE_OCTETS: Final = 16_000
MAX_HEADER_OCTETS: Final = 256_000

_MAX_ENVELOPE: Final = 4000
"""What is passed over before a header: blank lines and what mailbox files add."""

_EVERYWHERE: Final = frozenset({b"from", b"subject", b"date", b"message-id"})
_FIELD = re.compile(rb"^([!-9;-~]{1,80})[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.MULTILINE)
_BLANK = re.compile(rb"\n\r*\n")
_BLANK_FIRST = re.compile(rb"\r*\n")
_FIRST_FIELD = re.compile(rb"[!-9;-~]{1,80}[ \t]*+:")
_ENVELOPE_LINE = re.compile(rb"(?:[ \t]*\r*\n|>*From [^\n]*+\n)++")


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of one header by name in lower case, and where it stands in its text."""

    fields: Mapping[bytes, list[bytes]]
    start: int
    end: int
    body: int

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def first(self, name: bytes) -> bytes:
        """Unfold the first field of that name; empty if there is none."""
        values = self.fields.get(name)
        return unfold(values[0]) if values else b""

    def every(self, name: bytes) -> list[bytes]:
        """Unfold the fields of that name, at most a hundred."""
        return [unfold(value) for value in self.fields.get(name, [])[:100]]


def unfold(value: bytes) -> bytes:
    """Bring a value to one line; what is longer than a line may be is cut."""
    return b" ".join(value[:MAX_LINE_OCTETS].split())


def message_header(text: Text, start: int, end: int) -> Header:
    """Read the header of a message: what stands before it in a mailbox file is passed over.

    A blank line that damage put into the middle does not end it: else the rest would pass for a header
    that the message returns.
    """
    header = _header(text, after_envelope(text, start, end), end)
    missing = _EVERYWHERE - header.fields.keys()
    if not missing or header.body >= end:
        return header
    rest = _header(text, header.body, end)
    found = len(missing & rest.fields.keys())
    second = text.lines.find(b"\n", header.body, end) + 1
    is_rest = found > 0 and _FIRST_FIELD.match(text.lines, header.body, end)
    is_rest_of_line = found > 1 and _FIRST_FIELD.match(text.lines, second, end)
    if not is_rest and not is_rest_of_line:
        return header
    fields = {name: list(values) for name, values in header.fields.items()}
    for name, values in rest.fields.items():
        fields.setdefault(name, []).extend(values)
    return Header(fields, header.start, rest.end, rest.body)


def after_envelope(text: Text, start: int, end: int) -> int:
    """Pass over what stands before a header in a mailbox file."""
    envelope = _ENVELOPE_LINE.match(text.lines, start, min(end, start + _MAX_ENVELOPE))
    return envelope.end() if envelope else start


def part_header(text: Text, start: int, end: int) -> Header:
    """Read the header of a part of a message: a part that does not begin with a field has none."""
    if _FIRST_FIELD.match(text.lines, start, end):
        return _header(text, start, end)
    blank = _BLANK_FIRST.match(text.lines, start, end)
    body = blank.end() if blank else start
    return Header({}, start, start, body)


def _header(text: Text, start: int, end: int) -> Header:
    limit = min(end, start + MAX_HEADER_OCTETS)
    blank = _BLANK.search(text.lines, start, limit)
    stop, body = (blank.start() + 1, blank.end()) if blank else (limit, limit)
    return Header(fields_of(text.lines, start, stop), start, stop, body)


def fields_of(lines: bytes, start: int, end: int) -> dict[bytes, list[bytes]]:
    """Read header fields, still folded, by name in lower case. Lines that are none are passed over."""
    fields: dict[bytes, list[bytes]] = {}
    for match in islice(_FIELD.finditer(lines, start, end), MAX_HEADER_LINES):
        fields.setdefault(match[1].lower(), []).append(match[2])
    return fields
