"""What commands print: the one place where text is escaped for a terminal or pipe.

Nothing that came from the mail, from Redis or from a command line can move a cursor, hide text or begin a
line of its own.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

from backstop.plain import plain

_BOLD = "\x1b[1m{}\x1b[0m"


class CommandFailed(Exception):
    """A command ends here; the lines are for whoever gave it, `status` is that of sysexits(3)."""

    def __init__(self, *lines: str, status: int = os.EX_USAGE) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.status = status


def say(line: str = "") -> None:
    """Print one line."""
    _put(f"{plain(line)}\n", sys.stdout)


def complain(*lines: str) -> None:
    """Print what is wrong, on standard error."""
    for line in lines:
        _put(f"{plain(line)}\n", sys.stderr)


def write(text: str, file: IO[str]) -> None:
    """Print text on several lines."""
    _put("\n".join(plain(line) for line in text.split("\n")), file)


def say_json(value: Any) -> None:
    """A value as JSON on one line, in ASCII."""
    _put(json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n", sys.stdout)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Plain columns under headings, two blanks between them."""
    cells = [[plain(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        _put((_BOLD.format(line) if number == 0 and _has_colours() else line) + "\n", sys.stdout)


def _put(text: str, file: IO[str]) -> None:
    encoding = getattr(file, "encoding", None) or "utf-8"  # what it lacks is escaped too
    file.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _has_colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
