"""The parent's record of its askers: one for each configuration that still has workers, kept alive.

The door of a configuration is the parent's as well, so that questions wait there while an asker that fell is
replaced.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from backstop.daemon import asker
from backstop.daemon.asker import Plan
from backstop.daemon.console import Console

SHORT_LIFE: Final = 1.0
"""Seconds; askers that live shorter are replaced ever more slowly."""

SLOWEST_REPLACEMENT: Final = 1.0
CRASH_LOOP: Final = 5
"""Lives cut short in a row that are worth an error."""


@dataclass(slots=True)
class _Post:
    """The place of one configuration's asker; `process` is 0 while nobody holds it."""

    plan: Plan
    process: int = 0
    born: float = 0.0
    next_fork: float = 0.0
    short_lives: int = 0
    was_held: bool = field(default=False)


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
            post.plan.inner.close()
            post.plan.outer.close()

    def plans(self) -> list[Plan]:
        """Those of all askers that are wanted."""
        return [post.plan for post in self._posts]

    @property
    def due(self) -> float | None:
        """When to call `keep_up` again, by time.monotonic(); None: when something happens."""
        return min((post.next_fork for post in self._posts if not post.process), default=None)

    def keep_up(self, now: float) -> None:
        """Put somebody where nobody is."""
        for post in self._posts:
            if not post.process and now >= post.next_fork:
                self._fork(post)

    def descriptors(self, plan: Plan | None) -> Iterator[int]:
        """Those of doors that a worker may not keep; `plan` is that of its own asker."""
        for post in self._posts:
            yield post.plan.inner.fileno()
            if post.plan is not plan:
                yield post.plan.outer.fileno()

    def bury(self, process: int, cause: str) -> None:
        """A child has ended that is no worker."""
        for post in self._posts:
            if post.process == process:
                _kill_group(process)
                post.process = 0
                self._mourn(post, process, cause)

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
                asker.run(post.plan, [*self._private(), *(door.fileno() for door in doors)])
        except OSError as error:
            self._console.error("no_asker", reason=error.strerror)
            post.next_fork = time.monotonic() + SLOWEST_REPLACEMENT
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        post.process, post.born, post.was_held = process, time.monotonic(), True
        self._console.info("asker_started", pid=process, sources=" ".join(map(str, post.plan.sources)))


def _kill(process: int) -> None:
    if process:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)  # its group may not be made yet
        _kill_group(process)


def _kill_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
