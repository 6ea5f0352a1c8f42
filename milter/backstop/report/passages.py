"""What a message says to its reader: its text parts outside returned messages, as plain text."""

import re
from dataclasses import dataclass
from typing import Final

from backstop.report.charsets import characters
from backstop.report.octets import Text, text_of
from backstop.report.parts import Part

MAX_PASSAGE: Final = 128_000
MAX_PROSE: Final = 16_000

_MAX_PASSAGES: Final = 20
_MAX_STYLES: Final = 10

_LINE_TAG = re.compile(
    rb"</?(?:br|p|div|tr|li|pre|hr|h[1-6]|table|blockquote)(?:[\s/][^<>]*)?>(?:\r?\n)?", re.IGNORECASE
)
_TAG = re.compile(rb"</?[A-Za-z][\w:-]{0,20}(?:\s[^<>]*)?>|<![^<>]*>")
_ENTITIES: Final = (
    (b"&lt;", b"<"),
    (b"&gt;", b">"),
    (b"&quot;", b'"'),
    (b"&#39;", b"'"),
    (b"&#64;", b"@"),
    (b"&nbsp;", b" "),
    (b"&amp;", b"&"),
)
_HTML_BEGINS: Final = (b"<html", b"<!doct", b"<head", b"<body")


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of plain text, and where in `text` it stands."""

    text: Text
    start: int
    end: int
    charset: bytes

    def said(self, until: int) -> str:
        """Give its beginning as characters, at most up to `until`."""
        end = min(self.end, until, self.start + MAX_PROSE)
        return characters(self.text.lines[self.start : end], self.charset)


def passages_of(parts: list[Part], most: int) -> list[Passage]:
    """Give the text parts, and parts that could not be cut, together at most so many octets."""
    found: list[Passage] = []
    for number, part in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        childless = following is None or following.depth <= part.depth
        is_text = part.type.startswith(b"text/") and part.type != b"text/rfc822-headers"
        if part.enclosed or not (is_text or (part.type.startswith(b"multipart/") and childless)):
            continue
        end = min(part.end, part.start + most)
        found.append(_passage(part, end))
        most -= end - part.start
        if most <= 0 or len(found) >= _MAX_PASSAGES:
            break
    return found


def _passage(part: Part, end: int) -> Passage:
    begins = part.text.lines[part.start : part.start + 200].lstrip()[:6].lower()
    if part.type != b"text/html" and not begins.startswith(_HTML_BEGINS):
        return Passage(part.text, part.start, end, part.charset)
    plain = without_tags(part.text.lines[part.start : end])
    return Passage(plain, 0, len(plain.lines), part.charset)


def without_tags(octets: bytes) -> Text:
    """Turn HTML into plain text, well enough to find lines in it."""
    plain = _TAG.sub(b"", _LINE_TAG.sub(b"\n", _without_style(octets)))
    for entity, character in _ENTITIES:
        plain = plain.replace(entity, character)
    return text_of(plain)


def _without_style(octets: bytes) -> bytes:
    """Leave out style sheets, which are no text."""
    for _ in range(_MAX_STYLES):
        start = octets.find(b"<style")
        end = octets.find(b"</style", start)
        if start < 0 or end < 0:
            break
        octets = octets[:start] + octets[end:]
    return octets
