"""The header field Authentication-Results: its value, and whose an existing one says it is.

RFC 8601, sections 2.2, 2.7 and 5. What is written can stand in a header: printable ASCII, each value a token,
an address or quoted. What came is read as the strictest and as the most careless reader would, as either may
believe it: a field that could pass for ours is a forgery.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from backstop.authentication import Authenticity, Dkim, DkimResult, Spf

MAX_SIGNATURES: Final = 10
"""DKIM results that are written."""

_MAX_VALUE: Final = 255  # octets of one value; names in DNS have no more
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")  # RFC 2045, section 5.1
_ADDRESS: Final = re.compile(
    r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)?@[A-Za-z0-9._-]+"
)
_PRINTABLE: Final = re.compile(r"[ -~]+")

_HEAD: Final = 1000  # octets of a field in which its name must stand; RFC 5322, section 2.1.1
_MAX_MARKS: Final = 32  # parentheses, quotes and backslashes among them
_MARK: Final = re.compile(r'\\.|[()";]', re.DOTALL)
_NAME: Final = re.compile(r"[\w!#$%&'*+.^`{|}~-]")
_AFTER_NAME: Final = re.compile(r"\.*(?:[^\w!#$%&'*+.^`{|}~-]|$)")


def header_value(authserv_id: str, spf: Spf | None, spf_value: str, authenticity: Authenticity | None) -> str:
    """The value of the field, folded with LF; a check that was not made is not in it.

    `authserv_id` is printable ASCII. `spf_value` is the reverse-path or HELO name that SPF was asked about,
    as it came; where it cannot be written, its domain is.
    """
    results = [*_of_client(spf, spf_value), *_of_content(authenticity)]
    name = _quoted(authserv_id)
    return ";\n ".join([name, *results]) if results else f"{name}; none"


def claims(value: bytes, authserv_id: str) -> bool:
    """Whether the field says that it is ours, or so little that nobody can tell whose it is.

    Takes the same time for a value of any length.
    """
    ours = _folded(authserv_id).rstrip(". ")
    name = _NAME.search(ours)
    if name is None:
        return False
    ours = ours[name.start() :]
    head = _folded(value[:_HEAD].decode("utf-8", "replace"))
    is_cut = len(value) > _HEAD or len(head) > _HEAD
    head = head[:_HEAD].lstrip("; \t\r\n")
    joined, goes_on = _bare(head, "", is_cut=is_cut)
    first = _NAME.search(joined)
    if first is None:
        return True
    squeezed = "".join(filter(str.isprintable, joined[first.start() :].replace(" ", "")))
    if goes_on and ours.startswith(squeezed):
        return True
    return any(_begins_with(ours, text) for text in (joined, squeezed, _bare(head, " ", is_cut=is_cut)[0]))


def _of_client(spf: Spf | None, spf_value: str) -> Iterator[str]:
    if spf is not None:
        asked = _written(spf_value) or _written(spf.domain)
        yield f"spf={spf.result.value}" + (f" smtp.{spf.identity.value}={asked}" if asked else "")


def _of_content(authenticity: Authenticity | None) -> Iterator[str]:
    if authenticity is None:
        return
    for dkim in authenticity.dkim[:MAX_SIGNATURES] or (Dkim(DkimResult.NONE),):
        yield (
            f"dkim={dkim.result.value}"
            + _property("header.d", dkim.domain)
            + _property("header.s", dkim.selector)
        )
    if dmarc := authenticity.dmarc:
        yield f"dmarc={dmarc.result.value}" + _property("header.from", dmarc.domain)


def _property(name: str, text: str) -> str:
    written = _written(text)
    return f" {name}={written}" if written else ""


def _written(text: str) -> str:
    """The text as a value; empty for what cannot be one."""
    return _quoted(text) if len(text) <= _MAX_VALUE and _PRINTABLE.fullmatch(text) else ""


def _quoted(text: str) -> str:
    if _TOKEN.fullmatch(text) or _ADDRESS.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()  # one character may become eighteen


def _begins_with(name: str, text: str) -> bool:
    """Whether the first name in a text is this one; blanks and signs of no name before it do not matter."""
    first = _NAME.search(text)
    return (
        first is not None
        and text.startswith(name, first.start())
        and _AFTER_NAME.match(text, first.start() + len(name)) is not None
    )


def _bare(text: str, gap: str, *, is_cut: bool) -> tuple[str, bool]:
    """What stands before the first semicolon: each comment a gap, quoted strings as what they say.

    With it whether that may go on where nobody has looked.
    """
    pieces: list[str] = []
    depth, at, is_quoted = 0, 0, False
    for number, match in enumerate(_MARK.finditer(text)):
        if number == _MAX_MARKS:
            return "".join(pieces), True
        mark = match[0]
        if not depth:
            pieces.append(text[at : match.start()])
        at = match.end()
        if mark == ")" and depth:
            depth -= 1
            pieces.append("" if depth else gap)
        elif depth:
            depth += mark == "("
        elif mark == '"':
            is_quoted = not is_quoted
        elif is_quoted or mark[0] == "\\":
            pieces.append(mark[-1])
        elif mark == "(":
            depth = 1
        elif mark == ";":
            return "".join(pieces), False
    return "".join(pieces if depth else [*pieces, text[at:]]), is_cut
