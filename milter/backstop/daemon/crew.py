"""The parent's record of its workers: fork them, tell them, bury them."""

import contextlib
import enum
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from backstop.daemon import worker
from backstop.daemon.asker import Plan
from backstop.daemon.worker import Serving


class Stage(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"  # started, and waiting for its whole generation
    SERVING = "serving"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Generation:
    """The workers of one configuration: how many there shall be, and what they serve."""

    service: Serving
    size: int
    asker: Plan | None = None


@dataclass(slots=True)
class Worker:
    """One process, as the parent sees it."""

    process: int
    generation: Generation
    channel: socket.socket
    core: int
    stage: Stage = Stage.STARTING
    accepts: bool = False  # it may take new sessions
    born: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since the fork."""
        return time.monotonic() - self.born

    def tell(self, word: bytes) -> None:
        """A worker that has just died is told in vain; its death is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.channel.send(word)

    def kill(self) -> None:
        """SIGKILL: it can do nothing more, not even finish its sessions."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended; `worker` is None where it was none."""

    process: int
    worker: Worker | None
    status: int

    @property
    def cause(self) -> str:
        """For the log."""
        if os.WIFSIGNALED(self.status):
            return signal.Signals(os.WTERMSIG(self.status)).name
        return f"exit status {os.WEXITSTATUS(self.status)}"


class Crew:
    """All worker processes that are alive, of whatever generation.

    `private` names the descriptors which no worker of a generation may keep.
    """

    def __init__(self, listening: int, private: Callable[[Generation], list[int]]) -> None:
        self._listening = listening
        self._private = private
        self._workers: dict[int, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def of(self, generation: Generation, *stages: Stage) -> list[Worker]:
        """The workers of a generation that are in one of these stages."""
        return [one for one in self if one.generation is generation and one.stage in stages]

    def leaving(self) -> list[Worker]:
        """Those that finish their sessions, the longest at it first."""
        return [one for one in self if one.stage is Stage.LEAVING]

    def fork(self, generation: Generation) -> Worker:
        """One more worker; raises OSError where the system has no room for it."""
        core = self._free_core(generation)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # No signal may reach the child before it has put away the parent's way of noticing them.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            process = os.fork()
            if process == 0:
                private = [*self._private(generation), ours.fileno(), *self.channels()]
                worker.run(generation.service, self._listening, theirs, private, core)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        born = Worker(process, generation, ours, core)
        self._workers[process] = born
        return born

    def _free_core(self, generation: Generation) -> int:
        """The core with the fewest workers of this generation; a fallen one's is free again."""
        taken = [one.core for one in self if one.generation is generation]
        return min(sorted(os.sched_getaffinity(0)), key=taken.count)

    def channels(self) -> Iterator[int]:
        """The descriptors of the parent's ends."""
        return (one.channel.fileno() for one in self)

    def deaths(self) -> Iterator[Death]:
        """The children that have ended since the last call."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            yield Death(process, self._workers.pop(process, None), status)
