"""A few SMTP commands to our own mail server, one at a time: what `backstop doctor` asks it.

No message is ever begun. Each reply has a deadline, however slowly it trickles in. RFC 5321, sections 4.1 and
4.2.
"""

import contextlib
import socket
import time
from types import TracebackType
from typing import Self

from backstop.adapters.smtp_reply import BadReply, ReplyReader, SmtpReply


class SmtpUnreachable(Exception):
    """The server does not answer, or not in SMTP; the text says why."""


class SmtpCaller:
    """One connection; the greeting is read and EHLO is said. `seconds` is how long each reply may take.

    Raises `SmtpUnreachable`.
    """

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = 0.0
        self._reader = ReplyReader(self._receive)
        try:
            self._socket = socket.create_connection((host, port), seconds)
        except (OSError, UnicodeError) as error:
            raise SmtpUnreachable(_words(error)) from None
        try:
            self._greet()
        except SmtpUnreachable:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(SmtpUnreachable):
            self.command("QUIT")
        self._socket.close()

    @property
    def own_address(self) -> str:
        """Our IP address on this connection: whom the server takes us for, where nothing lies between."""
        return str(self._socket.getsockname()[0]).partition("%")[0]

    def bounce_to(self, recipient: str) -> SmtpReply:
        """What the server says to one recipient of a bounce, or to the null sender; then RSET.

        Others ask in the same way whether our users exist, so that nothing but the recipient counts.
        """
        reply = self.command("MAIL FROM:<>")
        if reply.accepts:
            reply = self.command(f"RCPT TO:<{recipient}>")
        self.command("RSET")
        return reply

    def command(self, line: str) -> SmtpReply:
        """Send one line and read its reply."""
        assert not {"\r", "\n"} & set(line)
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(line.encode("utf-8", "surrogateescape") + b"\r\n")
        except OSError as error:
            raise SmtpUnreachable(_words(error)) from None
        return self._reply()

    def _greet(self) -> None:
        greeting = self._reply()
        if not greeting.accepts:
            raise SmtpUnreachable(f"it greets with {greeting.shown}")
        own = self.own_address
        # The name of a machine is often none that DNS knows; an address always is one.
        said = self.command(f"EHLO [{f'IPv6:{own}' if ':' in own else own}]")
        if not said.accepts:
            raise SmtpUnreachable(f"it answers EHLO with {said.shown}")

    def _reply(self) -> SmtpReply:
        self._deadline = time.monotonic() + self._seconds
        try:
            return self._reader.read()
        except (OSError, BadReply) as error:
            raise SmtpUnreachable(_words(error)) from None

    def _receive(self, size: int) -> bytes:
        self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
        return self._socket.recv(size)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
