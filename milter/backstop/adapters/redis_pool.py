"""The few connections of one process, lent to one thread at a time.

The one used last is lent first, so that few stay busy. Whoever has to wait is served in turn: threads that
come back at once would take every connection that is freed (measured: with 32 threads at 8 connections some
waited for 200 ms in vain).
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from backstop.adapters.redis_link import Link, StoreUnavailable


class _Ticket:
    """A place in the queue. Once `called` is released: a refusal, a connection, or the place to open one."""

    __slots__ = ("called", "link", "refusal")

    def __init__(self) -> None:
        self.called = threading.Lock()
        self.called.acquire()
        self.link: Link | None = None
        self.refusal = ""


class Pool:
    """At most `most` connections, opened by `open_link` (which gets a deadline, monotonic) when wanted."""

    def __init__(self, open_link: Callable[[float], Link], most: int) -> None:
        self._open_link = open_link
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._queue: deque[_Ticket] = deque()
        self._made = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no connection, neither idle nor lent."""
        return not self._made

    @property
    def is_used_up(self) -> bool:
        """Whether a taker would have to wait now."""
        return not self._idle and self._made >= self._most

    def take_idle(self) -> Link | None:
        """A connection that nobody uses, if there is one; lent until `give` or `drop`."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def take(self, wait_until: float, deadline: float) -> Link:
        """The same, if need be newly opened or after waiting; StoreUnavailable when time runs out."""
        if link := self.take_idle():
            return link
        with self._lock:
            if self._made < self._most:
                self._made += 1
                ticket = None
            else:
                ticket = _Ticket()
                self._queue.append(ticket)
                if link := self.take_idle():  # given back between the first look and here
                    self._queue.pop()
                    return link
        if ticket is None:
            return self._fill_place(deadline)
        if not ticket.called.acquire(timeout=max(wait_until - time.monotonic(), 0)):
            with self._lock:
                if ticket in self._queue:
                    self._queue.remove(ticket)
                    raise StoreUnavailable("all connections are busy")
        if ticket.refusal:
            raise StoreUnavailable(ticket.refusal)
        return ticket.link or self._fill_place(deadline)

    def open(self, deadline: float) -> Link:
        """A new connection, even if there are enough."""
        with self._lock:
            self._made += 1
        return self._fill_place(deadline)

    def adopt(self, link: Link) -> None:
        """Take in a connection that was opened elsewhere."""
        with self._lock:
            self._made += 1
        self.give(link)

    def give(self, link: Link) -> None:
        """Hand back a connection that may be used again."""
        link.reused = True
        self._idle.append(link)
        # Whoever queues looks for an idle connection after he took his place: no lock is needed to see him.
        if self._queue:
            with self._lock:
                while self._queue and (found := self.take_idle()):
                    ticket = self._queue.popleft()
                    ticket.link = found
                    ticket.called.release()

    def drop(self, link: Link) -> None:
        """Close a connection that is not to be used again."""
        link.close()
        self._leave_place()

    def close_idle(self) -> None:
        """Close all that nobody uses."""
        while link := self.take_idle():
            self.drop(link)

    def refuse_waiting(self, why: str) -> None:
        """Send away everybody who waits."""
        with self._lock:
            while self._queue:
                ticket = self._queue.popleft()
                ticket.refusal = why
                ticket.called.release()

    def abandon(self) -> None:
        """Close a forked process's copies of the descriptors; the parent's connections live on."""
        for link in self._idle:
            link.close()

    def _fill_place(self, deadline: float) -> Link:
        link = None
        try:
            link = self._open_link(deadline)
        finally:
            if link is None:
                self._leave_place()
        return link

    def _leave_place(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().called.release()
            else:
                self._made -= 1
