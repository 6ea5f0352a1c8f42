"""Workers and parents that fall, freeze or never start."""

import contextlib
import os
import signal
import time
from itertools import pairwise

import pytest

from tests.harness.daemon import Daemon, alive
from tests.harness.fake_mta import Hangup, HeaderAdded, Message, Session
from tests.harness.frozen import frozen
from tests.harness.waiting import wait_for

GOOD = Message("<a@remote.example>", ("<user@example.com>",))


def worker_of(session: Session) -> int:
    """The process that serves a session."""
    (change,) = session.send(GOOD).changes
    assert isinstance(change, HeaderAdded)
    return int(change.value.split()[1])


def sessions_on_both(daemon: Daemon) -> dict[int, Session]:
    """A session with each of two workers; whom the kernel gives a connection is chance."""
    found: dict[int, Session] = {}
    for _ in range(400):
        session = daemon.session()
        pid = worker_of(session)
        if pid in found:
            session.connection.quit()
        found.setdefault(pid, session)
        if len(found) == 2:
            return found
    pytest.fail("one of two workers never gets a session")


def test_a_killed_worker_is_replaced_and_the_others_go_on(stand_in: Daemon) -> None:
    stand_in.start()
    (victim, cut), (other, kept) = sessions_on_both(stand_in).items()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(stand_in.workers() - {victim}) == 2, 3, "another worker")
    with pytest.raises(Hangup):
        cut.send(GOOD)
    assert worker_of(kept) == other
    kept.connection.quit()
    assert stand_in.socket.exists()
    again = sessions_on_both(stand_in)
    assert set(again) == stand_in.workers()
    for session in again.values():
        session.connection.quit()
    assert f"worker_fell pid={victim} cause=SIGKILL" in stand_in.log_text()


def test_a_worker_that_falls_in_a_callback_costs_its_own_sessions(stand_in: Daemon) -> None:
    stand_in.start()
    for _ in range(10):
        with pytest.raises(Hangup), stand_in.session() as session:
            session.send(Message("<a@remote.example>", ("<die@example.com>",)))
        with stand_in.session() as session:
            assert session.send(GOOD).accepted
    assert not stand_in.ended()


def test_a_worker_whose_thread_ended_by_a_bug_served_on_without_it(stand_in: Daemon) -> None:
    """Without the journal's threads nothing was logged or counted, and Redis stayed away for good."""
    stand_in.start()
    with contextlib.suppress(Hangup), stand_in.session() as session:
        session.send(Message("<a@remote.example>", ("<bug@example.com>",)))
    wait_for(lambda: "worker_fell" in stand_in.log_text(), 5, "the end of the worker")
    assert "told to fail in a thread" in stand_in.log_text()
    with stand_in.session() as session:
        assert session.send(GOOD).accepted


def test_the_workers_of_a_killed_parent_finish_and_a_new_parent_starts(stand_in: Daemon) -> None:
    stand_in.start()
    orphans = stand_in.workers()
    with stand_in.session() as session:
        serving = worker_of(session)
        stand_in.process.kill()
        stand_in.process.wait()
        wait_for(lambda: not [pid for pid in orphans - {serving} if alive(pid)], 2, "the idle orphan's end")
        began = time.monotonic()
        stand_in.start()
        assert time.monotonic() - began < 6
        assert worker_of(session) == serving
        with stand_in.session() as fresh:
            assert worker_of(fresh) in stand_in.workers()
        assert worker_of(session) == serving
    wait_for(lambda: not alive(serving), 2, "the last orphan's end")
    assert not orphans & stand_in.workers()


def test_workers_of_older_configurations_leave_with_their_sessions_too(stand_in: Daemon) -> None:
    """Also when the parent is killed while they drain."""
    stand_in.start()
    with stand_in.session() as session:
        serving = worker_of(session)
        stand_in.reload()
        stand_in.process.kill()
        stand_in.process.wait()
        assert worker_of(session) == serving
    wait_for(lambda: not alive(serving), 2, "the last orphan's end")


def test_workers_that_fall_at_once_are_tried_ever_more_slowly(stand_in: Daemon, write) -> None:
    write(start="die", workers=1)
    stand_in.spawn()
    wait_for(lambda: "crash_loop" in stand_in.log_text(), 10, "the crash loop's line")
    before = stand_in.log_text().count("worker_fell")
    time.sleep(3)
    tries = stand_in.log_text().count("worker_fell") - before
    assert 1 <= tries <= 5
    assert not stand_in.ended()
    assert stand_in.count("READY=1") == 0
    status, seconds = stand_in.stop()
    assert (status, seconds < 3) == (0, True)


def test_a_daemon_in_a_crash_loop_is_cured_by_a_reload(stand_in: Daemon, write) -> None:
    write(start="die")
    stand_in.spawn()
    wait_for(lambda: "crash_loop" in stand_in.log_text(), 10, "the crash loop's line")
    write(start="ok")
    stand_in.reload()
    with stand_in.session() as session:
        assert session.send(GOOD).accepted


def test_a_frozen_daemon_goes_on_where_it_stood(stand_in: Daemon) -> None:
    """reliability B12, for a shorter time."""
    stand_in.start()
    everybody = [*stand_in.workers(), stand_in.pid]
    with stand_in.session() as session:
        with frozen(*everybody), pytest.raises(Hangup):
            stand_in.session(timeout=0.5)
        assert session.send(GOOD).accepted
    with stand_in.session() as session:
        assert session.send(GOOD).accepted
    assert stand_in.workers() <= set(everybody)


def test_signals_without_a_meaning_end_nothing(stand_in: Daemon) -> None:
    """SIGUSR1 ends a Python program that does not ask for it."""
    stand_in.start()
    for pid in (stand_in.pid, *stand_in.workers()):
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR2)
    with stand_in.session() as session:
        assert session.send(GOOD).accepted
    assert not stand_in.ended()
    assert "worker_fell" not in stand_in.log_text()


@pytest.mark.parametrize("period", [600_000])
def test_the_watchdog_is_fed_by_what_the_socket_answers(period: int) -> None:
    with Daemon(environment={"WATCHDOG_USEC": str(period)}) as daemon:
        daemon.configure(f'socket = "{daemon.target}"\nworkers = 2\n')
        daemon.start()
        wait_for(lambda: daemon.count("WATCHDOG=1") >= 4, 5, "the watchdog's food")
        stamps = [when for when, line in daemon.notes if line == "WATCHDOG=1"]
        assert max(later - earlier for earlier, later in pairwise(stamps)) < period / 1e6
        with frozen(*daemon.workers()):
            wait_for(lambda: "selftest_fails" in daemon.log_text(), 6, "the failed self-test")
            fed = daemon.count("WATCHDOG=1")
            time.sleep(1)
            assert daemon.count("WATCHDOG=1") == fed
        wait_for(lambda: daemon.count("WATCHDOG=1") > fed, 6, "the watchdog's food")
        assert "selftest_answers_again" in daemon.log_text()


def test_a_watchdog_meant_for_another_process_is_not_fed() -> None:
    with Daemon(environment={"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}) as daemon:
        daemon.configure(f'socket = "{daemon.target}"\nworkers = 1\n')
        daemon.start()
        time.sleep(0.5)
        assert daemon.count("WATCHDOG=1") == 0
