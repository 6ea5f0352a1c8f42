"""Messages to systemd (sd_notify(3)), and the watchdog's period.

Without a NOTIFY_SOCKET in the environment nothing is sent.
"""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells the service manager how we are; a manager that is gone is no trouble of ours."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog = _watchdog_period(environment)

    def ready(self, status: str) -> None:
        """Started, or done with a reload."""
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reloading(self) -> None:
        """Until `ready` is said again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1", "STATUS=stopping: open sessions may finish")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return


def _address(name: str) -> str:
    """An address of the abstract name space is written with `@` for its leading NUL."""
    return f"\0{name[1:]}" if name.startswith("@") else name


def _watchdog_period(environment: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants a sign of life; `None`: it does not watch us."""
    period = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not period.isdecimal() or int(period) == 0 or meant != str(os.getpid()):
        return None
    return int(period) / 1_000_000
