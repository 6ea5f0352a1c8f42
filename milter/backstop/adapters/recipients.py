"""Who exists: the recipient sources of a domain, asked in their order; the first that knows is believed.

A source that knows nobody knows nothing: an empty set, or a file that is missing, empty, cut short or
suddenly half as long, says UNKNOWN and never "no such user". Sources that take their time are asked in
another process, see `asker_client`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from backstop.adapters import redis_names
from backstop.adapters.asker_client import AskedSource, Asking
from backstop.adapters.redis_store import Reply, pack
from backstop.facts import Existence
from backstop.settings import SourceKind, SourceName

MAX_FILE_OCTETS: Final = 64 * 1024 * 1024
RECHECK_SECONDS: Final = 1.0
"""How often a file is looked at for changes, at most."""


class RecipientSource(Protocol):
    """Where it is known which recipients exist.

    `commands` are put into the one pipeline of the decision, and `existence` gets their replies; None for
    a store that did not answer. `locals_` are the local parts to try, without tag, folded, the one with
    its extension first. `deadline` is by time.monotonic(), for sources that wait. NOT_ASKED means that this
    source never says more.
    """

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:
        """Commands for Redis; none for other sources."""

    def existence(
        self,
        domain: str,
        locals_: Sequence[str],
        replies: Sequence[Reply] | None,
        now: float,
        deadline: float,
    ) -> Existence:
        """What this source says."""


class MtaSource:
    """The mail server: what it refuses never comes this far, and of the rest it says nothing."""

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:  # noqa: ARG002 - see RecipientSource
        """Ask nothing."""
        return ()

    def existence(
        self,
        domain: str,  # noqa: ARG002 - see RecipientSource
        locals_: Sequence[str],  # noqa: ARG002 - see RecipientSource
        replies: Sequence[Reply] | None,  # noqa: ARG002 - see RecipientSource
        now: float,  # noqa: ARG002 - see RecipientSource
        deadline: float,  # noqa: ARG002 - see RecipientSource
    ) -> Existence:
        """Know nothing of a recipient that the mail server took."""
        return Existence.NOT_ASKED


class RedisSource:
    """The set `backstop:recipients:<domain>` of local parts."""

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:
        """Ask for each local part, and whether anybody is there at all."""
        key = redis_names.recipients(domain)
        return [pack("SISMEMBER", key, redis_names.octets(local)) for local in locals_] + [
            pack("EXISTS", key)
        ]

    def existence(
        self,
        domain: str,  # noqa: ARG002 - see RecipientSource
        locals_: Sequence[str],  # noqa: ARG002 - see RecipientSource
        replies: Sequence[Reply] | None,
        now: float,  # noqa: ARG002 - see RecipientSource
        deadline: float,  # noqa: ARG002 - see RecipientSource
    ) -> Existence:
        """Read the replies; an empty set and a key of another type know nobody."""
        if replies is None or any(not isinstance(reply, int) for reply in replies):
            return Existence.UNKNOWN
        *members, exists = replies
        if any(members):
            return Existence.EXISTS
        return Existence.MISSING if exists else Existence.UNKNOWN


class FileSource:
    """A flat file: one local part or address a line, `#` begins a comment; read again when it changes.

    The last good reading is kept when the file is gone, empty, without a final newline (it is being
    written) or has lost more than half its entries; `on_trouble` is told why.
    """

    def __init__(self, path: str, on_trouble: Callable[[str], None]) -> None:
        self._path = Path(path)
        self._on_trouble = on_trouble
        self._entries: frozenset[str] = frozenset()
        self._seen: tuple[int, int, int] | None = None
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
            self._reread()
        entries = self._entries
        if not entries:
            return Existence.UNKNOWN
        if any(local in entries or f"{local}@{domain}" in entries for local in locals_):
            return Existence.EXISTS
        return Existence.MISSING

    def _reread(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            self._seen = seen
            entries, fault = _read(self._path, status.st_size)
        except OSError as error:
            self._seen = None
            self._complain(error.strerror or "cannot be read")
            return
        if not fault and len(entries) * 2 < len(self._entries):
            fault = (
                f"has lost more than half of its entries ({len(self._entries)} before, {len(entries)} now)"
            )
        if fault:
            self._complain(fault)
        else:
            self._entries = entries

    def _complain(self, fault: str) -> None:
        kept = f"the last {len(self._entries)} entries are kept" if self._entries else "it says nothing"
        self._on_trouble(f"recipient file {self._path}: {fault}; {kept}")


def make(name: SourceName, on_trouble: Callable[[str], None], asking: Asking) -> RecipientSource:
    """The source that a setting names; `asking` is asked where it takes its time."""
    match name.kind:
        case SourceKind.MTA:
            return MtaSource()
        case SourceKind.REDIS:
            return RedisSource()
        case SourceKind.FILE:
            return FileSource(name.argument, on_trouble)
        case _:
            return AskedSource(name, asking, on_trouble)


def is_decisive(answer: Existence) -> bool:
    """Whether no further source need be asked."""
    return answer in (Existence.EXISTS, Existence.MISSING)


def first_answer(answers: Sequence[Existence]) -> Existence:
    """What several sources say together: the first that knows wins; else UNKNOWN if one should have known.

    ANYBODY is said where all others leave it to the next hop.
    """
    for answer in answers:
        if is_decisive(answer):
            return answer
    for answer in (Existence.UNKNOWN, Existence.ANYBODY):
        if answer in answers:
            return answer
    return Existence.NOT_ASKED


def _read(path: Path, size: int) -> tuple[frozenset[str], str]:
    if size > MAX_FILE_OCTETS:
        return frozenset(), f"is larger than {MAX_FILE_OCTETS} octets"
    text = path.read_bytes().decode(errors="surrogateescape")
    if text and not text.endswith("\n"):
        return frozenset(), "does not end in a newline, so it may be cut short"
    lines = (line.partition("#")[0].strip().lower() for line in text.split("\n"))
    entries = frozenset(line for line in lines if line)
    return entries, "" if entries else "is empty"
