"""A name server with faults: it is told octet for octet what to answer to which name, over UDP and TCP."""

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import dns.message
import dns.rcode
import dns.rrset

from tests.harness.redis_server import free_port


@dataclass(frozen=True)
class Odd:
    """What is sent for one name. `udp` and `tcp` make messages of the query; no `udp` message is silence.

    Over TCP the messages are sent `piece` octets at a time, `pause` seconds apart; the same pause comes
    before each datagram.
    """

    udp: Callable[[bytes], list[bytes]] = lambda _query: []
    tcp: Callable[[bytes], bytes] = lambda _query: b""
    pause: float = 0.0
    piece: int = 65536


@dataclass
class OddNameServer:
    """Answers names by `odd` (their first label), others with `otherwise`; `seen` are the names asked."""

    odd: Mapping[str, Odd]
    otherwise: Odd = field(default_factory=Odd)
    seen: list[str] = field(default_factory=list)

    def start(self) -> Self:
        """Listen on a free port of loopback, UDP and TCP."""
        self._ended = threading.Event()
        self._udp, self._tcp = _both()
        self.port: int = self._udp.getsockname()[1]
        for loop in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=loop, daemon=True).start()
        return self

    @property
    def address(self) -> str:
        """As the setting `resolver` takes it."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Close everything."""
        self._ended.set()
        for link in (self._udp, self._tcp):
            link.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _serve_udp(self) -> None:
        while not self._ended.is_set():
            try:
                query, client = self._udp.recvfrom(65535)
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._answer_udp, args=(query, client), daemon=True).start()

    def _answer_udp(self, query: bytes, client: tuple[str, int]) -> None:
        odd = self._odd(query)
        for message in odd.udp(query):
            if self._ended.wait(odd.pause):
                return
            try:
                self._udp.sendto(message, client)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while not self._ended.is_set():
            try:
                link, _ = self._tcp.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._answer_tcp, args=(link,), daemon=True).start()

    def _answer_tcp(self, link: socket.socket) -> None:
        with link:
            link.settimeout(10)
            try:
                query = link.recv(65535)[2:]
                odd = self._odd(query)
                octets = odd.tcp(query)
                for at in range(0, len(octets), odd.piece):
                    if self._ended.wait(odd.pause):
                        return
                    link.sendall(octets[at : at + odd.piece])
            except OSError:
                return

    def _odd(self, query: bytes) -> Odd:
        name = dns.message.from_wire(query).question[0].name.to_text(omit_final_dot=True)
        self.seen.append(name)
        return self.odd.get(name.partition(".")[0], self.otherwise)


def answer(query: bytes, *records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    """A proper answer: each record is `NAME TTL TYPE VALUE`, `@` being the name that was asked."""
    reply = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    reply.set_rcode(rcode)
    asked = reply.question[0].name.to_text()
    for record in records:
        name, ttl, kind, value = record.split(None, 3)
        owner = asked if name == "@" else name
        reply.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, value))
    return reply.to_wire(max_size=65535)


def cut(query: bytes) -> bytes:
    """An answer that says: ask by TCP."""
    octets = bytearray(answer(query))
    octets[2] |= 0x02
    return bytes(octets)


def framed(message: bytes) -> bytes:
    """The message as it goes over TCP."""
    return struct.pack("!H", len(message)) + message


def _both() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port."""
    for _ in range(50):
        port = free_port()
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        for link in (udp, tcp):
            link.settimeout(0.2)
        try:
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            tcp.listen(64)
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise RuntimeError("no port is free for both UDP and TCP")
