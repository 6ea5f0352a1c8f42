"""The milter protocol (version 6) from the mail server's side, blocking, step by step, for tests.

`Connection` speaks single steps and raw frames, also ones no mail server would send. Whole messages are in
`fake_mta`, which offers the names of this module too.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from types import TracebackType
from typing import Self

ALL_ACTIONS = 0x1FF
ALL_STEPS = 0x1FFFFF


class Step(IntFlag):
    """What a milter may ask not to be sent, or not to have to answer."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_EOH = 0x40
    NR_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    RCPT_REJECTED = 0x800
    NR_CONNECT = 0x1000
    NR_HELO = 0x2000
    NR_MAIL = 0x4000
    NR_RCPT = 0x8000
    NR_DATA = 0x10000
    NR_UNKNOWN = 0x20000
    NR_EOH = 0x40000
    NR_BODY = 0x80000
    LEADING_SPACE = 0x100000


class Stage(IntEnum):
    """The stages of a macro list, as SETSYMLIST numbers them."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    EOM = 5
    EOH = 6


class Verdict(Enum):
    """The milter's answer to one step; the last two are ours."""

    ACCEPT = b"a"
    CONTINUE = b"c"
    DISCARD = b"d"
    REJECT = b"r"
    TEMPFAIL = b"t"
    REPLY = b"y"
    SKIP = b"s"
    SHUTDOWN = b"4"
    CONNECTION_FAILURE = b"f"
    UNANSWERED = b"no reply was due"
    UNASKED = b"the step was not wanted"


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, and the text of an SMTP reply where the milter chose one."""

    verdict: Verdict
    text: str = ""

    @property
    def code(self) -> int:
        """What the SMTP client gets: 250, or the code of the refusal as Postfix gives it."""
        if self.verdict is Verdict.REPLY:
            return int(self.text[:3])
        codes = {
            Verdict.REJECT: 550,
            Verdict.TEMPFAIL: 451,
            Verdict.SHUTDOWN: 421,
            Verdict.CONNECTION_FAILURE: 451,
        }
        return codes.get(self.verdict, 250)

    @property
    def refused(self) -> bool:
        """The client is told no, for now or for good."""
        return self.code >= 400


@dataclass(frozen=True, slots=True)
class HeaderAdded:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class HeaderInserted:
    index: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class HeaderChanged:
    """An empty value deletes."""

    index: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class SenderChanged:
    address: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class RecipientAdded:
    address: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class RecipientRemoved:
    address: str


@dataclass(frozen=True, slots=True)
class BodyReplaced:
    chunk: bytes


@dataclass(frozen=True, slots=True)
class Quarantined:
    reason: str


Change = (
    HeaderAdded
    | HeaderInserted
    | HeaderChanged
    | SenderChanged
    | RecipientAdded
    | RecipientRemoved
    | BodyReplaced
    | Quarantined
)


class Hangup(Exception):
    """The milter closed the connection, or kept silent longer than the deadline."""


class ProtocolError(Exception):
    """The milter sent what the protocol does not allow at this place."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the milter wants: actions it may take, steps, and its own macro lists by stage."""

    version: int
    actions: int
    steps: Step
    macros: Mapping[Stage, str]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _cstrings(*texts: str) -> bytes:
    return b"".join(_raw(text) + b"\0" for text in texts)


def frame(command: bytes, payload: bytes = b"") -> bytes:
    """One packet: length of what follows (four octets, network order), command, payload."""
    return struct.pack("!I", len(payload) + 1) + command + payload


def dial(target: str, timeout: float) -> socket.socket:
    """Connect to `unix:/path` or `inet:PORT@ADDRESS`; `timeout` in seconds."""
    kind, _, rest = target.partition(":")
    if kind in ("unix", "local"):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(timeout)
        try:
            peer.connect(rest)
        except OSError:
            peer.close()
            raise
        return peer
    port, _, host = rest.partition("@")
    return socket.create_connection((host, int(port)), timeout)


class Connection:
    """One connection to a milter, step by step.

    The steps honour what was negotiated; before `negotiate` everything is sent and an answer awaited. After a
    `Hangup` it is closed.
    `timeout` is the deadline in seconds for each answer.
    """

    def __init__(self, target: str, timeout: float = 10.0) -> None:
        self.socket = dial(target, timeout)
        self.steps = Step(0)
        self.wanted_macros: dict[Stage, str] = {}
        self.changes: list[Change] = []
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Frames

    def send_raw(self, octets: bytes) -> None:
        """Any octets, also those no mail server would send."""
        try:
            self.socket.sendall(octets)
        except OSError as error:
            self.close()
            raise Hangup(str(error)) from error

    def send(self, command: bytes, payload: bytes = b"") -> None:
        self.send_raw(frame(command, payload))

    def read(self) -> tuple[bytes, bytes]:
        """The next packet: command and payload."""
        (length,) = struct.unpack("!I", self._read_octets(4))
        if not 1 <= length <= 1 << 20:
            raise ProtocolError(f"packet of {length} octets")
        packet = self._read_octets(length)
        return packet[:1], packet[1:]

    def _read_octets(self, count: int) -> bytes:
        while len(self._unread) < count:
            try:
                more = self.socket.recv(65536)
            except OSError as error:
                self.close()
                raise Hangup(str(error) or type(error).__name__) from error
            if not more:
                self.close()
                raise Hangup("closed by the milter")
            self._unread += more
        octets, self._unread = self._unread[:count], self._unread[count:]
        return octets

    def answer(self) -> Answer:
        """Wait for a verdict; changes that come before it are kept in `changes`."""
        while True:
            command, payload = self.read()
            if command == b"p":  # progress: the milter asks for patience
                continue
            if command in _CHANGES:
                self.changes.append(_CHANGES[command](payload))
                continue
            try:
                verdict = Verdict(command)
            except ValueError:
                raise ProtocolError(f"unknown answer {command!r}") from None
            return Answer(verdict, _text(payload.rstrip(b"\0")) if verdict is Verdict.REPLY else "")

    # Steps

    def negotiate(self, actions: int = ALL_ACTIONS, steps: int = ALL_STEPS, version: int = 6) -> Negotiated:
        """Offer what Postfix offers, or less; what the milter chose holds for the connection."""
        self.send(b"O", struct.pack("!III", version, actions, steps))
        command, payload = self.read()
        if command != b"O" or len(payload) < 12:
            raise ProtocolError(f"answer to the negotiation is {command!r} with {len(payload)} octets")
        chosen = struct.unpack("!III", payload[:12])
        if chosen[2] & ~steps or chosen[1] & ~actions:
            raise ProtocolError("the milter asks for what was not offered")
        self.steps = Step(chosen[2])
        self.wanted_macros = dict(_macro_lists(payload[12:]))
        return Negotiated(chosen[0], chosen[1], self.steps, dict(self.wanted_macros))

    def macros(self, command: bytes, values: Mapping[str, str]) -> None:
        """The macros that go before `command`."""
        if values:
            pairs = [text for pair in values.items() for text in pair]
            self.send(b"D", command + _cstrings(*pairs))

    def connect(self, name: str, address: str | None, port: int = 40000) -> Answer:
        """The client; `None` is Sendmail's unknown address (mail from standard input)."""
        if address is None:
            payload = _cstrings(name) + b"U"
        elif "/" in address:
            payload = _cstrings(name) + b"L" + struct.pack("!H", 0) + _cstrings(address)
        else:
            family = b"6" if ":" in address else b"4"
            shown = f"IPv6:{address}" if ":" in address else address
            payload = _cstrings(name) + family + struct.pack("!H", port) + _cstrings(shown)
        return self._step(b"C", payload, Step.NO_CONNECT, Step.NR_CONNECT)

    def helo(self, name: str) -> Answer:
        return self._step(b"H", _cstrings(name), Step.NO_HELO, Step.NR_HELO)

    def mail(self, reverse_path: str, *parameters: str) -> Answer:
        """The reverse-path as on the wire, `<>` for the null sender."""
        return self._step(b"M", _cstrings(reverse_path, *parameters), Step.NO_MAIL, Step.NR_MAIL)

    def rcpt(self, recipient: str, *parameters: str) -> Answer:
        return self._step(b"R", _cstrings(recipient, *parameters), Step.NO_RCPT, Step.NR_RCPT)

    def data(self) -> Answer:
        return self._step(b"T", b"", Step.NO_DATA, Step.NR_DATA)

    def header(self, name: str, value: str) -> Answer:
        shown = f" {value}" if self.steps & Step.LEADING_SPACE else value
        return self._step(b"L", _cstrings(name, shown), Step.NO_HEADERS, Step.NR_HEADER)

    def eoh(self) -> Answer:
        return self._step(b"N", b"", Step.NO_EOH, Step.NR_EOH)

    def body(self, chunk: bytes) -> Answer:
        return self._step(b"B", chunk, Step.NO_BODY, Step.NR_BODY)

    def eom(self) -> Answer:
        """End of message; the changes asked for are in `changes`."""
        self.changes.clear()
        self.send(b"E")
        return self.answer()

    def unknown(self, command_line: str) -> Answer:
        return self._step(b"U", _cstrings(command_line), Step.NO_UNKNOWN, Step.NR_UNKNOWN)

    def abort(self) -> None:
        """The transaction ends (RSET, or the next MAIL); never answered."""
        self.send(b"A")

    def quit(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(Hangup):
            self.send(b"Q")
        self.close()

    def close(self) -> None:
        self.socket.close()

    def _step(self, command: bytes, payload: bytes, unwanted: Step, unanswered: Step) -> Answer:
        if self.steps & unwanted:
            return Answer(Verdict.UNASKED)
        self.send(command, payload)
        if self.steps & unanswered:
            return Answer(Verdict.UNANSWERED)
        return self.answer()


def _strings(payload: bytes) -> list[str]:
    return [_text(part) for part in payload.split(b"\0")[:-1]]


def _pair(payload: bytes) -> tuple[str, str]:
    parts = _strings(payload)
    return parts[0], parts[1] if len(parts) > 1 else ""


def _numbered(payload: bytes) -> tuple[int, str, str]:
    return (int(struct.unpack("!I", payload[:4])[0]), *_pair(payload[4:]))


_CHANGES: dict[bytes, Callable[[bytes], Change]] = {
    b"h": lambda payload: HeaderAdded(*_pair(payload)),
    b"i": lambda payload: HeaderInserted(*_numbered(payload)),
    b"m": lambda payload: HeaderChanged(*_numbered(payload)),
    b"e": lambda payload: SenderChanged(*_pair(payload)),
    b"+": lambda payload: RecipientAdded(*_pair(payload)),
    b"2": lambda payload: RecipientAdded(*_pair(payload)),
    b"-": lambda payload: RecipientRemoved(_pair(payload)[0]),
    b"b": BodyReplaced,
    b"q": lambda payload: Quarantined(_pair(payload)[0]),
}


def _macro_lists(payload: bytes) -> Iterator[tuple[Stage, str]]:
    while len(payload) > 4:
        (stage,) = struct.unpack("!I", payload[:4])
        names, _, payload = payload[4:].partition(b"\0")
        yield Stage(stage), _text(names)
