"""SIGHUP: a new configuration without a session cut, whole or not at all."""

import os
import signal
import time

import pytest

from tests.harness.daemon import Daemon
from tests.harness.fake_mta import HeaderAdded, Message, Session
from tests.harness.waiting import wait_for

GOOD = Message("<a@remote.example>", ("<user@example.com>",))
WHO = Message("<a@remote.example>", ("<who@example.com>",))


def tag(session: Session) -> str:
    """Which configuration answers."""
    _, _, text = session.send(WHO).final.text.partition("550 5.7.1 ")
    return text.split()[0]


def test_an_open_session_keeps_the_old_configuration_and_a_new_one_gets_the_new(
    stand_in: Daemon, write
) -> None:
    stand_in.start()
    parent, old = stand_in.pid, stand_in.workers()
    with stand_in.session() as before:
        assert tag(before) == "one"
        write(tag="two")
        stand_in.reload()
        with stand_in.session() as after:
            assert tag(after) == "two"
        for _ in range(2):
            outcome = before.send(GOOD)
            assert outcome.accepted
            (change,) = outcome.changes
            assert isinstance(change, HeaderAdded)
            assert change.value.startswith("one ")
    wait_for(lambda: len(stand_in.workers()) == 2, 5, "the old workers' end")
    assert stand_in.pid == parent
    assert not old & stand_in.workers()
    assert not stand_in.ended()


def test_a_message_in_its_end_is_finished_by_the_old_worker(stand_in: Daemon, write) -> None:
    stand_in.start()
    with stand_in.session() as session:
        connection = session.connection
        connection.mail("<a@remote.example>")
        connection.rcpt("<user@example.com>")
        write(tag="two")
        stand_in.reload()
        connection.eom()
        assert [change.value.split()[0] for change in connection.changes] == ["one"]


def test_new_connections_never_reach_an_old_worker(stand_in: Daemon, write) -> None:
    stand_in.start()
    sessions = [stand_in.session() for _ in range(8)]
    write(tag="two")
    stand_in.reload()
    tags = []
    for _ in range(50):
        with stand_in.session() as session:
            tags.append(tag(session))
    assert tags == ["two"] * 50
    assert [tag(session) for session in sessions] == ["one"] * 8
    for session in sessions:
        session.connection.quit()


@pytest.mark.parametrize("start", ["fail", "die", pytest.param("hang", marks=pytest.mark.deep)])
def test_workers_that_cannot_start_leave_the_old_ones_in_place(stand_in: Daemon, write, start: str) -> None:
    stand_in.start()
    old = stand_in.workers()
    write(tag="two", start=start)
    stand_in.reload(seconds=30)
    with stand_in.session() as session:
        assert tag(session) == "one"
    wait_for(lambda: stand_in.workers() == old, 5, "the old workers alone")
    assert "reload_refused" in stand_in.log_text()
    write(tag="three")
    stand_in.reload()
    with stand_in.session() as session:
        assert tag(session) == "three"


def test_a_broken_file_keeps_the_old_configuration(stand_in: Daemon, write) -> None:
    stand_in.start()
    old = stand_in.workers()
    stand_in.configure("this is = = nothing")
    stand_in.reload()
    with stand_in.session() as session:
        assert tag(session) == "one"
    assert stand_in.workers() == old
    assert f'reload_refused reason="{stand_in.config}: ' in stand_in.log_text()
    assert any("the old configuration stays" in line for line in stand_in.notifications())
    write(tag="two")
    stand_in.reload()
    with stand_in.session() as session:
        assert tag(session) == "two"


def test_a_missing_file_keeps_the_old_configuration(stand_in: Daemon) -> None:
    stand_in.start()
    stand_in.config.unlink()
    stand_in.reload()
    with stand_in.session() as session:
        assert tag(session) == "one"


def test_another_socket_needs_a_restart_and_the_rest_counts(stand_in: Daemon, write) -> None:
    stand_in.start()
    write(tag="two", socket=f"{stand_in.target}-elsewhere")
    stand_in.reload()
    assert "restart_needed setting=socket" in stand_in.log_text()
    with stand_in.session() as session:
        assert tag(session) == "two"


def test_the_number_of_workers_may_change(stand_in: Daemon, write) -> None:
    stand_in.start()
    write(workers=5)
    stand_in.reload()
    wait_for(lambda: len(stand_in.workers()) == 5, 5, "five workers")
    write(workers=1)
    stand_in.reload()
    wait_for(lambda: len(stand_in.workers()) == 1, 5, "one worker")
    assert "STATUS=1 of 1 workers serve" in stand_in.notifications()


def test_systemd_is_told_of_the_reload(stand_in: Daemon) -> None:
    stand_in.start()
    stand_in.reload()
    lines = stand_in.notifications()
    assert lines.index("RELOADING=1") < len(lines) - 1 - lines[::-1].index("READY=1")
    (stamp,) = [line for line in lines if line.startswith("MONOTONIC_USEC=")]
    assert 0 <= time.monotonic() - int(stamp.partition("=")[2]) / 1e6 < 60


def test_a_storm_of_signals_is_a_few_reloads(stand_in: Daemon, write) -> None:
    stand_in.start()
    with stand_in.session() as session:
        for number in range(60):
            write(tag=f"storm{number}")
            stand_in.signal(signal.SIGHUP)
            if number % 10 == 0:
                with stand_in.session() as other:
                    assert other.send(GOOD).accepted
            time.sleep(0.05)
        assert session.send(GOOD).accepted
        wait_for(lambda: _tag_of_new(stand_in) == "storm59", 5, "the last configuration")
        assert stand_in.log_text().count("reloaded ") <= 10
    wait_for(lambda: len(stand_in.workers()) == 2, 5, "the old workers' end")


def _tag_of_new(daemon: Daemon) -> str:
    with daemon.session() as session:
        return tag(session)


def test_reloads_faster_than_sessions_end_do_not_pile_up_workers(stand_in: Daemon, write) -> None:
    write(workers=1)
    stand_in.start()
    sessions: list[Session] = []
    most = 0
    for number in range(10):
        sessions.append(stand_in.session())
        write(workers=1, tag=f"t{number}")
        stand_in.reload()
        most = max(most, len(stand_in.workers()))
        assert _tag_of_new(stand_in) == f"t{number}"
    assert most <= 10
    assert "reload_waits" in stand_in.log_text()
    # the newest are untouched
    assert [session.send(GOOD).accepted for session in sessions[-7:]] == [("<user@example.com>",)] * 7
    for session in sessions:
        session.connection.quit()


@pytest.mark.deep
def test_a_hundred_reloads_under_traffic(stand_in: Daemon, write) -> None:
    """reliability B5: same process, no session dropped, no error, each new value within a second."""
    stand_in.start()
    parent = stand_in.pid
    for number in range(100):
        write(tag=f"n{number}")
        began = time.monotonic()
        stand_in.reload()
        assert time.monotonic() - began < 3
        with stand_in.session() as session:
            for _ in range(20):
                assert session.send(GOOD).accepted
            assert tag(session) == f"n{number}"
    assert stand_in.pid == parent
    wait_for(lambda: len(stand_in.workers()) == 2, 5, "the old workers' end")
    assert os.listdir(stand_in.socket.parent)  # noqa: PTH208  a glance
