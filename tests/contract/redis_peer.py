"""The store's other side in tests: patience with a real Redis, and a server that speaks badly."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from backstop.adapters.redis_store import Store

HELLO = (
    b"*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"
)


def patient(url: str | list[str], **more: int) -> Store:
    """A store for tests that are not about time: the machine may be busy."""
    return Store(url, timeout=5, write_timeout=5, **more)


class Peer:
    """Listens on 127.0.0.1 and hands each connection, as the nth, to `talk` in a thread of its own."""

    def __init__(self, talk: Callable[[socket.socket, int], None]) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.accepted = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_exception: object) -> None:
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                self._open.append(sock)
                self._start(self._serve, sock, self.accepted)

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            self._talk(sock, number)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def saying(*answers: bytes, then: Callable[[socket.socket], None] = lambda sock: sock.close()):
    """Answers HELLO, then each thing said with the next of these; after the last, `then`."""

    def talk(sock: socket.socket, _number: int) -> None:
        for answer in (HELLO, *answers):
            if not sock.recv(65536):
                return
            sock.sendall(answer)
        then(sock)

    return talk


def silence(sock: socket.socket) -> None:
    """Read, say nothing, until the other side leaves."""
    while sock.recv(65536):
        pass
