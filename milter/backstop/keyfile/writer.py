"""From a key ring to a key file: a new file beside the old one, then one rename."""

import contextlib
import fcntl
import json
import os
import pwd
import stat
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from backstop.batv import Key, KeyRing
from backstop.keyfile.reader import KeyFileError

SERVICE: Final = "backstop"
"""The user the service runs as (backstop.sysusers)."""

_HEADER = "# Written by `backstop key`; remarks are not kept. Nobody but the service may read this file.\n"


def text_of(ring: KeyRing) -> str:
    """The key file of a ring."""
    parts = [_HEADER]
    if ring.memory_secret:
        parts.append(f"[memory]\n{_secret_line(ring.memory_secret)}\n")
    parts += (_table(key) for key in ring.keys)
    return "\n".join(parts)


def write(path: Path, ring: KeyRing) -> None:
    """Puts a ring in the file's place. Owner and mode stay; a new file is for its owner's eyes alone.

    Whoever reads finds the old file or the new one, whatever happens. Raises `KeyFileError`.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    try:
        _replace(path, text_of(ring).encode())
    except BlockingIOError:
        raise KeyFileError([f"{path}: another command is writing it; try again"]) from None
    except OSError as error:
        cure = "; use sudo" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        raise KeyFileError(
            [f"{path}: cannot be written, nothing is changed: {error.strerror}{cure}"]
        ) from None


def _replace(path: Path, content: bytes) -> None:
    owner, group, mode = _like(path)
    # One name for all, held by a lock: what a killed command left behind is used again.
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), beside.stat()):
            raise BlockingIOError  # whoever had the lock has renamed it
        try:
            os.ftruncate(descriptor, 0)
            os.fchown(descriptor, owner, group)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            beside.replace(path)
            os.fchmod(descriptor, mode)  # last: what a killed command leaves behind must be open to the next
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # it is done; this only guards against the loss of power
        _sync_directory(path.parent)


def _like(path: Path) -> tuple[int, int, int]:
    """Owner, group and mode of the file to be."""
    try:
        status = path.stat()
    except FileNotFoundError:
        owner, group = _owner_of_new(path.parent)
        return owner, group, 0o400
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def _owner_of_new(directory: Path) -> tuple[int, int]:
    if os.geteuid() != 0:
        return -1, -1
    status = directory.stat()
    if status.st_uid != 0:
        return status.st_uid, status.st_gid
    try:
        service = pwd.getpwnam(SERVICE)
    except KeyError:
        return -1, -1
    return service.pw_uid, service.pw_gid


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(key: Key) -> str:
    lines = [
        "[[key]]",
        f"number = {key.number}",
        _secret_line(key.secret),
        f'state = "{key.state.value}"',
        f"domains = {json.dumps(key.domains)}",
        f"created = {_date(key.created)}",
        f'max_lifetime = "{key.max_lifetime}d"',
    ]
    if key.verify_since is not None:
        lines.append(f"verify_since = {_date(key.verify_since)}")
    return "\n".join(lines) + "\n"


def _secret_line(secret: bytes) -> str:
    text = secret.decode(errors="replace")
    if text.isprintable() and text.encode() == secret:
        return f"secret = {json.dumps(text, ensure_ascii=False)}"
    return f'secret_hex = "{secret.hex()}"'


def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
