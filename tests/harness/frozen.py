"""Processes that stand still: alive, their connections open, and silent."""

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.harness.waiting import wait_for

_STOPPED = "TtZX"
"""States of a thread that does nothing more for now: proc_pid_stat(5)."""


def freeze(*pids: int) -> None:
    """Stop these processes, and return when each of their threads stands still.

    The kernel only marks the signal before kill(2) returns: a thread on another core can answer once more.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_for(partial(_stands_still, pid), 10, f"process {pid} to stop")


def thaw(*pids: int) -> None:
    """End `freeze`; harmless for a process that has ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Freeze these processes for the time of the block."""
    try:
        freeze(*pids)
        yield
    finally:
        thaw(*pids)


def _stands_still(pid: int) -> bool:
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = thread.read_text().rpartition(")")[2].split()[0]
            if state not in _STOPPED:
                return False
    return True
