"""Recipient sources that take their time: what they promise, and what is kept of their answers.

They are asked in a process of their own (`adapters.asker_client`), where waiting, programs and connections
hurt nobody. Answers are kept there for all workers: that somebody exists for minutes, and for a day while
the source cannot be asked again; that nobody does for a minute; that nobody could say for seconds, so that a
crowd does not press on a source that is down.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from backstop.facts import Existence

MAX_KEPT: Final = 10_000
"""Answers of one source that are kept, those that somebody exists and all others each."""

MAX_KEY: Final = 320
"""Characters of an address whose answer is kept; a longer one is nobody's."""

SECONDS: Final[Mapping[Existence, float]] = {
    Existence.EXISTS: 900.0,
    Existence.ANYBODY: 300.0,
    Existence.MISSING: 60.0,
    Existence.UNKNOWN: 3.0,
}
"""For how long an answer is kept."""

STALE_SECONDS: Final = 86_400.0
"""For how long it is believed that somebody exists, while the source cannot say."""

CLEAR_WORDS: Final[Mapping[Existence, float]] = {
    existence: seconds for existence, seconds in SECONDS.items() if existence is not Existence.UNKNOWN
}
"""For a source that keeps its answers itself: they are given at once here, without a thread for each."""

NOTHING_KEPT: Final[Mapping[Existence, float]] = {}
"""For a source that answers in no time."""


class SlowSource(Protocol):
    """Knows which recipients exist, after a while.

    `ask` never raises, and any number of threads call it. `local` is without its tag, and folded but for a
    next hop; `deadline` is by time.monotonic(). UNKNOWN stands for everything that is no clear word.
    `trouble` says what is wrong with the source, and is empty while nothing is.
    """

    def ask(self, local: str, domain: str, deadline: float) -> Existence:
        """Whether one address exists."""

    @property
    def trouble(self) -> str:
        """What is wrong, for a person."""

    def close(self) -> None:
        """Leave; nothing is asked any more."""


@dataclass(frozen=True, slots=True)
class _Kept:
    existence: Existence
    until: float
    stale_until: float


class KeptAnswers:
    """A source whose answers are kept for `seconds`: none where it has a memory of its own, or needs none."""

    def __init__(
        self,
        source: SlowSource,
        seconds: Mapping[Existence, float] = SECONDS,
        clock: Callable[[], float] = time.monotonic,
        most: int = MAX_KEPT,
    ) -> None:
        self._source = source
        self._seconds = seconds
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        # Apart, so that a search through all names does not push out those that exist.
        self._there: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._others: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    @property
    def trouble(self) -> str:
        """As the source has it."""
        return self._source.trouble

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def known(self, local: str, domain: str) -> Existence | None:
        """The answer that is still kept; None without one."""
        key = local, domain
        with self._lock:
            kept = self._there.get(key) or self._others.get(key)
            return kept.existence if kept is not None and self._clock() < kept.until else None

    def ask(self, local: str, domain: str, deadline: float) -> Existence:
        """What is kept, or else what the source says now."""
        known = self.known(local, domain)
        if known is not None:
            return known
        existence = self._source.ask(local, domain, deadline)
        if len(local) + len(domain) > MAX_KEY or existence not in self._seconds:
            return existence
        with self._lock:
            return self._keep((local, domain), existence)

    def _keep(self, key: tuple[str, str], existence: Existence) -> Existence:
        """What is answered: what the source said, or what it said before it knew no more."""
        now = self._clock()
        until, stale_until = now + self._seconds[existence], now + STALE_SECONDS
        before = self._there.pop(key, None)
        self._others.pop(key, None)
        if existence is Existence.UNKNOWN and before is not None and now < before.stale_until:
            existence, stale_until = Existence.EXISTS, before.stale_until
        answers = self._there if existence is Existence.EXISTS else self._others
        answers[key] = _Kept(existence, until, stale_until)
        while len(answers) > self._most:
            answers.popitem(last=False)
        return existence
