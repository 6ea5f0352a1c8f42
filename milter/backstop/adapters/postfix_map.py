"""The recipient source `postfix:TYPE:NAME`: any table of Postfix, asked by postmap(1).

An address goes to postmap on its standard input, never as an argument, where one that begins with `-` would
be an option. "Not found" and "broken" both end with status 1: what postmap writes on its standard error tells
them apart. A fatal error makes it sleep for a second first.

postmap runs as the user of the daemon: what it may not read, or reach (`proxy:` wants the group of Postfix's
queue), is a source that does not answer.
"""

import contextlib
import importlib.util
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backstop.adapters.lmdb_file import LmdbFile
from backstop.adapters.postfix_keys import KNOWS_NOBODY, Keys
from backstop.facts import Existence

PROCESSES: Final = 4
"""How many postmap processes of one table run at a time, at most."""

PEOPLED_SECONDS: Final = 10.0
"""For how long it is believed that a table is not empty."""

_POSTMAP: Final = "/usr/sbin/postmap"

# Of these postmap can show what is there, so that an empty one is seen.
_LISTED = re.compile(r"(?:proxy:)?(?:btree|cdb|dbm|hash|lmdb|sdbm|texthash):[^{]*")

# These match whole addresses only (pcre_table(5), regexp_table(5), tcp_table(5)); what is no whole one may
# match by chance.
_WHOLE = re.compile(r"(?:proxy:)?(?:pcre|regexp|tcp):[^{]*")

# Files of rules that postmap cannot show.
_RULES = re.compile(r"(?:proxy:)?(?:pcre|regexp):(/[^{]*)")

# Said each time, and yet the answer is the one that Postfix gets.
_HARMLESS = re.compile(
    r"postmap: warning: (?:\S*main\.cf, line \d+: overriding earlier entry: .*"
    r"|database \S+ is older than source file \S+)"
)


def open_table(table: str, config_directory: str = "", path: str = os.defpath) -> "LmdbFile | PostfixMap":
    """The source for a table as Postfix writes it. LMDB files are read directly where the module lmdb is.

    `path` is where postmap is looked for when it is not at /usr/sbin; `config_directory` where its main.cf
    is, if that is not what it takes by itself.
    """
    kind, _, name = table.partition(":")
    if kind == "lmdb" and name.startswith("/") and importlib.util.find_spec("lmdb"):
        return LmdbFile(name)
    return PostfixMap(table, config_directory, path)


class PostfixMap:
    """One table, for any number of threads."""

    def __init__(
        self,
        table: str,
        config_directory: str = "",
        path: str = os.defpath,
    ) -> None:
        self._table = table
        self._config_directory = config_directory
        self._path = path
        self.trouble = ""
        """What is wrong, for a person; empty when the last answer was a clear word."""
        self._turns = threading.BoundedSemaphore(PROCESSES)
        self._peopled_until = 0.0

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
        asked = keys.addresses or (keys.everybody,) if _WHOLE.fullmatch(self._table) else keys.all
        said = self._run(("-q", "-"), "".join(f"{key}\n" for key in asked), deadline)
        there = {line.partition("\t")[0] for line in said.output.split("\n")}
        existence = keys.judge(there)
        if existence is Existence.MISSING:
            if said.complaint or said.status not in (0, 1):
                raise _NoAnswer(said.complaint or f"postmap ended with status {said.status}")
            self._see_that_it_is_not_empty(deadline)
        else:
            self._peopled_until = time.monotonic() + PEOPLED_SECONDS
        self.trouble = said.complaint  # who is there is believed in spite of it
        return existence

    def _see_that_it_is_not_empty(self, deadline: float) -> None:
        if time.monotonic() < self._peopled_until:
            return
        if rules := _RULES.fullmatch(self._table):
            is_empty, complaint = not _has_rules(Path(rules[1])), ""
        elif _LISTED.fullmatch(self._table):
            said = self._run(("-s",), None, deadline)
            is_empty, complaint = not said.output, said.complaint
        else:
            return
        if is_empty:
            raise _NoAnswer(complaint or f"{self._table} {KNOWS_NOBODY}")
        self._peopled_until = time.monotonic() + PEOPLED_SECONDS

    def _run(self, options: tuple[str, ...], asked: str | None, deadline: float) -> "_Said":
        """Run postmap; with nothing to ask, only until it has said something."""
        if not self._turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _NoAnswer("no answer in time")
        try:
            return _run(self._command(options), self._path, asked, deadline)
        finally:
            self._turns.release()

    def _command(self, options: tuple[str, ...]) -> list[str]:
        program = _POSTMAP if os.access(_POSTMAP, os.X_OK) else shutil.which("postmap", path=self._path)
        if program is None:
            raise _NoAnswer("postmap is not installed")
        config = ("-c", self._config_directory) if self._config_directory else ()
        return [program, *config, *options, "--", self._table]


class _NoAnswer(Exception):
    """Why nothing follows from what postmap did."""


@dataclass(frozen=True, slots=True)
class _Said:
    output: str
    complaint: str
    status: int


def _run(command: list[str], path: str, asked: str | None, deadline: float) -> _Said:
    try:
        process = subprocess.Popen(  # noqa: S603 - a program by its path, its words are the administrator's
            command,
            stdin=subprocess.PIPE if asked is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": path, "LC_ALL": "C"},
            start_new_session=True,
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
            _kill(process)


def _first_words(process: subprocess.Popen[bytes], deadline: float) -> _Said:
    """As much as comes first, or the complaint; a large table is not read to its end."""
    assert process.stdout is not None
    assert process.stderr is not None
    if not select.select((process.stdout,), (), (), _left(deadline))[0]:
        raise _NoAnswer("no answer in time")
    if output := os.read(process.stdout.fileno(), 4096):
        return _Said(output.decode(errors="replace"), "", 0)
    return _Said("", _complaint(process.communicate(timeout=_left(deadline))[1]), process.returncode)


def _has_rules(path: Path) -> bool:
    try:
        with path.open(errors="replace") as lines:
            return any(line.strip() and not line.startswith("#") for line in lines)
    except OSError as error:
        raise _NoAnswer(f"{path}: {error.strerror}") from None


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what it has started; its group is there for as long as nobody has waited for it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _complaint(octets: bytes) -> str:
    lines = octets.decode(errors="replace").splitlines()
    return " ".join(" ".join(line for line in lines if not _HARMLESS.fullmatch(line)).split())[:300]
