"""The hash of a body for DKIM while the body comes in: RFC 6376, sections 3.4.3, 3.4.4 and 3.7.

Nothing is kept of the body but what may still turn out to be its end, and of that only how much it is: time
grows with the length, memory does not. dkimpy's own patterns take time by the square of a run of blanks.
"""

import hashlib
from collections.abc import Iterable
from enum import Enum
from itertools import islice
from typing import Final

MAX_SIGNATURES: Final = 5
"""Signatures of one message that are verified."""

MAX_FIELDS: Final = 20
"""DKIM-Signature fields, from the top, among which these are chosen."""

_WHITE: Final = b" \t\r\n"
_LINE_END: Final = b"\r\n"
_MANY: Final = 4096
_MANY_LINE_ENDS: Final = _LINE_END * _MANY


class BodyCanonicalization(Enum):
    """What is made of a body before it is hashed: the second word of `c=`."""

    SIMPLE = b"simple"
    RELAXED = b"relaxed"


def wanted(values: Iterable[bytes]) -> frozenset[BodyCanonicalization]:
    """What the values of the DKIM-Signature fields need of the body, from the top; nothing without a field.

    A value that is damaged may be taken to need more than it does.
    """
    return frozenset(
        canonicalization
        for value in islice(values, MAX_FIELDS)
        for canonicalization in _named(value) or (BodyCanonicalization.SIMPLE,)
    )


class BodyHash:
    """SHA-256 of a body that comes in chunks, cut anywhere, its lines ended by CR LF.

    A CR or LF by itself is content. A body that does not end in CR LF is taken to.
    """

    __slots__ = ("_carried", "_is_relaxed", "_line_ends", "_saw_content", "_total")

    def __init__(self, canonicalization: BodyCanonicalization) -> None:
        self._is_relaxed = canonicalization is BodyCanonicalization.RELAXED
        self._total = hashlib.sha256()
        self._saw_content = False
        self._line_ends = 0
        """How many have come since the last content: they may be the end of the body."""
        self._carried = b""
        """What stood at the end of a chunk and may belong to a line's end: a blank, a CR, or both."""

    def update(self, chunk: bytes) -> None:
        """Take the next part of the body."""
        text = self._carried + chunk
        rest = text.removesuffix(b"\r")
        carried = text[len(rest) :]
        if self._is_relaxed:
            within = rest.rstrip(b" \t")
            if len(within) < len(rest):
                carried = b" " + carried
            rest = _relaxed(within)
        self._carried = carried
        ends = _line_ends_of(rest)
        if content := rest[: len(rest) - 2 * ends]:
            self._take(content)
        self._line_ends += ends

    def digest(self) -> bytes:
        """The hash; to be called once, when the body has ended."""
        if self._carried:
            self._take(self._carried)
        if self._saw_content or not self._is_relaxed:
            self._total.update(_LINE_END)
        return self._total.digest()

    def _take(self, content: bytes) -> None:
        """What is no empty line at the end, and with it the line ends before it."""
        while self._line_ends > _MANY:
            self._total.update(_MANY_LINE_ENDS)
            self._line_ends -= _MANY
        self._total.update(_LINE_END * self._line_ends)
        self._total.update(content)
        self._line_ends = 0
        self._saw_content = True


def _relaxed(text: bytes) -> bytes:
    """Runs of blanks as one blank, and none before a line's end."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:  # each turn halves the runs
        text = text.replace(b"  ", b" ")
    return text.replace(b" \r\n", _LINE_END)


def _line_ends_of(text: bytes) -> int:
    """How many CR LF stand at the end."""
    if not text.endswith(_LINE_END):
        return 0
    tail = text[len(text.rstrip(_LINE_END)) :].replace(_LINE_END, b".")
    return len(tail) - len(tail.rstrip(b"."))


def _named(value: bytes) -> set[BodyCanonicalization]:
    found = set()
    for spec in value.split(b";"):
        name, _, text = spec.partition(b"=")
        if name.strip(_WHITE) == b"c":
            word = text.partition(b"/")[2].strip(_WHITE).lower()
            is_relaxed = word == BodyCanonicalization.RELAXED.value
            found.add(BodyCanonicalization.RELAXED if is_relaxed else BodyCanonicalization.SIMPLE)
    return found
