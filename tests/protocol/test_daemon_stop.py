"""How the daemon ends: open sessions may finish for some seconds, and nothing is left behind."""

import signal
import threading
import time

import pytest

from tests.harness.daemon import Daemon, alive
from tests.harness.fake_mta import Hangup, Message, Session, Verdict
from tests.harness.frozen import freeze
from tests.harness.waiting import wait_for

GOOD = Message("<a@remote.example>", ("<user@example.com>",))


def slow(seconds: float) -> Message:
    return Message("<a@remote.example>", (f"<slow-{seconds}@example.com>",))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_once(stand_in: Daemon, number: signal.Signals) -> None:
    stand_in.start()
    workers = stand_in.workers()
    began = time.monotonic()
    stand_in.signal(number)
    assert stand_in.process.wait(5) == 0
    assert time.monotonic() - began < 3
    assert list(stand_in.socket.parent.iterdir()) == []
    assert not [pid for pid in workers if alive(pid)]
    assert "STOPPING=1" in stand_in.notifications()
    assert "Traceback" not in stand_in.log_text()


def test_a_session_under_way_may_finish(stand_in: Daemon) -> None:
    stand_in.start()
    with stand_in.session() as session:
        session.connection.mail("<a@remote.example>")
        stand_in.signal(signal.SIGTERM)
        wait_for(lambda: not stand_in.socket.exists(), 1, "the socket's removal")
        assert session.connection.rcpt("<user@example.com>").verdict is Verdict.CONTINUE
        assert session.connection.eom().verdict is Verdict.CONTINUE
    assert stand_in.process.wait(2) == 0


def test_a_new_session_finds_nobody_from_the_first_moment_on(stand_in: Daemon) -> None:
    stand_in.start()
    with stand_in.session():
        stand_in.signal(signal.SIGTERM)
        wait_for(lambda: not stand_in.socket.exists(), 1, "the socket's removal")
        with pytest.raises(FileNotFoundError):
            stand_in.session()
    assert stand_in.process.wait(5) == 0


def test_an_idle_session_does_not_hold_up_the_end(stand_in: Daemon) -> None:
    stand_in.start()
    with stand_in.session() as session:
        status, seconds = stand_in.stop()
        assert (status, seconds < 5) == (0, True)
        with pytest.raises(Hangup):
            session.send(GOOD)


@pytest.mark.parametrize(("seconds", "answered"), [(1.5, True), (6.0, False)])
def test_an_end_of_message_is_answered_or_dropped(stand_in: Daemon, seconds: float, answered: bool) -> None:
    """Never accepted without the changes: a dropped session is a temporary failure for the mail server."""
    stand_in.start()
    outcomes: list[object] = []

    def deliver(session: Session) -> None:
        try:
            outcomes.append(session.send(slow(seconds)))
            session.connection.quit()
        except Hangup as hangup:
            outcomes.append(hangup)

    with stand_in.session() as session:
        thread = threading.Thread(target=deliver, args=(session,))
        thread.start()
        time.sleep(0.3)  # the message is in its end by now, or a little before it
        workers = stand_in.workers()
        status, took = stand_in.stop()
        thread.join()
    assert (status, took < (3 if answered else 5)) == (0, True)
    assert not [pid for pid in workers if alive(pid)]
    (outcome,) = outcomes
    if answered:
        assert len(outcome.changes) == 1
    else:
        assert isinstance(outcome, Hangup)
    assert list(stand_in.socket.parent.iterdir()) == []


def test_what_is_written_behind_is_flushed(stand_in: Daemon, write) -> None:
    finished = stand_in.folder / "finished"
    write(finished=finished)
    stand_in.start()
    workers = stand_in.workers()
    stand_in.stop()
    assert {int(line) for line in finished.read_text().split()} == workers


def test_a_second_signal_changes_nothing(stand_in: Daemon) -> None:
    stand_in.start()
    with stand_in.session() as session:
        stand_in.signal(signal.SIGINT)
        wait_for(lambda: not stand_in.socket.exists(), 1, "the socket's removal")
        stand_in.signal(signal.SIGINT)
        stand_in.signal(signal.SIGTERM)
        stand_in.signal(signal.SIGHUP)
        assert session.send(GOOD).accepted
    assert stand_in.process.wait(5) == 0


def test_a_frozen_worker_does_not_hold_up_the_end(stand_in: Daemon) -> None:
    stand_in.start()
    workers = stand_in.workers()
    freeze(*workers)
    status, seconds = stand_in.stop()
    assert (status, seconds < 5) == (0, True)
    assert not [pid for pid in workers if alive(pid)]


def test_a_socket_that_is_no_longer_ours_is_left_alone(stand_in: Daemon) -> None:
    stand_in.start()
    stand_in.socket.unlink()
    stand_in.socket.write_text("another's")
    assert stand_in.stop()[0] == 0
    assert stand_in.socket.read_text() == "another's"


def test_a_stop_in_the_middle_of_a_reload(stand_in: Daemon, write) -> None:
    stand_in.start()
    write(start="hang")
    stand_in.signal(signal.SIGHUP)
    wait_for(lambda: len(stand_in.workers()) == 4, 5, "the new workers")
    status, seconds = stand_in.stop()
    assert (status, seconds < 3) == (0, True)
