"""The recipient source `postfix:TYPE:NAME`: any table of Postfix, asked by postmap(1).

An address goes to postmap on its standard input, never as an argument, where one that begins with `-` would
be an option. "Not found" and "broken" both end with status 1: what postmap writes on its standard error tells
them apart. A fatal error makes it sleep for a second first. It stays in the process group of whoever asks,
with which it is ended.

postmap runs as the user of the daemon: what it may not read, or reach (`proxy:` wants the group of Postfix's
queue), is a source that does not answer.
"""

import importlib.util
import os
import re
import select
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backstop.adapters import postfix_table
from backstop.adapters.lmdb_file import LmdbFile
from backstop.adapters.postfix_keys import KNOWS_NOBODY, Keys
from backstop.facts import Existence

PROCESSES: Final = 4
"""How many postmap processes of one table run at a time, at most."""

SETTLED_SECONDS: Final = 2.0
"""For how long a file that postmap reads as it stands lies untouched before anybody is missing from it."""

# Said each time, and yet the answer is the one that Postfix gets.
_HARMLESS = re.compile(
    r"postmap: warning: (?:\S*main\.cf, line \d+: overriding earlier entry: .*"
    r"|database \S+ is older than source file \S+)"
)


def open_table(table: str, config_directory: str = "") -> "LmdbFile | PostfixMap":
    """The source for a table as Postfix writes it. LMDB files are read directly where the module lmdb is.

    `config_directory` is where postmap finds main.cf, if that is not what it takes by itself.
    """
    kind, _, name = table.partition(":")
    if kind == "lmdb" and name.startswith("/") and importlib.util.find_spec("lmdb"):
        return LmdbFile(name)
    return PostfixMap(table, config_directory)


class PostfixMap:
    """One table, for any number of threads."""

    def __init__(self, table: str, config_directory: str = "") -> None:
        self._table = table
        self._config_directory = config_directory
        self.trouble = ""
        """What is wrong, for a person; empty when the last answer was a clear word."""
        self._turns = threading.BoundedSemaphore(PROCESSES)
        self._peopled: tuple[int, ...] | None = None
        """The stamp of the table when somebody was in it."""

    def ask(self, local: str, domain: str, deadline: float) -> Existence:
        """Whether one address exists."""
        try:
            return self._judge(Keys.of(local, domain), deadline)
        except _NoAnswer as reason:
            self.trouble = str(reason)
            return Existence.UNKNOWN

    def close(self) -> None:
        """Nothing is open between two questions."""

    def _judge(self, keys: Keys, deadline: float) -> Existence:
        stamp = postfix_table.stamp(self._table)
        fresh = next(filter(_is_fresh, postfix_table.texts(self._table)), None)
        asked = keys.all
        if postfix_table.is_for_whole_addresses(self._table):
            asked = keys.addresses or keys.everybody
        said = self._run(("-q", "-"), self._table, "".join(f"{key}\n" for key in asked), deadline)
        there = {line.partition("\t")[0] for line in said.output.split("\n")}
        existence = keys.judge(there)
        if existence is Existence.MISSING:
            if said.complaint or said.status not in (0, 1):
                raise _NoAnswer(said.complaint or f"postmap ended with status {said.status}")
            if fresh is not None:
                raise _NoAnswer(f"{fresh} is being written, or was a moment ago")
            self._see_that_it_is_not_empty(stamp, deadline)
        self._peopled = stamp
        self.trouble = said.complaint  # who is there is believed in spite of it
        return existence

    def _see_that_it_is_not_empty(self, stamp: tuple[int, ...] | None, deadline: float) -> None:
        """`stamp` was taken before the question: nothing follows from a table that has changed since."""
        if stamp is not None and stamp == self._peopled:
            return
        if not any(self._is_peopled(part, deadline) for part in postfix_table.parts(self._table)):
            raise _NoAnswer(f"{self._table} {KNOWS_NOBODY}")
        if stamp != postfix_table.stamp(self._table):
            raise _NoAnswer(f"{self._table} was changed meanwhile")

    def _is_peopled(self, table: str, deadline: float) -> bool:
        """Whether anybody is in a table; of one that does not show it, it is believed."""
        if (rules := postfix_table.rules(table)) is not None:
            return _has_rules(rules)
        if not postfix_table.is_listed(table):
            return True
        said = self._run(("-s",), table, None, deadline)
        if said.complaint:
            raise _NoAnswer(said.complaint)
        return bool(said.output)

    def _run(self, options: tuple[str, ...], table: str, asked: str | None, deadline: float) -> "_Said":
        """Run postmap; with nothing to ask, only until it has said something."""
        if not self._turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _NoAnswer("no answer in time")
        try:
            return _run([*self._command(), *options, "--", table], asked, deadline)
        finally:
            self._turns.release()

    def _command(self) -> list[str]:
        program = postfix_table.postmap()
        if program is None:
            raise _NoAnswer("postmap is not installed")
        return [program, "-c", self._config_directory] if self._config_directory else [program]


class _NoAnswer(Exception):
    """Why nothing follows from what postmap did."""


@dataclass(frozen=True, slots=True)
class _Said:
    output: str
    complaint: str
    status: int


def _run(command: list[str], asked: str | None, deadline: float) -> _Said:
    try:
        process = subprocess.Popen(  # noqa: S603 - a program by its path, its words are the administrator's
            command,
            stdin=subprocess.PIPE if asked is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except OSError as error:
        raise _NoAnswer(f"{command[0]}: {error.strerror}") from None
    with process:
        try:
            if asked is None:
                return _first_words(process, deadline)
            output, complaint = process.communicate(asked.encode(), _left(deadline))
            return _Said(output.decode(errors="replace"), _complaint(complaint), process.returncode)
        except subprocess.TimeoutExpired:
            raise _NoAnswer("no answer in time") from None
        finally:
            process.kill()


def _first_words(process: subprocess.Popen[bytes], deadline: float) -> _Said:
    """As much as comes first, or the complaint; a large table is not read to its end."""
    assert process.stdout is not None
    assert process.stderr is not None
    said = select.poll()  # select() knows no descriptor above 1023
    said.register(process.stdout, select.POLLIN)
    if not said.poll(_left(deadline) * 1000):
        raise _NoAnswer("no answer in time")
    if output := os.read(process.stdout.fileno(), 4096):
        return _Said(output.decode(errors="replace"), "", 0)
    return _Said("", _complaint(process.communicate(timeout=_left(deadline))[1]), process.returncode)


def _is_fresh(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.stat().st_mtime < SETTLED_SECONDS
    except OSError:
        return False


def _has_rules(path: Path) -> bool:
    try:
        with path.open(errors="replace") as lines:
            return any(line.strip() and not line.startswith("#") for line in lines)
    except OSError as error:
        raise _NoAnswer(f"{path}: {error.strerror}") from None


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _complaint(octets: bytes) -> str:
    lines = octets.decode(errors="replace").splitlines()
    return " ".join(" ".join(line for line in lines if not _HARMLESS.fullmatch(line)).split())[:300]
