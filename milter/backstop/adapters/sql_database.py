"""The recipient source `sql:NAME`: whether a query to a database has a row for an address.

    [sql.mailboxes]
    driver = "pymysql"                     # or any module of Python's database interface (PEP 249)
    connect = { host = "127.0.0.1", user = "reader", password_file = "/etc/backstop/sql", database = "mail" }
    query = "SELECT 1 FROM mailbox WHERE address = {address}"
    anybody = "SELECT 1 FROM mailbox LIMIT 1"

What comes from an address is a parameter of the query, never a part of its text. Every question is rolled
back: nothing is written, and the next one sees what others have written meanwhile. A file of SQLite's that
has been replaced or changed is opened anew.
"""

import contextlib
import importlib
import math
import re
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from backstop.adapters import password_file
from backstop.adapters.lookup_crew import (
    KEEPALIVE_IDLE,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_PROBES,
    Crew,
    LookupFailed,
)
from backstop.adapters.source_options import Table
from backstop.adapters.sql_query import STYLES, Query, parse_query

_DRIVER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_AROUND_PATH = re.compile(r"\Afile:(?://[^/]*)?|[?#].*", re.DOTALL)
_SECRET = re.compile(r"pass|pwd|secret|dsn|conninfo", re.IGNORECASE)
_TAKES_CONNECT_TIMEOUT: Final = ("MySQLdb", "psycopg", "psycopg2", "pymysql")
_TAKES_READ_TIMEOUT: Final = ("MySQLdb", "pymysql")
_OF_LIBPQ: Final = ("psycopg", "psycopg2")

_FileState: TypeAlias = tuple[int, int, int, int]

# Beside its own errors a driver lets through what a connection that is cut or garbled does to it.
_FAULTS: Final = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    AssertionError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class SqlOptions:
    """How a database is asked. `timeout` is in seconds, for connecting where the driver takes one.

    `connect` are the arguments of the driver's `connect`, without the password.
    """

    driver: str
    connect: Mapping[str, str | int | float | bool]
    query: Query
    anybody: Query
    password_file: Path | None = None
    timeout: int = 5


def read_sql(table: Mapping[str, object]) -> SqlOptions:
    """The options in a table `[sql.NAME]`; ValueError names the one that is wrong."""
    given = Table(table)
    driver = given.text("driver")
    if not _DRIVER.fullmatch(driver):
        raise ValueError('driver: the name of a Python module is wanted, such as "pymysql"')
    connect = dict(given.table("connect"))
    password = Table(connect).path("password_file")
    connect.pop("password_file", None)
    options = SqlOptions(
        driver=driver,
        connect=_arguments(connect),
        query=_query("query", given.text("query")),
        anybody=_query("anybody", _anybody(given)),
        password_file=password,
        timeout=given.seconds("timeout", 5),
    )
    given.nothing_else()
    if not options.query.asks_for_a_recipient:
        raise ValueError("query: {address} or {local} is wanted where the recipient stands")
    if options.anybody.asks_for_a_recipient:
        raise ValueError("anybody: it asks for nobody in particular; only {domain} may stand there")
    return options


def _anybody(given: Table) -> str:
    """Without it a table that was emptied would refuse all mail."""
    text = given.text("anybody", "")
    if not text:
        raise ValueError(
            "anybody: a query is wanted that has a row while the database knows anybody at all, such as"
            ' "SELECT 1 FROM mailbox LIMIT 1": one that knows nobody is not believed'
        )
    return text


def _query(name: str, text: str) -> Query:
    try:
        return parse_query(text)
    except ValueError as fault:
        raise ValueError(f"{name}: {fault}") from None


def _arguments(given: Mapping[str, object]) -> Mapping[str, str | int | float | bool]:
    arguments: dict[str, str | int | float | bool] = {}
    for name, value in given.items():
        if not name.isidentifier() or not isinstance(value, str | int | float | bool):
            raise ValueError(f"connect: {name[:40]} is to be a text, a number, true or false")
        if _SECRET.search(name):
            raise ValueError(
                f"connect: {name[:40]} may hold a password; a file is wanted for it, in password_file"
            )
        arguments[name] = value
    return arguments


class SqlDatabase(Crew):
    """One database, for any number of threads."""

    def __init__(self, options: SqlOptions) -> None:
        super().__init__(lambda deadline: _Connection(options, deadline))


class _Connection:
    """A connection of the driver's, used by the one thread that has made it."""

    def __init__(self, options: SqlOptions, deadline: float) -> None:
        self._options = options
        self._driver = _module(options.driver)
        self._faults: tuple[type[Exception], ...] = (self._driver.Error, *_FAULTS)
        self._file = _sqlite_file(options)
        self._open(deadline)

    def knows(self, local: str, domain: str, deadline: float) -> bool:
        """Whether the query has a row, whatever stands there: a quota of 0 is somebody's."""
        values = {"address": f"{local}@{domain}", "local": local, "domain": domain}
        return self._row(self._options.query, values, deadline) is not None

    def has_anybody(self, domain: str, deadline: float) -> bool:
        """Whether the query `anybody` has a row with something in it: a count of 0 is nobody."""
        row = self._row(self._options.anybody, {"domain": domain}, deadline)
        return row is not None and any(row)

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(*self._faults):  # it may be gone already
            self._database.close()

    def _open(self, deadline: float) -> None:
        # Before it is opened: what comes in between is seen by the next question.
        self._state = _state(self._file)
        try:
            self._database = self._driver.connect(**self._arguments(deadline))
        except self._faults as error:
            raise LookupFailed(_words(error)) from None

    def _row(self, query: Query, values: Mapping[str, str], deadline: float) -> Sequence[Any] | None:
        if time.monotonic() >= deadline:
            raise LookupFailed("no answer in time")
        if _state(self._file) != self._state:
            self.close()
            self._open(deadline)
        clean = {name: _clean(value) for name, value in values.items()}
        text, parameters = query.written(STYLES[self._driver.paramstyle], clean)
        try:
            cursor = self._database.cursor()
            try:
                cursor.execute(text, *parameters)
                row: Sequence[Any] | None = cursor.fetchone()
            finally:
                cursor.close()
            self._database.rollback()
        except self._faults as error:
            raise LookupFailed(_words(error)) from None
        return row

    def _arguments(self, deadline: float) -> dict[str, Any]:
        options = self._options
        arguments: dict[str, Any] = dict(options.connect)
        if options.password_file is not None:
            try:
                arguments["password"] = password_file.read(options.password_file)
            except password_file.PasswordUnreadable as fault:
                raise LookupFailed(str(fault)) from None
        seconds = max(1, math.ceil(min(options.timeout, deadline - time.monotonic())))
        if options.driver in _TAKES_CONNECT_TIMEOUT:
            arguments.setdefault("connect_timeout", seconds)
        for name, value in _patience(options).items():
            arguments.setdefault(name, value)
        if options.driver == "sqlite3":
            arguments.setdefault("timeout", seconds)
            if self._file is not None and not arguments.get("uri"):
                # SQLite would make a database that is not there, an empty one.
                arguments.update(database=f"{self._file.as_uri()}?mode=ro", uri=True)
        return arguments


def _patience(options: SqlOptions) -> Mapping[str, int]:
    """What keeps a driver from waiting for ever for a server that has died amid a question."""
    if options.driver in _TAKES_READ_TIMEOUT:
        return {"read_timeout": options.timeout, "write_timeout": options.timeout}
    if options.driver in _OF_LIBPQ:
        return {
            "keepalives_idle": KEEPALIVE_IDLE,
            "keepalives_interval": KEEPALIVE_INTERVAL,
            "keepalives_count": KEEPALIVE_PROBES,
            "tcp_user_timeout": options.timeout * 1000,
        }
    return {}


def _module(name: str) -> Any:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise LookupFailed(f"the driver {name} cannot be used: {_words(error)}") from None
    if not hasattr(module, "connect") or getattr(module, "paramstyle", "") not in STYLES:
        raise LookupFailed(f"{name} is no driver of Python's database interface (PEP 249)")
    return module


def _sqlite_file(options: SqlOptions) -> Path | None:
    """What SQLite is told to open; None where that is no file."""
    if options.driver != "sqlite3":
        return None
    name = str(options.connect.get("database", ""))
    if options.connect.get("uri"):
        name = unquote(_AROUND_PATH.sub("", name))
    return Path(name).absolute() if name not in ("", ":memory:") else None


def _state(file: Path | None) -> _FileState | None:
    """What changes when a file is replaced, or overwritten in place.

    SQLite sees neither: it keeps the file that it has open, though it be deleted, and believes the pages it
    has read where a file made in the same way has the same change counter.
    """
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _clean(text: str) -> str:
    """A parameter as every driver takes it; what cannot be written stands in no table."""
    return (
        text.encode(errors="surrogateescape")
        .decode(errors="replace")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def _words(error: Exception) -> str:
    """What a driver complains of, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
