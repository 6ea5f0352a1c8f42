"""The parent's record of its askers: one for each configuration that still has workers, kept alive.

The door of a configuration is the parent's as well, so that questions wait there while an asker that fell is
replaced. The parent knocks there itself now and then: a library that hangs can hold up a whole process.
"""

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from backstop.adapters import asker_client
from backstop.adapters.asker_client import Question, knock
from backstop.daemon import asker
from backstop.daemon.asker import Plan
from backstop.daemon.console import Console

SHORT_LIFE: Final = 1.0
"""Seconds; askers that live shorter are replaced ever more slowly."""

SLOWEST_REPLACEMENT: Final = 1.0
CRASH_LOOP: Final = 5
"""Lives cut short in a row that are worth an error."""

BETWEEN_KNOCKS: Final = 10.0
SILENCE: Final = 30.0
"""Seconds after its last sign of life an asker that does not open is put down."""


_NOTHING: Final = Question("", "", ("",), 0.0)
"""Answered at once by whoever is there: its deadline has passed."""


@dataclass(slots=True)
class _Post:
    """The place of one configuration's asker; `process` is 0 while nobody holds it."""

    plan: Plan
    process: int = 0
    born: float = 0.0
    next_fork: float = 0.0
    short_lives: int = 0
    was_held: bool = False
    heard: float = 0.0
    next_knock: float = 0.0
    visit: socket.socket | None = None
    """The parent's own conversation, while it waits for an answer."""

    @property
    def due(self) -> float:
        """When something is to be done about it."""
        if not self.process:
            return self.next_fork
        return min(self.heard + SILENCE, math.inf if self.visit else self.next_knock)

    def hear(self, now: float) -> None:
        """There is a sign of life."""
        self.forget_visit()
        self.heard = now
        self.next_knock = now + BETWEEN_KNOCKS

    def forget_visit(self) -> None:
        """Wait for no answer any more."""
        if self.visit is not None:
            self.visit.close()
            self.visit = None


class Askers:
    """All of them. `private` names the descriptors that no asker may keep, doors aside."""

    def __init__(self, console: Console, private: Callable[[], list[int]]) -> None:
        self._console = console
        self._private = private
        self._posts: list[_Post] = []

    def want(self, plan: Plan | None) -> None:
        """From now on there shall be an asker with this plan."""
        if plan is not None:
            self._posts.append(_Post(plan))

    def lack(self, plan: Plan | None) -> bool:
        """Whether an asker that is wanted has never been there yet."""
        return any(post.plan is plan and not post.was_held for post in self._posts)

    def dismiss(self, plan: Plan | None) -> None:
        """Nobody is left to ask: the asker ends, with the programs it has started."""
        for post in [post for post in self._posts if post.plan is plan]:
            self._posts.remove(post)
            _kill(post.process)
            post.forget_visit()
            post.plan.inner.close()
            post.plan.outer.close()

    def plans(self) -> list[Plan]:
        """Those of all askers that are wanted."""
        return [post.plan for post in self._posts]

    @property
    def due(self) -> float | None:
        """When to call `keep_up` again, by time.monotonic(); None: when something happens."""
        return min((post.due for post in self._posts), default=None)

    def keep_up(self, now: float) -> None:
        """Put somebody where nobody is, and look after those who are there."""
        for post in self._posts:
            if post.process:
                self._look_after(post, now)
            elif now >= post.next_fork:
                self._fork(post)

    def descriptors(self, plan: Plan | None) -> Iterator[int]:
        """Those that a worker may not keep; `plan` is that of its own asker."""
        for post in self._posts:
            yield post.plan.inner.fileno()
            if post.plan is not plan:
                yield post.plan.outer.fileno()
        yield from self._visits()

    def _visits(self) -> Iterator[int]:
        return (post.visit.fileno() for post in self._posts if post.visit is not None)

    def bury(self, process: int, cause: str) -> None:
        """A child has ended that is no worker."""
        for post in self._posts:
            if post.process == process:
                _kill_group(process)
                post.process = 0
                post.forget_visit()
                self._mourn(post, process, cause)

    def _look_after(self, post: _Post, now: float) -> None:
        if post.visit is not None and _is_answered(post.visit):
            post.hear(now)
        if post.visit is None and now >= post.next_knock:
            post.next_knock = now + BETWEEN_KNOCKS
            post.visit = knock(post.plan.outer)
            if post.visit is not None:
                post.visit.setblocking(False)
                with contextlib.suppress(OSError):
                    post.visit.send(asker_client.pack_question(_NOTHING))
        if now >= post.heard + SILENCE:
            self._console.error("asker_silent", pid=post.process, seconds=f"{now - post.heard:.0f}")
            post.hear(now)
            _kill(post.process)  # `bury` puts another in its place

    def _mourn(self, post: _Post, process: int, cause: str) -> None:
        age = time.monotonic() - post.born
        self._console.error("asker_fell", pid=process, cause=cause, age=f"{age:.1f}s")
        post.short_lives = post.short_lives + 1 if age < SHORT_LIFE else 0
        if post.short_lives:
            pause = min(SLOWEST_REPLACEMENT, 0.05 * 2.0 ** min(post.short_lives, 10))
            post.next_fork = time.monotonic() + pause
        if post.short_lives == CRASH_LOOP:
            self._console.error("asker_crash_loop", short_lives=post.short_lives, next_tries="one a second")

    def _fork(self, post: _Post) -> None:
        # As for a worker: no signal before the child has put away the parent's way of noticing them.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            process = os.fork()
            if process == 0:
                others = [one for one in self._posts if one is not post]
                doors = [
                    post.plan.outer,
                    *(one.plan.inner for one in others),
                    *(one.plan.outer for one in others),
                ]
                mine = [*self._private(), *self._visits()]
                asker.run(post.plan, [*mine, *(door.fileno() for door in doors)])
        except OSError as error:
            self._console.error("no_asker", reason=error.strerror)
            post.next_fork = time.monotonic() + SLOWEST_REPLACEMENT
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        post.process, post.was_held = process, True
        post.born = time.monotonic()
        post.hear(post.born)
        self._console.info("asker_started", pid=process, sources=" ".join(map(str, post.plan.sources)))


def _is_answered(visit: socket.socket) -> bool:
    """Whether it was answered, or closed, as a new asker's predecessor may have done."""
    try:
        visit.recv(asker_client.MAX_PACKET)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _kill(process: int) -> None:
    if process:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)  # its group may not be made yet
        _kill_group(process)


def _kill_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
