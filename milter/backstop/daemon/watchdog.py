"""The service manager's watchdog: fed after the milter socket has answered, and only then."""

import selectors

from backstop.daemon.console import Console
from backstop.daemon.notify import Notifier
from backstop.daemon.selftest import SelfTest

# Questions in a period, so that one that fails can be asked again in time
QUESTIONS = 3
# Seconds until a question that failed is asked again
RETRY = 1.0


class Watchdog:
    """Asks the socket of `target` now and then, without holding up the parent's loop."""

    def __init__(
        self, target: str, selector: selectors.BaseSelector, notifier: Notifier, console: Console
    ) -> None:
        self._target = target
        self._selector = selector
        self._notifier = notifier
        self._console = console
        self._test: SelfTest | None = None
        self._next = 0.0
        self._healthy = True

    @property
    def due(self) -> float | None:
        """When to call `watch` again, by the monotonic clock; `None`: nobody watches us."""
        if self._notifier.watchdog is None:
            return None
        return self._test.deadline if self._test else self._next

    def watch(self, now: float) -> None:
        """Ask when it is time, give up on a question that has become too old."""
        period = self._notifier.watchdog
        if period is None:
            return
        if self._test is None:
            if now < self._next:
                return
            self._test = SelfTest(self._target)
            if self._test.passed is None:
                self._selector.register(self._test.socket, selectors.EVENT_READ, self._test.go_on)
        self._test.expire(now)
        if self._test.passed is not None:
            self._conclude(self._test, passed=self._test.passed)
            self._next = now + (period / QUESTIONS if self._healthy else min(RETRY, period / QUESTIONS))

    def descriptors(self) -> list[int]:
        """Those that no worker may keep."""
        return [self._test.socket.fileno()] if self._test else []

    def _conclude(self, test: SelfTest, *, passed: bool) -> None:
        self._test = None
        if test.socket in self._selector.get_map():
            self._selector.unregister(test.socket)
        test.close()
        if passed:
            self._notifier.alive()
        if passed and not self._healthy:
            self._console.info("selftest_answers_again", socket=self._target)
        if not passed and self._healthy:
            self._console.error("selftest_fails", socket=self._target)
        self._healthy = passed
