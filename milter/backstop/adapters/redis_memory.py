"""`backstop:sent:<day>` and `backstop:wrote:<day>`: the memory of sent mail, as sets of short keyed hashes.

Written behind, four times a second. Adding an entry twice does no harm, so nothing here is uncertain; what
could not be written is kept, bounded, and written later into the set of its own day. A set that is full takes
no more: what is not remembered is counted. Several hosts add to the same sets.
"""

import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final

from backstop.adapters.redis_names import sent, wrote
from backstop.adapters.redis_store import Reply, ReplyError, Store, pack
from backstop.memory import DAYS

KEPT: Final = DAYS * 86400
"""Seconds a set is kept after the last entry."""

_DAY: Final = 86400
_BATCH: Final = 500


class Memory:
    """The buffer of one worker. `remember` is for any thread, `flush` for the flusher's."""

    def __init__(self, store: Store, most_buffered: int, most_entries: int) -> None:
        self._store = store
        self._most_buffered = most_buffered
        self._most_entries = most_entries
        self._lock = threading.Lock()
        self._new: dict[bytes, set[bytes]] = {}
        self._buffered = 0
        self._today = 0
        self._keys = (b"", b"")
        self.dropped = 0

    def remember(self, ids: Iterable[bytes], pairs: Iterable[bytes], now: float) -> None:
        """These hashes belong to mail sent at `now`, seconds since 1970."""
        with self._lock:
            today = int(now // _DAY)
            if today != self._today:
                day = datetime.fromtimestamp(now, UTC).date()
                self._today, self._keys = today, (sent(day), wrote(day))
            for key, entries in zip(self._keys, (ids, pairs), strict=True):
                kept = self._new.setdefault(key, set())
                for entry in entries:
                    if entry in kept:
                        continue
                    if self._buffered >= self._most_buffered:
                        self.dropped += 1
                        continue
                    kept.add(entry)
                    self._buffered += 1

    def flush(self) -> str:
        """Write what is new; words for the administrator where that cannot be. Raises StoreUnavailable."""
        with self._lock:
            keys = [key for key, entries in self._new.items() if entries]
        if not keys:
            return ""
        trouble = ""
        # Asked first: how much room there is, and whether anybody answers before all is copied.
        for key, reply in zip(keys, self._store.ask([pack("SCARD", key) for key in keys]), strict=True):
            if isinstance(reply, int):
                trouble = self._write(key, self._most_entries - reply) or trouble
            elif isinstance(reply, ReplyError) and not reply.is_passing:
                trouble = f"sent mail is not remembered: {reply.text}"
                self._drop(key)
        return trouble

    def _write(self, key: bytes, room: int) -> str:
        with self._lock:
            entries = list(self._new.get(key, ()))
        waiting = iter(entries[: max(room, 0)])
        while batch := list(islice(waiting, _BATCH)):
            replies = self._store.write([pack("SADD", key, *batch), pack("EXPIRE", key, KEPT)])
            match replies:
                case [ReplyError() as error, *_]:
                    return f"sent mail is not remembered yet: {error.text}"
                case [int(), *_]:
                    self._forget(key, batch)
                case _:  # nobody knows; it is written again
                    return ""
        if len(entries) <= room:
            return ""
        self._drop(key)
        return f"{key.decode()}: full, memory_max is {self._most_entries}"

    def _forget(self, key: bytes, entries: Sequence[bytes]) -> None:
        with self._lock:
            kept = self._new[key]
            before = len(kept)
            kept.difference_update(entries)
            self._buffered -= before - len(kept)
            if not kept:
                del self._new[key]

    def _drop(self, key: bytes) -> None:
        with self._lock:
            entries = self._new.pop(key, set())
            self._buffered -= len(entries)
            self.dropped += len(entries)


@lru_cache(maxsize=2)  # two weeks of names take longer to write than the questions
def asked_sets(day: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """What begins a question to each set of ids, and of pairs, from a day (since 1970) back."""
    last = datetime.fromtimestamp(day * _DAY, UTC).date()
    days = [last - timedelta(days=back) for back in range(DAYS)]
    return tuple(_asked(sent(one)) for one in days), tuple(_asked(wrote(one)) for one in days)


def is_member(sets: Iterable[bytes], entry: bytes) -> list[bytes]:
    """Ask of each of these sets whether it has an entry."""
    asked = b"$%d\r\n%b\r\n" % (len(entry), entry)
    return [begun + asked for begun in sets]


def is_found(replies: Sequence[Reply]) -> bool | None:
    """Whether any of the sets had it; None where one could not say and no other had it."""
    if 1 in replies:
        return True
    return None if any(isinstance(reply, ReplyError) for reply in replies) else False


def _asked(key: bytes) -> bytes:
    return b"*3\r\n$9\r\nSISMEMBER\r\n$%d\r\n%b\r\n" % (len(key), key)
