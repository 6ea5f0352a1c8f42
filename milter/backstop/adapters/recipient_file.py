"""The recipient source `file:/path`: a flat file, one local part or address a line.

It is parsed when it is read, so that to ask takes no more than to look into a set.
"""

import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from os import stat_result
from pathlib import Path
from typing import Final

from backstop.adapters.redis_store import Reply
from backstop.address import parse
from backstop.facts import Existence

MAX_FILE_OCTETS: Final = 64 * 1024 * 1024

RECHECK_SECONDS: Final = 1.0
"""How often a file is looked at for changes, at most."""

SETTLED_SECONDS: Final = 2.0
"""For how long a file has to lie untouched before it is believed that somebody is not in it any more."""

# Read as they are; all others are parsed, which takes five times as long.
_SIMPLE = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]+(?:@[a-z0-9_.-]*[a-z0-9_-])?")

# `#` may be part of a name: a comment begins a line, or comes after a blank, and not within quotes.
_COMMENT = re.compile(r'\A("(?:[^"\\]|\\.)*"\S*\s*|.*?)(?:(?:^|(?<=\s))#.*)?\Z')


class FileSource:
    """One file; `#` begins a comment, `@domain` stands for everybody. Read again when it changes.

    The last good reading is kept when the file is gone, empty, without a final newline (it is being
    written) or has lost more than half its entries; `on_trouble` is told why. While a file may still be
    being written, whoever is in either reading exists; before there was any, who is not in it is UNKNOWN.
    """

    def __init__(self, path: str, on_trouble: Callable[[str], None]) -> None:
        self._path = Path(path)
        self._on_trouble = on_trouble
        self._entries: frozenset[str] = frozenset()
        self._fresh: frozenset[str] = frozenset()
        """What was read last of a file that may not be whole yet."""
        self._touched: float | None = None
        """When that file was written; None where its reading is not waiting to be taken."""
        self._stamp: tuple[int, ...] = ()
        self._looked = float("-inf")

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:  # noqa: ARG002 - see RecipientSource
        """Ask nothing of Redis."""
        return ()

    def existence(
        self,
        domain: str,
        locals_: Sequence[str],
        replies: Sequence[Reply] | None,  # noqa: ARG002 - see RecipientSource
        now: float,
        deadline: float,  # noqa: ARG002 - see RecipientSource
    ) -> Existence:
        """Look the recipient up in the last good reading."""
        if not 0 <= now - self._looked < RECHECK_SECONDS:
            self._looked = now
            self._look(now)
        for local in locals_:
            name = local if local.isascii() else unicodedata.normalize("NFC", local)
            if self._has(name) or self._has(f"{name}@{domain}"):
                return Existence.EXISTS
        if self._has(f"@{domain}"):
            return Existence.ANYBODY
        return Existence.MISSING if self._entries else Existence.UNKNOWN

    def _has(self, entry: str) -> bool:
        return entry in self._entries or entry in self._fresh

    def _look(self, now: float) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._stamp, self._touched = stamp, None
                self._read(status, now)
        except OSError as error:
            self._stamp = ()
            self._complain(error.strerror or "cannot be read")
            return
        if self._touched is not None and not 0 <= now - self._touched < SETTLED_SECONDS:
            self._entries, self._fresh, self._touched = self._fresh, frozenset(), None

    def _read(self, status: stat_result, now: float) -> None:
        entries, fault = _read(self._path, status)
        if not fault and len(entries) * 2 < len(self._entries):
            fault = (
                f"has lost more than half of its entries ({len(self._entries)} before, {len(entries)} now)"
            )
        if fault:
            self._complain(fault)
        elif self._entries and self._entries <= entries:
            self._entries, self._fresh = entries, frozenset()
        else:
            self._fresh = entries
            self._touched = min(status.st_mtime, now)  # the clock of a file server may be ahead
            if not self._entries and now - self._touched < SETTLED_SECONDS:
                self._on_trouble(
                    f"recipient file {self._path}: is being written, or was a moment ago; for"
                    f" {SETTLED_SECONDS:.0f} seconds it says of nobody that he does not exist"
                )

    def _complain(self, fault: str) -> None:
        kept = f"the last {len(self._entries)} entries are kept" if self._entries else "it says nothing"
        self._on_trouble(f"recipient file {self._path}: {fault}; {kept}")


def _read(path: Path, status: stat_result) -> tuple[frozenset[str], str]:
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for whoever writes into it
        return frozenset(), "is no file"
    if status.st_size > MAX_FILE_OCTETS:
        return frozenset(), f"is larger than {MAX_FILE_OCTETS} octets"
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        return frozenset(), "is no text, or not in UTF-8"
    text = text.replace("\r", "\n")
    if text and not text.endswith("\n"):
        return frozenset(), "does not end in a newline, so it may be cut short"
    entries = frozenset(map(_entry, filter(None, _names(text))))
    return entries, "" if entries else "is empty"


def _names(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        name = line.strip().lower()
        if "#" in name:
            name = _COMMENT.sub(r"\1", name).rstrip()
            yield name.partition("#")[0]  # whoever leaves no blank before a comment means this one
        yield name


def _entry(name: str) -> str:
    """A name in the form in which it is asked for; what is no address stays as it is."""
    if _SIMPLE.fullmatch(name):
        return name
    if name.startswith("@"):  # to a parser of paths this would be a route
        address = parse(f"everybody{name}")
        return f"@{address.domain}" if address else name
    address = parse(name)
    return address.folded if address and address.local else name
