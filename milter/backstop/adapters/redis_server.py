"""The way to the store: Sentinels, names, sockets, TLS, and the first words of a connection."""

import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from backstop.adapters.redis_link import (
    IS_CLUSTER,
    NO_REDIS,
    Link,
    Reply,
    ReplyError,
    StoreUnavailable,
    Word,
    pack,
    words_of,
)
from backstop.adapters.redis_place import Place


class Server:
    """The way to the store: opens connections, and remembers what name servers and Sentinels said."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._tls = tls_context(place) if place.speaks_tls else None
        self._host = ""
        self._found: list[tuple[int, Any]] = [(socket.AF_UNIX, place.path)] if place.path else []

    def locate(self, timeout: float) -> None:
        """Ask the Sentinels (`timeout` seconds each) and the name server, and keep the answer.

        The system's resolver has deadlines of its own: once this was answered, no message waits for it again.
        """
        if self.place.path:
            return
        host, port = self._master(timeout) if self.place.service else self.place.hosts[0]
        self._found, self._host = _resolve(host, port), host

    def open(self, timeout: float, deadline: float) -> "Link":
        """A new connection, authenticated and in its database, by the deadline (monotonic).

        `timeout` is how long it waits for an answer from then on.
        """
        if not self._found:
            self.locate(timeout)
        place = self.place
        link = Link(_dial(self._found, self._tls, self._host, deadline), timeout)
        try:
            _judge(_greet(link, place.user, place.password, place.database, deadline), place)
        except StoreUnavailable:
            link.close()
            raise
        return link

    def _master(self, timeout: float) -> tuple[str, int]:
        place = self.place
        question = pack("SENTINEL", "get-master-addr-by-name", place.service)
        why = ""
        for host, port in place.hosts:
            deadline = time.monotonic() + timeout
            try:
                link = Link(_dial(_resolve(host, port), self._tls, host, deadline), timeout)
                try:
                    _greet(link, place.sentinel_user, place.sentinel_password, 0, deadline)
                    [answer] = link.exchange(question, 1, deadline)
                finally:
                    link.close()
            except StoreUnavailable as error:
                why = str(error)
                continue
            match answer:
                case [bytes(found), bytes(number)]:
                    return found.decode("utf-8", "replace"), int(number)
            why = f"it knows no service {place.service!r}"
        raise StoreUnavailable(f"no Sentinel says where the store is: {why}")


def _greet(link: Link, user: str, password: str, database: int, deadline: float) -> dict[bytes, Reply]:
    # HELLO tells the mode and the role, needs no right of its own, and exists since Redis 6.
    words: list[Word] = ["HELLO", 2]
    if user or password:
        words += ["AUTH", user or "default", password]
    commands = [pack(*words)]
    if database:
        commands.append(pack("SELECT", database))
    replies = link.exchange(b"".join(commands), len(commands), deadline)
    for reply in replies:
        if isinstance(reply, ReplyError):
            # Nothing else is quoted: before Redis 6 a server repeats what it does not know, password and all.
            known = reply.unfit or (reply.text if reply.kind == "WRONGPASS" else "")
            raise StoreUnavailable(known or "it refused HELLO, AUTH or SELECT (it must be Redis 6 or newer)")
    match replies[0]:
        case list(said):
            keys = [word for word in said[::2] if isinstance(word, bytes)]
            return dict(zip(keys, said[1::2], strict=False))
    raise StoreUnavailable(NO_REDIS)


def _judge(said: Mapping[bytes, Reply], place: Place) -> None:
    if said.get(b"mode") == b"cluster":
        raise StoreUnavailable(IS_CLUSTER)
    if said.get(b"mode") == b"sentinel":
        raise StoreUnavailable("it is a Sentinel: name it as redis+sentinel://HOST:PORT/SERVICE")
    if place.service and said.get(b"role") != b"master":
        raise StoreUnavailable("the server the Sentinels named is no master (any more)")


def _dial(
    found: Sequence[tuple[int, Any]], tls: ssl.SSLContext | None, host: str, deadline: float
) -> socket.socket:
    why = "its name has no address"
    for family, address in found:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no descriptor is left
            raise StoreUnavailable(words_of(error)) from None
        try:
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.connect(address)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return tls.wrap_socket(sock, server_hostname=host) if tls else sock
        except OSError as error:
            why = words_of(error)
            sock.close()
    raise StoreUnavailable(why)


def _resolve(host: str, port: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StoreUnavailable(f"the name {host!r} has no address: {error}") from None
    return [(family, address) for family, _, _, _, address in found]


def tls_context(place: Place) -> ssl.SSLContext:
    """How TLS is spoken with the store. Raises ValueError where the files of its URL cannot be used."""
    files = dict(place.tls_files)
    try:
        context = ssl.create_default_context(cafile=files.get("ssl_ca_certs"))
        if certificate := files.get("ssl_certfile"):
            context.load_cert_chain(certificate, files.get("ssl_keyfile"), password="")  # never asks
    except OSError as error:
        listed = ", ".join(files.values())
        raise ValueError(f"the store's TLS files cannot be used ({listed}): {words_of(error)}") from None
    return context
