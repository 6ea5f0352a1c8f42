"""The header of the returned message: in a part of its own, or found by its shape in running text.

Some forty different separators stand before a returned header in running text, and many systems put none.
So nothing is looked for but the header itself: lines of the form `Name: text`, one after the other, among
them enough names that stand in the header of every message. They may be indented or quoted, and line by
line the same. An id is only ever taken from such a header.
"""

import re
from dataclasses import dataclass
from typing import Final

from backstop.report.charsets import readable
from backstop.report.header import MAX_HEADER_LINES, MAX_LINE_OCTETS, Header, after_envelope, fields_of
from backstop.report.model import Returned
from backstop.report.octets import Text, text_of

_MAX_RUNS: Final = 200
_MAX_LINES: Final = 4000
_MAX_SPACED: Final = 64_000
_MOST_SINGLE: Final = 0.6
_MIN_ID: Final = 10
"""Some ids have no @; so many octets tell them from words."""
_MAX_STRAY_LINES: Final = 3
_MAX_BLOCK: Final = 256_000

_BEGINNING: Final = (
    rb"([ \t>|*#!]{0,40}+)(?:received|return-path|message-id|from|to|cc|date|subject|sender|reply-to|"
    rb"mime-version|content-type|content-transfer-encoding|dkim-signature|domainkey-signature|delivered-to|"
    rb"references|in-reply-to|importance|user-agent|thread-topic|thread-index|authentication-results|"
    rb"arc-[\w-]{1,40}|list-[\w-]{1,40}|resent-[\w-]{1,40}|x-[\w-]{1,60})[ \t]{0,10}:"
)
_FIRST_LINE = re.compile(_BEGINNING, re.IGNORECASE)
_LATER_LINE = re.compile(rb"\n" + _BEGINNING, re.IGNORECASE)  # a literal first octet makes the search fast
_BLANK_LINES = re.compile(rb"(?:\r*\n)+")
_NAME = re.compile(rb"[A-Za-z][!-9;-~]{0,79}[ \t]{0,10}:")
_ID = re.compile(rb"< *([!-;=?-~\x80-\xff]{1,900}) *>")
_ID_BELOW = re.compile(
    rb"\nmessage-id:[ \t\r]*+\n(<[^\r\n]{1,900})", re.IGNORECASE
)  # a fold that lost its space
_BARE_ID = re.compile(rb"[!-;=?A-~]{1,450}@[!-;=?A-~]{1,450}\Z")

_TELLING: Final = frozenset({b"message-id", b"received", b"return-path", b"from"})
_KNOWN: Final = _TELLING | {
    b"to", b"cc", b"date", b"subject", b"sender", b"reply-to", b"mime-version", b"content-type",
    b"content-transfer-encoding", b"dkim-signature", b"delivered-to", b"references", b"in-reply-to",
    b"x-mailer", b"user-agent", b"importance", b"x-priority", b"thread-topic", b"thread-index",
    b"x-originating-ip", b"organization", b"precedence",
}  # fmt: skip
_WHOLE: Final = frozenset({b"received", b"return-path", b"mime-version", b"content-type"})
_OF_REPORTS: Final = frozenset(
    {
        b"final-recipient",
        b"original-recipient",
        b"reporting-mta",
        b"diagnostic-code",
        b"action",
        b"feedback-type",
    }
)


@dataclass(slots=True)
class Search:
    """What is left to look at in one message: beginnings of headers, and their lines."""

    runs: int = _MAX_RUNS
    lines: int = _MAX_LINES


def from_part(text: Text, start: int, end: int) -> Returned | None:
    """Read the header a part holds, whatever it lacks; None if there is none."""
    begin = after_envelope(text, start, end)
    stop = _run(text.lines, begin, min(end, begin + _MAX_BLOCK), b"")
    fields = fields_of(text.lines, begin, stop)
    return _returned(text.raw[begin:stop], fields) if fields else None


def from_text(text: Text, start: int, end: int, search: Search) -> tuple[Returned, int] | None:
    """Find the first header in running text, and where it begins.

    A mere summary (From, To, Subject, Date) only counts when no whole header of the same message follows.
    """
    summary: tuple[Returned, int] | None = None
    at = start
    while search.runs > 0 and search.lines > 0:
        search.runs -= 1
        match = _FIRST_LINE.match(text.lines, at, end) or _LATER_LINE.search(text.lines, max(at - 1, 0), end)
        if not match:
            break
        prefix, begin = match[1], match.start(1)
        stop = _run(text.lines, begin, min(end, begin + _MAX_BLOCK), prefix)
        at = max(stop, match.end())
        search.lines -= text.lines.count(b"\n", begin, at)
        block = _without_prefix(text.raw[begin:stop], prefix)
        leveled = block if text.raw is text.lines else text_of(block).lines
        fields = fields_of(leveled, 0, len(leveled))
        if not _is_header(fields):
            continue
        found = (_returned(block, fields), begin)
        if not _is_whole(fields):
            summary = summary or found
        elif summary and summary[0].message_id not in {"", found[0].message_id}:
            break
        else:
            return found
    return summary


def from_spaced_text(text: Text, start: int, end: int, search: Search) -> Returned | None:
    """Find a header that has got a blank line after every line. It must have an id to be believed."""
    spaced = text.lines[start : min(end, start + _MAX_SPACED)]
    if b"message-id" not in spaced.lower():
        return None
    single = _BLANK_LINES.sub(b"\n", spaced)
    if single.count(b"\n") > _MOST_SINGLE * spaced.count(b"\n"):
        return None
    found = from_text(Text(single, single), 0, len(single), search)
    return found[0] if found and found[0].message_id else None


def ids_in(values: list[bytes]) -> list[str]:
    """Take the ids out of In-Reply-To or References, without their brackets."""
    return [match[1].decode("utf-8", "replace") for value in values for match in _ID.finditer(value)]


def id_of(value: bytes) -> str:
    """Take the id out of a Message-ID field; one that was cut off is none, and neither is a short word."""
    match = _ID.search(value) or _BARE_ID.match(value) or _ID.search(value.replace(b" ", b""))
    found = match[match.lastindex or 0] if match else b""
    return found.decode("utf-8", "replace") if b"@" in found or len(found) >= _MIN_ID else ""


def _run(lines: bytes, start: int, end: int, prefix: bytes) -> int:
    """Follow header lines to the end of the last one. A few damaged lines between them are passed over."""
    at = good = start
    strays = 0
    for number in range(MAX_HEADER_LINES):
        line_end = lines.find(b"\n", at, end)
        line_end = end if line_end < 0 else line_end + 1
        line = lines[at : min(line_end, at + MAX_LINE_OCTETS)]
        if not line.startswith(prefix) or at >= end:
            break
        line = line[len(prefix) :]
        if _NAME.match(line):
            strays, good = 0, line_end
        elif not line.strip():
            break
        elif line[:1] in b" \t" and not strays:
            good = line_end
        else:
            strays += 1
            if strays > _MAX_STRAY_LINES or number == 0:
                break
        at = line_end
    return good


def _without_prefix(block: bytes, prefix: bytes) -> bytes:
    if not prefix:
        return block
    return b"".join(line[len(prefix) :] for line in block.splitlines(keepends=True))


def _is_header(fields: dict[bytes, list[bytes]]) -> bool:
    names = fields.keys()
    if names & _OF_REPORTS:
        return False
    known = len(names & _KNOWN)
    if b"message-id" in names or b"received" in names:
        return known >= 2
    return known >= 3 and bool(_TELLING & names)


def _is_whole(fields: dict[bytes, list[bytes]]) -> bool:
    """Tell a header from a summary of one, as some systems put before it."""
    names = fields.keys()
    return bool(_WHOLE & names) or {b"message-id", b"from", b"date"} <= names


def _returned(block: bytes, fields: dict[bytes, list[bytes]]) -> Returned:
    header = Header(fields, 0, 0, 0)
    below = _ID_BELOW.search(block)
    return Returned(
        block,
        id_of(below[1] if below else header.first(b"message-id")),
        readable(header.first(b"from")),
        readable(header.first(b"to")),
        header.first(b"return-path").strip(b"<> \t").decode("utf-8", "replace"),
    )
