"""A Redis of a test's own, and how any server is started and stopped; without pytest, for the demo too."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import redis

from tests.harness.frozen import freeze, thaw
from tests.harness.waiting import wait_for

PROGRAMS = ("redis-server", "valkey-server")


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on now. Somebody may before you do: be ready to try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def spawn(
    words: Sequence[str],
    log: Path,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server that stays in the foreground; what it prints goes to the end of `log`.

    It dies with the thread that started it, so that a killed test run leaves nothing behind: do not call
    this from a thread that ends before the server should.
    """
    leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as end:
        return subprocess.Popen(
            [*leash, *words],
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
        )


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> int:
    """Ask the server to stop (SIGTERM), kill it when it does not within `seconds`; its exit status."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class RedisServer:
    """A Redis (or Valkey) of the test's own, on a free port and a unix socket, that can hang and be killed.

    `settings` are lines of redis.conf. Without any it keeps everything in memory alone; give `appendonly yes`
    to a server whose content must survive `kill` and `start`.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.log = folder / "redis.log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        # A path of pytest's is often too long for a unix socket, which takes 107 octets.
        self._short = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self._short / "redis.sock"

    @property
    def url(self) -> str:
        """Where it listens, by TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Where it listens, by its unix socket."""
        return f"unix://{self.socket}?db=0"

    @property
    def pid(self) -> int:
        """Of the server that runs."""
        return self._running.pid

    def client(self) -> "redis.Redis":
        """A client of its own for the test; not what the daemon uses."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=10)

    def start(self) -> Self:
        """Start it, and return when it answers. Its port and socket are the same each time."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), PROGRAMS[0])
        self.folder.mkdir(parents=True, exist_ok=True)
        written = self.folder / "redis.conf"
        for _ in range(5):
            written.write_text("\n".join([*self._lines(), *self._settings, ""]))
            self._process = spawn([program, str(written)], self.log, folder=self.folder)
            if wait_for(self._settled, 20, f"Redis ({self.log})") == "up":
                return self
            if "Address already in use" not in self.log.read_text():
                break
            self.port = free_port()
        raise RuntimeError(f"Redis does not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Ask it to stop; harmless when it does not run."""
        if self._process is not None:
            stop(self._process)

    def kill(self) -> None:
        """Kill it on the spot: nothing is saved, no connection is closed in order."""
        self._running.kill()
        self._running.wait()

    def restart(self) -> None:
        """Stop it in order and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: connections are still taken by the kernel, nothing is answered."""
        freeze(self.pid)

    def thaw(self) -> None:
        """End `freeze`."""
        thaw(self.pid)

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self._short, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _lines(self) -> list[str]:
        return [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"unixsocket {self.socket}",
            "unixsocketperm 770",
            f"dir {self.folder}",
            "daemonize no",
            'save ""',
            "appendonly no",
        ]

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    def _settled(self) -> str:
        if self._running.poll() is not None:
            return "ended"
        with contextlib.closing(redis.Redis.from_url(self.unix_url, socket_timeout=1)) as client:
            try:
                return "up" if client.ping() and self._is_ours() else ""
            except redis.exceptions.RedisError:
                return ""

    def _is_ours(self) -> bool:
        with contextlib.closing(self.client()) as client:
            seen: object = client.info("server")["process_id"]
        return seen == self.pid
