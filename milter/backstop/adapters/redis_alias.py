"""`backstop:alias:<address>`: what is known of a disposable address beside its date and hash.

    off      a word for yes (`1`, `on`, `yes`, `true`): it is switched off
    note     what it was made for
    until    its last day, UTC, as 2026-11-21
    used     how many messages it took
    last     when it took the latest of them, UTC, as 2026-11-21T12:00:00Z

An address that has no such key, or no word for yes under `off`, is on; so is one whose key is of another
type. A key ends `KEPT` after the address: what was switched off stays so for as long as its date lives.
"""

from datetime import UTC, datetime
from typing import Final

from backstop.adapters import redis_names
from backstop.adapters.redis_store import Reply, Word, pack

KEPT: Final = 30 * 86400
"""Seconds from the end of an address to that of its key."""

_YES: Final = frozenset((b"1", b"on", b"yes", b"true"))
_NO: Final = frozenset((b"", b"0", b"off", b"no", b"false"))


def off_command(address: str) -> bytes:
    """Ask whether a disposable address (folded, with its label) is switched off."""
    return pack("HGET", redis_names.alias(address), "off")


def is_off(reply: Reply) -> bool:
    """Whether the answer says so; no error does."""
    return isinstance(reply, bytes) and reply.strip().lower() in _YES


def means_something(off: bytes) -> bool:
    """Whether the field `off` is a word that somebody writes who means yes or no."""
    return off.strip().lower() in _YES | _NO


def use_commands(address: str, now: float, until: float) -> list[bytes]:
    """Count a message to a disposable address (folded, with its label).

    `until` is the end of its last day; both times are in seconds since 1970. A key that was not there comes
    to be and ends by itself, and none is left without an end if the connection breaks.
    """
    key = redis_names.alias(address)
    last = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        pack("MULTI"),
        pack("HINCRBY", key, "used", 1),
        pack("HSET", key, "last", last),
        pack(*end_command(key, until)),
        pack("EXEC"),
    ]


def end_command(key: bytes, until: float) -> tuple[Word, ...]:
    """Let a key end with its address."""
    return ("EXPIREAT", key, int(until) + KEPT)
