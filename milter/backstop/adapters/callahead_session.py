"""One SMTP session with a next hop: greeting, EHLO, STARTTLS where offered, RCPT, QUIT, and never DATA.

The whole of it keeps to one deadline, also against a next hop that sends an octet a second: smtplib's own
timeout begins anew with each octet. Nothing else is ever connected to than what the settings name.
RFC 5321; RFC 3207 for STARTTLS, RFC 6531 for SMTPUTF8.
"""

import contextlib
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from backstop.adapters.callahead_names import Place
from backstop.adapters.callahead_target import Path, Target
from backstop.adapters.smtp_reply import BadReply, ReplyReader, SmtpReply
from backstop.plain import plain

FAREWELL_SECONDS: Final = 0.5
"""How long the reply to QUIT is waited for, at most."""


class Unasked(Exception):
    """The next hop did not let itself be asked; the text says where it ended, ready to be shown."""


class TlsFailed(Unasked):
    """STARTTLS was offered, and no TLS came of it."""


class Session:
    """An open session, in which recipients are asked about one after the other.

    Opened and closed by `with`; closing says QUIT. Raises Unasked from opening and asking, and nothing else
    whatever the next hop does.
    """

    def __init__(
        self, target: Target, places: Sequence[Place], helo: str, deadline: float, *, with_tls: bool
    ) -> None:
        self._target = target
        self._places = places
        self._helo = helo
        self._deadline = deadline
        self._with_tls = with_tls
        self._link: _Link | None = None
        self._is_first = True

    def __enter__(self) -> Self:
        with _as_unasked():
            self._link = _Link(_connected(self._places, self._deadline), self._helo, self._deadline)
        try:
            with _as_unasked():
                self._greet(self._link)
        except Unasked:
            self._link.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.leave()

    def ask(self, sender: Path, recipient: Path) -> SmtpReply:
        """The reply to RCPT, in a transaction of its own: many take one recipient from the null sender."""
        with _as_unasked():
            if not self._is_first:
                self._expect("RSET", "", 250)
            self._is_first = False
            parameters = ""
            if not (sender.is_ascii and recipient.is_ascii):
                if not self._open.has_extn("smtputf8"):
                    raise Unasked("it does not offer SMTPUTF8, which the address needs")
                self._open.command_encoding = "utf-8"
                parameters = " SMTPUTF8"
            self._expect("MAIL", f"FROM:<{sender.text}>{parameters}", 250)
            return self._command("RCPT", f"TO:<{recipient.text}>")

    @property
    def _open(self) -> "_Link":
        assert self._link is not None
        return self._link

    def _greet(self, link: "_Link") -> None:
        greeting = link.greeting()
        if greeting.code != 220:
            raise Unasked(f"it greets with {greeting.shown}")
        self._hello(link)
        if self._with_tls and link.has_extn("starttls"):
            self._secure(link)

    def _hello(self, link: "_Link") -> None:
        code, octets = link.ehlo()
        if 500 <= code < 600:  # there are servers that know HELO alone
            code, octets = link.helo()
        if code != 250:
            raise Unasked(f"to EHLO it says {_reply(code, octets).shown}")

    def _secure(self, link: "_Link") -> None:
        deadline = link.deadline
        link.deadline = deadline - _left(deadline) / 2  # the rest is for asking once more without
        try:
            if self._command("STARTTLS").code == 220:  # else it goes on as it is: RFC 3207, section 4
                link.secure(self._target.host)
                self._hello(link)
        except (OSError, ValueError, BadReply, smtplib.SMTPException) as error:
            raise TlsFailed(f"TLS failed: {_fault(error)}") from None
        link.deadline = deadline

    def _expect(self, verb: str, arguments: str, code: int) -> None:
        reply = self._command(verb, arguments)
        if reply.code != code:
            raise Unasked(f"to {verb} it says {reply.shown}")

    def _command(self, verb: str, arguments: str = "") -> SmtpReply:
        return _reply(*self._open.docmd(verb, arguments))


class _Link(smtplib.SMTP):
    """smtplib's client on a reader of ours, which knows the deadline and bounds.

    `docmd` is all that is used of it beside EHLO: `mail` and `rcpt` rewrite odd addresses.
    """

    sock: socket.socket | None

    def __init__(self, sock: socket.socket, helo: str, deadline: float) -> None:
        super().__init__(local_hostname=helo)
        self.deadline = deadline
        self._was_greeted = False
        self.sock = sock
        self._reader = ReplyReader(self._receive)

    def greeting(self) -> SmtpReply:
        """What it says first."""
        reply = _reply(*self.getreply())
        self._was_greeted = True
        return reply

    def getreply(self) -> tuple[int, bytes]:
        """As smtplib has it, but bounded in octets and in time; raises OSError and BadReply."""
        reply = self._reader.read()
        return reply.code, reply.text.encode("utf-8", "surrogateescape")

    def send(self, s: Any) -> None:
        """As smtplib has it; not while there is a reply to what was never asked.

        Least of all one that was put in before TLS and would count in it (CVE-2011-0411).
        """
        if self._reader.has_more:
            raise BadReply("it speaks before it is asked")
        super().send(s)

    def secure(self, host: str) -> None:
        """Go on in TLS; the certificate proves nothing to us, as with Postfix's level `may`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        sock = self._timed()
        sock.settimeout(_left(self.deadline))  # for all of the handshake
        self.sock = context.wrap_socket(sock, server_hostname=host)

    def leave(self) -> None:
        """Say QUIT and close; a next hop that has not greeted yet would take it for an attack."""
        if self.sock is None:
            return
        try:
            if self._was_greeted:
                self.sock.settimeout(min(max(self.deadline - time.monotonic(), 0), FAREWELL_SECONDS))
                self.sock.sendall(b"QUIT\r\n")
                self.sock.recv(1)
        except (OSError, ValueError):
            pass
        finally:
            self.close()

    def _receive(self, size: int) -> bytes:
        sock = self._timed()
        sock.settimeout(_left(self.deadline))
        return sock.recv(size)

    def _timed(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        return self.sock


def _connected(places: Sequence[Place], deadline: float) -> socket.socket:
    fault: OSError = TimeoutError()
    for number, place in enumerate(places):
        sock = socket.socket(place.family, socket.SOCK_STREAM)
        try:
            # Each address has its share: the first may be one that nobody answers at.
            sock.settimeout(_left(deadline) / (len(places) - number))
            sock.connect(place.address)
        except OSError as error:
            sock.close()
            fault = error
        else:
            return sock
    raise Unasked(f"no connection: {_fault(fault)}")


@contextlib.contextmanager
def _as_unasked() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, BadReply, smtplib.SMTPException) as error:
        raise Unasked(_fault(error)) from None


def _fault(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    strerror = error.strerror if isinstance(error, OSError) else None
    return plain(strerror or str(error) or type(error).__name__)[:200]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _reply(code: int, octets: bytes) -> SmtpReply:
    return SmtpReply(code, octets.decode("utf-8", "surrogateescape"))
