"""The disposable addresses that the store knows, with what their keys say of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from backstop import batv
from backstop.adapters import redis_names
from backstop.adapters.redis_alias import is_off
from backstop.adapters.redis_store import Reply, ReplyError, pack
from backstop.address import parse
from backstop.batv import TagState
from backstop.cli import effective, names
from backstop.cli.store import Toggles, text
from backstop.cli.times import date_text
from backstop.config import Config

MOST: Final = 10_000
"""Addresses in one list."""

_PREFIX: Final = redis_names.alias("").decode()
_GLOB = re.compile(r"([][*?\\^-])")
_ESCAPED: Final = r"\\\1"


@dataclass(frozen=True, slots=True, order=True)
class KnownAlias:
    """One disposable address, in the order of a list. `last_day` is empty for one that no key of ours made.

    `state` is "good", "off", "ended", or "unknown" for such a one: it is the user's own, and left alone.
    """

    user: str
    last_day: str
    address: str
    note: str
    used: str
    last: str
    state: str

    def as_row(self) -> tuple[str, ...]:
        """For people."""
        return self.address, self.note, self.used or "0", self.last or "-", self.last_day or "-", self.state

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "address": self.address,
            "user": self.user,
            "note": self.note,
            "used": int(self.used) if self.used.isdecimal() else 0,
            "last": self.last or None,
            "last_day": self.last_day or None,
            "state": self.state,
        }


def known_aliases(
    config: Config, toggles: Toggles, only: str | None, now: float
) -> tuple[list[KnownAlias], list[str], bool]:
    """Those of a domain, of a user, or all; what is wrong with records; whether there are more than MOST.

    Raises `CommandFailed`.
    """
    found = set(islice(_wanted(toggles, only), MOST + 1))
    addresses = sorted(found)[:MOST]
    replies = toggles.ask(
        *(pack("HMGET", redis_names.alias(one), "note", "off", "used", "last") for one in addresses)
    )
    describe = _Describe(config, toggles, batv.day_of(now))
    rows = [describe(one, reply) for one, reply in zip(addresses, replies, strict=True)]
    faults = [
        f"{_PREFIX}{one}: {reply.text}; it counts as not switched off"
        for one, reply in zip(addresses, replies, strict=True)
        if isinstance(reply, ReplyError)
    ]
    return sorted(rows), faults, len(found) > MOST


def _wanted(toggles: Toggles, only: str | None) -> Iterator[str]:
    """The addresses that have a record, in no order, perhaps twice."""
    if only is None:
        pattern = "*"
    elif "@" in only:
        local, _, domain = names.address(only).folded.rpartition("@")
        pattern = f"{_GLOB.sub(_ESCAPED, local)}?d-{'?' * 10}@{_GLOB.sub(_ESCAPED, domain)}"
    else:
        pattern = f"*@{_GLOB.sub(_ESCAPED, names.domain(only))}"
    for name in toggles.names(_PREFIX + pattern):
        yield name.removeprefix(_PREFIX)


class _Describe:
    """From an address and what the store says of it to a row."""

    def __init__(self, config: Config, toggles: Toggles, today: int) -> None:
        self._config = config
        self._toggles = toggles
        self._today = today
        self._delimiters: dict[str, str] = {}

    def __call__(self, written: str, reply: Reply) -> KnownAlias:
        note, off, used, last = reply if isinstance(reply, list) else [None] * 4
        address = parse(written)
        if address and address.folded != written:
            address = None  # no decision reads what stands here
        label = batv.parse_alias(address, self._delimiters_of(address.domain)) if address else None
        last_day = batv.alias_last_day(label, self._config.ring, self._today) if label else None
        if label is None or last_day is None:
            state = "unknown"
        elif batv.verify_alias(label, self._config.ring, self._today) is TagState.EXPIRED:
            state = "ended"
        else:
            state = "off" if is_off(off) else "good"
        return KnownAlias(
            user=label.inner.folded if label else "",
            last_day="" if last_day is None else date_text(last_day),
            address=written,
            note=text(note),
            used=text(used),
            last=text(last),
            state=state,
        )

    def _delimiters_of(self, domain: str) -> str:
        if domain not in self._delimiters:
            settings = effective.read(self._config, self._toggles, domain).settings
            self._delimiters[domain] = settings.recipient_delimiter
        return self._delimiters[domain]
