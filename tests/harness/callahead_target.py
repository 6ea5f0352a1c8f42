"""A next hop that is told what to say at each step of SMTP: right, wrong, slowly, or never.

It keeps what it heard and how many connections it had, and it never takes a message.
"""

import contextlib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from socket import IPPROTO_TCP, SHUT_RDWR, TCP_INFO, create_server, socket
from typing import Self

_ESTABLISHED = b"\x01"[0]  # TCP_ESTABLISHED of tcp(7)


class Then(Enum):
    """What comes after something was said."""

    GO_ON = auto()
    HANG = auto()
    """Keep the connection and say nothing; what is heard goes to `unanswered`."""
    CLOSE = auto()


@dataclass(frozen=True)
class Say:
    """What is said at one step, `piece` octets at a time and `pause` seconds before each; 0: all at once."""

    octets: bytes
    pause: float = 0.0
    piece: int = 0
    then: Then = Then.GO_ON


HANG = Say(b"", then=Then.HANG)
CLOSE = Say(b"", then=Then.CLOSE)
Answering = Callable[[str], Say]
Step = Say | Answering

OK = Say(b"250 2.0.0 Ok\r\n")
TAKEN = Say(b"250 2.1.5 Ok\r\n")
NOBODY = Say(b"550 5.1.1 User unknown\r\n")


def says(text: str) -> Say:
    """A reply of one line."""
    return Say(text.encode() + b"\r\n")


def users(*addresses: str, others: Say = NOBODY, taken: Say = TAKEN) -> Answering:
    """Takes these recipients, and postmaster of any domain; to others it says `others`."""

    def answer(address: str) -> Say:
        return taken if address in addresses or address.startswith("postmaster@") else others

    return answer


def in_turn(*steps: Step) -> Answering:
    """Says one after the other, and the last for ever."""
    left = list(steps)

    def answer(argument: str) -> Say:
        step = left.pop(0) if len(left) > 1 else left[0]
        return step(argument) if callable(step) else step

    return answer


@dataclass
class CallaheadTarget:
    """Listens on a free port of loopback. `rcpt` is asked with the address, a step of `others` with the line.

    `others` has the names CONNECT, EHLO, HELO, STARTTLS, MAIL, RSET, QUIT. With a certificate it offers
    STARTTLS.
    """

    rcpt: Step = TAKEN
    others: Mapping[str, Step] = field(default_factory=dict)
    extensions: Iterable[str] = ()
    certificate: Path | None = None
    host: str = "127.0.0.1"
    lines: list[str] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)
    connections: int = 0
    most_open: int = 0
    secured: int = 0

    def __enter__(self) -> Self:
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        with self._lock:
            links = [self._listener, *self._open]
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(5)

    @property
    def recipients(self) -> list[str]:
        """The addresses that were asked about, in their order."""
        return [_address(line) for line in list(self.lines) if line.upper().startswith("RCPT")]

    def said(self, verb: str) -> int:
        """How often it heard this command."""
        return sum(line.upper().split(" ")[0] == verb for line in list(self.lines))

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                with self._lock:
                    self._open.add(link)
                    self.connections += 1
                    self.most_open = max(self.most_open, sum(map(_is_open, self._open)))
                self._start(self._serve, link)

    def _serve(self, link: socket) -> None:
        ends = [link]
        try:
            with contextlib.suppress(OSError, ValueError):
                link.settimeout(30)
                self._converse(ends)
        finally:
            with self._lock:
                self._open.difference_update(ends)
            for end in ends:
                end.close()

    def _converse(self, ends: list[socket]) -> None:
        [talk] = ends
        if not self._say(talk, "CONNECT", "", says("220 next-hop.example ESMTP")):
            return
        reader = talk.makefile("rb")
        while line := reader.readline(2048):
            text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            self.lines.append(text)
            verb = text.split(" ")[0].upper()
            if verb == "RCPT":
                go_on = self._utter(talk, self.rcpt(_address(text)) if callable(self.rcpt) else self.rcpt)
            else:
                go_on = self._say(talk, verb, text, self._usual(verb, secured=len(ends) > 1))
            if not go_on or verb == "QUIT":
                return
            if verb == "STARTTLS" and self.certificate:
                talk = self._secure(talk, self.certificate)
                ends.append(talk)
                reader = talk.makefile("rb")

    def _secure(self, link: socket, certificate: Path) -> socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        secure = context.wrap_socket(link, server_side=True)
        self.secured += 1
        with self._lock:  # it has taken the other's place
            self._open.discard(link)
            self._open.add(secure)
        return secure

    def _usual(self, verb: str, *, secured: bool) -> Say:
        if verb == "EHLO":
            offers = [*self.extensions, *(["STARTTLS"] if self.certificate and not secured else [])]
            lines = ["next-hop.example", *offers]
            shown = [f"250{'-' if at < len(lines) - 1 else ' '}{text}" for at, text in enumerate(lines)]
            return Say("".join(f"{line}\r\n" for line in shown).encode())
        if verb == "STARTTLS":
            return says("220 2.0.0 Ready")
        return says("221 2.0.0 Bye") if verb == "QUIT" else OK

    def _say(self, link: socket, name: str, line: str, usual: Say) -> bool:
        step = self.others.get(name, usual)
        return self._utter(link, step(line) if callable(step) else step)

    def _utter(self, link: socket, say: Say) -> bool:
        size = say.piece or len(say.octets) or 1
        for at in range(0, len(say.octets), size):
            if say.pause and self._ended.wait(say.pause):
                return False
            link.sendall(say.octets[at : at + size])
        if say.then is Then.HANG:
            link.settimeout(0.02)
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    heard = link.recv(4096)
                    if not heard:
                        return False
                    self.unanswered.append(heard)
        return say.then is Then.GO_ON


class Backlog:
    """A port whose connections nobody takes up, so that connecting to it hangs."""

    def __enter__(self) -> Self:
        self._listener = create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._links: list[socket] = []
        for _ in range(4):  # Linux takes one or two more than it was told to
            link = socket()
            link.setblocking(False)
            link.connect_ex(("127.0.0.1", self.port))
            self._links.append(link)
        time.sleep(0.01)
        return self

    def __exit__(self, *_exception: object) -> None:
        for link in (*self._links, self._listener):
            link.close()


def make_certificate(folder: Path) -> Path:
    """A certificate that nobody has signed but itself, and its key, in one file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=somebody.else.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


def _address(line: str) -> str:
    return line.partition("<")[2].rpartition(">")[0]


def _is_open(link: socket) -> bool:
    """Whether the other side has not closed it: what our own thread knows of that comes later."""
    try:
        return link.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == _ESTABLISHED
    except OSError:
        return False
