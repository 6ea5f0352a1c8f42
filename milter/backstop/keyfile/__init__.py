"""The key file: read whole or refused with all its faults, changed by `backstop key`, never half written.

What keys are for is `batv`'s business. A secret is in this file and in memory, and nowhere else: no message
shows what the file holds, only where.
"""

from backstop.keyfile.changes import (
    TagsUnderWay,
    import_key,
    new_key,
    raise_lifetime,
    retire,
    retire_at_once,
    rotate,
)
from backstop.keyfile.reader import KeyFileError, load, parse, read
from backstop.keyfile.writer import SERVICE, text_of, write

__all__ = [
    "SERVICE",
    "KeyFileError",
    "TagsUnderWay",
    "import_key",
    "load",
    "new_key",
    "parse",
    "raise_lifetime",
    "read",
    "retire",
    "retire_at_once",
    "rotate",
    "text_of",
    "write",
]
