"""The daemon's asker: slow sources judge recipients, whatever falls, freezes, hangs or is reloaded."""

import contextlib
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.callahead_target import HANG, CallaheadTarget
from tests.harness.daemon import BACKSTOP, Daemon, alive, children
from tests.harness.fake_mta import Message, Session
from tests.harness.frozen import freeze, frozen
from tests.harness.waiting import wait_for
from tests.protocol.conftest import KEY_FILE

ASKER = "asker_started pid="
UNKNOWN_USER = "550 5.1.1 No such user here"
LATER = "451 4.1.1 Recipient cannot be verified now, try again later"
QUERIES = 'query = "SELECT 1 FROM people WHERE local = {local}"\nanybody = "SELECT 1 FROM people"\n'
IN_TIME = 8.0
"""Seconds until a client has its answer, whatever happens: six, and what a busy machine adds."""


class AskingDaemon(Daemon):
    """Protects example.com, whose people a database has, and plain.example, of which nobody is asked."""

    def people(self, *locals_: str, database: str = "people.db") -> None:
        with contextlib.closing(sqlite3.connect(self.folder / database)) as people:
            people.execute("CREATE TABLE IF NOT EXISTS people (local TEXT)")
            people.execute("DELETE FROM people")
            people.executemany("INSERT INTO people VALUES (?)", [(local,) for local in locals_])
            people.commit()

    def ask(self, *sources: str, database: str = "people.db") -> None:
        """Write the configuration: example.com asks these sources."""
        keys = self.folder / "keys.toml"
        if not keys.exists():
            keys.write_text(KEY_FILE)
            keys.chmod(0o400)
        self.configure(
            f'socket = "{self.target}"\nworkers = 2\nkeys = "{keys}"\nstore = "redis://127.0.0.1:1/0"\n'
            'domains = ["example.com", "plain.example"]\n[defaults]\ntag_form = "subaddress"\n'
            f'[domain."example.com"]\nrecipients = {list(sources)}\n'
            f'[sql.people]\ndriver = "sqlite3"\nconnect = {{ database = "{self.folder / database}" }}\n'
            + QUERIES
        )

    def asker(self) -> int:
        """The newest one."""
        return int(self.log_text().rpartition(ASKER)[2].split()[0])

    def askers(self) -> int:
        """How many there have been."""
        return self.log_text().count(ASKER)

    def verdict(self, recipient: str, session: Session | None = None) -> str:
        """What a recipient is answered; empty for one that is taken."""
        message = Message("<a@remote.example>", (f"<{recipient}>",))
        if session is not None:
            return session.send(message).recipients[0][1].text
        with self.session() as own:
            return own.send(message).recipients[0][1].text


@pytest.fixture
def daemon() -> Iterator[AskingDaemon]:
    with AskingDaemon(BACKSTOP) as daemon:
        daemon.people("alice", "bob")
        daemon.ask("sql:people")
        yield daemon


@pytest.fixture
def asking(daemon: AskingDaemon) -> AskingDaemon:
    daemon.start()
    return daemon


def judges(daemon: AskingDaemon, session: Session | None = None) -> None:
    assert daemon.verdict("alice@example.com", session) == ""
    assert daemon.verdict("bob+list@example.com", session) == ""
    assert daemon.verdict(f"nosuch{time.monotonic_ns()}@example.com", session) == UNKNOWN_USER
    assert daemon.verdict("nosuch@plain.example", session) == ""


def sockets(pid: int) -> list[str]:
    links = (path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir())
    return [str(link) for link in links if str(link).startswith("socket:")]


class TestItsPlace:
    def test_unknown_users_are_refused(self, asking: AskingDaemon) -> None:
        judges(asking)

    def test_there_is_none_where_no_source_is_slow(self, daemon: AskingDaemon) -> None:
        daemon.ask("redis")
        daemon.start()
        assert len(daemon.workers()) == 2
        assert ASKER not in daemon.log_text()

    def test_it_keeps_nothing_of_the_parents_and_runs_on_every_core(self, asking: AskingDaemon) -> None:
        asker = asking.asker()
        assert len(sockets(asker)) == 1  # the door: neither the milter's socket nor a worker's channel
        assert not [link for link in sockets(asker) if link in _listening(asking)]
        assert os.sched_getaffinity(asker) == os.sched_getaffinity(asking.pid)
        assert os.getpgid(asker) == asker

    def test_only_sigterm_of_the_parents_signals_means_anything_to_it(self, asking: AskingDaemon) -> None:
        asker = asking.asker()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            os.kill(asker, number)
        judges(asking)
        assert asking.asker() == asker
        os.kill(asker, signal.SIGTERM)
        wait_for(lambda: asking.asker() != asker, 5, "another asker")
        judges(asking)

    def test_a_worker_that_fell_is_replaced_by_one_that_asks(self, asking: AskingDaemon) -> None:
        asker = asking.asker()
        workers = asking.workers() - {asker}
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        wait_for(lambda: len(asking.workers() - workers) == 3, 5, "other workers")
        judges(asking)
        assert asking.asker() == asker


def _listening(daemon: Daemon) -> list[str]:
    """The milter's socket, as /proc names it."""
    inodes = [
        line.split()[6]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if str(daemon.socket) in line
    ]
    return [f"socket:[{inode}]" for inode in inodes]


class TestFalls:
    def test_killed_it_is_replaced_and_the_question_waits(self, asking: AskingDaemon) -> None:
        judges(asking)
        for _ in range(3):
            asker = asking.asker()
            os.kill(asker, signal.SIGKILL)
            judges(asking)
            assert asking.asker() != asker
        assert "cause=SIGKILL" in asking.log_text()

    def test_that_falls_again_and_again_is_replaced_ever_more_slowly(self, asking: AskingDaemon) -> None:
        began = time.monotonic()
        for _ in range(6):
            asker, count = asking.asker(), asking.askers()
            os.kill(asker, signal.SIGKILL)
            wait_for(lambda count=count: asking.askers() > count, 5, "another asker")
        assert time.monotonic() - began > 1
        assert "asker_crash_loop short_lives=5" in asking.log_text()
        judges(asking)

    def test_frozen_it_is_unknown_in_time_and_knows_again(self, asking: AskingDaemon) -> None:
        asker = asking.asker()
        with frozen(asker):
            began = time.monotonic()
            assert asking.verdict("nosuch@example.com") == LATER
            assert 5 < time.monotonic() - began < IN_TIME
            assert asking.verdict("nosuch@plain.example") == ""
            said = "recipient source sql:people: nobody answered in time"
            wait_for(lambda: said in asking.log_text(), 5, "a word of it in the log")
        judges(asking)
        assert asking.asker() == asker

    def test_stop_leaves_no_process_behind(self, asking: AskingDaemon) -> None:
        everybody = asking.workers()
        assert len(everybody) == 3
        status, seconds = asking.stop()
        assert status == os.EX_OK
        assert seconds < 3
        wait_for(lambda: not any(map(alive, everybody)), 2, "the end of all")

    def test_a_frozen_one_does_not_hold_up_a_stop(self, asking: AskingDaemon) -> None:
        asker = asking.asker()
        freeze(asker)
        assert asking.stop()[1] < 3
        wait_for(lambda: not alive(asker), 2, "the end of the asker")

    def test_it_goes_with_a_parent_that_was_killed(self, asking: AskingDaemon) -> None:
        everybody = asking.workers()
        asking.process.kill()
        asking.process.wait()
        wait_for(lambda: not any(map(alive, everybody)), 10, "the end of all")


class TestReload:
    def test_another_source_counts_for_new_sessions(self, asking: AskingDaemon) -> None:
        first = asking.asker()
        with asking.session() as old:
            assert asking.verdict("alice@example.com", old) == ""
            asking.people("carol", database="others.db")
            asking.ask("sql:people", database="others.db")
            asking.reload()
            assert asking.verdict("carol@example.com") == ""
            assert asking.verdict("alice@example.com") == UNKNOWN_USER
            assert asking.verdict("bob@example.com", old) == ""
            assert alive(first)
            os.kill(first, signal.SIGKILL)  # an old one is replaced too, as long as somebody may ask it
            wait_for(lambda: asking.askers() == 3, 5, "an asker for the old session")
            judges(asking, old)
        wait_for(lambda: len(asking.workers()) == 3, 5, "the end of the old workers and their asker")

    def test_a_source_may_come_and_go(self, daemon: AskingDaemon) -> None:
        daemon.ask("mta")
        daemon.start()
        assert daemon.verdict("nosuch@example.com") == ""
        for _ in range(2):
            daemon.ask("sql:people")
            daemon.reload()
            judges(daemon)
            daemon.ask("mta")
            daemon.reload()
            assert daemon.verdict("nosuch@example.com") == ""
            wait_for(lambda: len(daemon.workers()) == 2, 5, "the end of the asker")

    def test_a_wrong_configuration_leaves_the_old_asker(self, asking: AskingDaemon) -> None:
        asker = asking.asker()
        asking.ask("sql:strangers")
        asking.reload()
        assert "there is no [sql.strangers] in this file" in asking.log_text()
        judges(asking)
        assert asking.asker() == asker
        assert len(asking.workers()) == 3

    def test_many_reloads_leave_no_descriptor_and_no_process(self, asking: AskingDaemon) -> None:
        asking.reload()
        before = len(sockets(asking.pid))
        for _ in range(4):
            asking.reload()
        judges(asking)
        wait_for(lambda: len(children(asking.pid)) == 3, 5, "the end of the old ones")
        wait_for(lambda: len(sockets(asking.pid)) <= before, 5, "their sockets to be closed")


class TestTime:
    def test_mail_that_needs_no_slow_source_does_not_wait_for_one(self, daemon: AskingDaemon) -> None:
        with CallaheadTarget(others={"CONNECT": HANG}) as target, ThreadPoolExecutor(20) as threads:
            daemon.ask(f"callahead:[127.0.0.1]:{target.port}")
            daemon.start()
            began = time.monotonic()
            hung = [threads.submit(daemon.verdict, f"x{number}@example.com") for number in range(20)]
            wait_for(lambda: target.connections > 0, 5, "the first question")
            for _ in range(20):
                before = time.monotonic()
                assert daemon.verdict("somebody@plain.example") == ""
                assert time.monotonic() - before < 2
            assert {one.result() for one in hung} == {LATER}
            assert time.monotonic() - began < IN_TIME + 1
        assert "source_does_not_know source=callahead:" in daemon.log_text()

    def test_a_silent_next_hop_makes_nobody_wait_longer_than_six_seconds(self, daemon: AskingDaemon) -> None:
        with CallaheadTarget(others={"CONNECT": HANG}) as one, CallaheadTarget(others={"MAIL": HANG}) as two:
            daemon.ask(f"callahead:[127.0.0.1]:{one.port}", f"callahead:[127.0.0.1]:{two.port}")
            daemon.start()
            began = time.monotonic()
            assert daemon.verdict("x@example.com") == LATER
            assert time.monotonic() - began < IN_TIME


def test_questions_leave_no_descriptor_behind(asking: AskingDaemon) -> None:
    def held() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in sorted(asking.workers())]

    def ask(number: int) -> str:
        return asking.verdict(f"user{number}@example.com")

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(ask, range(100))) == {UNKNOWN_USER}
        wait_for(lambda: _sessions(asking) == 0, 5, "the end of the sessions")
        before = held()
        assert set(threads.map(ask, range(100, 300))) == {UNKNOWN_USER}
        wait_for(lambda: _sessions(asking) == 0, 5, "the end of the sessions")
    # A worker keeps a conversation for each thread that asked at the same time, eight at most.
    assert all(now <= then + 8 for now, then in zip(held(), before, strict=True))


def _sessions(daemon: Daemon) -> int:
    """Connections of the mail server that are open."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    connected = f"{socket.SOCK_STREAM:04X} 03"
    return sum(str(daemon.socket) in line and connected in line for line in lines)
