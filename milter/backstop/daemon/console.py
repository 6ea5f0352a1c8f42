"""The parent's own log lines: `event key=value ...` on stderr, one line an event.

Where stderr is the journal, a line begins with its priority as `<N>`.
"""

import os
import select
import sys
from collections.abc import Mapping
from typing import Final

from backstop.journal import Priority, shown

MAX_VALUE: Final = 2000
"""Characters of one value: a fault of the configuration with its cure."""


class Console:
    """Never waits for a reader: while stderr is full, lines are dropped and counted."""

    def __init__(self, descriptor: int = 2, environment: Mapping[str, str] = os.environ) -> None:
        self._descriptor = descriptor
        self._priorities = "JOURNAL_STREAM" in environment
        self._dropped = 0

    def info(self, event: str, **fields: object) -> None:
        """The ordinary course of things."""
        self._write(Priority.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Mail goes on, but somebody should know."""
        self._write(Priority.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something failed."""
        self._write(Priority.ERROR, event, fields)

    def _write(self, priority: Priority, event: str, fields: dict[str, object]) -> None:
        if self._dropped:
            fields = {**fields, "lines_dropped": self._dropped}
        words = [event, *(f"{name}={shown(str(value), MAX_VALUE)}" for name, value in fields.items())]
        mark = f"<{priority.value}>" if self._priorities else ""
        octets = _bounded(f"{mark}{' '.join(words)}".encode("utf-8", "backslashreplace"))
        if not select.select([], [self._descriptor], [], 0)[1]:
            self._dropped += 1
            return
        try:
            os.write(self._descriptor, octets)
        except OSError:
            self._dropped += 1
            return
        self._dropped = 0


def _bounded(octets: bytes) -> bytes:
    """A line as long as a pipe that may be written to takes without blocking, and no longer."""
    if len(octets) >= select.PIPE_BUF:
        octets = octets[: select.PIPE_BUF - 4].decode("utf-8", "ignore").encode() + b"..."
    return octets + b"\n"


def to_terminal(text: str) -> None:
    """What stops the start, in its own words and lines."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
