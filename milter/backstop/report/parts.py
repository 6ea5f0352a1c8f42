"""The parts of a message (RFC 2046), found without recursion and within bounds.

Damage is common in reports: a boundary that is not named or never closed, transfer encodings where none
is allowed. What cannot be cut into parts is left as one text.
"""

import re
from dataclasses import dataclass
from typing import Final

from backstop.report.charsets import from_base64, from_quoted_printable
from backstop.report.header import Header, message_header, part_header
from backstop.report.octets import MAX_OCTETS, Text, text_of

MAX_DEPTH: Final = 20
MAX_PARTS: Final = 200

_MAX_DELIMITERS: Final = 1000
"""Places looked at where a boundary seems to stand."""

_TYPE = re.compile(rb"([\w.+-]{1,60}) ?/ ?([\w.+-]{1,80})")
_BOUNDARY = re.compile(rb"\bboundary ?= ?(?:\"([^\"]{1,250})|([^\s;\"]{1,250}))", re.IGNORECASE)
_REPORT_TYPE = re.compile(rb"\breport-type ?= ?\"?([\w-]{1,60})", re.IGNORECASE)
_CHARSET = re.compile(rb"\bcharset ?= ?[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_NAME = re.compile(rb"\bname\*? ?= ?\"?([^\";]{1,200})", re.IGNORECASE)
_LIKELY_BOUNDARY = re.compile(rb"\n--([^\s-][^\r\n]{0,199}+)\r*+\n(?:Content-|MIME-Version:)", re.IGNORECASE)
_MESSAGES: Final = frozenset({b"message/rfc822", b"message/global", b"message/news"})


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its header, its content type, and where in which text its content stands.

    `enclosed` counts the messages it is in, `depth` the messages and multiparts. The content of a part
    that was encoded is a text of its own.
    """

    header: Header
    type: bytes
    text: Text
    start: int
    end: int
    depth: int
    enclosed: int

    @property
    def report_type(self) -> bytes:
        """The parameter of multipart/report (RFC 6522), in lower case."""
        return _parameter(_REPORT_TYPE, self.header.first(b"content-type")).lower()

    @property
    def charset(self) -> bytes:
        """The parameter of text parts, in lower case."""
        return _parameter(_CHARSET, self.header.first(b"content-type")).lower()

    @property
    def name(self) -> bytes:
        """The file name of an attachment, in lower case."""
        named = _parameter(_NAME, self.header.first(b"content-disposition"))
        return (named or _parameter(_NAME, self.header.first(b"content-type"))).lower()


@dataclass(slots=True)
class _Reading:
    """What is left of the bounds, and the places still to be read, the next one last."""

    parts: list[Part]
    to_read: list[Part]
    octets_left: int


def parts_of(message: Text) -> list[Part]:
    """Read a message: itself first, then its parts as they stand in it, enclosed messages included."""
    header = message_header(message, 0, len(message.lines))
    root = _part(header, message, header.body, len(message.lines), depth=0, enclosed=0)
    reading = _Reading([], [root], MAX_OCTETS)
    while reading.to_read and len(reading.parts) < MAX_PARTS:
        part = reading.to_read.pop()
        if not part.type.startswith(b"multipart/"):
            part = _decoded(part, reading)
        reading.parts.append(part)
        if part.depth < MAX_DEPTH:
            reading.to_read.extend(reversed(_inside(part, MAX_PARTS - len(reading.parts))))
    return reading.parts


def _part(header: Header, text: Text, start: int, end: int, *, depth: int, enclosed: int) -> Part:
    match = _TYPE.match(header.first(b"content-type"))
    kind = (match[1] + b"/" + match[2]).lower() if match else b"text/plain"
    return Part(header, kind, text, start, end, depth, enclosed)


def _decoded(part: Part, reading: _Reading) -> Part:
    """Undo the transfer encoding of what will be read: not of attachments, nor inside a returned message."""
    encoding = part.header.first(b"content-transfer-encoding").lower()
    if part.enclosed or not part.type.startswith((b"text/", b"message/")):
        return part
    octets = part.text.raw[part.start : part.end]
    if encoding.startswith(b"base64") and _is_base64(octets):
        octets = from_base64(octets)
    elif encoding.startswith(b"quoted-printable") and (part.type.startswith(b"text/") or b"=\n" in octets):
        octets = from_quoted_printable(octets)
    elif b"\0" not in octets[:200]:
        return part
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")) or part.charset.startswith(b"utf-16"):
        codec = "utf-16-be" if octets[:1] in b"\0\xfe" else "utf-16-le"
        octets = octets.decode(codec, "replace").lstrip("\ufeff").encode()
    octets = octets[: reading.octets_left]
    reading.octets_left -= len(octets)
    return Part(part.header, part.type, text_of(octets), 0, len(octets), part.depth, part.enclosed)


def _is_base64(octets: bytes) -> bool:
    """Tell base64 from text that is only said to be base64."""
    return b" " not in octets.strip()[:200]


def _inside(part: Part, most: int) -> list[Part]:
    """Find the parts of a multipart, or the one message in a message part."""
    if part.type in _MESSAGES:
        header = message_header(part.text, part.start, part.end)
        message = _part(
            header, part.text, header.body, part.end, depth=part.depth + 1, enclosed=part.enclosed + 1
        )
        return [message]
    if not part.type.startswith(b"multipart/"):
        return []
    found = []
    for start, end in _between_boundaries(part, most):
        header = part_header(part.text, start, end)
        inner = _part(header, part.text, header.body, end, depth=part.depth + 1, enclosed=part.enclosed)
        found.append(inner)
    return found


def _between_boundaries(part: Part, most: int) -> list[tuple[int, int]]:
    boundary = _parameter(_BOUNDARY, part.header.first(b"content-type"))
    delimiters = _delimiters(part, boundary, most) if boundary else []
    if not delimiters:
        likely = _LIKELY_BOUNDARY.search(part.text.lines, max(part.start - 1, 0), part.end)
        delimiters = _delimiters(part, likely[1].rstrip(), most) if likely else []
    ends = [at for at, _, _ in delimiters] + [part.end]
    return [(after, ends[i + 1]) for i, (_, after, is_last) in enumerate(delimiters) if not is_last]


def _delimiters(part: Part, boundary: bytes, most: int) -> list[tuple[int, int, bool]]:
    """Find the delimiter lines: where each begins, where it ends, and whether it is the last one."""
    lines, mark = part.text.lines, b"--" + boundary
    found: list[tuple[int, int, bool]] = []
    at = lines.find(mark, part.start, part.end)
    for _ in range(_MAX_DELIMITERS):
        if at < 0 or len(found) > most:
            break
        after = at + len(mark)
        is_last = lines.startswith(b"--", after)
        line_end = lines.find(b"\n", after, part.end)
        line_end = part.end if line_end < 0 else line_end + 1
        rest = lines[after:line_end][:100].strip()
        if (at == part.start or lines[at - 1 : at] == b"\n") and rest == (b"--" if is_last else b""):
            found.append((at, line_end, is_last))
        at = lines.find(mark, after, part.end)
    return found


def _parameter(pattern: re.Pattern[bytes], value: bytes) -> bytes:
    match = pattern.search(value)
    return next((group for group in match.groups() if group), b"").rstrip() if match else b""
