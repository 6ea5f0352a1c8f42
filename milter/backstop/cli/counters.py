"""Counters, read from the store."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from backstop.adapters import redis_names
from backstop.adapters.redis_store import pack
from backstop.cli.store import Toggles, pairs

_NUMBER = re.compile(r"[0-9]{1,18}")


def today(toggles: Toggles, domains: Sequence[str], now: float) -> dict[str, dict[str, int]]:
    """What was counted today, UTC, by domain and name."""
    day = datetime.fromtimestamp(now, UTC).date()
    return _read(toggles, domains, [redis_names.count_day(domain, day) for domain in domains])


def since_ever(toggles: Toggles, domains: Sequence[str]) -> dict[str, dict[str, int]]:
    """What was ever counted, by domain and name."""
    return _read(toggles, domains, [redis_names.count(domain) for domain in domains])


def by_day(toggles: Toggles, domain: str, days: int, now: float) -> dict[str, dict[str, int]]:
    """What was counted for a domain on each of the last days, the latest first, by date and name."""
    last = datetime.fromtimestamp(now, UTC).date()
    dates = [last - timedelta(days=back) for back in range(days)]
    keys = [redis_names.count_day(domain, date) for date in dates]
    return _read(toggles, [date.isoformat() for date in dates], keys)


def summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Several days or domains as one."""
    total: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total.get(name, 0) + number
    return total


def _read(toggles: Toggles, names: Sequence[str], keys: Sequence[bytes]) -> dict[str, dict[str, int]]:
    replies = toggles.ask(*(pack("HGETALL", key) for key in keys))
    return {
        name: {field: int(value) for field, value in pairs(reply).items() if _NUMBER.fullmatch(value)}
        for name, reply in zip(names, replies, strict=True)
    }
