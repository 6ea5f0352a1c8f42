"""One question to one name server: over UDP, over TCP when the answer was cut, within a deadline and bounds.

Everything that comes back was written by others. What is not the answer to this very question is passed
over, as somebody may send it in between; what is too large or has too many records is no answer. Which
server is asked, how often, and what is remembered is `resolver`'s business. RFC 1035, section 4; RFC 7766.
"""

import ipaddress
import re
import socket
import time
from pathlib import Path
from typing import Final

import dns.exception
import dns.message

from backstop.value import value

MAX_REPLY: Final = 16 * 1024
"""Octets of one answer. The longest that mail needs, the TXT records of a large company, are 6 kB."""

MAX_RECORDS: Final = 200
"""Records of one answer, all sections counted."""

MAX_POINTERS: Final = 1000
"""Octets of an answer that look like the beginning of a compressed name. Names may be written as long chains
of them, which are followed again for each record."""

RESOLV_CONF: Final = Path("/etc/resolv.conf")

_PAYLOAD: Final = 1232  # what passes everywhere in one piece: DNS flag day 2020
_DATAGRAM: Final = 4096
_HEADER: Final = 12
_RESPONSE: Final = 0x80
_CUT: Final = 0x02
_POINTER: Final = re.compile(rb"[\xc0-\xff]")
_WITH_PORT: Final = re.compile(r"\[([^\]]+)\](?::(\d{1,5}))?|([^:]+):(\d{1,5})")


class NoReply(Exception):
    """The server gave no answer, or none that is worth anything."""


@value
class NameServer:
    """Where a name server listens; `host` is an IP address."""

    host: str
    port: int = 53


def parse(text: str) -> NameServer | None:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`; None for anything else."""
    match = _WITH_PORT.fullmatch(text)
    host, port = (match[1] or match[3], match[2] or match[4] or "53") if match else (text, "53")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return NameServer(host, int(port)) if 0 < int(port) < 65536 else None


def system_servers(path: Path = RESOLV_CONF) -> tuple[NameServer, ...]:
    """The first three servers of resolv.conf(5), and as it says, this host's own where it names none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        text = ""
    words = [line.split() for line in text.splitlines()]
    named = [parse(line[1]) for line in words if len(line) > 1 and line[0] == "nameserver"]
    return tuple(server for server in named if server)[:3] or (NameServer("127.0.0.1"),)


def ask(query: dns.message.Message, server: NameServer, deadline: float) -> dns.message.Message:
    """The server's answer; `deadline` is by the monotonic clock.

    Raises NoReply.
    """
    query.use_edns(0, 0, _PAYLOAD)
    wire = query.to_wire()
    try:
        octets = _by_udp(wire, server, deadline)
        if octets[2] & _CUT:
            octets = _by_tcp(wire, server, deadline)
            if not _answers(octets, wire) or octets[2] & _CUT:
                raise NoReply("what came by TCP is no answer to the question")
    except OSError as error:  # a deadline that passed is one too
        raise NoReply(str(error)) from None
    return _parsed(octets, query)


def _by_udp(wire: bytes, server: NameServer, deadline: float) -> bytes:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        link.settimeout(_left(deadline))
        link.connect((server.host, server.port))  # from now on the kernel drops what others send
        link.send(wire)
        while True:
            link.settimeout(_left(deadline))
            octets = link.recv(_DATAGRAM)
            if _answers(octets, wire):
                return octets


def _by_tcp(wire: bytes, server: NameServer, deadline: float) -> bytes:
    with socket.create_connection((server.host, server.port), _left(deadline)) as link:
        link.sendall(len(wire).to_bytes(2, "big") + wire)
        size = int.from_bytes(_exactly(2, link, deadline), "big")
        if size > MAX_REPLY:
            raise NoReply(f"the answer is longer than {MAX_REPLY} octets")
        return _exactly(size, link, deadline)


def _exactly(size: int, link: socket.socket, deadline: float) -> bytes:
    read = bytearray()
    while len(read) < size:
        link.settimeout(_left(deadline))
        piece = link.recv(size - len(read))
        if not piece:
            raise NoReply("the connection ended within the answer")
        read += piece
    return bytes(read)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NoReply("no answer in time")
    return left


def _answers(octets: bytes, wire: bytes) -> bool:
    return len(octets) >= _HEADER and octets[:2] == wire[:2] and bool(octets[2] & _RESPONSE)


def _parsed(octets: bytes, query: dns.message.Message) -> dns.message.Message:
    records = sum(int.from_bytes(octets[at : at + 2], "big") for at in (6, 8, 10))
    if records > MAX_RECORDS:
        raise NoReply(f"the answer has more than {MAX_RECORDS} records")
    if len(octets) > MAX_POINTERS and len(_POINTER.findall(octets)) > MAX_POINTERS:
        raise NoReply("the answer's names are chains without end")
    try:
        reply = dns.message.from_wire(octets, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError, KeyError) as error:
        raise NoReply(f"the answer is malformed: {error}") from None
    if not query.is_response(reply):
        raise NoReply("the answer belongs to another question")
    return reply
