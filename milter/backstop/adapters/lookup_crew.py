"""Questions to a directory or a database: a few threads, each with a connection of its own.

Client libraries wait for as long as the other side likes, whatever they promise. So the one who asks never
waits longer than its deadline: the thread stays behind with its connection and comes back when it can. When
all of them stay behind, nobody waits any more. One that stays behind for a minute is given up, and another
may begin: its driver may wait for a host that has died, and never learn that it is back. Should it return
after all, it closes its connection and ends, and its answer counts for nothing.

That nobody was found is believed only of a source that knows somebody at all (`Connection.has_anybody`).
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from backstop.facts import Existence

THREADS: Final = 4

PEOPLED_SECONDS: Final = 1.0
"""For how long it is believed that a source knows somebody: no longer, as a table may be emptied to be filled
anew, and no shorter, as to look may take a count of a whole table, and somebody may try all names."""

KNOWS_NOBODY: Final = "it knows nobody at all, so it is not believed that somebody does not exist"

GIVE_UP_SECONDS: Final = 60.0
"""For how long a thread stays behind before it is given up."""

MAX_GIVEN_UP: Final = 12
"""Threads given up that have not ended; beyond them those that stay behind are waited for."""

CLOSE_SECONDS: Final = 0.5

KEEPALIVE_IDLE: Final = 10
KEEPALIVE_INTERVAL: Final = 5
KEEPALIVE_PROBES: Final = 3
"""Seconds, seconds and a number, tcp(7): whoever waits for a server that has died learns of it."""

_MAX_DOMAINS: Final = 1000


class LookupFailed(Exception):
    """The other side did not answer, or not so that anything follows; the text is one line for a person."""


class NoClearWord(LookupFailed):
    """The other side did answer: to ask it again by another connection would say no more."""


class Connection(Protocol):
    """Used by one thread. What it asks raises `LookupFailed`; `deadline` is by time.monotonic()."""

    def knows(self, local: str, domain: str, deadline: float) -> bool:
        """Whether this address is there."""

    def has_anybody(self, domain: str, deadline: float) -> bool:
        """Whether anybody is there at all."""

    def close(self) -> None:
        """Leave; raises nothing."""


class Crew:
    """Asks one source. `connect` gets the deadline and raises `LookupFailed`."""

    def __init__(
        self, connect: Callable[[float], Connection], give_up_seconds: float = GIVE_UP_SECONDS
    ) -> None:
        self.trouble = ""
        """What is wrong with the source, for a person; empty when the last answer was a clear word."""
        self._connect = connect
        self._lock = threading.Lock()
        self._give_up_seconds = give_up_seconds
        self._threads: set[threading.Thread] = set()
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._under_way = 0
        self._stuck: dict[threading.Thread, float] = {}  # since when nobody waits for them
        self._given_up: set[threading.Thread] = set()
        self._peopled: dict[str, float] = {}

    def ask(self, local: str, domain: str, deadline: float) -> Existence:
        """Whether one address exists, by the deadline."""
        question = _Question(local, domain, deadline)
        with self._lock:
            self._give_up()
            if len(self._stuck) >= THREADS:
                waiting = len(self._stuck) + len(self._given_up)
                self.trouble = f"it has not answered {waiting} questions, which still wait"
                return Existence.UNKNOWN
            self._under_way += 1
            self._questions.put(question)
            if self._under_way > len(self._threads) < THREADS:
                self._begin_thread()
        if question.answered.wait(max(0.0, deadline - time.monotonic())):
            return question.answer
        return self._leave(question)

    def close(self) -> None:
        """End the threads that can end."""
        with self._lock:
            threads, self._threads = self._threads, set()
            for _ in threads:
                self._questions.put(None)
        until = time.monotonic() + CLOSE_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _begin_thread(self) -> None:
        # A daemon: one that is stuck does not keep the process from ending.
        thread = threading.Thread(target=self._work, name="lookup", daemon=True)
        with contextlib.suppress(RuntimeError):  # there is none left for now: the next question tries again
            thread.start()
            self._threads.add(thread)

    def _give_up(self) -> None:
        now = time.monotonic()
        for thread, since in list(self._stuck.items()):
            if now - since >= self._give_up_seconds and len(self._given_up) < MAX_GIVEN_UP:
                del self._stuck[thread]
                self._threads.discard(thread)
                self._under_way -= 1
                self._given_up.add(thread)

    def _leave(self, question: "_Question") -> Existence:
        with self._lock:
            if question.answered.is_set():
                return question.answer
            question.is_left = True
            if question.asker is not None:
                self._stuck[question.asker] = time.monotonic()
        self.trouble = "no answer in time"
        return Existence.UNKNOWN

    def _work(self) -> None:
        line = _Line(self._connect)
        me = threading.current_thread()
        try:
            while me not in self._given_up and (question := self._questions.get()) is not None:
                self._serve(question, line)
        finally:
            line.drop()
            with self._lock:
                self._given_up.discard(me)
                self._threads.discard(me)  # a bug has ended it: another may begin

    def _serve(self, question: "_Question", line: "_Line") -> None:
        me = threading.current_thread()
        with self._lock:
            question.asker = None if question.is_left else me
        answer = Existence.UNKNOWN
        try:
            if question.asker is not None:
                answer = self._find(question, line)
        finally:
            with self._lock:
                question.answer = answer
                question.answered.set()
                self._stuck.pop(me, None)
                if me not in self._given_up:
                    self._under_way -= 1

    def _find(self, question: "_Question", line: "_Line") -> Existence:
        try:
            existence = self._look(question, line)
            trouble = KNOWS_NOBODY if existence is Existence.UNKNOWN else ""
        except LookupFailed as failure:
            existence, trouble = Existence.UNKNOWN, str(failure)
        if not question.is_left:  # what comes too late is no news
            self.trouble = trouble
        return existence

    def _look(self, question: "_Question", line: "_Line") -> Existence:
        connection, was_used = line.take(question.deadline)
        try:
            return self._existence(connection, question)
        except NoClearWord:
            raise
        except LookupFailed:
            line.drop()
            # A connection that the other side has meanwhile closed is no trouble.
            if not was_used or time.monotonic() >= question.deadline:
                raise
        return self._look(question, line)

    def _existence(self, connection: Connection, question: "_Question") -> Existence:
        domain, deadline = question.domain, question.deadline
        began = time.monotonic()
        if connection.knows(question.local, domain, deadline):
            self._remember(question, began)
            return Existence.EXISTS
        with self._lock:
            is_peopled = time.monotonic() < self._peopled.get(domain, 0.0)
        if not is_peopled:
            if not connection.has_anybody(domain, deadline):
                return Existence.UNKNOWN
            self._remember(question, began)
        return Existence.MISSING

    def _remember(self, question: "_Question", began: float) -> None:
        with self._lock:
            if question.is_left:  # what comes too late may tell of long ago
                return
            if len(self._peopled) >= _MAX_DOMAINS:
                self._peopled.clear()
            self._peopled[question.domain] = began + PEOPLED_SECONDS


class _Question:
    def __init__(self, local: str, domain: str, deadline: float) -> None:
        self.local = local
        self.domain = domain
        self.deadline = deadline
        self.answer = Existence.UNKNOWN
        self.answered = threading.Event()
        self.asker: threading.Thread | None = None
        self.is_left = False


class _Line:
    """The connection of one thread, made when it is needed."""

    def __init__(self, connect: Callable[[float], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def take(self, deadline: float) -> tuple[Connection, bool]:
        """The connection, and whether it has been used before."""
        if self._connection is not None:
            return self._connection, True
        self._connection = self._connect(deadline)
        return self._connection, False

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
