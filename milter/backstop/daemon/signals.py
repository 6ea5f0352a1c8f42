"""Signals as words in a socket: the parent's loop reads them when it is ready for them.

From the moment this is set up no signal ends or interrupts the parent by surprise, Ctrl-C included.
"""

import signal
import socket
from types import FrameType

_WANTED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
# Python would die of these by default; nothing here means anything by them.
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """Set up once, in the main thread, before anything that takes time."""

    def __init__(self) -> None:
        self.inbox, self._outbox = socket.socketpair()
        self.inbox.setblocking(False)
        self._outbox.setblocking(False)
        signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        for number in _WANTED:
            signal.signal(number, _nothing)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def read(self) -> set[signal.Signals]:
        """What has come since the last call; a hundred of a kind are one."""
        try:
            return {signal.Signals(number) for number in self.inbox.recv(4096)}
        except BlockingIOError:
            return set()

    def descriptors(self) -> list[int]:
        """Those that no worker may keep."""
        return [self.inbox.fileno(), self._outbox.fileno()]


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python writes the number into the socket by itself; it only needs some function to be there."""
