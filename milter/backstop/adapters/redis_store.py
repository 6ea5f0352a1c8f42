"""The store of one worker: a small pool of connections behind a circuit breaker. See DESIGN, section 5.

`ask` is a message's question: one round trip, late once by the timeout when the server hangs, and refused
at once from then on. `tell` is a write nobody waits for. `write` is the flusher's, which must
know what surely failed. `probe`, in the background, finds out when the server is back: no message pays for a
trial.

A Redis user of the daemon's own needs a right to what the daemon asks and tells, to `~backstop:*`, and to
`getrange`, by which it is tried; `hello` needs none, `select` only for a database other than 0.
"""

import os
import threading
import time
from collections.abc import Sequence
from typing import Final

from backstop.adapters import redis_names
from backstop.adapters.redis_link import (
    Link,
    LinkBroken,
    LinkClosed,
    LinkLate,
    Reply,
    ReplyError,
    StoreUnavailable,
    Word,
    begun,
    ended,
    glance,
    pack,
)
from backstop.adapters.redis_place import parse_place
from backstop.adapters.redis_pool import Pool
from backstop.adapters.redis_server import Server

__all__ = ["Reply", "ReplyError", "Store", "StoreUnavailable", "Word", "begun", "ended", "glance", "pack"]

_TRIAL_EVERY: Final = 1.0
_TRIAL: Final = (glance(redis_names.BLOCK_ALL), 1)


class Store:
    """Redis or Valkey, for the threads of one process; a forked process opens connections of its own.

    `url` as `redis_place` says, else ValueError. `timeout` in seconds is for a whole question: half of it at
    most for a free connection, the rest for its opening and the answer. `write_timeout` is for `write` alone.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        connections: int = 16,
        timeout: float = 0.2,
        write_timeout: float = 1.0,
    ) -> None:
        self._server = Server(parse_place(url))
        self._most = connections
        self._timeout = timeout
        self._write_timeout = write_timeout
        self._pool = Pool(self._open, connections)
        self._pid = os.getpid()
        self._forking = threading.Lock()
        self._reason = ""
        self._closed = False
        self._trial: tuple[bytes, int] = _TRIAL
        self._next_trial = 0.0

    def __str__(self) -> str:
        """Where it is, as a URL without user and password."""
        return str(self._server.place)

    @property
    def available(self) -> bool:
        """Whether the next question will be put at all."""
        return not self._reason

    @property
    def reason(self) -> str:
        """Why it is not available; empty when it is."""
        return self._reason

    def ask(self, commands: Sequence[bytes], told: Sequence[bytes] = ()) -> list[Reply]:
        """Put packed read commands in one round trip; a reply for each, errors among them.

        `told` goes out behind them in the same piece, as with `tell`. Where a connection turns out to be
        closed, all is put again on a fresh one: nothing that does harm when it is done twice.
        """
        replies = self._ask(commands, told)
        if len(replies) < len(commands):
            replies += self._ask_on(commands, len(replies))
        return replies

    def tell(self, commands: Sequence[bytes]) -> None:
        """Send packed commands at once and wait for nothing. They may be lost; never raises."""
        if self._pid != os.getpid():
            self._forget_parent()
        if self._reason or self._pool.is_used_up:
            return
        try:
            link = self._take(time.monotonic() + self._timeout)
        except StoreUnavailable:
            return
        try:
            link.post(b"".join(commands), len(commands))
        except LinkBroken:
            self._pool.drop(link)
        else:
            self._give(link)

    def write(self, commands: Sequence[bytes]) -> Sequence[Reply]:
        """Send packed commands and return the replies that came, in order.

        Are they fewer than the commands, nobody knows what became of the rest. `StoreUnavailable`: surely
        none was carried out.
        """
        if self._pid != os.getpid():
            self._forget_parent()
        if self._reason:
            raise StoreUnavailable(self._reason)
        link = self._take_sound()
        link.wait_at_most(self._write_timeout)
        why = ""
        sound = False
        replies: Sequence[Reply] = ()
        try:
            replies = link.exchange(b"".join(commands), len(commands), time.monotonic() + self._write_timeout)
            why = self._why_unfit(replies)
            sound = not why
        except LinkBroken as error:
            replies = error.replies
            why = str(error) if isinstance(error, LinkLate) else ""
        finally:
            if sound:
                self._give(link)
            else:
                self._pool.drop(link)
        if why:
            self._trip(why)
        return replies

    def probe(self) -> bool:
        """Whether the store is available. While it is not, each second's first call makes a trial.

        The first call of all opens a connection, so that no message has to.
        """
        if self._pid != os.getpid():
            self._forget_parent()
        if not self._reason and not self._pool.is_empty:
            return True
        now = time.monotonic()
        if self._closed or now < self._next_trial:
            return not self._reason
        self._next_trial = now + _TRIAL_EVERY
        try:
            self._server.locate(self._timeout)
            link = self._try(time.monotonic() + self._timeout)
        except StoreUnavailable as error:
            self._trip(str(error))
            return False
        self._trial = _TRIAL
        self._reason = ""
        self._pool.adopt(link)
        return True

    def close(self) -> None:
        """Close all connections; from now on the store is unavailable."""
        self._closed = True
        self._trip("it was closed")

    def _ask(self, commands: Sequence[bytes], told: Sequence[bytes] = ()) -> list[Reply]:
        if self._pid != os.getpid():
            self._forget_parent()
        if self._reason:
            raise StoreUnavailable(self._reason)
        deadline = time.monotonic() + self._timeout
        link = self._take(deadline)
        packed, count, extra = b"".join(commands), len(commands), len(told)
        whole = packed + b"".join(told) if extra else packed
        replies = None
        try:
            replies = link.exchange(whole, count, deadline, extra)
        except LinkClosed as error:
            if not link.reused:
                self._trip(str(error))
                raise
        except StoreUnavailable as error:
            self._trip(str(error))
            raise
        finally:
            if replies is None:
                self._pool.drop(link)
        if replies is None:
            # Those that were opened before the server went away are as dead as this one.
            self._pool.close_idle()
            link, replies = self._ask_afresh(whole, count, deadline, extra)
        if link.fault is not None and link.fault.unfit:
            self._pool.drop(link)
            self._trial = packed, count
            self._trip(link.fault.unfit)
            raise StoreUnavailable(link.fault.unfit)
        self._give(link)
        return replies

    def _ask_afresh(self, packed: bytes, count: int, deadline: float, told: int) -> tuple[Link, list[Reply]]:
        link = self._pool.open(deadline)
        replies = None
        try:
            replies = link.exchange(packed, count, deadline, told)
        except StoreUnavailable as error:
            self._trip(str(error))
            raise
        finally:
            if replies is None:
                self._pool.drop(link)
        return link, replies

    def _ask_on(self, commands: Sequence[bytes], answered: int) -> list[Reply]:
        """Put the rest of the questions, after a reply that was too big to be read to its end."""
        until = time.monotonic() + self._timeout
        replies: list[Reply] = []
        while (done := answered + len(replies)) < len(commands):
            if time.monotonic() > until:
                raise StoreUnavailable("its answers are too big to be read in time")
            replies += self._ask(commands[done:])
        return replies

    def _take(self, deadline: float) -> Link:
        if link := self._pool.take_idle():
            return link
        link = self._pool.take(deadline - self._timeout / 2, deadline)
        link.wait_at_most(deadline - time.monotonic())
        return link

    def _take_sound(self) -> Link:
        while True:
            link = self._take(time.monotonic() + self._timeout)
            if not link.is_stale():
                return link
            self._pool.drop(link)

    def _give(self, link: Link) -> None:
        if self._reason or link.spent:
            self._pool.drop(link)
        else:
            self._pool.give(link)

    def _open(self, deadline: float) -> Link:
        if self._reason:
            raise StoreUnavailable(self._reason)
        try:
            return self._server.open(self._timeout, deadline)
        except StoreUnavailable as error:
            self._trip(str(error))
            raise

    def _try(self, deadline: float) -> Link:
        link = self._server.open(self._timeout, deadline)
        packed, count = self._trial
        sound = False
        try:
            link.exchange(packed, count, deadline)
            if link.fault is not None and link.fault.unfit:
                raise StoreUnavailable(link.fault.unfit)
            sound = True
        finally:
            if not sound:
                link.close()
        return link

    def _why_unfit(self, replies: Sequence[Reply]) -> str:
        """Why nothing should be asked either, after these replies to writes."""
        for reply in replies:
            if isinstance(reply, ReplyError):
                # A right to write that is missing is no reason not to read.
                if reply.unfit and reply.kind != "NOPERM":
                    return reply.unfit
                # The master that Sentinels named has become a replica: they must be asked again.
                if reply.kind == "READONLY" and self._server.place.service:
                    return reply.text
        return ""

    def _trip(self, why: str) -> None:
        self._reason = why
        self._pool.refuse_waiting(why)
        self._pool.close_idle()

    def _forget_parent(self) -> None:
        with self._forking:
            if self._pid == os.getpid():
                return
            parents = self._pool
            self._pool = Pool(self._open, self._most)
            if not self._closed:
                self._reason = ""
            self._pid = os.getpid()
            parents.abandon()
