"""What is written behind the messages' back, four times a second: counters, events, memory of mail.

A count that surely did not arrive is kept and added later; one whose fate is unknown, because the connection
broke between question and answer, is never sent again: counters never show too much. What is missing from
them stands beside them, in the hash `backstop:count:-`:

    counters.uncertain   perhaps arrived, perhaps not
    counters.lost        could never be added: the key is of another type, the value no number
    counters.dropped     the buffer was full, while the store was away or full

in increments of single fields (one event adds to three: since ever, of the day, of the hour), and

    untagged.dropped     senders of untagged mail that were not remembered, see `redis_untagged`
    memory.dropped       ids and pairs of sent mail that were not remembered, see `redis_memory`
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from backstop.adapters import redis_names
from backstop.adapters.redis_elsewhere import Elsewhere
from backstop.adapters.redis_memory import Memory
from backstop.adapters.redis_names import octets
from backstop.adapters.redis_store import Reply, ReplyError, Store, StoreUnavailable, pack
from backstop.adapters.redis_untagged import Untagged

EVERY: Final = 0.25
"""Seconds from one flush to the next."""

DAY_KEPT: Final = 400 * 86400
"""Seconds the counters of a day are kept after the last change."""

HOUR_KEPT: Final = 8 * 86400
"""The same, of an hour."""

MOST_EVENTS: Final = 50
"""Of one flush: under a flood `backstop:events` is a sample, the newest of each quarter of a second."""

EVENTS_KEPT: Final = 1000
"""Entries of the stream, about."""

_FIELDS_PER_EVENT: Final = 3
_BATCH: Final = 500
_PAUSE: Final = 1.0
_QUIET: Final = 60.0
_OWN: Final = redis_names.count(redis_names.COUNTERS)


class WriteBehind:
    """The buffer of one worker and the thread that empties it.

    `count`, `untagged`, `elsewhere`, `remember` and `event` are for any thread; they only take note.
    `on_trouble` is told what an administrator should know, each kind of it once a minute at most, from the
    flusher's thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        most_keys: int = 10_000,
        most_untagged: int = 100_000,
        most_remembered: int = 200_000,
        every: float = EVERY,
        on_trouble: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._store = store
        self._most_keys = most_keys
        self._every = every
        self._on_trouble = on_trouble
        self._untagged = Untagged(store, most_keys, most_untagged)
        self._elsewhere = Elsewhere(store, most_keys)
        self._memory = Memory(store, most_keys, most_remembered)
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int, str], int] = {}
        self._events: deque[Mapping[str, str]] = deque(maxlen=MOST_EVENTS)
        self._owed: dict[tuple[bytes, bytes], int] = {}
        self._expiries: dict[bytes, int] = {}
        self._pause_until = 0.0
        self._quiet_until: dict[str, float] = {}
        self._recorded: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.uncertain = 0
        self.lost = 0
        self.dropped = 0

    @property
    def unwritten(self) -> int:
        """Increments of single fields that wait to be written."""
        with self._lock:
            return sum(self._counts.values()) * _FIELDS_PER_EVENT + sum(list(self._owed.values()))

    def count(self, domain: str, names: Iterable[str], now: float) -> None:
        """Count these names once more for a domain, at `now` (seconds since 1970).

        Only for domains that are protected here: each gets keys of its own, and strangers name any domain.
        """
        hour = int(now // 3600)
        with self._lock:
            counts = self._counts
            for name in names:
                key = (domain, hour, name)
                if key in counts:
                    counts[key] += 1
                elif len(counts) < self._most_keys:
                    counts[key] = 1
                else:
                    self.dropped += _FIELDS_PER_EVENT

    def untagged(self, address: str, until: float) -> None:
        """Remember that this sender (folded) has untagged mail under way until then, seconds since 1970."""
        self._untagged.remember(address, until)

    def elsewhere(self, domain: str, sender: str, now: float) -> None:
        """Remember that this sender's (folded) mail left by a host that makes no tags."""
        self._elsewhere.remember(domain, sender, now)

    def remember(self, ids: Iterable[bytes], pairs: Iterable[bytes], now: float) -> None:
        """Remember these hashes of sent mail among those of the day."""
        self._memory.remember(ids, pairs, now)

    def event(self, fields: Mapping[str, str]) -> None:
        """Show this to whoever watches; the mapping must not change any more."""
        self._events.append(fields)

    def start(self) -> None:
        """Begin to flush, in a thread of its own: call it after the fork, with signals blocked."""
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Flush a last time, and end by the deadline (monotonic). What could not be written is lost."""
        self._stopping.set()
        if self._thread is None:
            self.flush()
        else:
            self._thread.join(max(deadline - time.monotonic(), 0))
        if left := self.unwritten:
            self.lost += left
            self._tell("stop", f"{left} counts are lost: the store was away at the end")

    def flush(self) -> None:
        """Write what there is. For one thread: the flusher's, or a test's."""
        self._gather_counts()
        now = time.monotonic()
        if now < self._pause_until:
            return
        try:
            self._write_counts()
            self._write_expiries()
            self._write_events()
            if trouble := self._untagged.flush():
                self._tell("untagged", trouble)
            if trouble := self._elsewhere.flush():
                self._tell("elsewhere", trouble)
            if trouble := self._memory.flush():
                self._tell("memory", trouble)
            self._untagged.sweep(now, time.time())
        except StoreUnavailable as error:
            if not self._store.available:
                return  # known: it is logged where the messages miss it
            self._tell("flush", f"nothing was written: {error}")

    def _run(self) -> None:
        while True:
            self._store.probe()
            self.flush()
            if self._stopping.wait(self._every):
                self._pause_until = 0.0
                self._store.probe()  # on a busy machine it may have been given up a moment ago
                self.flush()
                return

    def _gather_counts(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, {}
        keys: dict[tuple[str, int], tuple[bytes, bytes, bytes]] = {}
        for (domain, hour, name), amount in counts.items():
            if (domain, hour) not in keys:
                keys[domain, hour] = self._keys(domain, hour)
            for key in keys[domain, hour]:
                self._owe(key, octets(name), amount)
        for name, total in self._figures().items():
            if new := total - self._recorded.get(name, 0):
                self._recorded[name] = total
                self._owe(_OWN, name.encode(), new)
                self._tell(name, f"{name} since the start: {total}")

    def _keys(self, domain: str, hour: int) -> tuple[bytes, bytes, bytes]:
        moment = datetime.fromtimestamp(hour * 3600, UTC)
        of_day, of_hour = redis_names.count_day(domain, moment), redis_names.count_hour(domain, moment)
        self._expiries |= {of_day: DAY_KEPT, of_hour: HOUR_KEPT}
        return redis_names.count(domain), of_day, of_hour

    def _figures(self) -> dict[str, int]:
        return {
            "counters.uncertain": self.uncertain,
            "counters.lost": self.lost,
            "counters.dropped": self.dropped,
            "untagged.dropped": self._untagged.dropped,
            "memory.dropped": self._memory.dropped,
        }

    def _owe(self, key: bytes, field: bytes, amount: int) -> None:
        owed = self._owed
        if (key, field) in owed:
            owed[key, field] += amount
        elif len(owed) < self._most_keys * _FIELDS_PER_EVENT or key == _OWN:
            owed[key, field] = amount
        else:
            with self._lock:
                self.dropped += amount

    def _write_counts(self) -> None:
        waiting = iter(list(self._owed.items()))
        while batch := list(islice(waiting, _BATCH)):
            replies = self._store.write([pack("HINCRBY", key, field, n) for (key, field), n in batch])
            for ((key, field), amount), reply in zip(batch, replies, strict=False):
                if not self._is_to_be_kept(reply, key, amount):
                    del self._owed[key, field]
            for (key, field), amount in batch[len(replies) :]:
                self.uncertain += 0 if key == _OWN else amount
                del self._owed[key, field]
            if len(replies) < len(batch):
                raise StoreUnavailable("the connection broke")

    def _is_to_be_kept(self, reply: Reply, key: bytes, amount: int) -> bool:
        if not isinstance(reply, ReplyError):
            return False
        if reply.is_passing:
            self._pause_until = time.monotonic() + _PAUSE
            self._tell(reply.kind, f"counts are kept for later: {reply.text}")
            return True
        self.lost += 0 if key == _OWN else amount
        self._tell("lost", f"a count of {key.decode('ascii', 'backslashreplace')} is lost: {reply.text}")
        return False

    def _write_expiries(self) -> None:
        waiting = iter(list(self._expiries.items()))
        while batch := list(islice(waiting, _BATCH)):
            replies = self._store.write([pack("EXPIRE", key, seconds) for key, seconds in batch])
            for (key, _), _reply in zip(batch, replies, strict=False):
                del self._expiries[key]
            if len(replies) < len(batch):
                raise StoreUnavailable("the connection broke")

    def _write_events(self) -> None:
        if not self._store.available:
            return
        events: list[Mapping[str, str]] = []
        with contextlib.suppress(IndexError):
            while True:
                events.append(self._events.popleft())
        commands = [
            pack("XADD", redis_names.EVENTS, "MAXLEN", "~", EVENTS_KEPT, "*", *_flat(event))
            for event in events
            if event
        ]
        if commands:
            for reply in self._store.write(commands):
                if isinstance(reply, ReplyError):
                    self._tell("events", f"an event is not shown: {reply.text}")

    def _tell(self, kind: str, text: str) -> None:
        now = time.monotonic()
        if now >= self._quiet_until.get(kind, 0.0):
            self._quiet_until[kind] = now + _QUIET
            self._on_trouble(text)


def _flat(fields: Mapping[str, str]) -> list[str]:
    return [word for pair in fields.items() for word in pair]
