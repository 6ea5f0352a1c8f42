"""An SMTP client that shows every reply and sends what it is told, right or wrong (RFC 5321).

smtplib says EHLO by itself, hides replies, and will not send what is wrong.
"""

import ipaddress
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self


class Disconnected(Exception):
    """The server closed the connection where a reply was due."""


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply of a server: its code and the texts of its lines, without the codes."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines in one."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class SmtpClient:
    """One SMTP connection. The greeting is read at once and kept; nothing is sent unasked."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout: float = 30.0) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._reader = self._socket.makefile("rb")
        try:
            self.greeting = self.reply()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close without QUIT, as a client that falls over does."""
        self._reader.close()
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(octets)

    def reply(self) -> SmtpReply:
        """Read one reply, of as many lines as it has."""
        lines: list[str] = []
        while True:
            line = self._reader.readline(4096)
            if not line.endswith(b"\n"):
                raise Disconnected(f"after {lines!r} and {line!r}")
            text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            lines.append(text[4:])
            if text[3:4] != "-":
                return SmtpReply(int(text[:3]), tuple(lines))

    def command(self, line: str) -> SmtpReply:
        """Send one line and read its reply."""
        return self.pipeline(line)[0]

    def pipeline(self, *lines: str) -> list[SmtpReply]:
        """Send all lines at once, then read a reply for each (RFC 2920)."""
        octets = b"".join(line.encode("utf-8", "surrogateescape") + b"\r\n" for line in lines)
        self.send(octets)
        return [self.reply() for _ in lines]

    def ehlo(self, name: str = "client.example.net") -> SmtpReply:
        """Say EHLO."""
        return self.command(f"EHLO {name}")

    def xclient(self, address: str, *, login: str = "", helo: str = "client.example.net") -> SmtpReply:
        """Be another client: its address, and the user it is logged in as (Postfix's XCLIENT_README)."""
        ip = ipaddress.ip_address(address)
        shown = f"IPV6:{ip}" if ip.version == 6 else str(ip)
        attributes = f"ADDR={shown} NAME=[UNAVAILABLE]" + (f" LOGIN={login}" if login else "")
        self.command("EHLO proxy.example.net")
        answer = self.command(f"XCLIENT {attributes}")
        if answer.code == 220:
            self.ehlo(helo)
        return answer

    def mail(self, reverse_path: str, parameters: str = "") -> SmtpReply:
        """MAIL FROM, the reverse-path without brackets; empty for the null sender."""
        return self.command(f"MAIL FROM:<{reverse_path}> {parameters}".rstrip())

    def rcpt(self, recipient: str, parameters: str = "") -> SmtpReply:
        """RCPT TO, the recipient without brackets."""
        return self.command(f"RCPT TO:<{recipient}> {parameters}".rstrip())

    def data(self, message: bytes) -> SmtpReply:
        """DATA and the message, dots doubled; the reply to DATA when it refuses, else that to the end."""
        answer = self.command("DATA")
        if answer.code != 354:
            return answer
        lines = message.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
        self.send(b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines))
        self.send(b".\r\n")
        return self.reply()

    def quit(self) -> SmtpReply:
        """Say QUIT."""
        return self.command("QUIT")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One accepted transaction with its replies, as `deliver` ran it."""

    mail: SmtpReply
    recipients: tuple[SmtpReply, ...]
    end: SmtpReply | None

    @property
    def accepted(self) -> bool:
        """True when the message was taken for at least one recipient."""
        return self.end is not None and self.end.code == 250


def deliver(
    client: SmtpClient, reverse_path: str, recipients: tuple[str, ...], message: bytes, parameters: str = ""
) -> Delivery:
    """Run one transaction; DATA is left out when no recipient was accepted, and RSET follows a refusal."""
    mail = client.mail(reverse_path, parameters)
    if mail.code != 250:
        return Delivery(mail, (), None)
    answers = tuple(client.rcpt(recipient) for recipient in recipients)
    end = client.data(message) if any(answer.code == 250 for answer in answers) else None
    if end is None or end.code != 250:
        client.command("RSET")
    return Delivery(mail, answers, end)
