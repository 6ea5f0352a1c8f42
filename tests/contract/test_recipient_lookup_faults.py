"""What can be wrong between a directory or a database and the one who asks: it is unknown, and told."""

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backstop.adapters.ldap_directory import LdapDirectory, read_ldap
from backstop.adapters.lookup_crew import THREADS
from backstop.adapters.sql_database import SqlDatabase, read_sql
from backstop.facts import Existence
from tests.harness.servers import need

# PyMySQL leaves a socket that could not be connected to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def ask(source: LdapDirectory | SqlDatabase, local: str, seconds: float = 8.0) -> Existence:
    return source.ask(local, "ours.test", time.monotonic() + seconds)


def secret(folder: Path, password: str, mode: int = 0o400) -> str:
    path = folder / "password"
    path.unlink(missing_ok=True)
    path.write_text(password)
    path.chmod(mode)
    return str(path)


class TestSqlite:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "mail.sqlite"
        writer = sqlite3.connect(path)
        writer.execute("CREATE TABLE mailbox (address TEXT PRIMARY KEY)")
        writer.execute("INSERT INTO mailbox VALUES ('alice@ours.test')")
        writer.commit()
        writer.close()
        return path

    def source(
        self, path: Path, query: str = "SELECT 1 FROM mailbox WHERE address = {address}"
    ) -> SqlDatabase:
        table = {
            "driver": "sqlite3",
            "connect": {"database": str(path)},
            "query": query,
            "anybody": "SELECT 1 FROM mailbox LIMIT 1",
        }
        return SqlDatabase(read_sql(table))

    def test_a_query_that_is_wrong_is_unknown_and_told(self, path: Path) -> None:
        source = self.source(path, "SELECT 1 FROM mailboxes WHERE address = {address}")
        assert ask(source, "alice") is Existence.UNKNOWN
        assert "no such table: mailboxes" in source.trouble
        source.close()

    def test_a_database_that_is_not_there_is_not_made(self, path: Path) -> None:
        path.unlink()
        source = self.source(path)
        assert ask(source, "alice") is Existence.UNKNOWN
        assert "unable to open" in source.trouble
        assert not path.exists()
        source.close()

    def test_a_query_that_writes_is_not_let(self, path: Path) -> None:
        source = self.source(path, "INSERT INTO mailbox VALUES ({address}) RETURNING 1")
        assert ask(source, "mallory") is Existence.UNKNOWN
        source.close()

    def test_when_all_threads_wait_nobody_else_does(self, path: Path) -> None:
        writer = sqlite3.connect(path, isolation_level=None)
        source = self.source(path)
        assert ask(source, "alice") is Existence.EXISTS
        writer.execute("BEGIN EXCLUSIVE")
        for _ in range(THREADS):
            assert ask(source, "alice", 0.1) is Existence.UNKNOWN
        began = time.monotonic()
        assert ask(source, "alice", 5) is Existence.UNKNOWN
        assert time.monotonic() - began < 0.1
        assert source.trouble == f"it has not answered {THREADS} questions, which still wait"
        source.close()
        assert time.monotonic() - began < 1.5
        writer.close()


@pytest.mark.parametrize(
    ("driver", "said"),
    [("no_such_driver", "cannot be used"), ("json", "is no driver"), ("backstop.address", "is no driver")],
)
def test_a_module_that_is_no_driver_is_unknown_and_told(driver: str, said: str) -> None:
    source = SqlDatabase(
        read_sql(
            {"driver": driver, "query": "SELECT 1 FROM t WHERE a = {address}", "anybody": "SELECT 1 FROM t"}
        )
    )
    assert ask(source, "alice") is Existence.UNKNOWN
    assert said in source.trouble
    source.close()


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.harness.database import PROGRAMS, MariaDb  # noqa: PLC0415 - only the deep ring has its driver

    for program in PROGRAMS:
        need(program)
    with MariaDb(tmp_path_factory.mktemp("database") / "mariadb") as server:
        server.know("alice@ours.test")
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    words = [
        need("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Any]:
    need("slapd")
    from tests.harness.slapd import Slapd  # noqa: PLC0415 - only the deep ring has python-ldap

    with Slapd(tmp_path_factory.mktemp("directory") / "slapd", *certificate) as server:
        server.know("alice@ours.test")
        yield server


@pytest.mark.deep
class TestMariaDb:
    def source(self, mariadb: Any, password_file: str, **changes: Any) -> SqlDatabase:
        connect = {"host": "127.0.0.1", "port": mariadb.port, "user": mariadb.reader, "database": "mail"}
        table = {
            "driver": "pymysql",
            "connect": {**connect, "password_file": password_file},
            "query": "SELECT 1 FROM mailbox WHERE address = {address}",
            "anybody": "SELECT 1 FROM mailbox LIMIT 1",
            **changes,
        }
        return SqlDatabase(read_sql(table))

    def test_a_wrong_password_is_unknown_and_never_told(self, mariadb: Any, tmp_path: Path) -> None:
        source = self.source(mariadb, secret(tmp_path, "the wrong one"))
        assert ask(source, "alice") is Existence.UNKNOWN
        assert "Access denied" in source.trouble
        assert "wrong" not in source.trouble
        source.close()

    def test_a_password_everybody_can_read_is_not_used(self, mariadb: Any, tmp_path: Path) -> None:
        source = self.source(mariadb, secret(tmp_path, mariadb.reader_password, 0o444))
        assert ask(source, "alice") is Existence.UNKNOWN
        assert "chmod o=" in source.trouble
        secret(tmp_path, mariadb.reader_password)
        assert ask(source, "alice") is Existence.EXISTS
        source.close()

    def test_a_connection_that_the_server_closed_is_no_trouble(self, mariadb: Any, tmp_path: Path) -> None:
        source = self.source(mariadb, secret(tmp_path, mariadb.reader_password))
        assert ask(source, "alice") is Existence.EXISTS
        mariadb.stop()
        mariadb.start()
        assert ask(source, "alice") is Existence.EXISTS
        assert not source.trouble
        source.close()

    def test_a_slow_query_is_left_behind(self, mariadb: Any, tmp_path: Path) -> None:
        slow = "SELECT 1 FROM mailbox WHERE address = {address} AND SLEEP(2) = 0"
        source = self.source(mariadb, secret(tmp_path, mariadb.reader_password), query=slow)
        began = time.monotonic()
        assert ask(source, "alice", 0.5) is Existence.UNKNOWN
        assert time.monotonic() - began < 0.8
        assert source.trouble == "no answer in time"
        assert ask(source, "alice") is Existence.EXISTS
        source.close()


@pytest.mark.deep
class TestDirectory:
    def source(self, slapd: Any, folder: Path, **changes: Any) -> LdapDirectory:
        table = {
            "uri": slapd.url,
            "base": slapd.base,
            "filter": "(mail={address})",
            "bind_dn": slapd.reader,
            "password_file": secret(folder, slapd.reader_password),
            **changes,
        }
        return LdapDirectory(read_ldap(table))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"base": "ou=nowhere,dc=ours,dc=test"}, "No such object"),
            ({"base": "no name"}, "DN"),
            ({"filter": "(|(mail={address})"}, "filter"),
            ({"filter": "(nosuchattribute={address})"}, "is not believed"),
            ({"bind_dn": "cn=mallory,dc=ours,dc=test"}, "Invalid credentials"),
            ({"uri": "ldap://127.0.0.1:1"}, "contact LDAP server"),
            ({"starttls": True}, "certificate"),
            ({"password_file": "/nonexistent"}, "No such file"),
        ],
    )
    def test_what_is_wrong_is_unknown_and_told(
        self, slapd: Any, tmp_path: Path, changes: dict[str, Any], said: str
    ) -> None:
        source = self.source(slapd, tmp_path, **changes)
        assert ask(source, "alice") is Existence.UNKNOWN
        assert said.lower() in source.trouble.lower()
        source.close()

    def test_whoever_may_see_nobody_knows_nobody(self, slapd: Any) -> None:
        source = LdapDirectory(
            read_ldap({"uri": slapd.url, "base": slapd.base, "filter": "(mail={address})"})
        )
        assert ask(source, "alice") is Existence.UNKNOWN
        source.close()

    def test_with_starttls(self, slapd: Any, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
        source = self.source(slapd, tmp_path, starttls=True, ca_file=str(certificate[0]))
        assert ask(source, "alice") is Existence.EXISTS
        assert ask(source, "nosuch") is Existence.MISSING
        source.close()

    def test_the_second_of_two_servers_is_asked_where_the_first_is_gone(
        self, slapd: Any, tmp_path: Path
    ) -> None:
        source = self.source(slapd, tmp_path, uri=["ldap://127.0.0.1:1", slapd.url])
        assert ask(source, "alice") is Existence.EXISTS
        source.close()

    def test_a_connection_that_the_server_closed_is_no_trouble(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path)
        assert ask(source, "alice") is Existence.EXISTS
        slapd.stop()
        slapd.start()
        assert ask(source, "alice") is Existence.EXISTS
        assert not source.trouble
        source.close()

    def test_several_entries_of_one_address_exist(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path, filter="(|(mail={address})(objectClass=*))")
        assert ask(source, "alice") is Existence.EXISTS
        source.close()
