"""The asker: one process for each configuration, which asks slow recipient sources for all its workers.

So limits and kept answers hold for the whole daemon, workers never fork, and what a library does to its
process is not done to them. One loop takes the questions and gives the answers that are kept; what must be
sought gets a thread, up to a bound, and beyond it the answer is "unknown" at once. How questions come here is
told in `adapters.asker_client`; `daemon.askers` keeps this process alive.
"""

import contextlib
import os
import re
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from backstop.adapters import asker_client
from backstop.adapters.asker_client import MAX_PACKET, Question
from backstop.adapters.slow_source import KeptAnswers
from backstop.adapters.slow_sources import SlowSources
from backstop.daemon import child
from backstop.daemon.console import Console
from backstop.facts import Existence
from backstop.settings import SourceName

MAX_SOUGHT: Final = 64
"""Questions that are sought at once."""

MAX_OF_SOURCE: Final = 32
"""Of them, those put to one source: one that hangs leaves room for the others."""

MAX_CONVERSATIONS: Final = 2048

BETWEEN_LINES: Final = 60.0
"""Seconds between two log lines about one source."""

# What is shown of a complaint where logs hide addresses: no pattern finds them in all that a next hop, a
# database or a program may write, so only these are.
_REPLY = re.compile(r"(?<!\S)[245]\d\d(?: [#(\[]*[245]\.\d{1,3}\.\d{1,3}\b)?(?![^\s,;:)\]])")
_EXCEPTION = re.compile(r"\w+(?=: )")
_OWN_WORDS = re.compile(
    "no answer in time|no connection|no TLS|TLS failed|it hung up|knows nobody|is empty|is being written"
    r"|questions went|\d+ questions|ended with status \d+|is not installed|cannot be used"
    "|Can't contact LDAP server|Invalid credentials"
)
HIDDEN: Final = "not shown, as it may name an address"
"""Where none of them fits."""

_ONCE: Final = select.EPOLLIN | select.EPOLLONESHOT


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What the asker of one configuration asks, and its door: `inner` is its end, `outer` the workers'."""

    sources: tuple[SourceName, ...]
    open_source: Callable[[SourceName], KeptAnswers]
    inner: socket.socket
    outer: socket.socket
    shows_addresses: bool = True


def run(plan: Plan, to_close: Iterable[int]) -> NoReturn:
    """All of an asker's life, right after the fork, with every signal blocked."""
    status = os.EX_SOFTWARE
    try:
        child.leave_parent(to_close, ())
        for number in (signal.SIGHUP, signal.SIGINT):  # they are for the parent
            signal.signal(number, signal.SIG_IGN)
        report = Report(Console(), shows_addresses=plan.shows_addresses)
        Asker(plan.inner, SlowSources(plan.sources, plan.open_source, report.note), report).serve()
        status = os.EX_OK
    finally:
        child.end(status)


class Report:
    """What is logged of sources: that one does not know any more, and that it knows again."""

    def __init__(
        self, console: Console, *, shows_addresses: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._shows_addresses = shows_addresses
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, bool]] = {}

    def note(self, source: str, trouble: str) -> None:
        """A source has answered; `trouble` is empty where it knew."""
        with self._lock:
            now = self._clock()
            since, was_bad = self._told.get(source, (now - BETWEEN_LINES, False))
            if now - since < BETWEEN_LINES or not (trouble or was_bad):
                return
            self._told[source] = now, bool(trouble)
        if not trouble:
            self._console.info("source_knows_again", source=source, pid=os.getpid())
            return
        shown = trouble if self._shows_addresses else _without_addresses(source, trouble)
        self._console.warning("source_does_not_know", source=source, reason=shown, pid=os.getpid())


def _without_addresses(source: str, trouble: str) -> str:
    found = None
    if source.startswith("callahead:"):
        found = _REPLY.search(trouble)
    elif source.startswith("sql:"):
        found = _EXCEPTION.match(trouble)
    found = found or _OWN_WORDS.search(trouble)
    return found[0] if found else HIDDEN


class Asker:
    """Serves the conversations that are handed in at a door until nobody is left who could."""

    def __init__(self, door: socket.socket, sources: SlowSources, report: Report) -> None:
        self._door = door
        self._sources = sources
        self._report = report
        self._epoll = select.epoll()
        self._conversations: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._sought: Counter[str] = Counter()

    def serve(self) -> None:
        """Return once the parent and all its workers have closed the other end."""
        self._epoll.register(self._door, select.EPOLLIN)
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor != self._door.fileno():
                    self._hear(self._conversations[descriptor])
                elif not self._welcome():
                    return

    def _welcome(self) -> bool:
        try:
            conversation = asker_client.visitor(self._door)
        except OSError:  # out of descriptors: whoever came sees a closed conversation
            return True
        if conversation is None:
            return False
        if len(self._conversations) >= MAX_CONVERSATIONS:
            conversation.close()
            return True
        self._conversations[conversation.fileno()] = conversation
        self._epoll.register(conversation, _ONCE)
        return True

    def _hear(self, conversation: socket.socket) -> None:
        """A question, or the end of a conversation. Until it is answered no other word is heard."""
        try:
            packet = conversation.recv(MAX_PACKET)
        except OSError:
            packet = b""
        question = asker_client.read_question(packet) if packet else None
        if question is None:
            del self._conversations[conversation.fileno()]
            conversation.close()  # which takes it out of epoll as well
            return
        known = self._sources.known(question)
        if known is not None:
            self._answer(conversation, known)
        elif time.monotonic() >= question.deadline or not self._seek(conversation, question):
            self._answer(conversation, Existence.UNKNOWN)

    def _seek(self, conversation: socket.socket, question: Question) -> bool:
        """Ask the source in a thread; False where too much is under way."""
        source = question.source
        with self._lock:
            if self._sought.total() >= MAX_SOUGHT or self._sought[source] >= MAX_OF_SOURCE:
                full = f"{self._sought[source]} questions are under way"
            else:
                full = ""
                self._sought[source] += 1
        if not full:
            try:
                threading.Thread(target=self._ask, args=(conversation, question), daemon=True).start()
                return True
            except RuntimeError as error:  # no more threads
                full = str(error)
                self._done(source)
        self._report.note(source, full)
        return False

    def _ask(self, conversation: socket.socket, question: Question) -> None:
        existence = Existence.UNKNOWN
        try:
            existence = self._sources.ask(question)
        finally:  # after a bug, too, whose traceback Python writes
            self._done(question.source)
            self._answer(conversation, existence)

    def _done(self, source: str) -> None:
        with self._lock:
            self._sought[source] -= 1

    def _answer(self, conversation: socket.socket, existence: Existence) -> None:
        with contextlib.suppress(OSError):  # whoever asked has left
            conversation.send(asker_client.pack_answer(existence))
        self._epoll.modify(conversation, _ONCE)
