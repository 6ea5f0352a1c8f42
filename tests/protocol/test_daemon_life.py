"""The real service in the daemon: what it starts, changes and finishes with the worker's life."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.fake_mta import Answer, Connection, Hangup, Message, Session, Verdict
from tests.harness.redis_server import RedisServer
from tests.harness.servers import need
from tests.harness.waiting import wait_for
from tests.protocol.conftest import backstop_settings

GOOD = Message("<a@remote.example>", ("<user@example.com>",))
BOUNCE = Message("<>", ("<robot@example.com>",))
NEVER_SENDS = 'receive_only = ["robot@example.com"]'


def memory(pid: int) -> int:
    """The process's share of memory (Pss), in kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Pss":
            return int(rest.split()[0])
    raise AssertionError("no Pss in smaps_rollup")


def test_a_changed_setting_counts_for_new_sessions_and_not_for_old(backstop: Daemon) -> None:
    backstop.start()
    with backstop.session() as before:
        assert before.send(BOUNCE).accepted
        backstop.configure(backstop_settings(backstop, NEVER_SENDS))
        backstop.reload()
        with backstop.session() as after:
            outcome = after.send(BOUNCE)
            assert (outcome.stage, outcome.final.text[:9]) == ("rcpt", "550 5.7.1")
        for _ in range(2):
            assert before.send(BOUNCE).accepted
    wait_for(lambda: len(backstop.workers()) == 2, 5, "the old workers' end")


@pytest.mark.parametrize("fault", ["file", "key file"])
def test_what_cannot_be_read_keeps_the_old_settings(backstop: Daemon, fault: str) -> None:
    backstop.configure(backstop_settings(backstop, NEVER_SENDS))
    backstop.start()
    if fault == "file":
        backstop.configure("nonsense = 1\n" + backstop_settings(backstop))
    else:
        backstop.configure(backstop_settings(backstop))
        (backstop.folder / "keys.toml").chmod(0o444)
    backstop.reload()
    assert "reload_refused" in backstop.log_text()
    with backstop.session() as session:
        assert session.send(BOUNCE).final.code == 550


def test_all_faults_are_told_at_the_start(backstop: Daemon) -> None:
    backstop.configure('workers = -1\nsocket = "pipe:/x"\n')
    began = time.monotonic()
    assert backstop.spawn().wait(10) == os.EX_CONFIG
    assert time.monotonic() - began < 5
    words = backstop.log_text()
    assert f"{backstop.config}:1: workers: " in words
    assert f"{backstop.config}:2: socket: " in words
    assert "Traceback" not in words


def test_counters_are_written_before_the_end(shared_redis: RedisServer) -> None:
    with Daemon(BACKSTOP) as daemon:
        daemon.configure(backstop_settings(daemon, NEVER_SENDS, store=shared_redis.url))
        daemon.start()
        sessions = [daemon.session() for _ in range(10)]
        for session in sessions:
            session.send(BOUNCE)
            session.connection.quit()
        assert daemon.stop()[0] == 0
    client = shared_redis.client()
    assert client.hget("backstop:count:example.com", "receive_only.fail") in (b"10", "10")
    client.close()


def test_a_frozen_redis_does_not_hold_up_the_end(redis_server: RedisServer) -> None:
    with Daemon(BACKSTOP) as daemon:
        daemon.configure(backstop_settings(daemon, NEVER_SENDS, store=redis_server.url))
        daemon.start()
        with daemon.session() as session:
            session.send(BOUNCE)
            redis_server.freeze()
            session.send(BOUNCE)
        status, seconds = daemon.stop()
        assert (status, seconds < 5) == (0, True)
        redis_server.thaw()


def test_an_ordinary_user_runs_it() -> None:
    need("setpriv")
    with Daemon(BACKSTOP, user=65534 if os.geteuid() == 0 else None) as daemon:
        daemon.configure(backstop_settings(daemon))
        daemon.folder.chmod(0o755)
        daemon.start()
        for pid in {daemon.pid, *daemon.workers()}:
            assert Path(f"/proc/{pid}").stat().st_uid == daemon.user
        os.kill(min(daemon.workers()), signal.SIGKILL)
        daemon.reload()
        with daemon.session() as session:
            assert session.send(GOOD).accepted
        status, seconds = daemon.stop()
        assert (status, seconds < 5) == (0, True)
        assert list(daemon.socket.parent.iterdir()) == []


def test_two_hundred_sessions_at_once_get_right_answers(backstop: Daemon) -> None:
    backstop.configure(backstop_settings(backstop, NEVER_SENDS))
    backstop.start()

    def answers(_: int) -> list[int]:
        with backstop.session(timeout=30) as session:
            return [session.send(message).final.code for message in (GOOD, BOUNCE, GOOD, BOUNCE)]

    with ThreadPoolExecutor(50) as threads:
        assert set(map(tuple, threads.map(answers, range(200)))) == {(250, 550, 250, 550)}


def test_too_few_descriptors_refuse_nobody_for_good() -> None:
    """reliability J4: what is too much waits or is closed, and afterwards all is well."""
    need("prlimit")
    with Daemon(BACKSTOP, prefix=("prlimit", "--nofile=64:64")) as daemon:
        daemon.configure(backstop_settings(daemon))
        daemon.start()
        workers = daemon.workers()
        connections: list[Connection] = []
        codes = set()
        for _ in range(130):
            connections.append(Connection(daemon.target, timeout=0.1))
            try:
                connections[-1].negotiate()
                connections[-1].connect("mx.remote.example", "192.0.2.1")
                connections[-1].mail("<a@remote.example>")
                codes.add(connections[-1].rcpt("<user@example.com>"))
            except Hangup:
                continue
        assert codes == {Answer(Verdict.CONTINUE)}
        for connection in connections:
            connection.close()
        wait_for(lambda: served(daemon), 5, "an answer")
        assert daemon.workers() == workers
        assert daemon.stop()[0] == 0


def served(daemon: Daemon) -> bool:
    try:
        with Session(daemon.target, timeout=1) as session:
            return bool(session.send(GOOD).accepted)
    except Hangup:
        return False


@pytest.mark.deep
def test_a_thousand_idle_connections(backstop: Daemon) -> None:
    """reliability D1 and the goals of memory: 40 MB a worker, 10 kB an idle connection."""
    backstop.start()
    with backstop.session() as session:
        session.send(GOOD)
    before = sum(memory(pid) for pid in backstop.workers())
    idle = [backstop.session() for _ in range(1000)]
    during = sum(memory(pid) for pid in backstop.workers())
    delays = []
    for _ in range(300):
        began = time.monotonic()
        with backstop.session() as session:
            assert session.send(GOOD).accepted
        delays.append(time.monotonic() - began)
    assert (during - before) / 1000 < 10
    assert sorted(delays)[150] < 0.05
    assert max(memory(pid) for pid in backstop.workers()) < 40_000
    assert all(session.send(GOOD).accepted for session in idle)
    for session in idle:
        session.connection.quit()
    assert backstop.stop()[0] == 0
