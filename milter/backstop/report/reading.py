"""Reading a message: the marks it bears, its kind, whom it reports, what it returns."""

import re
from typing import Final, TypeAlias

from backstop.report.evidence import (
    STATUS_PARTS,
    envelope_marks,
    field_marks,
    is_returned_to_author,
    part_marks,
    text_marks,
)
from backstop.report.header import Header
from backstop.report.kind import kind_of
from backstop.report.model import Kind, Mark, Report, Returned
from backstop.report.octets import MAX_OCTETS, text_of
from backstop.report.parts import Part, parts_of
from backstop.report.passages import MAX_PASSAGE, MAX_PROSE, Passage, passages_of
from backstop.report.recipients import recipients_of
from backstop.report.returned import Search, from_part, from_spaced_text, from_text, ids_in

_HEADER_PARTS: Final = frozenset(
    {
        b"message/rfc822",
        b"message/global",
        b"message/rfc822-headers",
        b"message/global-headers",
        b"message/news",
        b"text/rfc822-headers",
        b"text/rfc822",
    }
)
_MENTIONED_IN_STATUS = re.compile(
    rb"^(?:x-)?original-message-id[ \t]*+:([^\n]*+)", re.IGNORECASE | re.MULTILINE
)
_MAX_MENTIONED: Final = 100
_MAX_STATUS: Final = 16_000


def read(message: bytes, reverse_path: str | None) -> Report:
    """Say what a message is and what it returns.

    `reverse_path` is that of the envelope, None if it is unknown; then what delivery left in the message
    counts. At most 1 MB is read, in time proportional to it, and no input makes this raise.
    """
    text = text_of(message[:MAX_OCTETS])
    parts = parts_of(text)
    header = parts[0].header
    marks = envelope_marks(text, header, reverse_path) | part_marks(parts) | field_marks(header)
    is_suspect = bool(marks - {Mark.LIST_MAIL, Mark.ANSWER})
    passages = passages_of(parts, MAX_PASSAGE if is_suspect else MAX_PROSE)
    returned, place = _find_returned(parts, passages) if is_suspect else (None, None)
    said = _said(passages, place)
    marks |= text_marks(said, header)
    if returned:
        marks.add(Mark.RETURNED)
        if is_returned_to_author(header, returned):
            marks.add(Mark.RETURNED_TO_AUTHOR)
    kind = kind_of(marks)
    return Report(
        kind,
        tuple(mark for mark in Mark if mark in marks),
        recipients_of(parts, header, said) if kind is Kind.BOUNCE else (),
        _mentioned(parts, header),
        None if kind is Kind.ORDINARY else returned,
    )


_Place: TypeAlias = tuple[Passage, int]


def _find_returned(parts: list[Part], passages: list[Passage]) -> tuple[Returned | None, _Place | None]:
    """Find the returned header, and where in which passage it begins if it stands in running text."""
    search = Search()
    in_part = _in_header_part(parts, search)
    if in_part and in_part.message_id:
        return in_part, None
    for passage in passages:
        found = from_text(passage.text, passage.start, passage.end, search)
        if found and (not in_part or found[0].message_id):
            return found[0], (passage, found[1])
    return in_part or _in_damage(parts, passages, search), None


def _in_header_part(parts: list[Part], search: Search) -> Returned | None:
    for part in parts:
        if part.type in _HEADER_PARTS and not part.enclosed:
            found = from_part(part.text, part.start, part.end)
            late = None if found else from_text(part.text, part.start, _until(part), search)
            if found or late:
                return found or (late and late[0])
    return None


def _in_damage(parts: list[Part], passages: list[Passage], search: Search) -> Returned | None:
    """Look where it should not be: in parts of any other type, and behind double line ends."""
    for part in parts:
        is_tried = part.type in _HEADER_PARTS or part.type.startswith((b"text/", b"multipart/"))
        if not part.enclosed and not is_tried and not part.type.startswith(b"image/"):
            found = from_text(part.text, part.start, _until(part), search)
            if found:
                return found[0]
    spaced = (from_spaced_text(passage.text, passage.start, passage.end, search) for passage in passages)
    return next((found for found in spaced if found), None)


def _until(part: Part) -> int:
    return min(part.end, part.start + MAX_PASSAGE)


def _said(passages: list[Passage], place: _Place | None) -> str:
    """Give what the message says before it returns anything."""
    said: list[str] = []
    left = MAX_PROSE
    for passage in passages:
        is_place = place is not None and place[0] is passage
        piece = passage.said(place[1] if place and is_place else passage.end)
        said.append(piece)
        left -= len(piece)
        if is_place or left <= 0:
            break
    return "\n".join(said)[:MAX_PROSE]


def _mentioned(parts: list[Part], header: Header) -> tuple[str, ...]:
    """Give the ids the message refers to, the original's of status and receipt parts included."""
    values = header.every(b"in-reply-to") + header.every(b"references")
    for part in parts:
        if not part.enclosed and (
            part.type in STATUS_PARTS or part.type.endswith(b"disposition-notification")
        ):
            end = min(part.end, part.start + _MAX_STATUS)
            match = _MENTIONED_IN_STATUS.search(part.text.lines, part.start, end)
            if match:
                values.append(match[1])
    return tuple(dict.fromkeys(ids_in(values)))[:_MAX_MENTIONED]
