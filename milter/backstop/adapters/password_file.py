"""The password of a directory or database: in a file of its own, which others may not read."""

import os
import stat
from pathlib import Path
from typing import Final

MAX_OCTETS: Final = 4096


class PasswordUnreadable(Exception):
    """The file is of no use; the text says why, and never what stands there."""


def read(path: Path) -> str:
    """The password: what the file holds, without the newline at its end.

    Read for each connection, so that a new one counts without a reload. Raises `PasswordUnreadable`.
    """
    try:
        # A pipe or device must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            octets = file.read(MAX_OCTETS + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise PasswordUnreadable(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise PasswordUnreadable(f"{path}: this is no ordinary file")
    if mode & stat.S_IRWXO:
        raise PasswordUnreadable(f"{path}: everybody can get at this password; chmod o= {path}")
    if len(octets) > MAX_OCTETS:
        raise PasswordUnreadable(f"{path}: more than {MAX_OCTETS} octets are no password")
    try:
        password = octets.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise PasswordUnreadable(f"{path}: this is no UTF-8") from None
    if not password:
        raise PasswordUnreadable(f"{path}: the file is empty")
    return password
