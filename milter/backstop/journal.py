"""Records out: one log line a decision, counters and events, all written behind.

A callback only puts things into bounded queues; threads empty them four times a second, and make the text.
So a full pipe or a slow disk never holds mail up: what does not fit is dropped and counted.
"""

import hmac
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Final

from backstop import memory
from backstop.adapters import redis_alias
from backstop.adapters.limits import count_commands
from backstop.adapters.redis_store import Store
from backstop.adapters.write_behind import EVERY, MOST_EVENTS, WriteBehind
from backstop.config import LogAddresses
from backstop.plain import plain
from backstop.settings import Limits
from backstop.verdict import Count, Record, Sent

MAX_LINES: Final = 10_000
"""Log lines that wait to be written, at most."""

MAX_VALUE: Final = 300
"""Characters of one value in a line."""

MAX_TRACE: Final = 4000
"""Characters of a traceback."""

BATCH: Final = select.PIPE_BUF
"""Octets that are written at once: a pipe takes them in one piece, whoever else writes there, and without
waiting where it takes any. A line that is longer goes alone."""

CLOCK_JUMP: Final = 3600.0
"""Seconds by which the system's clock must jump to be worth a line."""

TROUBLE_SECONDS: Final = 60.0
"""The same trouble is said once in this time."""

MAX_TROUBLES: Final = 1000
"""Different troubles that are kept apart."""

_BARE = re.compile(r"[!#-<>-\[\]-~]+")


class Priority(IntEnum):
    """As syslog(3) numbers them."""

    ERROR = 3
    WARNING = 4
    INFO = 6


def shown(value: str, longest: int = MAX_VALUE) -> str:
    """A value as it stands in a log line: nothing from the mail begins a line or a field of its own."""
    if _BARE.fullmatch(value) and len(value) <= longest:
        return value
    if len(value) > longest:
        value = value[:longest] + "..."
    return '"' + plain(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


_shown_again = lru_cache(maxsize=256)(shown)
"""For what is said in few words of ours: replies and reasons."""


def _octets(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


class Journal:
    """The log, the counters, the events and the limits of one worker."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        log_addresses: LogAddresses,
        secret: bytes,
        output: int = 2,
        memory_max: int = 0,
    ) -> None:
        self._store = store
        self._limits = limits
        self._log_addresses = log_addresses
        self._secret = secret
        self._output = output
        self._prefixed = "JOURNAL_STREAM" in os.environ
        self._lines: deque[str | Record] = deque()
        self._events: deque[Record] = deque(maxlen=MOST_EVENTS)
        self._dropped = 0
        self._cut = False
        """The last line that was written is not whole."""
        self._troubles: dict[str, float] = {}
        self._troubled = threading.Lock()
        self._store_was = ""
        self._clock_was = time.time() - time.monotonic()
        self._behind = WriteBehind(store, most_remembered=memory_max, on_trouble=self.trouble)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Start the threads that write; signals must be blocked around the call."""
        self._behind.start()
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Write what waits, and end by the deadline (monotonic)."""
        self._stopping.set()
        # What came last is still to be an event; but an output that is stuck must not cost the counters.
        self._thread.join(max(deadline - time.monotonic(), 0) / 2)
        self._behind.stop(deadline)
        if not self._thread.is_alive():
            self._write_lines()  # what could not be counted

    def take(self, counts: Iterable[Count], records: Iterable[Record], now: float) -> None:
        """Record what was decided; limits are counted at once, and nobody waits for it."""
        if counts:
            self._store.tell(count_commands(counts, self._limits))
        for record in records:
            self._behind.count(record.domain, record.counters, now)
            if record.untagged is not None:
                self._behind.untagged(*record.untagged)
            if record.elsewhere:
                self._behind.elsewhere(record.domain, record.elsewhere, now)
            if record.alias is not None:
                address, until = record.alias
                self._store.tell(redis_alias.use_commands(address, now, until))
            if record.notable:
                self._events.append(record)
                self._put(record)

    def remember(self, sent: Sent, now: float) -> None:
        """Remember an outgoing message, as hashes only."""
        secret = self._secret
        ids = (memory.of_id(secret, sent.message_id),) if sent.message_id else ()
        self._behind.remember(ids, [memory.of_pair(secret, *pair) for pair in sent.pairs], now)

    def trouble(self, text: str) -> None:
        """Say once a minute that something is wrong which an administrator should mend."""
        now = time.monotonic()
        with self._troubled:
            if now - self._troubles.get(text, float("-inf")) < TROUBLE_SECONDS:
                return
            if len(self._troubles) >= MAX_TROUBLES:
                self._troubles.clear()
            self._troubles[text] = now
        self._put(self._line(Priority.WARNING, {"trouble": text}))

    def bug(self, place: str, queue_id: str, trace: str) -> None:
        """A fault of ours, with its traceback on one line."""
        fields = {"bug": place, "queue_id": queue_id, "traceback": trace}
        self._put(self._line(Priority.ERROR, fields, MAX_TRACE))

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(EVERY)
            self._watch_store()
            self._watch_clock(time.time() - time.monotonic())
            self._show_events()
            self._write_lines()

    def _watch_store(self) -> None:
        reason = self._store.reason
        was = self._store_was
        if reason == was:
            return
        self._store_was = reason
        if not reason:
            self._put(self._line(Priority.INFO, {"store": "back"}))
        elif not was:
            self._put(self._line(Priority.WARNING, {"store": "away", "reason": reason}))
        else:  # each trial may find another one, and there is one a second
            self.trouble(f"the store is away for another reason: {reason}")

    def _watch_clock(self, ahead: float) -> None:
        """Tags and blocks go by the system's clock; `ahead` is by how much of the one that never jumps."""
        jump = ahead - self._clock_was
        self._clock_was = ahead
        if abs(jump) >= CLOCK_JUMP:
            self._put(self._line(Priority.WARNING, {"trouble": f"the clock jumped by {jump:+.0f} seconds"}))

    def _show_events(self) -> None:
        for _ in range(len(self._events)):
            self._behind.event(self._fields(self._events.popleft()))

    def _write_lines(self) -> None:
        """As far as the output takes them without blocking, and then how many were dropped."""
        batch: list[bytes] = []
        room = BATCH
        for _ in range(len(self._lines)):
            entry = self._lines.popleft()
            line = _octets(entry if isinstance(entry, str) else self._line_of(entry))
            if batch and len(line) > room:
                self._dropped += self._unwritten(batch)
                batch, room = [], BATCH
            batch.append(line)
            room -= len(line)
        if batch:
            self._dropped += self._unwritten(batch)
        if dropped := self._dropped:
            word = self._line(Priority.WARNING, {"lines_dropped": str(dropped)})
            if not self._unwritten([_octets(word)]):
                self._dropped -= dropped

    def _unwritten(self, lines: list[bytes]) -> int:
        """Write lines; how many of them the output did not take."""
        if not select.select([], [self._output], [], 0)[1]:
            return len(lines)
        # What a disk that was full took of a line stays a line of its own.
        octets = b"\n" * self._cut + b"".join(lines)
        try:
            written = os.write(self._output, octets)
        except OSError:
            return len(lines)
        self._cut = octets[written - 1 : written] != b"\n"
        return octets.count(b"\n", written)

    def _fields(self, record: Record) -> dict[str, str]:
        return {
            "queue_id": record.queue_id or "NOQUEUE",
            "client": record.client or "local",
            "from": self._address(record.reverse_path) or "<>",
            "to": self._address(record.recipient),
            "domain": record.domain,
            "check": record.check,
            "finding": record.result,
            "action": record.action,
            "reply": record.reply,
            "reason": record.reason,
        }

    def _address(self, path: str) -> str:
        if self._log_addresses is LogAddresses.FULL or not path:
            return path
        local, _, domain = path.rpartition("@")
        if self._log_addresses is LogAddresses.DOMAIN:
            return f"...@{domain}"
        digest = hmac.digest(self._secret, local.encode(errors="surrogatepass"), "sha256")
        return f"{digest[:6].hex()}@{domain}"

    def _put(self, entry: str | Record) -> None:
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(entry)

    def _line_of(self, record: Record) -> str:
        """The line of `_fields`, made by itself: a third of the time, as there is one for most messages."""
        mark = f"<{Priority.INFO.value}>" if self._prefixed else ""
        queue_id, client = shown(record.queue_id or "NOQUEUE"), shown(record.client or "local")
        sender = shown(self._address(record.reverse_path) or "<>")
        line = f"{mark}queue_id={queue_id} client={client} from={sender}"
        if record.recipient:
            line += f" to={shown(self._address(record.recipient))}"
        line += f" domain={_shown_again(record.domain)}"
        if record.check:
            line += f" check={record.check} finding={record.result}"
        line += f" action={record.action}"
        if record.reply:
            line += f" reply={_shown_again(record.reply)}"
        return f"{line} reason={_shown_again(record.reason)}\n" if record.reason else f"{line}\n"

    def _line(self, priority: Priority, fields: Mapping[str, str], longest: int = MAX_VALUE) -> str:
        mark = f"<{priority.value}>" if self._prefixed else ""
        words = " ".join(f"{name}={shown(value, longest)}" for name, value in fields.items() if value)
        return f"{mark}{words}\n"
