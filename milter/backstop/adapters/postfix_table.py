"""What the name of a Postfix table tells of it (`TYPE:NAME`), and where postmap(1) is, which reads it."""

import os
import re
import shutil
from pathlib import Path
from typing import Final

_POSTMAP: Final = "/usr/sbin/postmap"

_PROXIED = r"(?:proxy:)?"

# Of these postmap can show what is there, so that an empty one is seen.
_LISTED = re.compile(_PROXIED + r"(btree|cdb|dbm|hash|lmdb|sdbm|texthash):([^{]*)")
_ENDINGS: Final = {"btree": ".db", "cdb": ".cdb", "hash": ".db", "lmdb": ".lmdb", "texthash": ""}
"""What is added to the name of a table for that of its file."""

# These match whole addresses only (pcre_table(5), regexp_table(5), tcp_table(5)); what is no whole one may
# match by chance.
_WHOLE = re.compile(_PROXIED + r"(?:pcre|regexp|tcp):[^{]*")

# Files that postmap reads as they stand; of rules it cannot show any.
_TEXT = re.compile(_PROXIED + r"(cidr|pcre|regexp|texthash):(/[^{]*)")

# These stand in the configuration itself.
_WRITTEN_OUT = re.compile(r"(?:inline|static):.*", re.DOTALL)

_UNION = re.compile(r"unionmap:\{([^{}]*)\}")


def postmap() -> str | None:
    """The path of postmap; None where it is not installed."""
    return _POSTMAP if os.access(_POSTMAP, os.X_OK) else shutil.which("postmap")


def parts(table: str) -> tuple[str, ...]:
    """The tables that a table puts together (`unionmap:{...}`); else itself."""
    union = _UNION.fullmatch(table)
    return tuple(re.findall(r"[^\s,]+", union[1])) if union else (table,)


def is_for_whole_addresses(table: str) -> bool:
    """Whether a table is to be asked for nothing but whole addresses."""
    return _WHOLE.fullmatch(table) is not None


def is_listed(table: str) -> bool:
    """Whether postmap can show what is in a table."""
    return _LISTED.fullmatch(table) is not None


def rules(table: str) -> Path | None:
    """The file of a table that consists of rules; None for all others."""
    match = _TEXT.fullmatch(table)
    return Path(match[2]) if match and match[1] != "texthash" else None


def texts(table: str) -> tuple[Path, ...]:
    """The files that postmap reads as they stand, half written too."""
    return tuple(Path(match[2]) for match in map(_TEXT.fullmatch, parts(table)) if match)


def stamp(table: str) -> tuple[int, ...] | None:
    """What is another after each change of a table that postmap can show; None where that cannot be told."""
    match = _LISTED.fullmatch(table)
    if match is None or match[1] not in _ENDINGS or not match[2].startswith("/"):
        return None
    try:
        status = Path(match[2] + _ENDINGS[match[1]]).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def can_be_seen_empty(table: str) -> bool:
    """Whether it would be noticed that a table knows nobody. If not, everybody is missing then."""
    return all(
        is_listed(part) or rules(part) is not None or _WRITTEN_OUT.fullmatch(part) for part in parts(table)
    )
