"""Octets no mail server would send, to the real daemon: it may close such a connection, and nothing more."""

import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.fake_mta import Connection, Hangup, Message, ProtocolError, Verdict, dial, frame
from tests.harness.waiting import wait_for
from tests.protocol.conftest import backstop_settings

GOOD = Message("<a@remote.example>", ("<user@example.com>",))
COMMANDS = b"ABCDEHLMNOQRTUKX\0\xff"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """`backstop serve`, without its Redis; one for all the tests here."""
    with Daemon(BACKSTOP) as real:
        real.configure(backstop_settings(real))
        yield real.start()


@pytest.fixture(autouse=True)
def _unharmed(daemon: Daemon) -> Iterator[None]:
    """After each test the same workers serve as before, and the log has no traceback."""
    before = daemon.workers()
    yield
    assert not daemon.ended()
    with daemon.session(timeout=1) as session:
        assert session.send(GOOD).accepted
    assert daemon.workers() == before
    assert "Traceback" not in daemon.log_text()


def exchange(daemon: Daemon, octets: bytes) -> bytes:
    """Send all of it, say that nothing more comes, and read what comes back until the milter closes."""
    with contextlib.closing(dial(daemon.target, 5)) as peer:
        heard = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(octets)
            peer.shutdown(socket.SHUT_WR)
            while more := peer.recv(65536):
                heard += more
        return heard


@pytest.mark.parametrize(
    ("helo", "field"),
    [(b"\xff\xfe", b"Subject"), (b"caf\xe9.example", b"Subject"), (b"mx", b"X-\xff"), (b"", b"\xfcber")],
)
def test_octets_that_are_no_utf_8_where_pymilter_wants_text_put_nothing_off(tmp_path, helo, field):
    """They come neither from an address nor from a value, and nothing depends on them but what they name."""
    with Daemon(BACKSTOP) as daemon:
        # With this, HELO names are asked for.
        daemon.configure(backstop_settings(daemon).replace("[defaults]", '[defaults]\nquiet = "unvouched"'))
        daemon.start()
        header = frame(b"L", field + b"\0 x\0") + frame(b"N")
        whole = CONNECT + frame(b"H", helo + b"\0") + MAIL + RCPT + frame(b"T") + header + EOM
        heard = exchange(daemon, negotiation() + whole)
        assert b"y451" not in heard
        assert heard.endswith((frame(b"a"), frame(b"c")))


def test_from_a_client_that_nobody_named_nothing_is_taken(daemon):
    """It must not pass for one of our own, whose mail is tagged."""
    heard = exchange(daemon, negotiation() + MAIL + RCPT + frame(b"T") + EOM)
    assert heard.count(b"y451 4.3.0") >= 1
    assert frame(b"a") not in heard


def negotiation(version: int = 6, actions: int = 0x1FF, steps: int = 0x1FFFFF) -> bytes:
    return frame(b"O", struct.pack("!III", version, actions, steps))


CONNECT = frame(b"C", b"mx\0" + b"4" + struct.pack("!H", 25) + b"192.0.2.1\0")
MAIL = frame(b"M", b"<a@remote.example>\0")
RCPT = frame(b"R", b"<user@example.com>\0")
EOM = frame(b"E")


@pytest.mark.parametrize("length", [0, 1 << 16, (1 << 20) + 1, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("before", [b"", negotiation(), negotiation() + CONNECT + MAIL])
def test_lengths_that_cannot_be(daemon: Daemon, length: int, before: bytes) -> None:
    exchange(daemon, before + struct.pack("!I", length) + b"C")
    exchange(daemon, before + struct.pack("!I", length) + b"C" + b"x" * 70000)


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_session_may_end_anywhere(daemon: Daemon, cut: int) -> None:
    whole = negotiation() + CONNECT + MAIL + RCPT + EOM
    exchange(daemon, whole[: len(whole) * cut // 60])


@pytest.mark.parametrize(
    "frames",
    [
        [MAIL],
        [EOM],
        [CONNECT, MAIL, RCPT],
        [negotiation(), RCPT, RCPT],
        [negotiation(), EOM],
        [negotiation(), frame(b"A"), frame(b"A")],
        [negotiation(), CONNECT, CONNECT, MAIL, MAIL, RCPT],
        [negotiation(), negotiation(), CONNECT],
        [negotiation(), CONNECT, MAIL, negotiation(), MAIL, RCPT],
        [negotiation(), CONNECT, RCPT, MAIL, EOM, frame(b"T"), frame(b"T")],
        [negotiation(), CONNECT, MAIL, frame(b"T"), RCPT, frame(b"L", b"Subject\0x\0"), EOM, EOM],
        [negotiation(), frame(b"K"), negotiation(), CONNECT, MAIL, RCPT],  # quit, new connection follows
        [frame(b"Q"), frame(b"Q")],
    ],
)
def test_steps_in_a_wrong_order(daemon: Daemon, frames: list[bytes]) -> None:
    heard = exchange(daemon, b"".join(frames))
    assert b"untrapped" not in heard
    assert b"y5" not in heard  # no refusal for good because of them


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\0\0", b"no end", b"a\0" * 20000, b"\xff" * 60000])
@pytest.mark.parametrize("command", [b"C", b"D", b"H", b"M", b"R", b"L", b"O", b"U", b"B"])
def test_payloads_that_do_not_fit_their_step(daemon: Daemon, command: bytes, payload: bytes) -> None:
    heard = exchange(daemon, negotiation() + CONNECT + MAIL + frame(command, payload) + RCPT + EOM)
    assert b"untrapped" not in heard


@pytest.mark.parametrize(
    ("version", "actions", "steps"),
    [(0, 0x1FF, 0x1FFFFF), (1, 0, 0), (2, 0x3F, 0x7F), (6, 0, 0), (6, 0x1FF, 0), (99, 0x1FF, 0x1FFFFF)],
)
def test_a_mail_server_that_offers_less_is_served_or_let_alone(
    daemon: Daemon, version: int, actions: int, steps: int
) -> None:
    with Connection(daemon.target, timeout=2) as connection:
        try:
            connection.negotiate(actions, steps, version)
        except (Hangup, ProtocolError):
            return
        connection.connect("mx.remote.example", "192.0.2.1")
        connection.mail("<a@remote.example>")
        assert connection.rcpt("<user@example.com>").verdict is Verdict.CONTINUE


def test_random_frames(daemon: Daemon) -> None:
    fuzz(daemon, seed=20, connections=300)


@pytest.mark.deep
def test_a_hundred_thousand_connections_of_random_frames(daemon: Daemon) -> None:
    """reliability H6; descriptors and threads must be back where they were."""
    before = {pid: resources(pid) for pid in daemon.workers()}
    fuzz(daemon, seed=21, connections=100_000)
    for pid, (descriptors, threads) in before.items():
        wait_for(lambda one=pid, most=descriptors + 5: resources(one)[0] <= most, 10, "descriptors back")
        assert resources(pid)[1] <= threads + 4


def resources(pid: int) -> tuple[int, int]:
    """Descriptors and threads of a process."""
    return tuple(len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("fd", "task"))


def fuzz(daemon: Daemon, seed: int, connections: int) -> None:
    chance = random.Random(seed)
    for _ in range(connections):
        octets = negotiation() + CONNECT if chance.random() < 0.8 else b""
        for _ in range(chance.randrange(1, 20)):
            octets += random_frame(chance)
        if chance.random() < 0.3:
            octets = octets[: chance.randrange(len(octets))]
        heard = exchange(daemon, octets)
        assert b"untrapped" not in heard


def random_frame(chance: random.Random) -> bytes:
    command = bytes([chance.choice(COMMANDS)])
    payload = chance.choice(
        [
            b"",
            chance.randbytes(chance.randrange(40)),
            b"<user@example.com>\0",
            b"<>\0SIZE=1\0",
            b"\0".join(chance.randbytes(chance.randrange(9)) for _ in range(5)) + b"\0",
        ]
    )
    if chance.random() < 0.05:
        return struct.pack("!I", chance.choice([0, 3, 1 << 20, 1 << 31, (1 << 32) - 1])) + command + payload
    return frame(command, payload)
