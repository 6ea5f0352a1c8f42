"""Notices what begins grace again, whoever changed it: a new configuration file, or a hand in Redis.

Each worker compares what lets bounces of a domain pass without a tag with what was seen before: first with
what any host wrote down in `backstop:seen`, at its start, and then once a minute with its own last look. (So
a worker that finishes its sessions under the old file does not take the new one's doing back.) Where grace
begins again, `grace_since` is set in the domain's hash. All of it may be done twice without harm, by several
workers or hosts at once; while Redis is away it waits.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from backstop import grace
from backstop.adapters import redis_names
from backstop.adapters.redis_store import Reply, ReplyError, Store, StoreUnavailable, Word, pack
from backstop.batv import day_of
from backstop.config import Config
from backstop.gather.knowledge import text
from backstop.grace import Seen
from backstop.settings import DomainSettings, GraceSince, override

EVERY: Final = 60.0
"""Seconds from one look to the next."""

AGAIN: Final = 1.0
"""The same while the store is away."""

MAX_DOMAINS: Final = 10_000
"""Domains that only Redis names and that are looked at."""

MAX_TOLD: Final = 20
"""Domains in grace that are named at the start."""

NAMES: Final = ("exempt_senders", "recipient_delimiter", "tag_form", "lifetime", "grace", "grace_since")
"""The settings that matter here."""

_BATCH: Final = 100
_TOLD_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class _View:
    """A domain as it was found: the reply it was made of, and what that means."""

    reply: Reply
    settings: DomainSettings
    seen: Seen


class GraceWatch:
    """One worker's. `running_since` (seconds since 1970) is when its daemon read its configuration."""

    def __init__(
        self, config: Config, store: Store, on_trouble: Callable[[str], None], running_since: float
    ) -> None:
        self._config = config
        self._store = store
        self._on_trouble = on_trouble
        self._running_since = day_of(running_since)
        self._last: dict[str, _View] = {}
        self._told = False
        self._pause = EVERY
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grace-watch", daemon=True)

    def start(self) -> None:
        """Look once, before any mail is judged, and start the thread: after the fork, signals blocked."""
        self._pause = self._try()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def look(self, now: float) -> None:
        """Look at every domain once. Raises `StoreUnavailable`."""
        today = day_of(now)
        is_first = not self._last
        found: set[str] = set()
        (exists,) = self._store.ask([pack("EXISTS", redis_names.SEEN)])
        first: list[tuple[str, _View]] | None = [] if exists == 0 else None
        domains = self._domains()
        while batch := list(islice(domains, _BATCH)):
            found.update(batch)
            views = self._views(batch, today)
            if first is None:
                # Who comes back later was unprotected until now, and not only while nobody ran.
                self._compare(views, today, self._running_since if is_first else today)
            else:
                first += views
        if first:
            # In one piece: a domain that is missing there is a new one.
            words = [word for domain, view in first for word in (domain, view.seen.text())]
            if self._change(("HSET", redis_names.SEEN, *words)):
                self._last.update(first)
        for gone in self._last.keys() - found:
            del self._last[gone]
        self._tell(today)

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            self._pause = self._try()

    def _try(self) -> float:
        """Look; seconds until the next time."""
        try:
            self.look(time.time())
        except StoreUnavailable:  # it is logged where the messages miss it
            return AGAIN
        return EVERY

    def _domains(self) -> Iterator[str]:
        yield from self._config.domains
        in_file = set(self._config.domains)
        cursor: Word = b"0"
        found = 0
        while found < MAX_DOMAINS:
            [reply] = self._store.ask([pack("SSCAN", redis_names.DOMAINS, cursor, "COUNT", _BATCH)])
            match reply:
                case [bytes(cursor), [*names]]:
                    found += len(names)
                    yield from (name for name in map(text, names) if name not in in_file)
                case _:  # the messages complain of it
                    return
            if cursor == b"0":
                return

    def _views(self, domains: Sequence[str], today: int) -> list[tuple[str, _View]]:
        """How domains are now; without those of which nobody can say."""
        replies = self._store.ask([pack("HMGET", redis_names.domain(domain), *NAMES) for domain in domains])
        views = []
        for domain, reply in zip(domains, replies, strict=True):
            last = self._last.get(domain)
            if last is not None and last.reply == reply and last.seen.day == today:
                views.append((domain, last))
            elif isinstance(reply, list):
                fields = {
                    name: text(value) for name, value in zip(NAMES, reply, strict=True) if value is not None
                }
                settings, _ = override(self._config.settings_for(domain), fields)
                views.append((domain, _View(reply, settings, grace.see(domain, settings, today))))
        return views

    def _compare(self, views: Sequence[tuple[str, _View]], today: int, since: int) -> None:
        news = [domain for domain, _ in views if domain not in self._last]
        written = self._store.ask([pack("HGET", redis_names.SEEN, domain) for domain in news]) if news else []
        kept = dict(zip(news, written, strict=True))
        for domain, view in views:
            last = self._last.get(domain)
            if last is view:
                continue
            why = _why(last, view, kept.get(domain), since)
            commands: list[tuple[Word, ...]] = [("HSET", redis_names.SEEN, domain, view.seen.text())]
            start = view.settings.grace_since
            begins = bool(why) and (start is None or start.day < today)
            if begins:
                field = ("grace_since", str(GraceSince(today, why)))
                commands.append(("HSET", redis_names.domain(domain), *field))
            if self._change(*commands):
                self._last[domain] = view
                if begins and (days := view.settings.grace_days):
                    self._on_trouble(_words(domain, today + days, why))

    def _change(self, *commands: Sequence[Word]) -> bool:
        """Carry commands out together; whether they surely were."""
        packed = [pack("MULTI"), *(pack(*words) for words in commands), pack("EXEC")]
        replies = self._store.write(packed)
        done = replies[-1] if len(replies) == len(packed) else None
        for one in (*replies, *(done if isinstance(done, list) else ())):
            if isinstance(one, ReplyError):
                self._on_trouble(f"what begins grace again cannot be written down: {one.text}")
                return False
        return isinstance(done, list)

    def _tell(self, today: int) -> None:
        """Name the domains that are in grace for another reason than their keys, once, by one worker."""
        if self._told:
            return
        self._told = True
        graced = []
        for domain, view in self._last.items():
            found = grace.of_domain(self._config.ring, domain, view.settings)
            by_file = grace.of_domain(self._config.ring, domain, self._config.settings_for(domain))
            if found is not None and found.end > today and found != by_file:
                graced.append((domain, found))
        if not graced:
            return
        (reply,) = self._store.write([pack("SET", redis_names.SEEN_TOLD, 1, "NX", "EX", _TOLD_SECONDS)]) or [
            None
        ]
        if reply != b"OK":
            return
        for domain, found in graced[:MAX_TOLD]:
            self._on_trouble(_words(domain, found.end, found.why))
        if len(graced) > MAX_TOLD:
            self._on_trouble(
                f"{len(graced) - MAX_TOLD} more domains are in grace; see `backstop domain list`"
            )


def _why(last: _View | None, view: _View, kept: Reply, running_since: int) -> str:
    """Why grace begins again; `kept` is what `backstop:seen` says where there was no look before."""
    if last is not None:  # by this very worker, so there was no time without protection
        return grace.begins_again(last.seen, view.seen, last.seen.day)
    if kept is None:
        return grace.NEWLY
    before = grace.seen(text(kept)) if isinstance(kept, bytes) else None
    return "" if before is None else grace.begins_again(before, view.seen, running_since)


def _words(domain: str, end: int, why: str) -> str:
    until = str(GraceSince(end))
    return f"{domain}: in grace until {until}, a missing tag is only observed: {why}"
