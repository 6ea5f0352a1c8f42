"""Names found in bounded time, although neither `getaddrinfo` nor `getfqdn` knows a deadline.

A search that takes too long goes on by itself in its thread, and whoever asks next waits for that one: a
name server that hangs holds one thread, not one for each question.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from backstop.adapters.callahead_target import Target
from backstop.plain import plain
from backstop.value import value

MAX_PLACES: Final = 4
"""Of the addresses of a next hop, so many are tried."""

_T = TypeVar("_T")


@value
class Place:
    """Where to connect to."""

    family: socket.AddressFamily
    address: Any


@value
class Places:
    """The addresses of a next hop, best first; `fault` says why there is none."""

    found: tuple[Place, ...] = ()
    fault: str = ""


class InTime(Generic[_T]):
    """Calls `search`, which must not raise, once at a time, and waits for it no longer than it is told."""

    def __init__(self, search: Callable[[], _T]) -> None:
        self._search = search
        self._lock = threading.Lock()
        self._run: _Run[_T] | None = None

    def result(self, deadline: float) -> _T | None:
        """What was found; None if that takes longer. `deadline` is by the monotonic clock."""
        with self._lock:
            if self._run is None or self._run.ended.is_set():
                self._run = _Run(self._search)
            run = self._run
        run.ended.wait(max(deadline - time.monotonic(), 0))
        return run.found


class _Run(Generic[_T]):
    def __init__(self, search: Callable[[], _T]) -> None:
        self.ended = threading.Event()
        self.found: _T | None = None
        threading.Thread(target=self._run, args=(search,), daemon=True).start()

    def _run(self, search: Callable[[], _T]) -> None:
        try:
            self.found = search()
        finally:
            self.ended.set()


def places(target: Target) -> Places:
    """The addresses of a next hop: of its very name, and no MX record's."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Places(fault=f"{target.host} has no address: {plain(str(error))}")
    return Places(tuple(Place(family, address) for family, _, _, _, address in found)[:MAX_PLACES])
