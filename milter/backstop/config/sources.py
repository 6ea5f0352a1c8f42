"""How the configuration file says that slow recipient sources are asked, and what they lack to be asked."""

import importlib.util
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from backstop.adapters.callahead_target import parse_target, path_of
from backstop.adapters.postfix_table import postmap
from backstop.adapters.slow_sources import SlowOptions
from backstop.address import parse
from backstop.settings import SourceKind, SourceName, parse_duration

MAX_TIMEOUT: Final = 5
MAX_CONNECTIONS: Final = 20
MAX_QUESTIONS: Final = 10_000

_HELO = re.compile(r"[0-9A-Za-z_.-]{1,253}|\[[0-9A-Za-z.:]{1,60}\]")
_TABLE = re.compile(r"[\w-]+", re.ASCII)

_DEBIAN: Final = {
    "MySQLdb": "python3-mysqldb",
    "psycopg": "python3-psycopg",
    "psycopg2": "python3-psycopg2",
    "pymysql": "python3-pymysql",
}
"""Packages that bring a driver, by its module."""


def sender(value: Any) -> str:
    """From whom a next hop is asked; empty for the null sender."""
    if value in ("", "<>"):
        return ""
    address = parse(value) if isinstance(value, str) else None
    if address is None or path_of(address.local, address.domain) is None:
        raise ValueError('an address is wanted, or "" for the null sender')
    return str(value)


def helo(value: Any) -> str:
    """What is said in EHLO; empty for the name of this host."""
    if not isinstance(value, str) or (value and not _HELO.fullmatch(value)):
        raise ValueError("the name of this host is wanted, as the next hop may hear it")
    return value


def timeout(value: Any) -> float:
    """Seconds that a question to a next hop may take."""
    seconds = parse_duration(value)
    if not 1 <= seconds <= MAX_TIMEOUT:
        raise ValueError(f"from 1s to {MAX_TIMEOUT}s are wanted: the client waits meanwhile")
    return float(seconds)


def _whole(most: int) -> Callable[[Any], int]:
    def parser(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ValueError(f"a whole number from 1 to {most:,} is wanted, without quotes")
        return value

    return parser


CALLAHEAD: Final[Mapping[str, Callable[[Any], Any]]] = {
    "sender": sender,
    "helo": helo,
    "timeout": timeout,
    "connections": _whole(MAX_CONNECTIONS),
    "questions": _whole(MAX_QUESTIONS),
}
"""One parser for each name in [callahead]."""


def _read_ldap(table: Mapping[str, object]) -> Any:
    from backstop.adapters.ldap_directory import read_ldap  # noqa: PLC0415 - for those who have one

    return read_ldap(table)


def _read_sql(table: Mapping[str, object]) -> Any:
    from backstop.adapters.sql_database import read_sql  # noqa: PLC0415 - for those who have one

    return read_sql(table)


READERS: Final[Mapping[str, Callable[[Mapping[str, object]], Any]]] = {"ldap": _read_ldap, "sql": _read_sql}
"""What reads a table [ldap.NAME] or [sql.NAME]; ValueError `option: what is wanted`."""


def is_table_name(name: str) -> bool:
    """Whether a source can name this table."""
    return _TABLE.fullmatch(name) is not None


def lack(name: SourceName, options: SlowOptions) -> str:
    """What stands in the way of a source that a domain names; empty where nothing does. Asks no network."""
    match name.kind:
        case SourceKind.CALLAHEAD:
            try:
                parse_target(name.argument)
            except ValueError as fault:
                return str(fault)
        case SourceKind.POSTFIX:
            is_read_directly = name.argument.startswith("lmdb:/") and _has("lmdb")
            if not is_read_directly and postmap() is None:
                return "postmap is not installed, which reads the tables of Postfix"
        case SourceKind.LDAP if name.argument in options.ldap and not _has("ldap"):
            return "python-ldap is not installed; Debian has it as python3-ldap, pip as backstop-milter[ldap]"
        case SourceKind.SQL if name.argument in options.sql:
            driver = options.sql[name.argument].driver
            if not _has(driver):
                package = _DEBIAN.get(driver)
                where = f"; Debian has it as {package}" if package else ", nor is it a module of Python's own"
                return f"the driver {driver} is not installed{where}"
        case _:
            pass
    return ""


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a package that is not there; of no name at all
        return False
