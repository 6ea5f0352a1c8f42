"""The real daemon as a service manager starts it: in a scratch folder, its notifications read."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.harness.fake_mta import Session
from tests.harness.redis_server import spawn
from tests.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
# What an administrator types, and the same daemon with a service that does what a test tells it
BACKSTOP = (sys.executable, "-m", "backstop", "serve", "--config")
STAND_IN = (sys.executable, "-m", "tests.harness.stand_in")


class Daemon:
    """`backstop serve` (or `program`) with one configuration file; stopped when the block ends.

    `folder` is short enough for a unix socket and removed at the end; the configuration should name `target`.
    `user` is the numeric user the daemon runs as, when the tests run as root.
    """

    def __init__(
        self,
        program: Sequence[str] = STAND_IN,
        *,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="backstop-", ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name)
        self.log = self.folder / "log"
        self.config = self.folder / "config"
        self.socket = self.folder / "run" / "milter.sock"
        self.socket.parent.mkdir()
        self.user = os.geteuid() if user is None else user
        if user is not None:
            self.folder.chmod(0o755)
            os.chown(self.socket.parent, user, user)
            # A checkout below a closed folder, /root say, is to be readable for the user as well.
            reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
            prefix = (*prefix, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *reading)
        self._words = (*prefix, *program, str(self.config))
        self._inbox, address = _notify_socket()
        path = os.pathsep.join([str(ROOT / "milter"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._environment = {
            **os.environ,
            "PYTHONPATH": path,
            "NOTIFY_SOCKET": address,
            **(environment or {}),
        }
        self.notes: list[tuple[float, str]] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """As the mail server is told it."""
        return f"unix:{self.socket}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the daemon was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            workers = self.workers()
            self.process.kill()
            self.process.wait()
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._inbox.close()
        self._scratch.cleanup()

    def configure(self, text: str) -> None:
        """Write the configuration file, whole or not at all."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.config)

    # Life

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it and wait for nothing."""
        self._process = spawn(self._words, self.log, folder=self.folder, environment=self._environment)
        return self._process

    def start(self, seconds: float = 20) -> Self:
        """Start it, and wait until it says that it is ready."""
        before = self.count("READY=1")
        self.spawn()
        wait_for(lambda: self.count("READY=1") > before or self.ended(), seconds, "READY=1")
        assert not self.ended(), f"the daemon ended with {self.process.returncode}:\n{self.log_text()}"
        return self

    def ended(self) -> bool:
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, seconds: float = 10) -> tuple[int, float]:
        """SIGTERM; the exit status, and how many seconds it took."""
        began = time.monotonic()
        self.process.terminate()
        status = self.process.wait(seconds)
        return status, time.monotonic() - began

    def reload(self, seconds: float = 20) -> None:
        """SIGHUP, and wait until it is ready again, with the new configuration or the old."""
        before = self.count("READY=1")
        self.signal(signal.SIGHUP)
        wait_for(lambda: self.count("READY=1") > before, seconds, "READY=1 after SIGHUP")

    # What can be seen of it

    def notifications(self) -> list[str]:
        """All lines sent to the service manager so far, oldest first."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._inbox.recv(4096).decode()
                self.notes += [(time.monotonic(), line) for line in text.splitlines()]
        return [line for _, line in self.notes]

    def count(self, line: str) -> int:
        return self.notifications().count(line)

    def workers(self) -> set[int]:
        """The process ids of the daemon's children."""
        return children(self.pid)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def session(self, timeout: float = 10.0) -> Session:
        """A mail server's session with it."""
        return Session(self.target, timeout=timeout)


def children(pid: int) -> set[int]:
    """The living children of a process, zombies included; none when it is gone."""
    try:
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def alive(pid: int) -> bool:
    """A process of that id exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _notify_socket() -> tuple[socket.socket, str]:
    """A bound socket, and its name as NOTIFY_SOCKET has it: abstract, so that no path is too long."""
    name = f"backstop-test-{secrets.token_hex(8)}"
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(f"\0{name}")
    inbox.setblocking(False)
    return inbox, f"@{name}"
