"""The daemon with a service that does what a test tells it: slow, failing, falling.

`python -m tests.harness.stand_in FILE`, where FILE is a TOML file:

    socket = "unix:/path"
    workers = 2
    tag = "one"           # shown in every answer
    start = "ok"          # or "fail", "die", "hang": what a worker does at its start

The recipient says what happens: `<who@...>` is refused with the tag and the worker's process id in the text,
`<slow-SECONDS@...>` makes the end of message last that long, `<die@...>` kills the worker, `<bug@...>` lets a
thread of it end by a bug; others are accepted, and the end of message adds a header `X-Worker: TAG PID`.
"""

import os
import signal
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import milter

from backstop import daemon
from backstop.config import ConfigurationError
from backstop.daemon.supervisor import Blueprint


class StandIn:
    """A service without mail."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._tag = str(settings.get("tag", ""))
        self._start = str(settings.get("start", "ok"))
        self._finished = Path(str(settings.get("finished", os.devnull)))

    def install(self) -> None:
        milter.set_flags(milter.ADDHDRS)
        milter.set_connect_callback(_go_on)
        milter.set_envfrom_callback(self._mail)
        milter.set_envrcpt_callback(self._rcpt)
        milter.set_eom_callback(self._eom)
        milter.set_close_callback(_go_on)
        milter.register("stand-in", negotiate=self._negotiate)

    def start(self) -> None:
        if self._start == "fail":
            raise RuntimeError("told to fail at the start")
        if self._start == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._start == "hang":
            time.sleep(1000)
        # What a real service starts too: a thread that must not take the signals.
        threading.Thread(target=time.sleep, args=(100000,), daemon=True).start()

    def finish(self) -> None:
        with self._finished.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def _negotiate(self, context: Any, options: list[int]) -> int:
        context.setpriv(0.0)
        options[1] = milter.P_NOHELO | milter.P_NOHDRS | milter.P_NOEOH | milter.P_NOBODY | milter.P_NODATA
        options[0] = milter.ADDHDRS
        options[2] = options[3] = 0
        return int(milter.CONTINUE)

    def _mail(self, context: Any, *_words: bytes) -> int:
        context.setpriv(0.0)
        return int(milter.CONTINUE)

    def _rcpt(self, context: Any, recipient: bytes, *_words: bytes) -> int:
        name, _, number = recipient.decode().strip("<>").partition("@")[0].partition("-")
        if name == "who":
            context.setreply("550", "5.7.1", f"{self._tag} {os.getpid()}")
            return int(milter.REJECT)
        if name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "bug":
            threading.Thread(target=_fail).start()
        if name == "slow":
            context.setpriv(float(number))
        return int(milter.CONTINUE)

    def _eom(self, context: Any) -> int:
        time.sleep(context.getpriv())
        context.addheader("X-Worker", f"{self._tag} {os.getpid()}")
        return int(milter.CONTINUE)


def _go_on(_context: Any, *_words: Any) -> int:
    return int(milter.CONTINUE)


def _fail() -> None:
    raise RuntimeError("told to fail in a thread")


def build(path: Path) -> Blueprint:
    """The stand-in's configuration file."""
    try:
        settings = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from None
    return Blueprint(str(settings["socket"]), int(settings.get("workers", 2)), StandIn(settings))


if __name__ == "__main__":
    file = Path(sys.argv[1])
    sys.exit(daemon.run(lambda: build(file)))
