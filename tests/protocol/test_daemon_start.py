"""How the daemon comes up: its socket, its lock, and what it refuses."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon, alive
from tests.harness.fake_mta import Message, Session
from tests.harness.servers import free_port, need
from tests.harness.waiting import wait_for
from tests.protocol.conftest import settings

WHO = Message("<a@remote.example>", ("<who@example.com>",))
GOOD = Message("<a@remote.example>", ("<user@example.com>",))


def refused(daemon: Daemon) -> tuple[int, str, float]:
    """Start it where it must not start: status, its words, and seconds."""
    began = time.monotonic()
    status = daemon.spawn().wait(10)
    return status, daemon.log_text(), time.monotonic() - began


def second(first: Daemon) -> Daemon:
    """Another daemon with the configuration of the first."""
    other = Daemon()
    other.configure(first.config.read_text())
    return other


def test_ready_means_that_every_worker_serves(stand_in: Daemon) -> None:
    stand_in.start()
    assert len(stand_in.workers()) == 2
    assert stand_in.count(f"MAINPID={stand_in.pid}") == 1
    assert "STATUS=2 of 2 workers serve" in stand_in.notifications()
    with stand_in.session() as session:
        assert session.send(GOOD).accepted == ("<user@example.com>",)


def test_the_socket_is_for_the_owner_and_the_group(stand_in: Daemon) -> None:
    stand_in.start()
    found = stand_in.socket.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert sorted(entry.name for entry in stand_in.socket.parent.iterdir()) == [
        "milter.sock",
        "milter.sock.lock",
    ]
    assert stat.S_IMODE(Path(f"{stand_in.socket}.lock").stat().st_mode) == 0o600


def test_workers_are_as_many_as_cores_if_zero_is_configured(stand_in: Daemon) -> None:
    stand_in.configure(settings(stand_in, workers=0))
    stand_in.start()
    assert len(stand_in.workers()) == len(os.sched_getaffinity(0))


def test_a_second_instance_is_refused_and_the_first_unharmed(stand_in: Daemon) -> None:
    stand_in.start()
    workers = stand_in.workers()
    with stand_in.session() as session, second(stand_in) as other:
        status, words, seconds = refused(other)
        assert (status, seconds < 5) == (os.EX_TEMPFAIL, True)
        assert f"process {stand_in.pid}" in words
        assert "Traceback" not in words
        assert session.send(GOOD).accepted
    assert stand_in.workers() == workers
    with stand_in.session() as session:
        assert session.send(GOOD).accepted


def test_a_lock_left_behind_by_a_killed_daemon_is_nobody_s(stand_in: Daemon) -> None:
    stand_in.start()
    stand_in.process.kill()
    stand_in.process.wait()
    assert Path(f"{stand_in.socket}.lock").exists()
    stand_in.start()
    with stand_in.session() as session:
        assert session.send(GOOD).accepted


def test_a_stale_socket_is_replaced(stand_in: Daemon) -> None:
    for name in (stand_in.socket, Path(f"{stand_in.socket}.new")):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(name))
    stand_in.start()
    with stand_in.session() as session:
        assert session.send(GOOD).accepted
    assert not Path(f"{stand_in.socket}.new").exists()


def test_a_foreign_program_s_live_socket_is_left_alone(stand_in: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(stand_in.socket))
        foreign.listen()
        status, words, _ = refused(stand_in)
        assert status == os.EX_TEMPFAIL
        assert "another program listens" in words
    assert stand_in.socket.exists()
    assert not Path(f"{stand_in.socket}.lock").exists()


@pytest.mark.parametrize("name", ["milter.sock", "milter.sock.new"])
def test_a_foreign_file_is_left_alone(stand_in: Daemon, name: str) -> None:
    foreign = stand_in.socket.parent / name
    foreign.write_text("precious")
    status, words, _ = refused(stand_in)
    assert status == os.EX_CONFIG
    assert f"{foreign} exists and is no socket" in words
    assert foreign.read_text() == "precious"
    assert "Traceback" not in words


def test_a_symbolic_link_is_not_followed(stand_in: Daemon) -> None:
    elsewhere = stand_in.folder / "elsewhere"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(elsewhere))
    stand_in.socket.symlink_to(elsewhere)
    status, _, _ = refused(stand_in)
    assert status == os.EX_CONFIG
    assert elsewhere.exists()


def test_a_missing_directory_is_named_with_its_cure(stand_in: Daemon) -> None:
    stand_in.socket.parent.rmdir()
    status, words, seconds = refused(stand_in)
    assert (status, seconds < 5) == (os.EX_CONFIG, True)
    directory = stand_in.socket.parent
    assert f"the directory {directory} does not exist" in words
    assert f"-g postfix -m 2750 {directory}" in words
    assert f"d {directory} 2750 " in words
    assert "Traceback" not in words


def test_a_path_too_long_for_a_socket_is_named(stand_in: Daemon) -> None:
    stand_in.configure(f'socket = "unix:/tmp/{"x" * 110}"')
    status, words, _ = refused(stand_in)
    assert status == os.EX_CONFIG
    assert "too long: at most 103 octets" in words


def test_a_broken_configuration_stops_the_start(stand_in: Daemon) -> None:
    stand_in.configure("socket = ")
    status, words, seconds = refused(stand_in)
    assert (status, seconds < 5) == (os.EX_CONFIG, True)
    assert str(stand_in.config) in words
    assert "Traceback" not in words


def test_a_port_works_too_and_is_warned_of(stand_in: Daemon) -> None:
    target = f"inet:{free_port()}@127.0.0.1"
    stand_in.configure(settings(stand_in, socket=target))
    stand_in.start()
    assert "slow_socket" in stand_in.log_text()
    with Session(target) as session:
        assert session.send(GOOD).accepted
    with Daemon() as other:
        other.configure(settings(other, socket=target))
        status, words, _ = refused(other)
        assert status == os.EX_TEMPFAIL
        assert target in words
    status, seconds = stand_in.stop()
    assert (status, seconds < 5) == (0, True)


def test_a_daemon_that_is_killed_on_a_port_can_be_started_again(stand_in: Daemon) -> None:
    target = f"inet:{free_port()}@127.0.0.1"
    stand_in.configure(settings(stand_in, socket=target))
    stand_in.start()
    with Session(target) as session:
        stand_in.process.kill()
        stand_in.process.wait()
        stand_in.start()
        assert session.send(GOOD).accepted
    with Session(target) as session:
        assert session.send(GOOD).accepted


def test_an_ordinary_user_s_workers_leave_the_socket_in_place() -> None:
    """libmilter removes the path of its socket when a worker of an ordinary user ends."""
    need("setpriv")
    user = 65534 if os.geteuid() == 0 else None
    with Daemon(user=user) as daemon:
        daemon.configure(settings(daemon))
        daemon.start()
        before = daemon.workers()
        ended = min(before)
        os.kill(ended, signal.SIGTERM)  # libmilter's own way to end: main() returns
        wait_for(lambda: not alive(ended), 10, "the worker's end")
        wait_for(lambda: len(daemon.workers() - before) == 1, 2, "another worker")
        assert daemon.socket.exists()
        with daemon.session() as session:
            assert session.send(GOOD).accepted
        daemon.reload()
        assert daemon.socket.exists()
        assert daemon.stop()[0] == 0
        assert list(daemon.socket.parent.iterdir()) == []


def test_a_directory_of_somebody_else_is_named_with_its_cure() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a daemon as somebody else")
    need("setpriv")
    with Daemon(user=65534) as daemon:
        os.chown(daemon.socket.parent, 0, 0)
        daemon.configure(settings(daemon))
        status, words, _ = refused(daemon)
        assert status == os.EX_CONFIG
        assert f"no permission to create files in {daemon.socket.parent}" in words
        assert "install -d -o nobody" in words


def test_a_lock_of_another_user_is_named_with_its_cure() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a daemon as somebody else")
    need("setpriv")
    with Daemon(user=65534) as daemon:
        lock = Path(f"{daemon.socket}.lock")
        lock.touch(0o600)
        daemon.configure(settings(daemon))
        status, words, _ = refused(daemon)
        assert status == os.EX_CONFIG
        assert f"{lock}: Permission denied" in words
        assert "remove it" in words
        assert "Traceback" not in words


def test_a_worker_keeps_none_of_the_parent_s_descriptors(stand_in: Daemon) -> None:
    stand_in.start()
    stand_in.reload()
    wait_for(lambda: len(stand_in.workers()) == 2, 5, "two workers")
    for pid in stand_in.workers():
        held = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        # its channel and the listening socket
        assert len([name for name in held if name.startswith("socket:")]) == 2, held
        assert not [name for name in held if name.endswith(".lock")]


def test_ctrl_c_reaches_the_parent_alone(stand_in: Daemon) -> None:
    stand_in.start()
    groups = {os.getpgid(pid) for pid in stand_in.workers()}
    assert groups == stand_in.workers()


def test_ctrl_c_during_the_start_leaves_no_traceback(stand_in: Daemon) -> None:
    stand_in.configure(settings(stand_in, start="hang"))
    process = stand_in.spawn()
    wait_for(lambda: len(stand_in.workers()) == 2, 5, "workers")
    process.send_signal(signal.SIGINT)
    assert process.wait(2) == 0
    assert "Traceback" not in stand_in.log_text()


def test_the_log_has_priorities_where_it_is_the_journal() -> None:
    with Daemon(environment={"JOURNAL_STREAM": "8:1"}) as daemon:
        daemon.configure(settings(daemon))
        daemon.start()
        daemon.stop()
        assert all(line.startswith("<6>") for line in daemon.log_text().splitlines())


def test_a_full_log_stops_nothing() -> None:
    """Whoever reads stderr may hang; the parent must not wait for him."""
    reader, writer = os.pipe()
    with Daemon() as daemon, os.fdopen(reader, "rb"), os.fdopen(writer, "wb"):
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        daemon.configure(settings(daemon))
        daemon._process = subprocess.Popen(daemon._words, stderr=writer, env=daemon._environment)
        wait_for(lambda: daemon.count("READY=1"), 10, "READY=1")
        daemon.reload()
        assert daemon.stop()[0] == 0
