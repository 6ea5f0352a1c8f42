"""The milter protocol (version 6) from the mail server's side: enough to ask our daemon about a recipient.

The watchdog's self-test and `backstop doctor` use it. No message is ever begun: connect, MAIL, RCPT, abort.
The commands are those of libmilter's mfdef.h; what is read has a bounded length and a deadline.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

OFFER: Final = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
"""The offer of Postfix: version 6, all actions, all steps."""

QUIT: Final = struct.pack("!Ic", 1, b"Q")

NEGOTIATED: Final = b"O"
"""The command of the answer to an offer."""

_FAMILIES: Final = {"unix": socket.AF_UNIX, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
_LONGEST: Final = 64 * 1024  # octets of one answer; ours are far below one kilobyte
_MOST: Final = 16  # answers before the one that counts: libmilter only asks for patience
_PROGRESS: Final = b"p"

# What a milter may say it wants neither to see nor to answer
_NO_CONNECT, _NO_HELO, _NO_MAIL, _NO_RCPT = 0x01, 0x02, 0x04, 0x08
_NR_CONNECT, _NR_HELO, _NR_MAIL, _NR_RCPT = 0x1000, 0x2000, 0x4000, 0x8000

_VERDICTS: Final = {
    b"r": (550, "5.7.1 Command rejected"),
    b"t": (451, "4.7.1 Service unavailable - try again later"),
    b"4": (421, "4.7.0 shutdown"),
    b"f": (451, "4.7.1 connection failure"),
}


class MilterUnreachable(Exception):
    """Nobody speaks the milter protocol there; the text says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the mail server would tell its client: a code, 250 where the milter lets it go on, and a text."""

    code: int
    text: str = ""


def place(target: str) -> tuple[socket.AddressFamily, Any]:
    """The family and address of a socket as the configuration names it: `unix:/path`, `inet:PORT@HOST`."""
    kind, _, rest = target.partition(":")
    if kind == "unix":
        return socket.AF_UNIX, rest
    port, _, host = rest.partition("@")
    return _FAMILIES[kind], (host, int(port))


class MilterCaller:
    """A connection to a milter as the mail server has it, for one client. Raises `MilterUnreachable`.

    `seconds` is how long each answer may take.
    """

    def __init__(self, target: str, seconds: float) -> None:
        self._seconds = seconds
        self._heard = b""
        family, address = place(target)
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(address)
            self._steps = self._negotiate()
        except OSError as error:
            self._socket.close()
            raise MilterUnreachable(_words(error)) from None
        except MilterUnreachable:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(MilterUnreachable):
            self._send(QUIT)
        self._socket.close()

    def connect(self, name: str, address: str, daemon: str) -> Verdict:
        """A client comes to the mail server's service called `daemon`, and greets."""
        self._macros(b"C", {"{daemon_name}": daemon})
        family = b"6" if ":" in address else b"4"
        shown = f"IPv6:{address}" if ":" in address else address
        payload = _strings(name) + family + struct.pack("!H", 40000) + _strings(shown)
        verdict = self._step(b"C", payload, _NO_CONNECT, _NR_CONNECT)
        return verdict if verdict.code >= 400 else self._step(b"H", _strings(name), _NO_HELO, _NR_HELO)

    def bounce_to(self, recipient: str) -> Verdict:
        """What becomes of one recipient of a bounce, whose message is never sent."""
        verdict = self._step(b"M", _strings("<>"), _NO_MAIL, _NR_MAIL)
        if verdict.code < 400:
            verdict = self._step(b"R", _strings(f"<{recipient}>"), _NO_RCPT, _NR_RCPT)
        self._send(_frame(b"A"))
        return verdict

    def _negotiate(self) -> int:
        self._send(OFFER)
        command, payload = self._read()
        if command != NEGOTIATED or len(payload) < 12:
            raise MilterUnreachable("who listens there does not speak the milter protocol")
        return int(struct.unpack("!III", payload[:12])[2])

    def _macros(self, command: bytes, values: Mapping[str, str]) -> None:
        self._send(_frame(b"D", command + _strings(*(text for pair in values.items() for text in pair))))

    def _step(self, command: bytes, payload: bytes, unwanted: int, unanswered: int) -> Verdict:
        if self._steps & unwanted:
            return Verdict(250)
        self._send(_frame(command, payload))
        if self._steps & unanswered:
            return Verdict(250)
        for _ in range(_MOST):
            answer, rest = self._read()
            if answer == b"y":
                return _reply(rest)
            if answer != _PROGRESS:
                return Verdict(*_VERDICTS.get(answer, (250, "")))
        raise MilterUnreachable("it asks for patience without end")

    def _send(self, octets: bytes) -> None:
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(octets)
        except OSError as error:
            raise MilterUnreachable(_words(error)) from None

    def _read(self) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + self._seconds
        (length,) = struct.unpack("!I", self._octets(4, deadline))
        if not 0 < length <= _LONGEST:
            raise MilterUnreachable("who listens there does not speak the milter protocol")
        packet = self._octets(length, deadline)
        return packet[:1], packet[1:]

    def _octets(self, count: int, deadline: float) -> bytes:
        while len(self._heard) < count:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                more = self._socket.recv(4096)
            except OSError as error:
                raise MilterUnreachable(_words(error)) from None
            if not more:
                raise MilterUnreachable("it closed the connection")
            self._heard += more
        octets, self._heard = self._heard[:count], self._heard[count:]
        return octets


def _reply(payload: bytes) -> Verdict:
    """A reply that the milter chose: `550 5.1.1 text`, of several lines perhaps."""
    text = payload.rstrip(b"\0").decode("utf-8", "replace")
    if not (text[:3].isascii() and text[:3].isdigit()):
        raise MilterUnreachable("its reply begins with no code")
    return Verdict(int(text[:3]), text[4:].partition("\r\n")[0].replace("%%", "%"))


def _frame(command: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload) + 1) + command + payload


def _strings(*texts: str) -> bytes:
    return b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)


def _words(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
