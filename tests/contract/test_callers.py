"""Asking a mail server or a milter that is slow, endless, rude or another thing altogether."""

import contextlib
import socket
import threading
import time

import pytest

from backstop.adapters.milter_caller import MilterCaller, MilterUnreachable
from backstop.adapters.smtp_caller import SmtpCaller, SmtpUnreachable
from backstop.adapters.smtp_reply import SmtpReply

SECONDS = 0.5


@contextlib.contextmanager
def peer(*answers, pause=0.0, hold=True):
    """A server that says one thing on connect and one after each piece it reads; its port.

    Between the octets of an answer it pauses; when it has nothing more to say it holds the line, or hangs up.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve():
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            for number, answer in enumerate(answers):
                if number and not connection.recv(65536):
                    return
                for piece in [answer] if not pause else [bytes([octet]) for octet in answer]:
                    connection.sendall(piece)
                    over.wait(pause)
            if hold:
                over.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.close()
        thread.join(10)


def ask(port, recipient="nobody@example.com"):
    with SmtpCaller("127.0.0.1", port, SECONDS) as server:
        return server.bounce_to(recipient)


def test_a_recipient_is_asked_about_and_nothing_is_sent():
    answers = (b"220 hi\r\n", b"250-mx\r\n250 DSN\r\n", b"250 ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 such\r\n")
    with peer(*answers, b"250 reset\r\n", b"221 bye\r\n") as port:
        reply = ask(port)
    assert reply == SmtpReply(550, "5.1.1 no\n5.1.1 such")
    assert reply.refuses
    assert reply.is_about_the_address
    assert not reply.accepts


def test_a_null_sender_that_is_refused_is_the_answer():
    with peer(
        b"220 hi\r\n", b"250 mx\r\n", b"550 5.7.1 no bounces\r\n", b"250 ok\r\n", b"221 bye\r\n"
    ) as port:
        reply = ask(port)
    assert reply.code == 550
    assert not reply.is_about_the_address


@pytest.mark.parametrize(
    ("code", "text", "claim"),
    [
        (550, "5.1.1 User unknown", True),
        (550, "5.1.10 RESOLVER.ADR.RecipientNotFound", True),
        (550, "no such user", True),
        (553, "sorry", True),
        (554, "Relay access denied", False),
        (554, "5.7.1 Relay access denied", False),
        (550, "5.1.8 Sender address rejected", False),
        (550, "5.4.1 Recipient address rejected: Access denied", False),
    ],
)
def test_what_a_refusal_is_about(code, text, claim):
    assert SmtpReply(code, text).is_about_the_address is claim


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((b"",), "no answer in time"),
        ((b"SSH-2.0-OpenSSH\r\n",), '"SSH-2.0-OpenSSH" is no reply'),
        ((b"999 what\r\n",), "is no reply"),
        ((b"554 go away\r\n", b"221 bye\r\n"), "it greets with 554 go away"),
        ((b"220-still\r\n" * 4000,), "longer than"),
        ((b"220 " + b"x" * 100_000,), "longer than"),
        ((b"220 hi\r\n", b"250-a\r\n"), "no answer in time"),
        ((b"220 hi\r\n", b"502 what\r\n", b"502 what\r\n"), "it answers EHLO with 502 what"),
    ],
)
def test_a_mail_server_that_cannot_be_asked(answers, why):
    began = time.monotonic()
    with peer(*answers) as port, pytest.raises(SmtpUnreachable, match=why):
        ask(port)
    assert time.monotonic() - began < 4 * SECONDS


def test_one_octet_at_a_time_is_too_slow():
    began = time.monotonic()
    with peer(b"220 a greeting of an hour\r\n", pause=0.1) as port:
        with pytest.raises(SmtpUnreachable, match="no answer in time"):
            ask(port)
        assert time.monotonic() - began < 2 * SECONDS


def test_a_line_that_is_cut():
    with peer(b"220 hi", hold=False) as port, pytest.raises(SmtpUnreachable, match="ended within a reply"):
        ask(port)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    with pytest.raises(SmtpUnreachable, match="refused"):
        ask(port)
    with pytest.raises(MilterUnreachable, match="refused"):
        MilterCaller(f"inet:{port}@127.0.0.1", SECONDS)
    with pytest.raises(MilterUnreachable, match="No such file"):
        MilterCaller("unix:/nonexistent/milter.sock", SECONDS)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"220 a mail server\r\n", "does not speak the milter protocol"),
        (b"\0\0\0\1q", "does not speak the milter protocol"),
        (b"\xff\xff\xff\xff", "does not speak the milter protocol"),
        (b"\0\0\0\0", "does not speak the milter protocol"),
        (b"\0\0", "no answer in time"),
    ],
)
def test_what_is_no_milter(answer, why):
    with peer(b"", answer) as port, pytest.raises(MilterUnreachable, match=why):
        MilterCaller(f"inet:{port}@127.0.0.1", SECONDS)


NEGOTIATED = (
    b"\0\0\0\x0dO" + b"\0\0\0\6" + b"\0\0\1\xff" + b"\0\0\xf0\x01"
)  # neither connect nor replies to it


def test_a_milter_that_only_asks_for_patience():
    with peer(b"", b"\0\0\0\x0dO" + b"\0\0\0\6" + bytes(8), b"\0\0\0\1p" * 50) as port:
        caller = MilterCaller(f"inet:{port}@127.0.0.1", SECONDS)
        with caller, pytest.raises(MilterUnreachable, match="patience without end"):
            caller.connect("a.example", "2001:db8::1", "smtpd")


def test_a_milter_that_wants_no_answers_is_asked_none():
    with peer(b"", NEGOTIATED) as port, MilterCaller(f"inet:{port}@127.0.0.1", SECONDS) as caller:
        assert caller.connect("a.example", "192.0.2.1", "smtpd").code == 250
        assert caller.bounce_to("nobody@example.com").code == 250
