"""What can be wrong between a directory or a database and the one who asks: it is unknown, and told."""

import contextlib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from backstop.adapters.asker_client import PATIENCE
from backstop.adapters.ldap_directory import LdapDirectory, read_ldap
from backstop.adapters.lookup_crew import KNOWS_NOBODY, MAX_GIVEN_UP, THREADS, Crew, NoClearWord
from backstop.adapters.sql_database import SqlDatabase, read_sql
from backstop.facts import Existence
from tests.harness.callahead_target import Backlog
from tests.harness.servers import need, wait_for

# PyMySQL leaves a socket that could not be connected to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def ask(source: Crew, local: str, seconds: float = 8.0) -> Existence:
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
        self,
        path: Path,
        query: str = "SELECT 1 FROM mailbox WHERE address = {address}",
        anybody: str = "SELECT 1 FROM mailbox LIMIT 1",
    ) -> SqlDatabase:
        table = {
            "driver": "sqlite3",
            "connect": {"database": str(path)},
            "query": query,
            "anybody": anybody,
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

    @pytest.fixture
    def other(self, path: Path) -> Path:
        """Another file with another user; it is as long and as often changed, as one made by a script is."""
        other = path.with_name("other")
        with contextlib.closing(sqlite3.connect(other)) as writer:
            writer.execute("CREATE TABLE mailbox (address TEXT PRIMARY KEY)")
            writer.execute("INSERT INTO mailbox VALUES ('carol@ours.test')")
            writer.commit()
        return other

    @pytest.mark.parametrize("name", ["mail.sqlite", "link"])
    def test_a_file_that_was_replaced_is_seen(self, path: Path, other: Path, name: str) -> None:
        (path.parent / "link").symlink_to(path)
        source = self.source(path.parent / name)
        assert ask(source, "alice") is Existence.EXISTS
        assert ask(source, "carol") is Existence.MISSING
        other.replace(path.parent / name)
        assert ask(source, "carol") is Existence.EXISTS
        assert ask(source, "alice") is Existence.MISSING
        source.close()

    def test_a_file_that_was_overwritten_is_seen(self, path: Path, other: Path) -> None:
        source = self.source(path)
        assert ask(source, "carol") is Existence.MISSING
        path.write_bytes(other.read_bytes())
        assert ask(source, "carol") is Existence.EXISTS
        source.close()

    def test_a_file_that_was_removed_is_unknown(self, path: Path) -> None:
        source = self.source(path)
        assert ask(source, "nosuch") is Existence.MISSING
        path.unlink()
        assert ask(source, "alice") is Existence.UNKNOWN
        assert "unable to open" in source.trouble
        source.close()

    @pytest.mark.parametrize("address", ["file:{}", "file://localhost{}?mode=ro"])
    def test_a_file_named_by_a_uri_is_watched_too(self, path: Path, other: Path, address: str) -> None:
        connect = {"database": address.format(path), "uri": True}
        query = "SELECT 1 FROM mailbox WHERE address = {address}"
        anybody = "SELECT 1 FROM mailbox"
        table = {"driver": "sqlite3", "connect": connect, "query": query, "anybody": anybody}
        source = SqlDatabase(read_sql(table))
        assert ask(source, "carol") is Existence.MISSING
        other.replace(path)
        assert ask(source, "carol") is Existence.EXISTS
        source.close()

    @pytest.mark.parametrize(
        "anybody",
        [
            "SELECT COUNT(*) FROM mailbox",
            "SELECT EXISTS(SELECT 1 FROM mailbox)",
            "SELECT MAX(address) FROM mailbox",
        ],
    )
    def test_who_counts_nobody_knows_nobody(self, path: Path, anybody: str) -> None:
        source = self.source(path, anybody=anybody)
        assert ask(source, "nosuch") is Existence.MISSING
        source.close()
        with contextlib.closing(sqlite3.connect(path)) as writer:
            writer.execute("DELETE FROM mailbox")
            writer.commit()
        source = self.source(path, anybody=anybody)
        assert ask(source, "alice") is Existence.UNKNOWN
        assert source.trouble == KNOWS_NOBODY
        source.close()

    def test_a_row_is_somebody_whatever_stands_in_it(self, path: Path) -> None:
        source = self.source(path, "SELECT 0 FROM mailbox WHERE address = {address}")
        assert ask(source, "alice") is Existence.EXISTS
        assert ask(source, "nosuch") is Existence.MISSING
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
        assert time.monotonic() - began < 2
        assert source.trouble == f"it has not answered {THREADS} questions, which still wait"
        source.close()
        assert time.monotonic() - began < 3
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


class SilentHost:
    """Connections to a host that stops answering amid a question; `answer` is what it says in the end."""

    def __init__(self) -> None:
        self.is_silent = self.is_empty = False
        self.speaks = threading.Event()
        self.answer = False
        self.came_back = 0
        self.opened = 0
        self.closed = 0

    def connect(self, _deadline: float) -> "SilentHost":
        self.opened += 1
        return self

    def knows(self, local: str, _domain: str, _deadline: float) -> bool:
        if self.is_silent:
            self.speaks.wait()
            self.came_back += 1
            return self.answer
        return local == "alice"

    def has_anybody(self, _domain: str, _deadline: float) -> bool:
        return not self.is_empty

    def close(self) -> None:
        self.closed += 1


class Elsewhere(SilentHost):
    """A directory that has a part elsewhere."""

    def knows(self, _local: str, _domain: str, _deadline: float) -> bool:
        raise NoClearWord("a part is elsewhere")


def test_a_connection_that_has_no_clear_word_is_kept() -> None:
    host = Elsewhere()
    source = Crew(host.connect)
    assert [ask(source, local) for local in ("ann", "bob", "carol")] == [Existence.UNKNOWN] * 3
    assert source.trouble == "a part is elsewhere"
    assert host.opened == 1
    source.close()


class TestStuckForEver:
    @pytest.fixture
    def host(self) -> Iterator[SilentHost]:
        host = SilentHost()
        yield host
        host.speaks.set()

    def silence(self, host: SilentHost, source: Crew) -> None:
        host.is_silent = True
        for _ in range(THREADS):
            assert ask(source, "alice", 0.05) is Existence.UNKNOWN
        host.is_silent = False

    def test_a_host_that_came_back_is_asked_again(self, host: SilentHost) -> None:
        source = Crew(host.connect, give_up_seconds=0.5)
        self.silence(host, source)
        began = time.monotonic()
        assert ask(source, "alice") is Existence.UNKNOWN
        assert time.monotonic() - began < 2
        wait_for(lambda: ask(source, "alice") is Existence.EXISTS, 5, "the host that came back")
        assert ask(source, "nosuch") is Existence.MISSING
        assert not source.trouble
        source.close()

    def test_their_number_has_an_end(self, host: SilentHost) -> None:
        source = Crew(host.connect, give_up_seconds=0)
        for _ in range(MAX_GIVEN_UP // THREADS + 3):
            self.silence(host, source)
        most = MAX_GIVEN_UP + THREADS
        assert host.opened == most
        assert ask(source, "alice") is Existence.UNKNOWN
        assert source.trouble == f"it has not answered {most} questions, which still wait"
        host.speaks.set()
        wait_for(lambda: ask(source, "alice") is Existence.EXISTS, 5, "the host that speaks again")
        wait_for(lambda: host.closed >= MAX_GIVEN_UP, 5, "the end of those given up")
        source.close()
        assert host.closed == host.opened

    def test_what_comes_back_late_closes_and_counts_for_nothing(self, host: SilentHost) -> None:
        source = Crew(host.connect, give_up_seconds=0)
        self.silence(host, source)
        assert ask(source, "alice") is Existence.EXISTS
        host.answer = True
        host.speaks.set()
        wait_for(lambda: host.closed >= THREADS, 5, "the end of those given up")
        assert not source.trouble
        source.close()

    def test_that_somebody_was_there_is_not_believed_when_it_comes_late(self, host: SilentHost) -> None:
        source = Crew(host.connect)
        self.silence(host, source)
        host.answer = host.is_empty = True
        host.speaks.set()
        wait_for(lambda: host.came_back == THREADS, 5, "the threads that were stuck")
        assert ask(source, "nosuch") is Existence.UNKNOWN
        assert source.trouble == KNOWS_NOBODY
        source.close()


def test_a_process_that_had_no_thread_left_asks_once_it_has() -> None:
    source = Crew(SilentHost().connect)
    usual = threading.stack_size(2**46)  # more than there is room for: no thread begins
    try:
        for _ in range(THREADS + 1):
            assert ask(source, "alice", 0.05) is Existence.UNKNOWN
    finally:
        threading.stack_size(usual)
    assert ask(source, "alice") is Existence.EXISTS
    assert ask(source, "nosuch") is Existence.MISSING
    source.close()


class DriverError(Exception):
    pass


class TestPatience:
    """What a driver is told of waiting, and that no other is told what it does not know."""

    def connected(
        self, monkeypatch: pytest.MonkeyPatch, driver: str, **connect: str | int
    ) -> dict[str, object]:
        """The arguments it gets."""
        got: dict[str, object] = {}

        def take(**arguments: object) -> None:
            got.update(arguments)
            raise DriverError

        module = ModuleType(driver)
        module.__dict__.update(connect=take, paramstyle="format", Error=DriverError)
        monkeypatch.setitem(sys.modules, driver, module)
        query, anybody = "SELECT 1 FROM t WHERE a = {address}", "SELECT 1 FROM t"
        table = {"driver": driver, "connect": connect, "query": query, "anybody": anybody, "timeout": "4s"}
        source = SqlDatabase(read_sql(table))
        assert ask(source, "alice") is Existence.UNKNOWN
        assert "DriverError" in source.trouble
        source.close()
        return got

    @pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
    def test_libpq_notices_a_host_that_died(self, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
        assert self.connected(monkeypatch, driver) == {
            "connect_timeout": 4,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 4000,
        }

    @pytest.mark.parametrize("driver", ["pymysql", "MySQLdb"])
    def test_drivers_of_mysql_do_too(self, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
        expected = {"connect_timeout": 4, "read_timeout": 4, "write_timeout": 4}
        assert self.connected(monkeypatch, driver) == expected

    def test_what_is_configured_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        got = self.connected(monkeypatch, "psycopg", host="db", keepalives_idle=30, tcp_user_timeout=9000)
        assert (got["host"], got["keepalives_idle"], got["tcp_user_timeout"]) == ("db", 30, 9000)

    def test_any_other_gets_what_is_configured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.connected(monkeypatch, "some_driver", host="db") == {"host": "db"}


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
        assert time.monotonic() - began < 1.8
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

    def test_the_second_is_asked_in_time_where_the_first_takes_up_no_connection(
        self, slapd: Any, tmp_path: Path
    ) -> None:
        with Backlog() as dead:
            uri = [f"ldap://127.0.0.1:{dead.port}", slapd.url]
            source = self.source(slapd, tmp_path, uri=uri, timeout="60s")
            assert ask(source, "alice", PATIENCE) is Existence.EXISTS
            source.close()

    def test_to_wait_for_a_server_that_is_silent_amid_tls_takes_no_time_of_the_processor(
        self, slapd: Any, tmp_path: Path
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            source = self.source(slapd, tmp_path, uri=f"ldaps://127.0.0.1:{silent.getsockname()[1]}")
            assert ask(source, "alice", 0.5) is Existence.UNKNOWN
            (waiting,) = source._stuck
            for _ in range(20):
                stat = Path(f"/proc/self/task/{waiting.native_id}/stat").read_text()
                assert stat.rpartition(")")[2].split()[0] == "S"  # it sleeps: proc_pid_stat(5)
                time.sleep(0.01)
        source.close()  # its connection was reset

    def test_a_server_that_dies_while_it_is_waited_for_is_noticed(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path)
        assert ask(source, "alice") is Existence.EXISTS
        idle = [_idle_seconds(int(link.name), slapd.port) for link in Path("/proc/self/fd").iterdir()]
        assert 10 in idle
        source.close()

    def test_a_connection_that_the_server_closed_is_no_trouble(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path)
        assert ask(source, "alice") is Existence.EXISTS
        slapd.stop()
        slapd.start()
        assert ask(source, "alice") is Existence.EXISTS
        assert not source.trouble
        source.close()

    def test_who_is_not_found_may_be_elsewhere(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path, base="dc=ours,dc=test")
        slapd.refer(
            "ldap://branch.test/ou=branch,dc=ours,dc=test", "ldap://other.test/ou=other,dc=ours,dc=test"
        )
        assert ask(source, "alice") is Existence.EXISTS
        assert ask(source, "nosuch") is Existence.UNKNOWN
        assert "elsewhere" in source.trouble
        assert "ldap://branch.test/ou=branch,dc=ours,dc=test" in source.trouble
        slapd.refer()
        assert ask(source, "nosuch") is Existence.MISSING
        source.close()

    def test_where_active_directory_always_points_nobody_is(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path, base="dc=ours,dc=test")
        slapd.refer(
            "ldap://ForestDnsZones.ours.test/DC=ForestDnsZones,DC=ours,DC=test",
            "ldap://DomainDnsZones.ours.test/DC=DomainDnsZones,DC=ours,DC=test",
            "ldap://ours.test/CN=Configuration,DC=ours,DC=test",
        )
        assert ask(source, "alice") is Existence.EXISTS
        assert ask(source, "nosuch") is Existence.MISSING
        slapd.refer()
        source.close()

    def test_several_entries_of_one_address_exist(self, slapd: Any, tmp_path: Path) -> None:
        source = self.source(slapd, tmp_path, filter="(|(mail={address})(objectClass=*))")
        assert ask(source, "alice") is Existence.EXISTS
        source.close()


def _idle_seconds(descriptor: int, port: int) -> int:
    """After how long the kernel asks whether the server at this port lives; 0 for no such connection."""
    try:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
            if sock.getpeername()[1] == port and sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
                return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    except (OSError, IndexError):  # no socket, or one of another family
        pass
    return 0
