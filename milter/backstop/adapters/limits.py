"""Limits in Redis: how often a client, or an address, did something bad in the window under way."""

from collections.abc import Iterable
from typing import Final

from backstop.adapters import redis_names
from backstop.adapters.redis_link import glance
from backstop.settings import Limit, Limits
from backstop.verdict import Count

_COUNT: Final = (
    b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\nEX\r\n$%d\r\n%b\r\n$2\r\nNX\r\n",
    b"*2\r\n$4\r\nINCR\r\n$%d\r\n%b\r\n",
)

# For Redis no time passes within a transaction. Without one the window may end between the two commands, and
# INCR then begins a count that never ends.
_BEGIN: Final = b"*1\r\n$5\r\nMULTI\r\n"
_END: Final = b"*1\r\n$4\r\nEXEC\r\n"


def read_command(name: str, what: str) -> bytes:
    """Ask how often something was counted in its window."""
    return glance(redis_names.client(name, what))


def count_commands(counts: Iterable[Count], limits: Limits) -> list[bytes]:
    """Count each of them once more: the first opens a window, which then ends whatever comes."""
    commands = [_BEGIN]
    for count in counts:
        key = redis_names.client(count.name, count.what)
        limit: Limit = getattr(limits, count.what)
        seconds = b"%d" % limit.seconds
        commands.append(_COUNT[0] % (len(key), key, len(seconds), seconds))
        commands.append(_COUNT[1] % (len(key), key))
    return [*commands, _END]
