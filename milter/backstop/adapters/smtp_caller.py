"""A few SMTP commands to our own mail server, one at a time: what `backstop doctor` asks it.

No message is ever begun. Each reply has a deadline, however slowly it trickles in, and a bounded length;
what it says was written by others. RFC 5321, sections 4.1 and 4.2.
"""

import contextlib
import re
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

MAX_REPLY: Final = 16 * 1024
"""Octets of one reply; RFC 5321, section 4.5.3.1.5, has 512 a line."""

MAX_TEXT: Final = 300
"""Characters of it that are kept."""

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")


class SmtpUnreachable(Exception):
    """The server does not answer, or not in SMTP; the text says why."""


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply; `text` is all its lines in one, without the codes."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    @property
    def accepts(self) -> bool:
        """Whether it says yes."""
        return self.code < 400

    @property
    def refuses(self) -> bool:
        """Whether it says no for good."""
        return self.code >= 500

    @property
    def is_about_the_address(self) -> bool:
        """Whether a refusal speaks of the recipient's address (RFC 3463, X.1.Z), as far as it says."""
        status = _STATUS.match(self.text)
        if status is None:
            return self.code in (550, 551, 553)
        return status[2] == "1" and status[3] not in ("7", "8")  # those are the sender's


class SmtpCaller:
    """One connection; the greeting is read and EHLO is said. `seconds` is how long each reply may take.

    Raises `SmtpUnreachable`.
    """

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._seconds = seconds
        self._heard = b""
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
            raise SmtpUnreachable(f"it greets with {greeting}")
        own = self.own_address
        # The name of a machine is often none that DNS knows; an address always is one.
        said = self.command(f"EHLO [{f'IPv6:{own}' if ':' in own else own}]")
        if not said.accepts:
            raise SmtpUnreachable(f"it answers EHLO with {said}")

    def _reply(self) -> SmtpReply:
        deadline = time.monotonic() + self._seconds
        texts: list[str] = []
        size = 0
        while True:
            line = self._line(deadline, MAX_REPLY - size)
            size += len(line)
            match = _LINE.fullmatch(line.rstrip(b"\r\n"))
            if match is None:
                raise SmtpUnreachable("who listens there does not speak SMTP")
            texts.append((match[3] or b"").decode("utf-8", "replace"))
            if match[2] != b"-":
                return SmtpReply(int(match[1]), " ".join(texts)[:MAX_TEXT])

    def _line(self, deadline: float, longest: int) -> bytes:
        while b"\n" not in self._heard:
            if len(self._heard) > longest:
                raise SmtpUnreachable(f"its reply is longer than {MAX_REPLY} octets")
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                more = self._socket.recv(4096)
            except OSError as error:
                raise SmtpUnreachable(_words(error)) from None
            if not more:
                raise SmtpUnreachable("it closed the connection")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        if len(line) > longest:
            raise SmtpUnreachable(f"its reply is longer than {MAX_REPLY} octets")
        return line


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
