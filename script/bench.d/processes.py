"""Programs that are started for a while, and what /proc says of them."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


class NotMeasured(Exception):
    """A program did not start, or did not do what it was started for."""


@contextmanager
def running(command: Sequence[str], path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from the moment it takes connections on its unix socket."""
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    except OSError as error:
        raise NotMeasured(str(error)) from None
    try:
        wait_until(lambda: _listens(path), process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(claim: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for something that a process does after its start; NotMeasured if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not claim():
        if process.poll() is not None or time.monotonic() > deadline:
            end = log.read_text(errors="replace").splitlines()[-15:]
            raise NotMeasured("\n  ".join([f"did not start: {process.args!s}", *end]))
        time.sleep(0.02)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time, user and system, of processes and of those of their children that have ended."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def pss_mb(pid: int) -> float:
    """Memory of a process in MB; pages that several share are divided among them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False
