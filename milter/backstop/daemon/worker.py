"""The life of one worker process: start, serve, drain, leave.

A worker talks with the parent over one socket pair. It reports `READY` once and waits for `GO`; after that
it serves until it is told to drain or the parent is gone, and reports `LET_GO`. It always leaves by
`os._exit`: a normal exit would run libmilter's and Python's clearing up, which takes seconds and touches what
the other workers share.
"""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterable
from typing import NoReturn, Protocol

import milter

from backstop.daemon import child, listener

READY = b"r"
LET_GO = b"l"  # no new session comes to this worker any more
GO = b"g"
DRAIN = b"d"  # take no new sessions, finish the open ones, however long they last
STOP = b"s"  # the same, within STOP_SECONDS

STOP_SECONDS = 3.2
# A mail server keeps its milter connection as long as its client's: minutes. After this a peer is stuck.
DRAIN_SECONDS = 3600.0

# libmilter waits for these in a thread of its own, which needs them blocked everywhere else.
LIBMILTER_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Serving(Protocol):
    """What a worker needs of the service: `backstop.callbacks.Service`, or the tests' stand-in."""

    def install(self) -> None:
        """Set the callbacks for this process."""

    def start(self) -> None:
        """Open what must not be shared between processes, start threads."""

    def finish(self) -> None:
        """Write what is still to be written, in about a second."""


def run(
    service: Serving, listening: int, channel: socket.socket, to_close: Iterable[int], core: int
) -> NoReturn:
    """All of a worker's life, right after the fork, with every signal blocked.

    `to_close` are the parent's own descriptors: its lock, and its ends of the other workers' channels, which
    would otherwise hide its death from them.
    """
    status = os.EX_SOFTWARE
    try:
        child.leave_parent(to_close, LIBMILTER_SIGNALS)
        _stay_on(core)
        threading.excepthook = child.fall  # without it nothing is logged, or asked of Redis again
        service.install()
        service.start()
        channel.sendall(READY)
        if channel.recv(1) == GO:
            drain = threading.Thread(target=_obey, args=(service, listening, channel), name="channel")
            drain.start()
            milter.main()  # returns when somebody sends this worker SIGTERM
            service.finish()
        else:  # told to stop before it ever served, or the parent is gone
            status = os.EX_OK
    finally:
        child.end(status)


def _stay_on(core: int) -> None:
    """Keep all threads on one core, as only one of them can run Python anyway.

    On several they wake up to find the interpreter's lock taken: a third of a worker's CPU time and rate
    (script/bench, two cores: 1.62 of the empty C milter's CPU without, 0.95 with).
    """
    with contextlib.suppress(OSError):  # the core was taken away from us meanwhile
        os.sched_setaffinity(0, {core})


def _obey(service: Serving, listening: int, channel: socket.socket) -> NoReturn:
    """Wait for the parent's word, or its end; then let the sessions finish, and leave."""
    status = os.EX_SOFTWARE
    try:
        word = channel.recv(1)
        own = listener.address(listening)
        if word:
            listener.let_go(listening)
            with contextlib.suppress(OSError):  # the parent may have gone since
                channel.send(LET_GO)
        else:
            listener.let_go_for_all(listening)
        _drain(own, channel, STOP_SECONDS if word == STOP else DRAIN_SECONDS)
        service.finish()
        status = os.EX_OK
    finally:
        child.end(status)


def _drain(own: object, channel: socket.socket, seconds: float) -> None:
    """Until no session of the socket of that address is open."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    quiet = 0
    parent: list[socket.socket] = [channel]
    # Twice, because a connection may be on its way out of accept() while we look.
    while quiet < 2 and time.monotonic() < deadline:
        quiet = quiet + 1 if listener.open_sessions(own) == 0 else 0
        if select.select(parent, [], [], pause)[0]:
            if channel.recv(1) == STOP:
                deadline = min(deadline, time.monotonic() + STOP_SECONDS)
            else:  # the parent is gone; nothing more will come
                parent = []
        # Looking costs the sessions a little of the interpreter's lock, so look seldom in a long drain.
        pause = 0.02 if quiet else min(pause * 1.2, 0.25)
