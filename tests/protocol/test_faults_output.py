"""Mail goes on while nobody reads the log or the disk is full, and what was dropped is said later."""

import contextlib
import fcntl
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.ledger import Kind, Ledger
from tests.harness.milter_host import MilterHost
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

SMALLEST_PIPE = 4096
NOTABLE = (Kind.OUTGOING, Kind.GENUINE, Kind.FORGED, Kind.UNTAGGED)
"""Messages that are a line in the log."""


class Reader:
    """The reading end of the daemon's stderr: a named pipe, as small as the system makes them."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._end, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        self.text = ""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before the daemon's own that lead its stderr here."""
        return ("sh", "-c", 'exec "$@" 2>"$0"', str(self.path))

    def read(self) -> str:
        """All that has come so far."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._end, 65536):
                self.text += more.decode()
        return self.text

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path / "stderr")
    yield reader
    reader.close()


def decisions(text: str) -> int:
    """Lines about messages, those that were dropped and counted among them."""
    shown = len(re.findall("^(?:<6>)?queue_id=", text, re.MULTILINE))
    return shown + sum(int(number) for number in re.findall(r"lines_dropped=(\d+)", text))


def test_a_log_that_nobody_reads(shared_redis: RedisServer, reader: Reader) -> None:
    """reliability J5."""
    with MilterHost(shared_redis, prefix=reader.prefix) as host:
        host.start()
        reader.read()
        with host.load(41, rate=60) as load:
            wait_for(lambda: "queue_id=" in reader.read(), 5, "the first lines")
            load.go_on_for(180)  # nobody reads, and the pipe is full after a moment
            reader.read()
            load.go_on_for(60)
            reader.read()
            load.go_on_for(60)
        assert load.ledger.violations() == []
        assert load.ledger.disturbed() == []
        assert host.settled_counters(load.ledger) == []
        notable = len(load.ledger.of(*NOTABLE))
        wait_for(lambda: decisions(reader.read()) >= notable, 5, f"{notable} lines, or word of them")
        assert "lines_dropped=" in reader.text
        assert decisions(reader.text) == notable


def test_a_long_line_does_not_hold_up_the_parent(shared_redis: RedisServer, reader: Reader) -> None:
    """A pipe that may be written to takes 4,096 octets at once and no more."""
    with MilterHost(shared_redis, prefix=reader.prefix) as host:
        host.start()
        reader.read()
        host.daemon.configure(f"{'x' * 10_000} = 1\n")
        host.daemon.reload(5)
        assert "reload_refused" in reader.read()


def writes(daemon: Daemon) -> int:
    """Octets that the daemon's processes had written to a disk."""
    total = 0
    for pid in (daemon.pid, *daemon.workers()):
        found = re.search(r"^write_bytes: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
        assert found
        total += int(found[1])
    return total


def files_open_for_writing(pid: int) -> set[str]:
    """Ordinary files that a process may write to."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            flags = re.search(r"^flags:\s+(\d+)$", status, re.MULTILINE)
            assert flags
            if entry.is_file() and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY:
                found.add(str(entry.readlink()))
    return found


def test_the_mail_path_writes_no_file(shared_redis: RedisServer, reader: Reader) -> None:
    """reliability J3: a worker has no file open but the log, and writes to no disk."""
    with MilterHost(shared_redis, prefix=reader.prefix) as host:
        host.start()
        with host.load(42, rate=100) as load:
            load.go_on_for(50)
            before = writes(host.daemon)
            load.go_on_for(200)
            assert writes(host.daemon) == before
            for pid in host.daemon.workers():
                assert files_open_for_writing(pid) <= {str(host.daemon.log), "/dev/null"}
        assert load.ledger.disturbed() == []


def fill_disk(daemon: Daemon, most: int) -> None:
    """Let the daemon's processes write files of so many octets at most: 0 fails as a full disk does."""
    for pid in (daemon.pid, *daemon.workers()):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))


def test_a_full_disk_under_the_log(shared_redis: RedisServer) -> None:
    """reliability J3: mail is unaffected, lines are dropped and counted, and said once there is room."""
    with MilterHost(shared_redis) as host:
        host.start()
        ledger: Ledger
        with host.load(43, rate=60) as load:
            load.go_on_for(30)
            fill_disk(host.daemon, 0)
            load.go_on_for(120)
            fill_disk(host.daemon, resource.RLIM_INFINITY)
            load.go_on_for(60)
        ledger = load.ledger
        assert ledger.violations() == []
        assert ledger.disturbed() == []
        assert host.settled_counters(ledger) == []
        notable = len(ledger.of(*NOTABLE))
        wait_for(lambda: decisions(host.daemon.log_text()) >= notable, 5, f"{notable} lines, or word of them")
        assert "lines_dropped=" in host.daemon.log_text()
        assert decisions(host.daemon.log_text()) == notable
