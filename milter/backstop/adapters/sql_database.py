"""The recipient source `sql:NAME`: whether a query to a database has a row for an address.

    [sql.mailboxes]
    driver = "pymysql"                     # or any module of Python's database interface (PEP 249)
    connect = { host = "127.0.0.1", user = "reader", password_file = "/etc/backstop/sql", database = "mail" }
    query = "SELECT 1 FROM mailbox WHERE address = {address}"
    anybody = "SELECT 1 FROM mailbox LIMIT 1"

What comes from an address is a parameter of the query, never a part of its text. Every question is rolled
back: nothing is written, and the next one sees what others have written meanwhile.
"""

import contextlib
import importlib
import math
import re
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backstop.adapters import password_file
from backstop.adapters.lookup_crew import Crew, LookupFailed
from backstop.adapters.source_options import Table
from backstop.adapters.sql_query import STYLES, Query, parse_query

_DRIVER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_SECRET = re.compile(r"pass|pwd|secret|dsn|conninfo", re.IGNORECASE)
_TAKES_CONNECT_TIMEOUT: Final = ("MySQLdb", "psycopg", "psycopg2", "pymysql")

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
        try:
            self._database = self._driver.connect(**self._arguments(deadline))
        except self._faults as error:
            raise LookupFailed(_words(error)) from None

    def knows(self, local: str, domain: str, deadline: float) -> bool:
        """Whether the query has a row."""
        values = {"address": f"{local}@{domain}", "local": local, "domain": domain}
        return self._has_row(self._options.query, values, deadline)

    def has_anybody(self, domain: str, deadline: float) -> bool:
        """Whether the query `anybody` has a row."""
        return self._has_row(self._options.anybody, {"domain": domain}, deadline)

    def close(self) -> None:
        """Leave."""
        with contextlib.suppress(*self._faults):  # it may be gone already
            self._database.close()

    def _has_row(self, query: Query, values: Mapping[str, str], deadline: float) -> bool:
        if time.monotonic() >= deadline:
            raise LookupFailed("no answer in time")
        clean = {name: _clean(value) for name, value in values.items()}
        text, parameters = query.written(STYLES[self._driver.paramstyle], clean)
        try:
            cursor = self._database.cursor()
            try:
                cursor.execute(text, *parameters)
                row = cursor.fetchone()
            finally:
                cursor.close()
            self._database.rollback()
        except self._faults as error:
            raise LookupFailed(_words(error)) from None
        return row is not None

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
        if options.driver == "pymysql":  # without it a thread waits for a silent server for ever
            arguments.setdefault("read_timeout", options.timeout)
            arguments.setdefault("write_timeout", options.timeout)
        if options.driver == "sqlite3":
            arguments.setdefault("timeout", seconds)
            _only_read(arguments)
        return arguments


def _module(name: str) -> Any:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise LookupFailed(f"the driver {name} cannot be used: {_words(error)}") from None
    if not hasattr(module, "connect") or getattr(module, "paramstyle", "") not in STYLES:
        raise LookupFailed(f"{name} is no driver of Python's database interface (PEP 249)")
    return module


def _only_read(arguments: dict[str, Any]) -> None:
    """SQLite would make a database that is not there, an empty one."""
    path = str(arguments.get("database", ""))
    if path.startswith("/"):
        arguments["database"] = f"{Path(path).as_uri()}?mode=ro"
        arguments["uri"] = True


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
