"""The sources that are asked elsewhere: Postfix tables, a directory, databases. One suite for all of them.

Each is there, knows nobody, hangs, is gone, and comes back.
"""

import fcntl
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from backstop.adapters.ldap_directory import LdapDirectory, read_ldap
from backstop.adapters.lmdb_file import LmdbFile
from backstop.adapters.lookup_crew import THREADS
from backstop.adapters.postfix_map import PostfixMap
from backstop.adapters.sql_database import SqlDatabase, read_sql
from backstop.facts import Existence
from tests.harness.frozen import freeze, thaw
from tests.harness.servers import need, wait_for

PATIENCE = 8.0
"""Seconds for an answer that should come."""

DEADLINE = 0.3
"""Seconds for one that cannot come."""

LATE = 2.0
"""Seconds after the deadline that a busy machine may need; who waits for what hangs would need far more."""


NASTY = (
    "a b",
    "a\nb",
    "a\ralice",
    "x" * 300,
    "\udce9",
    "alice\x00",
    "*",
    "alice)(mail=*",
    "ß",
    "-q",
    "--",
    "%s",
    "'",
)


class Source(Protocol):
    """What is asked."""

    trouble: str

    def ask(self, local: str, domain: str, deadline: float) -> Existence: ...

    def close(self) -> None: ...


class Outside:
    """What a source asks, and what can happen to it."""

    source: Source
    can_hang = True
    needs_no_list = False

    def know(self, *locals_: str) -> None:
        raise NotImplementedError

    def hang(self) -> None:
        raise NotImplementedError

    def go_on(self) -> None:
        raise NotImplementedError

    def go(self) -> None:
        raise NotImplementedError

    def come_back(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.source.close()

    def ask(self, local: str, domain: str = "ours.test", seconds: float = PATIENCE) -> Existence:
        return self.source.ask(local, domain, time.monotonic() + seconds)

    def ask_in_vain(self) -> float:
        """Ask for somebody who exists with a short deadline; how long that took."""
        began = time.monotonic()
        assert self.ask("alice", seconds=DEADLINE) is Existence.UNKNOWN
        return time.monotonic() - began


class OfPostmap(Outside):
    """A table that postmap reads: indexed, or a text."""

    def __init__(self, folder: Path, kind: str) -> None:
        need("postmap")
        self._kind = kind
        self._source = folder / "table"
        self._config = folder / "postfix"
        self._config.mkdir()
        (self._config / "main.cf").write_text("compatibility_level = 3.6\n")
        os.utime(self._config / "main.cf", (0, 0))  # Postfix reads a new one again and again, for a second
        self._file = {"hash": folder / "table.db", "lmdb": folder / "table.lmdb"}.get(kind, self._source)
        self._away = folder / "away"
        self._lock: int | None = None
        self.source = PostfixMap(f"{kind}:{self._source}", str(self._config))

    def know(self, *locals_: str) -> None:
        line = "/^{}@ours\\.test$/ x\n" if self._kind in ("pcre", "regexp") else "{}@ours.test x\n"
        self._source.write_text("".join(line.format(local) for local in locals_))
        os.utime(self._source, (0, 0))  # as with main.cf
        if self._file != self._source:
            table = f"{self._kind}:{self._source}"
            subprocess.run([need("postmap"), "-c", str(self._config), table], check=True, timeout=20)

    def hang(self) -> None:
        if self._file == self._source:  # nobody writes into the pipe: to open it waits for ever
            self.go()
            os.mkfifo(self._source)
            return
        self._lock = os.open(self._file, os.O_RDWR)  # as postmap does while it builds a table
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        fcntl.lockf(self._lock, fcntl.LOCK_EX)

    def go_on(self) -> None:
        if self._lock is None:
            self._source.unlink()
            self.come_back()
        else:
            os.close(self._lock)
            self._lock = None

    def go(self) -> None:
        self._file.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self._file)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)


class OfLmdb(OfPostmap):
    """The same table, read without postmap."""

    can_hang = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "lmdb")
        self.source = LmdbFile(str(self._source))


class OfSqlite(Outside):
    def __init__(self, folder: Path) -> None:
        self._path = folder / "mail.sqlite"
        self._away = folder / "away"
        self._writer = sqlite3.connect(self._path, isolation_level=None)
        self._writer.execute("CREATE TABLE mailbox (address TEXT PRIMARY KEY)")
        self.source = SqlDatabase(
            read_sql(
                {
                    "driver": "sqlite3",
                    "connect": {"database": str(self._path)},
                    "query": "SELECT 1 FROM mailbox WHERE address = {address}",
                    "anybody": "SELECT 1 FROM mailbox LIMIT 1",
                    "timeout": "1s",
                }
            )
        )

    def know(self, *locals_: str) -> None:
        self._writer.execute("DELETE FROM mailbox")
        for local in locals_:
            self._writer.execute("INSERT INTO mailbox VALUES (?)", (f"{local}@ours.test",))

    def hang(self) -> None:
        self._writer.execute("BEGIN EXCLUSIVE")

    def go_on(self) -> None:
        self._writer.execute("ROLLBACK")

    def go(self) -> None:
        self._writer.execute("ALTER TABLE mailbox RENAME TO away")

    def come_back(self) -> None:
        self._writer.execute("ALTER TABLE away RENAME TO mailbox")

    def close(self) -> None:
        super().close()
        self._writer.close()


class Server(Protocol):
    """A server of the test's own."""

    @property
    def pid(self) -> int: ...

    def start(self) -> object: ...

    def stop(self) -> None: ...

    def know(self, *addresses: str) -> None: ...


class OfServer(Outside):
    """A source behind a server that can be frozen and killed."""

    server: Server

    def know(self, *locals_: str) -> None:
        self.server.know(*(f"{local}@ours.test" for local in locals_))

    def hang(self) -> None:
        freeze(self.server.pid)

    def go_on(self) -> None:
        thaw(self.server.pid)

    def go(self) -> None:
        self.server.stop()

    def come_back(self) -> None:
        self.server.start()


class OfDirectory(OfServer):
    def __init__(self, folder: Path, server: Any) -> None:
        self.server = server
        self.source = LdapDirectory(
            read_ldap(
                {
                    "uri": server.url,
                    "base": server.base,
                    "filter": "(&(objectClass=inetOrgPerson)(mail={address}))",
                    "bind_dn": server.reader,
                    "password_file": _secret(folder, server.reader_password),
                }
            )
        )


class OfMariaDb(OfServer):
    def __init__(self, folder: Path, server: Any) -> None:
        self.server = server
        self.source = SqlDatabase(
            read_sql(
                {
                    "driver": "pymysql",
                    "connect": {
                        "host": "127.0.0.1",
                        "port": server.port,
                        "user": server.reader,
                        "password_file": _secret(folder, server.reader_password),
                        "database": "mail",
                    },
                    "query": "SELECT 1 FROM mailbox WHERE address = {address}",
                    "anybody": "SELECT 1 FROM mailbox WHERE address LIKE '%@ours.test' LIMIT 1",
                    "timeout": "3s",
                }
            )
        )


def _secret(folder: Path, password: str) -> str:
    path = folder / "password"
    path.write_text(f"{password}\n")
    path.chmod(0o400)
    return str(path)


MAKERS: dict[str, Callable[[Path], Outside]] = {
    "postmap hash": lambda folder: OfPostmap(folder, "hash"),
    "postmap lmdb": lambda folder: OfPostmap(folder, "lmdb"),
    "postmap texthash": lambda folder: OfPostmap(folder, "texthash"),
    "postmap pcre": lambda folder: OfPostmap(folder, "pcre"),
    "lmdb": OfLmdb,
    "sqlite": OfSqlite,
}
SERVERS = {"slapd": OfDirectory, "mariadb": OfMariaDb}


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    need("slapd")
    from tests.harness.slapd import Slapd  # noqa: PLC0415 - only the deep ring has python-ldap

    with Slapd(tmp_path_factory.mktemp("directory") / "slapd") as server:
        yield server


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from tests.harness.database import PROGRAMS, MariaDb  # noqa: PLC0415 - only the deep ring has its driver

    for program in PROGRAMS:
        need(program)
    with MariaDb(tmp_path_factory.mktemp("database") / "mariadb") as server:
        yield server


@pytest.fixture(params=[*MAKERS, *(pytest.param(name, marks=pytest.mark.deep) for name in SERVERS)])
def outside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outside]:
    if request.param in SERVERS:
        made: Outside = SERVERS[request.param](tmp_path, request.getfixturevalue(request.param))
    else:
        made = MAKERS[request.param](tmp_path)
    yield made
    made.close()


class TestThere:
    def test_who_is_there_exists_and_who_is_not_is_missing(self, outside: Outside) -> None:
        outside.know("alice", "bob")
        assert outside.ask("alice") is Existence.EXISTS
        assert outside.ask("nosuch") is Existence.MISSING
        assert outside.ask("alice", "else.test") is Existence.MISSING
        assert not outside.source.trouble

    def test_a_source_that_knows_nobody_knows_nothing(self, outside: Outside) -> None:
        outside.know()
        assert outside.ask("alice") is Existence.UNKNOWN
        assert "is not believed" in outside.source.trouble

    def test_new_people_are_known_at_once(self, outside: Outside) -> None:
        outside.know("alice", "bob")
        assert outside.ask("carol") is Existence.MISSING
        outside.know("alice", "bob", "carol")
        assert outside.ask("carol") is Existence.EXISTS

    def test_nasty_names_are_nobody(self, outside: Outside) -> None:
        outside.know("alice")
        answers = {nasty: outside.ask(nasty) for nasty in NASTY}
        assert answers == dict.fromkeys(NASTY, Existence.MISSING)

    def test_many_at_once(self, outside: Outside) -> None:
        outside.know("alice")
        found: list[Existence] = []

        def ask() -> None:
            found.extend(outside.ask(local) for local in ("alice", "nosuch") * 3)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found, key=lambda each: each.name) == [Existence.EXISTS] * 24 + [Existence.MISSING] * 24


# PyMySQL and libldap leave a socket that could not be connected to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class TestNotThere:
    def test_while_it_hangs_it_is_unknown_by_the_deadline(self, outside: Outside) -> None:
        if not outside.can_hang:  # it is read within microseconds, without locks
            return
        outside.know("alice")
        assert outside.ask("alice") is Existence.EXISTS
        outside.hang()
        try:
            took = [outside.ask_in_vain() for _ in range(THREADS + 2)]
            assert outside.source.trouble
        finally:
            outside.go_on()
        assert max(took) < DEADLINE + LATE, took
        wait_for(lambda: outside.ask("alice") is Existence.EXISTS, 20, "the source after its pause")
        assert outside.ask("nosuch") is Existence.MISSING
        assert not outside.source.trouble

    def test_while_it_is_gone_it_is_unknown(self, outside: Outside) -> None:
        outside.know("alice")
        assert outside.ask("alice") is Existence.EXISTS
        outside.go()
        try:
            assert outside.ask_in_vain() < DEADLINE + LATE
            assert outside.ask("nosuch") is Existence.UNKNOWN
            assert outside.source.trouble
        finally:
            outside.come_back()
        wait_for(lambda: outside.ask("alice") is Existence.EXISTS, 20, "the source that came back")
        assert outside.ask("nosuch") is Existence.MISSING

    def test_a_deadline_that_has_passed_is_unknown_at_once(self, outside: Outside) -> None:
        outside.know("alice")
        if isinstance(outside, OfLmdb):
            return
        began = time.monotonic()
        assert outside.ask("alice", seconds=-1) is Existence.UNKNOWN
        assert time.monotonic() - began < LATE
