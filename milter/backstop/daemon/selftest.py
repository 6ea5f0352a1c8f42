"""The watchdog's question: whether the milter socket answers as a mail server needs it.

Connect, negotiate, read the answer, say goodbye. Nothing here blocks: the parent's loop calls `go_on` when
the peer has something to say, and `expire` when it may have kept silent too long.
"""

import contextlib
import socket
import struct
import time

# Seconds for the whole question
PATIENCE = 3.0
# The offer of Postfix: version 6, all actions, all steps
_OFFER = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
_QUIT = struct.pack("!Ic", 1, b"Q")
_FAMILIES = {"unix": socket.AF_UNIX, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


class SelfTest:
    """One question. `passed` is `None` until it is known."""

    def __init__(self, target: str) -> None:
        self.passed: bool | None = None
        self._deadline = time.monotonic() + PATIENCE
        self._heard = b""
        kind, _, rest = target.partition(":")
        self.socket = socket.socket(_FAMILIES[kind], socket.SOCK_STREAM)
        self.socket.setblocking(False)
        try:
            if self.socket.family is socket.AF_UNIX:
                self.socket.connect(rest)
            else:
                port, _, host = rest.partition("@")
                with contextlib.suppress(BlockingIOError):
                    self.socket.connect((host, int(port)))
                # loopback connects at once or not at all; a send to one that has not fails below
            self.socket.send(_OFFER)
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
            self._end(passed=self._heard[4:5] == b"O")

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
                self.socket.send(_QUIT)
        self.passed = passed

    def close(self) -> None:
        """Once the parent's loop has forgotten the socket."""
        self.socket.close()
