"""What every process of the daemon does right after its fork, and how it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import NoReturn


def leave_parent(to_close: Iterable[int], blocked: Iterable[signal.Signals]) -> None:
    """Put away what is the parent's alone: descriptors, signals, group. All signals are blocked yet."""
    # A group of its own: Ctrl-C in a terminal is for the parent.
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for descriptor in to_close:
        os.close(descriptor)


def fall(fault: threading.ExceptHookArgs) -> None:
    """For threads without which the process is no good: their bug is its end."""
    threading.__excepthook__(fault)
    sys.stderr.flush()
    os._exit(os.EX_SOFTWARE)  # the parent puts another in our place


def end(status: int) -> NoReturn:
    """Leave at once; an exception under way is a bug, and its traceback is written first."""
    kind, error, trace = sys.exc_info()
    if kind is not None and error is not None:
        sys.excepthook(kind, error, trace)
    sys.stderr.flush()
    os._exit(status)
