"""The watchdog's question: whether the milter socket answers as a mail server needs it.

Connect, negotiate, read the answer, say goodbye. Nothing here blocks: the parent's loop calls `go_on` when
the peer has something to say, and `expire` when it may have kept silent too long.
"""

import contextlib
import socket
import time

from backstop.adapters.milter_caller import NEGOTIATED, OFFER, QUIT, place

# Seconds for the whole question
PATIENCE = 3.0


class SelfTest:
    """One question. `passed` is `None` until it is known."""

    def __init__(self, target: str) -> None:
        self.passed: bool | None = None
        self._deadline = time.monotonic() + PATIENCE
        self._heard = b""
        family, address = place(target)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            if family is socket.AF_UNIX:
                self.socket.connect(address)
            else:
                with contextlib.suppress(BlockingIOError):
                    self.socket.connect(address)
                # loopback connects at once or not at all; a send to one that has not fails below
            self.socket.send(OFFER)
        except OSError:
            self._end(passed=False)

    def go_on(self) -> None:
        """Read what has come."""
        try:
            more = self.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        self._heard += more
        if not more:
            self._end(passed=False)
        elif len(self._heard) >= 5:
            self._end(passed=self._heard[4:5] == NEGOTIATED)

    def expire(self, now: float) -> None:
        """Give up when the time is over."""
        if self.passed is None and now > self._deadline:
            self._end(passed=False)

    @property
    def deadline(self) -> float:
        """By the monotonic clock."""
        return self._deadline

    def _end(self, *, passed: bool) -> None:
        if passed:
            with contextlib.suppress(OSError):
                self.socket.send(QUIT)
        self.passed = passed

    def close(self) -> None:
        """Once the parent's loop has forgotten the socket."""
        self.socket.close()
