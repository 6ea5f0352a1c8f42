"""The parent: keeps the workers of one configuration alive, changes them for another, and ends them.

It is one loop without threads that only waits for descriptors and points in time, so that a fork is safe at
any of its steps. The rules:

* A fallen worker is replaced at once; workers that fall as soon as they start are replaced ever more slowly,
  down to one try a second.
* A reload is whole or not at all: the new workers take sessions when all of them have started, and only then
  the old ones are told to finish theirs. Old workers are never hurried, unless reloads come faster than
  sessions end: then the oldest must be gone before the next reload, so that their number stays bounded.
* A configuration with slow recipient sources has an asker beside its workers: it is there before they are, is
  replaced like them, and ends after the last of them.
* A stop lets open sessions go on for `worker.STOP_SECONDS`, then cuts them; the mail server answers 451.
"""

import gc
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from backstop import __version__
from backstop.config import ConfigurationError
from backstop.daemon import worker
from backstop.daemon.asker import Plan
from backstop.daemon.askers import Askers
from backstop.daemon.console import Console
from backstop.daemon.crew import Crew, Death, Generation, Stage, Worker
from backstop.daemon.listener import Listener
from backstop.daemon.notify import Notifier
from backstop.daemon.signals import Signals
from backstop.daemon.watchdog import Watchdog
from backstop.daemon.worker import Serving

# All in seconds
START_SECONDS = 20.0  # a worker that has not started by then never will
KILL_SECONDS = worker.STOP_SECONDS + 1.2  # a worker's last flush may take about a second
SHORT_LIFE = 1.0
SLOWEST_REPLACEMENT = 1.0
BETWEEN_RELOADS = 0.5
HANDOVER_SECONDS = 3.0  # a worker that is not frozen lets go of the socket at once

# Times the number of workers: so many old ones may still have sessions when a reload begins.
OLD_GENERATIONS = 8
# Lives cut short in a row that are worth an error
CRASH_LOOP = 5


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a configuration means for the parent. `workers` is 0 for one a core."""

    socket: str
    workers: int
    service: Serving
    asker: Plan | None = None

    @property
    def size(self) -> int:
        """How many workers there shall be, on the cores that we may use."""
        return self.workers or len(os.sched_getaffinity(0))


class Supervisor:
    """One daemon, from its start to its end.

    `build` reads the configuration anew; it raises `ConfigurationError`.
    """

    def __init__(
        self, first: Blueprint, build: Callable[[], Blueprint], listener: Listener, signals: Signals
    ) -> None:
        self._build = build
        self._listener = listener
        self._signals = signals
        self._console = Console()
        self._notifier = Notifier()
        self._selector = selectors.PollSelector()
        self._watchdog = Watchdog(listener.target, self._selector, self._notifier, self._console)
        self._crew = Crew(listener.descriptor, self._not_for_workers)
        self._askers = Askers(self._console, self._not_for_askers)
        self._current = self._engage(first)
        self._coming: Generation | None = None
        self._announced = False
        self._reload_wanted = False
        self._next_reload = 0.0
        self._next_fork = 0.0
        self._short_lives = 0
        self._handover_until: float | None = None
        self._kill_at: float | None = None

    def run(self) -> int:
        """Serve until a signal ends it; the exit status."""
        self._selector.register(self._signals.inbox, selectors.EVENT_READ, self._on_signals)
        _settle_memory()
        self._console.info(
            "starting", version=__version__, socket=self._listener.target, workers=self._current.size
        )
        while self._kill_at is None or len(self._crew):
            self._do_what_is_due()
            for key, _ in self._selector.select(self._patience()):
                # An event before this one may have been its end.
                if self._selector.get_map().get(key.fd) is key:
                    act: Callable[[], None] = key.data
                    act()
        for plan in self._askers.plans():
            self._askers.dismiss(plan)
        self._listener.release_lock()
        self._console.info("stopped")
        return os.EX_OK

    # Time

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._kill_the_rest()
            return
        for one in self._crew:
            if one.stage is Stage.STARTING and one.age > START_SECONDS:
                self._give_up_worker(one)
        self._askers.keep_up(now)
        self._fill_up(now)
        self._conclude_handover(now)
        if self._may_reload() and now >= self._next_reload:
            self._reload(now)
        if self._announced:
            self._watchdog.watch(now)

    def _patience(self) -> float | None:
        """Seconds until the next point in time that matters; `None`: only events do."""
        points = []
        if self._kill_at is not None:
            points.append(self._kill_at)
        else:
            points += [one.born + START_SECONDS for one in self._crew if one.stage is Stage.STARTING]
            if self._missing():
                points.append(self._next_fork)
            if self._askers.due is not None:
                points.append(self._askers.due)
            if self._may_reload():
                points.append(self._next_reload)
            if self._handover_until is not None:
                points.append(self._handover_until)
            if self._announced and self._watchdog.due is not None:
                points.append(self._watchdog.due)
        # A little more, so that the point has passed when we look.
        return max(0.0, min(points) - time.monotonic()) + 0.001 if points else None

    # Signals

    def _on_signals(self) -> None:
        numbers = self._signals.read()
        if signal.SIGCHLD in numbers:
            for death in self._crew.deaths():
                if death.worker is None:
                    self._askers.bury(death.process, death.cause)
                else:
                    self._bury(death.worker, death)
        if signal.SIGHUP in numbers:
            self._reload_wanted = True
        if numbers & {signal.SIGTERM, signal.SIGINT} and self._kill_at is None:
            self._stop()

    # Workers

    def _missing(self) -> int:
        alive = self._crew.of(self._current, Stage.STARTING, Stage.READY, Stage.SERVING)
        return self._current.size - len(alive)

    def _engage(self, blueprint: Blueprint) -> Generation:
        """A generation without workers yet; its asker comes first."""
        self._askers.want(blueprint.asker)
        return Generation(blueprint.service, blueprint.size, blueprint.asker)

    def _fill_up(self, now: float) -> None:
        if now < self._next_fork or self._askers.lack(self._current.asker):
            return
        for _ in range(self._missing()):
            if not self._fork(self._current):
                self._next_fork = now + SLOWEST_REPLACEMENT
                return

    def _fork(self, generation: Generation) -> bool:
        try:
            born = self._crew.fork(generation)
        except OSError as error:
            self._console.error("no_new_worker", reason=error.strerror)
            return False
        self._selector.register(born.channel, selectors.EVENT_READ, lambda: self._on_word(born))
        return True

    def _give_up_worker(self, one: Worker) -> None:
        self._console.error("worker_never_started", pid=one.process, seconds=START_SECONDS)
        if one.generation is self._coming:
            self._give_up_reload("a new worker does not start")
            return
        one.stage = Stage.LEAVING
        one.kill()

    def _on_word(self, one: Worker) -> None:
        try:
            word = one.channel.recv(16)
        except OSError:
            word = b""
        if not word:  # its death will be told by SIGCHLD
            self._selector.unregister(one.channel)
            return
        if worker.LET_GO in word:
            one.accepts = False
        if worker.READY not in word or one.stage is not Stage.STARTING:
            return
        one.stage = Stage.READY
        if one.generation is self._current:
            self._let_serve(one)
            self._announce_start()
        else:
            self._change_over()

    def _let_serve(self, one: Worker) -> None:
        one.tell(worker.GO)
        one.stage = Stage.SERVING
        one.accepts = True

    def _announce_start(self) -> None:
        if self._announced or len(self._crew.of(self._current, Stage.SERVING)) < self._current.size:
            return
        self._announced = True
        self._console.info("serving", socket=self._listener.target, workers=self._current.size)
        self._notifier.ready(self._status())

    def _bury(self, one: Worker, death: Death) -> None:
        if one.channel in self._selector.get_map():
            self._selector.unregister(one.channel)
        one.channel.close()
        self._dismiss_askers()
        if one.stage is Stage.LEAVING:
            if death.status != 0:
                self._console.warning("worker_left", pid=one.process, cause=death.cause)
            if self._kill_at is None:
                self._notifier.status(self._status())
            return
        if self._coming and one.generation is self._coming:
            self._give_up_reload(f"a new worker ended with {death.cause}")
            return
        self._console.error("worker_fell", pid=one.process, cause=death.cause, age=f"{one.age:.1f}s")
        self._short_lives = self._short_lives + 1 if one.age < SHORT_LIFE else 0
        if self._short_lives:
            pause = min(SLOWEST_REPLACEMENT, 0.05 * 2.0 ** min(self._short_lives, 10))
            self._next_fork = time.monotonic() + pause
        if self._short_lives == CRASH_LOOP:
            self._console.error("crash_loop", short_lives=self._short_lives, next_tries="one a second")

    def _dismiss_askers(self) -> None:
        """Of configurations that have no workers any more, nor will."""
        wanted = [one.generation.asker for one in self._crew]
        if self._kill_at is None:
            wanted += [self._current.asker, self._coming.asker if self._coming else None]
        for plan in self._askers.plans():
            if plan not in wanted:
                self._askers.dismiss(plan)

    # Reload

    def _may_reload(self) -> bool:
        return self._reload_wanted and self._coming is None and self._handover_until is None

    def _reload(self, now: float) -> None:
        """Begin a change of configuration; it ends in `_conclude_handover` or `_give_up_reload`."""
        leaving = self._crew.leaving()
        self._next_reload = now + BETWEEN_RELOADS
        if len(leaving) > OLD_GENERATIONS * self._current.size:
            self._console.warning("reload_waits", old_workers=len(leaving), hurried=leaving[0].process)
            leaving[0].tell(worker.STOP)
            return
        self._reload_wanted = False
        self._notifier.reloading()
        try:
            blueprint = self._build()
        except ConfigurationError as error:
            for fault in error.faults:
                self._console.error("reload_refused", reason=fault)
            self._notifier.ready(f"reload refused, the old configuration stays; {self._status()}")
            return
        if blueprint.socket != self._listener.target:
            self._console.warning(
                "restart_needed", setting="socket", wanted=blueprint.socket, kept=self._listener.target
            )
        _settle_memory()
        self._coming = self._engage(blueprint)
        self._askers.keep_up(now)
        if self._askers.lack(blueprint.asker):
            self._give_up_reload("no asker can be started")
            return
        for _ in range(blueprint.size):
            if not self._fork(self._coming):
                self._give_up_reload("no new worker can be started")
                return

    def _change_over(self) -> None:
        """Once every new worker has started: let them serve, and the old ones leave."""
        coming = self._coming
        if coming is None:
            return
        fresh = self._crew.of(coming, Stage.READY)
        if len(fresh) < coming.size:
            return
        old = self._crew.of(self._current, Stage.STARTING, Stage.READY, Stage.SERVING)
        self._current, self._coming = coming, None
        self._short_lives = 0
        self._next_fork = 0.0
        for one in fresh:
            self._let_serve(one)
        for one in old:
            one.stage = Stage.LEAVING
            one.tell(worker.DRAIN)
        self._handover_until = time.monotonic() + HANDOVER_SECONDS

    def _conclude_handover(self, now: float) -> None:
        """Say that the new configuration holds once no old worker takes sessions any more."""
        if self._handover_until is None:
            return
        slow = [one for one in self._crew.leaving() if one.accepts]
        if slow and now < self._handover_until:
            return
        for one in slow:
            self._console.warning("old_worker_still_accepts", pid=one.process)
        self._handover_until = None
        self._announced = True
        leaving = len(self._crew.leaving())
        self._console.info("reloaded", workers=self._current.size, old_workers=leaving)
        self._notifier.ready(self._status())

    def _give_up_reload(self, reason: str) -> None:
        """The new workers have served nobody yet, so they may simply go."""
        coming = self._coming
        if coming is None:
            return
        self._coming = None
        for one in self._crew.of(coming, Stage.STARTING, Stage.READY):
            one.stage = Stage.LEAVING
            one.kill()
        self._dismiss_askers()
        self._console.error("reload_refused", reason=reason)
        self._notifier.ready(f"reload refused, the old configuration stays; {self._status()}")

    def _status(self) -> str:
        serving = len(self._crew.of(self._current, Stage.SERVING))
        leaving = len(self._crew.leaving())
        ending = f", {leaving} of older configurations finish their sessions" if leaving else ""
        return f"{serving} of {self._current.size} workers serve{ending}"

    # Stop

    def _stop(self) -> None:
        self._console.info("stopping", workers=len(self._crew))
        self._notifier.stopping()
        self._kill_at = time.monotonic() + KILL_SECONDS
        self._listener.close()
        for one in self._crew:
            if one.stage in (Stage.STARTING, Stage.READY):  # it has served nobody yet
                one.kill()
            one.stage = Stage.LEAVING
            one.tell(worker.STOP)

    def _kill_the_rest(self) -> None:
        for one in self._crew:
            self._console.warning("worker_killed", pid=one.process, reason="did not finish in time")
            one.kill()
        self._kill_at = time.monotonic() + KILL_SECONDS

    def _private_descriptors(self) -> list[int]:
        lock = self._listener.inherited_lock()
        return [
            *self._signals.descriptors(),
            *([lock] if lock is not None else []),
            *self._watchdog.descriptors(),
        ]

    def _not_for_workers(self, generation: Generation) -> list[int]:
        return [*self._private_descriptors(), *self._askers.descriptors(generation.asker)]

    def _not_for_askers(self) -> list[int]:
        return [*self._private_descriptors(), *self._crew.channels(), self._listener.descriptor]


def _settle_memory() -> None:
    """Put what the workers will share out of the collector's reach: its marks would unshare the pages."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
