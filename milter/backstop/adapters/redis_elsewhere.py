"""`backstop:elsewhere:<domain>`: senders whose mail left by a host that neither tags nor remembers it.

A bounce that our DKIM signature alone proves shows one. Written behind; adding one twice does no harm. Redis
keeps the latest of each domain, and forgets all of them some time after the last.
"""

import threading
from typing import Final

from backstop.adapters import redis_names
from backstop.adapters.redis_names import octets
from backstop.adapters.redis_store import ReplyError, Store, pack

MOST: Final = 1000
"""Senders that are kept of a domain."""

KEPT: Final = 60 * 86400
"""Seconds they are kept after the last one."""

_BATCH: Final = 100


class Elsewhere:
    """The buffer of one worker. `remember` is for any thread, `flush` for the flusher's."""

    def __init__(self, store: Store, most_buffered: int) -> None:
        self._store = store
        self._most_buffered = most_buffered
        self._lock = threading.Lock()
        self._new: dict[tuple[str, str], float] = {}

    def remember(self, domain: str, sender: str, now: float) -> None:
        """A bounce of this sender (folded) showed it now; what does not fit is left out."""
        with self._lock:
            if (domain, sender) in self._new or len(self._new) < self._most_buffered:
                self._new[domain, sender] = now

    def flush(self) -> str:
        """Write what is new; words for the administrator where that cannot be. Raises StoreUnavailable."""
        with self._lock:
            owed = list(self._new.items())[:_BATCH]
        if not owed:
            return ""
        keys = {domain: redis_names.elsewhere(domain) for (domain, _), _ in owed}
        commands = [
            *(pack("ZADD", keys[domain], int(now), octets(sender)) for (domain, sender), now in owed),
            *(pack("ZREMRANGEBYRANK", key, 0, -MOST - 1) for key in keys.values()),
            *(pack("EXPIRE", key, KEPT) for key in keys.values()),
        ]
        replies = self._store.write(commands)
        failed = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
        if len(replies) == len(commands) and (failed is None or not failed.is_passing):
            with self._lock:
                for key, now in owed:
                    if self._new.get(key) == now:
                        del self._new[key]
        return f"senders by other hosts are not remembered: {failed.text}" if failed is not None else ""
