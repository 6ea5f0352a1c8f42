"""Changes to files of the mail server: shown as a diff, written with a backup, taken back to the last octet.

A record beside the files says what each write did: the files, their backups, and hashes from before and
after. It is written before the first file is touched, so that a write that was cut off can be undone as well.
"""

import contextlib
import difflib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


class NothingToUndo(Exception):
    """There is no record of a write."""


class ChangedSince(Exception):
    """Files are not as the write left them; the text names them."""


class Rejected(Exception):
    """The mail server complains of the new files; the old ones are back. The text is its complaint."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file before, `None` when there is none, and after."""

    path: Path
    before: str | None
    after: str


def diff(changes: tuple[FileChange, ...]) -> str:
    """Show changes as `diff -u` does; patch(1) understands it."""
    lines: list[str] = []
    for change in changes:
        before = [] if change.before is None else change.before.splitlines(keepends=True)
        old = "/dev/null" if change.before is None else str(change.path)
        lines += difflib.unified_diff(
            before, change.after.splitlines(keepends=True), fromfile=old, tofile=str(change.path)
        )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def write(
    changes: tuple[FileChange, ...], record: Path, now: datetime, complaint: Callable[[], str]
) -> tuple[Path, ...]:
    """Write all files or none; the backups, each beside its file.

    `complaint` asks the mail server what it thinks of the new files. Unless it answers empty, everything is
    put back and Rejected raised.
    """
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    done = [_entry(change, stamp) for change in changes]
    _save(record, [*_load(record), {"at": stamp, "files": done}])
    try:
        for change, entry in zip(changes, done, strict=True):
            if entry["backup"]:
                shutil.copy2(change.path, entry["backup"])
        for change in changes:
            _replace(change.path, change.after)
        trouble = complaint()
    except BaseException:
        undo(record, force=True)
        raise
    if trouble:
        undo(record, force=True)
        raise Rejected(trouble)
    return tuple(Path(entry["backup"]) for entry in done if entry["backup"])


def undo(record: Path, *, force: bool) -> tuple[Path, ...]:
    """Take the last write back; the files that changed.

    Its backups go away, and with the first write the record. Raises NothingToUndo and ChangedSince; with
    `force` the latter only where a backup is gone.
    """
    writes = _load(record)
    if not writes:
        raise NothingToUndo(f"{record}: no record of a write")
    *earlier, last = writes
    entries: list[dict[str, str]] = last["files"]
    strange = [
        entry["path"] for entry in entries if _hash(entry["path"]) not in (entry["before"], entry["after"])
    ]
    lost = [entry["backup"] for entry in entries if _is_needed(entry) and not Path(entry["backup"]).exists()]
    if lost:
        raise ChangedSince(f"the backup is gone: {', '.join(lost)}")
    if strange and not force:
        raise ChangedSince(", ".join(strange))
    touched = tuple(Path(entry["path"]) for entry in entries if _hash(entry["path"]) != entry["before"])
    for entry in entries:
        _put_back(entry)
    if earlier:
        _save(record, earlier)
    else:
        record.unlink()
    return touched


def _entry(change: FileChange, stamp: str) -> dict[str, str]:
    """What the record keeps of one file. An empty `before` is a file that did not exist."""
    # A link is followed: what it points to is changed, and the link stays.
    path = change.path.resolve()
    backup = "" if change.before is None else str(_unused(path, stamp))
    before = "" if change.before is None else _hash_of(change.before)
    return {"path": str(path), "backup": backup, "before": before, "after": _hash_of(change.after)}


def _unused(path: Path, stamp: str) -> Path:
    names = (path.with_name(f"{path.name}.backstop-{stamp}{suffix}") for suffix in _suffixes())
    return next(name for name in names if not name.exists())


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in range(2, 1000))


def _is_needed(entry: dict[str, str]) -> bool:
    return bool(entry["backup"]) and _hash(entry["path"]) != entry["before"]


def _put_back(entry: dict[str, str]) -> None:
    path, backup = Path(entry["path"]), entry["backup"]
    if not backup:
        path.unlink(missing_ok=True)
    elif _is_needed(entry):
        _own(Path(backup), path)
        Path(backup).replace(path)
    else:
        Path(backup).unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    """Write beside the file, then rename: whoever reads now sees the old file or the new one, whole."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, name)
            _own(Path(name), path)
        else:
            Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _own(path: Path, model: Path) -> None:
    """Give a file the owner and group of another."""
    if model.exists():
        status = model.stat()
        os.chown(path, status.st_uid, status.st_gid)


def _load(record: Path) -> list[dict]:  # type: ignore[type-arg]  # JSON of our own
    return json.loads(record.read_text())["writes"] if record.exists() else []


def _save(record: Path, writes: list[dict]) -> None:  # type: ignore[type-arg]  # JSON of our own
    _replace(record, json.dumps({"writes": writes}, indent=2) + "\n")


def _hash(path: str) -> str:
    """The hash of a file, empty when there is none."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
