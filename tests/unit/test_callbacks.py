"""The guard of the callbacks: whatever a fault of ours raises, the mail server gets its answer."""

import os
from types import SimpleNamespace
from typing import Any

import milter
import pytest

from backstop.callbacks import BUG, Connection, Service
from backstop.facts import Role
from backstop.journal import shown
from backstop.session import NOT_BY_SMTP, Session
from backstop.settings import Strip
from tests.harness import engine

FAULTS = [
    ValueError("a value"),
    TypeError("a type"),
    KeyError("a key"),
    IndexError("an index"),
    AttributeError("an attribute"),
    ZeroDivisionError("zero"),
    UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
    OSError(28, "No space left on device"),
    MemoryError(),
    RecursionError("too deep"),
    SystemExit(3),
    KeyboardInterrupt(),
]


class Context:
    """What pymilter hands to a callback."""

    def __init__(self, private: object, macros: dict[str, str] | None = None) -> None:
        self.private = private
        self.macros = macros or {}
        self.reply: tuple[str, ...] = ()

    def getpriv(self) -> object:
        return self.private

    def getsymval(self, name: str) -> str | None:
        return self.macros.get(name)

    def setreply(self, *words: str) -> None:
        self.reply = words


class Broken(Session):
    """A session whose every step raises."""

    fault: BaseException = ValueError()

    def fail(self, *_arguments: object, **_named: object) -> Any:
        raise self.fault

    connect = mail = rcpt = refused_rcpt = data = header = end_of_message = fail


@pytest.fixture
def service() -> tuple[Service, list[str]]:
    """A service whose journal keeps the names of bugs, and whose gather knows of a block or not."""
    bugs: list[str] = []
    made = Service(SimpleNamespace())  # type: ignore[arg-type]  # no callback here reads the configuration
    made._journal = SimpleNamespace(bug=lambda place, *_rest: bugs.append(place), take=lambda *_: None)
    made._gather = SimpleNamespace(has_blocks=lambda _now: False)
    return made, bugs


def begun(client: str, reverse_path: str) -> Session:
    """A session that came as far as MAIL before the fault."""
    session = Broken(engine.site(), engine.Outside())
    Session.connect(session, "client", client, "smtpd")
    Session.mail(session, reverse_path, "")
    return session


STEPS = {
    "rcpt": lambda service, ctx: service._rcpt(ctx, b"<alice@our.example>"),
    "data": lambda service, ctx: service._data(ctx),
    "end of message": lambda service, ctx: service._end_of_message(ctx),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("step", STEPS)
class TestFaults:
    def answer(
        self, service: Service, fault: BaseException, step: str, client: str, sender: str
    ) -> tuple[int, Context]:
        session = begun(client, sender)
        session.fault = fault
        ctx = Context(Connection(session))
        answer = STEPS[step](service, ctx)
        assert STEPS[step](service, ctx) == answer, "the rest of the transaction is answered the same"
        return answer, ctx

    def test_outgoing_mail_comes_again(self, service: Any, fault: BaseException, step: str) -> None:
        """Untagged it must not leave: its bounce would be refused."""
        made, bugs = service
        answer, ctx = self.answer(made, fault, step, engine.INTERNAL_CLIENT, "<alice@our.example>")
        assert answer == milter.TEMPFAIL
        assert ctx.reply == (str(BUG.code), BUG.status, BUG.milter_text)
        assert bugs == [step]

    def test_incoming_mail_goes_on(self, service: Any, fault: BaseException, step: str) -> None:
        made, bugs = service
        answer, ctx = self.answer(made, fault, step, engine.STRANGE_CLIENT, "<a@b.example>")
        assert answer == milter.CONTINUE
        assert ctx.reply == ()
        assert bugs == [step]

    def test_a_bounce_goes_on(self, service: Any, fault: BaseException, step: str) -> None:
        made, _ = service
        answer, _ = self.answer(made, fault, step, engine.STRANGE_CLIENT, "<>")
        assert answer == milter.CONTINUE

    def test_a_bounce_under_a_block_comes_again(self, service: Any, fault: BaseException, step: str) -> None:
        made, _ = service
        made._gather = SimpleNamespace(has_blocks=lambda _now: True)
        answer, ctx = self.answer(made, fault, step, engine.STRANGE_CLIENT, "<>")
        assert answer == milter.TEMPFAIL
        assert "raise" not in " ".join(ctx.reply)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_steps_without_a_reply_stay_silent_and_the_next_message_is_sound(
    service: Any, fault: BaseException
) -> None:
    made, bugs = service
    session = begun(engine.STRANGE_CLIENT, "<a@b.example>")
    session.fault = fault  # type: ignore[attr-defined]  # it is a Broken
    connection = Connection(session)
    connection.unmet = False
    ctx = Context(connection)
    assert made._mail(ctx, b"<a@b>") == milter.NOREPLY
    assert made._header(ctx, "X-Backstop", b"x") == milter.NOREPLY
    assert bugs == ["mail", "header"]
    session.fault = None  # type: ignore[attr-defined]  # it is a Broken
    connection.session = Session(engine.site(), engine.Outside())
    assert made._mail(ctx, b"<a@b>") == milter.NOREPLY
    assert not connection.broken
    connection.session = session
    assert made._connect(ctx, "host", 2, ("192.0.2.1", 1)) == milter.NOREPLY
    assert bugs == ["mail", "header", "connect"]


class NeverMet(Session):
    """A session that falls over the connection."""

    def connect(self, *_arguments: object) -> None:
        raise ValueError("a fault")


def test_after_a_fault_at_connect_a_stranger_was_one_of_us(service: Any) -> None:
    """MAIL took the fault for over, and mail of nobody knows whom was tagged."""
    made, bugs = service
    ctx = Context(Connection(NeverMet(engine.site(), engine.Outside())))
    made._connect(ctx, "host", 2, ("192.0.2.1", 1))
    for _ in range(2):
        made._mail(ctx, b"<alice@our.example>")
        assert made._rcpt(ctx, b"<friend@else.example>") == milter.TEMPFAIL
        assert made._data(ctx) == milter.TEMPFAIL
        assert made._end_of_message(ctx) == milter.TEMPFAIL
    assert bugs == ["connect"]


def test_after_a_fault_at_mail_a_user_of_ours_was_a_stranger(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """His mail went on untagged: the login was read with the path that was too much for us."""
    made, bugs = service
    session = Session(engine.site(), engine.Outside())
    session.connect("client", engine.STRANGE_CLIENT, "smtpd")
    ctx = Context(Connection(session), {"{auth_authen}": "alice"})

    def fail(_path: str) -> None:
        raise RecursionError

    monkeypatch.setattr("backstop.session.parse", fail)
    made._mail(ctx, b"<alice@our.example>")
    assert bugs == ["mail"]
    assert made._rcpt(ctx, b"<friend@else.example>") == milter.TEMPFAIL


class Unreadable(Context):
    """pymilter with macros that are no UTF-8."""

    def getsymval(self, name: str) -> str | None:
        return self.macros.get(name, "").encode("utf-8", "surrogateescape").decode()


def test_a_login_that_is_no_utf_8_made_its_user_a_stranger(service: Any) -> None:
    made, bugs = service
    session = Session(engine.site(), engine.Outside())
    session.connect("client", engine.STRANGE_CLIENT, "smtpd")
    made._mail(Unreadable(Connection(session), {"{auth_authen}": "m\udcfcller"}), b"<alice@our.example>")
    assert session.transaction.role is Role.OUTGOING
    assert bugs == []


class HalfDone(Context):
    """A mail server that takes a recipient away and then no other in its place."""

    def __init__(self, private: object) -> None:
        super().__init__(private)
        self.gone: list[str] = []

    def delrcpt(self, path: str) -> None:
        self.gone.append(path)

    def addrcpt(self, path: str, parameters: str = "") -> None:
        f"{path}{parameters}".encode()  # as pymilter does


def test_a_message_whose_changes_ended_half_way_was_accepted_without_its_recipient(service: Any) -> None:
    """An octet that is no UTF-8, in the parameters of a recipient whose tag the milter takes off."""
    made, bugs = service
    outside = engine.protecting(engine.settings({"strip": Strip.MILTER}))
    session = Session(engine.site(), outside)
    session.connect("client", engine.STRANGE_CLIENT, "smtpd")
    connection = Connection(session)
    connection.unmet = False
    ctx = HalfDone(connection)
    made._mail(ctx, b"<a@b.example>")
    tagged = engine.tagged(engine.ALICE)
    assert made._rcpt(ctx, tagged.encode(), b"ORCPT=rfc822;al\xe9ce") == milter.CONTINUE
    assert made._data(ctx) == milter.CONTINUE
    assert made._end_of_message(ctx) == milter.TEMPFAIL
    assert ctx.gone == [tagged]
    assert bugs == ["end of message"]


@pytest.mark.parametrize(
    ("path", "resolved", "meant"),
    [
        (b"<Alice>", "alice@our.example", "Alice@our.example"),
        (b"Alice", "alice@our.example", "Alice@our.example"),
        (b"<Alice>", "alice", "Alice"),
        (b"<Alice>", "", "Alice"),
        (b"<>", "mailer-daemon@our.example", ""),
        (b"", "mailer-daemon@our.example", ""),
        (b"<alice@else.example>", "x@our.example", "alice@else.example"),
    ],
)
def test_a_sender_without_a_domain_went_out_untagged(
    service: Any, path: bytes, resolved: str, meant: str
) -> None:
    """The mail server gives him its own domain after us, so his bounces were unproved."""
    made, _ = service
    session = Session(engine.site(), engine.Outside())
    made._mail(Context(Connection(session), {"{mail_addr}": resolved}), path)
    assert session.transaction.reverse_path is not None
    assert session.transaction.reverse_path.path == meant


@pytest.mark.parametrize(
    ("address", "by_smtp"),
    [
        (("127.0.0.1", 0), False),
        (("127.0.0.1", 25), True),
        (("::1", 0, 0, 0), False),
        (("192.0.2.1", 0), True),
        (None, False),
        ("/run/local.sock", False),
    ],
)
def test_port_0_means_not_by_smtp_on_loopback_alone(service: Any, address: object, by_smtp: bool) -> None:
    """XCLIENT gives every client port 0: nobody becomes one of us by that."""
    made, _ = service
    session = Session(engine.site(), engine.Outside())
    made._connect(Context(Connection(session)), "host", 2, address)
    assert (session.client.address != NOT_BY_SMTP) is by_smtp


def test_the_log_of_a_bug_is_one_line() -> None:
    assert os.linesep not in shown('Traceback\n  File "x"\nValueError: \udce9\x1b', 4000)
