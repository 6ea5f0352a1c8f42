"""The asker in a process of its own, without a daemon around it, with sources that do what their names say.

`sql:people` knows whom the database has, and nothing is kept of its answers. Of the others answers are kept:
`sql:kept` counts what it is asked, and knows alice; `sql:late` answers after 0.3 seconds, `sql:hung` at the
deadline, `sql:deaf` never; `sql:frozen` hangs once it has said of somebody that he exists, which is kept
for no time; `sql:bug` fails, and `sql:fatal` ends the process.
"""

import contextlib
import itertools
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Self

from backstop.adapters.asker_client import AskerClient, make_door
from backstop.adapters.slow_source import NOTHING_KEPT, SECONDS, KeptAnswers
from backstop.adapters.sql_database import SqlDatabase, read_sql
from backstop.daemon import asker
from backstop.daemon.asker import Plan
from backstop.facts import Existence
from backstop.settings import SourceKind, SourceName
from tests.harness.daemon import ROOT

WORDS = ("people", "kept", "late", "hung", "deaf", "frozen", "bug", "fatal")


class AskerProcess:
    """Started when the block begins; `kill` and `start` put another one behind the same door."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inner, self._outer = make_door()
        self.client = AskerClient(self._outer)
        self._process: subprocess.Popen[bytes] | None = None
        self.know()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def asked(self) -> int:
        """How often `sql:kept` was really asked."""
        with contextlib.suppress(FileNotFoundError):
            return len((self._folder / "asked").read_text())
        return 0

    def know(self, *locals_: str) -> None:
        """Let `sql:people` know these and nobody else."""
        with contextlib.closing(sqlite3.connect(self._folder / "people.db")) as database:
            database.execute("CREATE TABLE IF NOT EXISTS people (local TEXT)")
            database.execute("DELETE FROM people")
            database.executemany("INSERT INTO people VALUES (?)", [(local,) for local in locals_])
            database.commit()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._outer.close()
        self._inner.close()
        self.kill()

    def start(self) -> None:
        """Put an asker behind the door."""
        door = self._inner.fileno()
        words = [sys.executable, "-m", "tests.harness.asker_process", str(door), str(self._folder)]
        path = os.pathsep.join([str(ROOT / "milter"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words, pass_fds=[door], env={**os.environ, "PYTHONPATH": path}, stderr=log
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it with a signal, and wait for that."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(10)

    def leave(self) -> int:
        """Close the workers' end; the exit status of the asker, which sees it."""
        assert self._process is not None
        self.client.close()
        self._outer.close()
        return self._process.wait(10)

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def log(self) -> str:
        return (self._folder / "log").read_text()


class _Double:
    """A source that does what its name says."""

    def __init__(self, word: str, folder: Path) -> None:
        self._word = word
        self._asked = folder / "asked"
        self._told: set[str] = set()
        self.trouble = ""

    def ask(self, local: str, domain: str, deadline: float) -> Existence:  # noqa: ARG002 - see SlowSource
        match self._word:
            case "kept":
                with self._asked.open("a") as file:
                    file.write(".")
            case "late":
                time.sleep(0.3)
            case "frozen" if local not in self._told:
                self._told.add(local)
                return Existence.EXISTS
            case "hung" | "frozen":
                time.sleep(max(0.0, deadline - time.monotonic()))
                self.trouble = "it hangs"
                return Existence.UNKNOWN
            case "deaf":
                threading.Event().wait()
            case "bug":
                raise RuntimeError("told to fail")
            case "fatal":
                os.kill(os.getpid(), signal.SIGKILL)
        return Existence.EXISTS if local == "alice" else Existence.MISSING

    def close(self) -> None:
        """Nothing is open."""


def _open(name: SourceName, folder: Path) -> KeptAnswers:
    if name.argument != "people":
        seconds = {**SECONDS, Existence.EXISTS: 0.0} if name.argument == "frozen" else SECONDS
        return KeptAnswers(_Double(name.argument, folder), seconds)
    table = {
        "driver": "sqlite3",
        "connect": {"database": str(folder / "people.db")},
        "query": "SELECT 1 FROM people WHERE local = {local}",
        "anybody": "SELECT 1 FROM people LIMIT 1",
    }
    return KeptAnswers(SqlDatabase(read_sql(table)), NOTHING_KEPT)


def _main() -> None:
    folder = Path(sys.argv[2])
    inner = socket.socket(fileno=int(sys.argv[1]))
    names = tuple(itertools.starmap(SourceName, [(SourceKind.SQL, word) for word in WORDS]))
    asker.run(Plan(names, partial(_open, folder=folder), inner, inner), ())


if __name__ == "__main__":
    _main()
