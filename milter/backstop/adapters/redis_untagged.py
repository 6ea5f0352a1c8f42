"""`backstop:untagged`: senders with untagged mail under way, and until when.

Written behind, four times a second, as counters are; setting a field twice does no harm, so nothing here is
uncertain. The hash is kept small: no new sender beyond a number, and about once an hour one worker takes out
those whose time has passed, a few at a time.
"""

import threading
from collections.abc import Sequence
from typing import Final

from backstop.adapters.redis_names import UNTAGGED, UNTAGGED_SWEEP, octets
from backstop.adapters.redis_store import Reply, ReplyError, Store, pack

_BATCH: Final = 500
_SWEEP_EVERY: Final = 3600.0
_SWEEP_HELD: Final = 3000
_GRACE: Final = 3600.0
"""Seconds: a sender just remembered anew by another worker is not taken out by an older reading."""


class Untagged:
    """The buffer of one worker. `remember` is for any thread, the rest for the flusher's."""

    def __init__(self, store: Store, most_buffered: int, most_fields: int) -> None:
        self._store = store
        self._most_buffered = most_buffered
        self._most_fields = most_fields
        self._lock = threading.Lock()
        self._new: dict[str, float] = {}
        self._fields = 0
        self._cursor = b""
        self._next_sweep = 0.0
        self.dropped = 0

    def remember(self, address: str, until: float) -> None:
        """This sender's mail is under way untagged until then, seconds since 1970; the later time wins."""
        with self._lock:
            if address in self._new or len(self._new) < self._most_buffered:
                self._new[address] = max(until, self._new.get(address, 0.0))
            else:
                self.dropped += 1

    def flush(self) -> str:
        """Write what is new; words for the administrator where that cannot be. Raises StoreUnavailable."""
        with self._lock:
            owed = list(self._new.items())
        trouble = ""
        for start in range(0, len(owed), _BATCH):
            batch = owed[start : start + _BATCH]
            taken = self._known(batch) if self._fields >= self._most_fields else batch
            words = [word for address, until in taken for word in (octets(address), int(until))]
            commands = [pack("HLEN", UNTAGGED), *([pack("HSET", UNTAGGED, *words)] if words else [])]
            replies = self._store.write(commands)
            match replies:
                case [int(fields), *_]:
                    self._fields = fields + len(taken)
            failed = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
            if failed is not None:
                trouble = f"senders of untagged mail are not remembered: {failed.text}"
            if len(replies) < len(commands) or (failed is not None and failed.is_passing):
                continue
            self._forget(batch, len(batch) if failed is not None else len(batch) - len(taken))
        return trouble

    def sweep(self, now: float, today: float) -> None:
        """Take a step of taking out the dead. `now` is monotonic, `today` in seconds since 1970."""
        if self._cursor:
            self._step(today)
        elif now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_EVERY
            if self._store.write([pack("SET", UNTAGGED_SWEEP, 1, "NX", "EX", _SWEEP_HELD)]) == [b"OK"]:
                self._cursor = b"0"

    def _step(self, today: float) -> None:
        [reply] = self._store.ask([pack("HSCAN", UNTAGGED, self._cursor, "COUNT", _BATCH)])
        self._cursor = b""
        match reply:
            case [bytes(cursor), [*pairs]]:
                dead = [
                    field
                    for field, until in zip(pairs[::2], pairs[1::2], strict=True)
                    if isinstance(field, bytes) and _is_before(until, today - _GRACE)
                ]
                if dead:
                    self._store.write([pack("HDEL", UNTAGGED, *dead)])
                if cursor != b"0":
                    self._cursor = cursor

    def _known(self, batch: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
        """Those of a batch that are in the full hash already, and may stay longer."""
        [reply] = self._store.ask([pack("HMGET", UNTAGGED, *(octets(address) for address, _ in batch))])
        if not isinstance(reply, list):
            return []
        return [entry for entry, there in zip(batch, reply, strict=True) if there is not None]

    def _forget(self, batch: Sequence[tuple[str, float]], dropped: int) -> None:
        self.dropped += dropped
        with self._lock:
            for address, until in batch:
                if self._new.get(address) == until:
                    del self._new[address]


def _is_before(until: Reply, moment: float) -> bool:
    try:
        return isinstance(until, bytes) and float(until) < moment
    except ValueError:  # somebody's own note: it is left alone
        return False
