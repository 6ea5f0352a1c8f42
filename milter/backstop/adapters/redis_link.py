"""One connection to Redis or Valkey, and what goes over it.

Commands are packed here and replies parsed by hiredis, in RESP2. redis-py is not used: eight commands through
its connection cost 30 us of CPU with ten threads at work, 17 us this way (4.3.4: 63 and 14 us); its
import costs a worker 14 MB; and its handshake waits for each of several answers by itself, where this one is
a single round trip under one deadline. How it is opened is `redis_server`'s, pool and circuit
breaker are `redis_store`'s.
"""

import re
import select
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import hiredis

from backstop.adapters.redis_names import octets

MOST_OCTETS: Final = 1_000_000
"""Of one reply. A longer one is not read to its end: its place is taken by `ReplyError("TOOBIG", ...)`."""

_CHUNK: Final = 65536
_MANY_OWED: Final = 100
_MOST_OWED: Final = 1000
_FORMS: Final = tuple(b"*%d\r\n" % n + b"$%d\r\n%b\r\n" * n for n in range(16))
_KIND: Final = re.compile(r"([A-Z]+)(?: |$)")
_UNFIT: Final = frozenset({"LOADING", "MASTERDOWN", "NOAUTH", "NOPERM", "BUSY", "UNKILLABLE"})
_PASSING: Final = _UNFIT | {"OOM", "READONLY", "MISCONF", "NOREPLICAS"}
_CLUSTER: Final = frozenset({"MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "CROSSSLOT"})

NO_REDIS: Final = "what answers there does not speak Redis's protocol"
IS_CLUSTER: Final = "it is a Redis Cluster, which Backstop does not work with"

Word: TypeAlias = bytes | str | int
Reply: TypeAlias = "bytes | int | ReplyError | list[Reply] | None"


class StoreUnavailable(Exception):
    """The store gave no answer, or none that is worth anything. The text holds no password."""


class LinkBroken(StoreUnavailable):
    """The connection is of no use any more. `replies` are those that came before."""

    def __init__(self, text: str, replies: Sequence[Reply]) -> None:
        super().__init__(text)
        self.replies = replies


class LinkClosed(LinkBroken):
    """The other side closed it: perhaps long ago, which only shows when it is used."""


class LinkLate(LinkBroken):
    """The answer did not come in time."""


@dataclass(frozen=True, slots=True)
class ReplyError:
    """A reply that is an error: `kind` is its first word (`WRONGTYPE`, `OOM`, `READONLY`, ...) or `ERR`."""

    kind: str
    text: str

    @classmethod
    def of(cls, text: str) -> "ReplyError":
        """The error the server worded so."""
        found = _KIND.match(text)
        return cls(found[1] if found else "ERR", text)

    @property
    def unfit(self) -> str:
        """Why the whole server is of no use, whatever was asked; empty when only this command failed."""
        if self.kind in _CLUSTER:
            return IS_CLUSTER
        if self.kind in _UNFIT or self.text.startswith("ERR max number of clients"):
            return self.text
        return ""

    @property
    def is_passing(self) -> bool:
        """Whether the command was surely not carried out, and may be another time."""
        return self.kind in _PASSING or bool(self.unfit)


def pack(*words: Word) -> bytes:
    """One command as Redis wants it."""
    flat: list[bytes | int] = []
    for word in words:
        if isinstance(word, str):
            word = octets(word)  # noqa: PLW2901 - a command is packed eight times a message: no second name
        elif isinstance(word, int):
            word = b"%d" % word  # noqa: PLW2901 - the same
        flat.append(len(word))
        flat.append(word)
    count = len(words)
    form = _FORMS[count] if count < len(_FORMS) else b"*%d\r\n" % count + b"$%d\r\n%b\r\n" * count
    return form % tuple(flat)


def begun(*words: Word) -> bytes:
    """A command that lacks its last word."""
    return pack(*words, b"").removesuffix(b"$0\r\n\r\n")


def ended(begun: bytes, word: bytes) -> bytes:
    """A command that was begun, with its last word: three times as fast as `pack`."""
    return b"%b$%d\r\n%b\r\n" % (begun, len(word), word)


def glance(key: bytes) -> bytes:
    """The command that reads the first 64 octets of a string: a block or limit is no longer than that.

    Not GET, because somebody may have put 10 MB there. An absent key reads as empty.
    """
    return b"*4\r\n$8\r\nGETRANGE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\n63\r\n" % (len(key), key)


class Link:
    """A connection. One thread at a time uses it; once it raised, or is `spent`, nobody does."""

    __slots__ = (
        "_feed",
        "_gets",
        "_kernel_waits",
        "_recv",
        "_restore",
        "_sock",
        "_timeout",
        "fault",
        "owed",
        "reused",
        "spent",
    )

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._recv = sock.recv
        self._timeout = timeout
        replied: Any = self._failed  # what it returns takes the reply's place, exception or not
        reader = hiredis.Reader(replyError=replied)
        self._feed, self._gets = reader.feed, reader.gets
        self.owed = 0
        self.fault: ReplyError | None = None
        self.reused = False
        self.spent = False
        # A socket with Python's own timeout polls before each call and gives the GIL away twice as often.
        self._kernel_waits = not isinstance(sock, ssl.SSLSocket)
        if self._kernel_waits:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout))
                sock.settimeout(None)
            except OSError:  # a system whose struct timeval is another
                self._kernel_waits = False
        self._restore = False
        self._set_wait(timeout)

    def exchange(self, packed: bytes, wanted: int, deadline: float, told: int = 0) -> list[Reply]:
        """Send commands and return their replies: as many as `wanted`, or fewer when the last is TOOBIG.

        The last `told` commands are not among the wanted, and what comes of them is dropped. `fault` is one
        of the replies that is an error, the gravest. Raises `LinkBroken` with what came before.
        """
        self.fault = None
        replies: list[Reply] = []
        try:
            self._sock.sendall(packed)
            self._collect(replies, wanted, deadline)
            if told:
                self.owed += told
                self._drop_owed()
            elif self._gets() is not False:
                raise ConnectionResetError("it answered what was not asked")
        except (TimeoutError, BlockingIOError):
            raise LinkLate("no answer in time", replies) from None
        except OSError as error:
            raise LinkClosed(words_of(error), replies) from None
        except hiredis.HiredisError:
            raise LinkBroken(NO_REDIS, replies) from None
        return replies

    def post(self, packed: bytes, count: int) -> None:
        """Send commands whose replies nobody wants; they are dropped when the connection is next used.

        What a server that lags behind does not take at once is not sent.
        """
        try:
            if self.owed > _MANY_OWED:
                self._fetch_owed()
            if self.owed > _MOST_OWED:
                return
            if self._kernel_waits:
                sent = self._sock.send(packed, socket.MSG_DONTWAIT)
            else:
                self._sock.sendall(packed)
                sent = len(packed)
        except BlockingIOError:
            return
        except OSError as error:
            raise LinkClosed(words_of(error), ()) from None
        except hiredis.HiredisError:
            raise LinkBroken(NO_REDIS, ()) from None
        if sent != len(packed):
            raise LinkLate("it takes no more", ())
        self.owed += count

    def wait_at_most(self, seconds: float) -> None:
        """How long the readings of the next exchange wait, instead of the timeout."""
        self._restore = True
        self._set_wait(max(seconds, 0.001))

    def is_stale(self) -> bool:
        """Whether the other side said something unasked, which is that it closed."""
        if self.owed:
            return False
        return self._is_readable()

    def close(self) -> None:
        """Close it here. In a forked process this leaves the parent's connection alone."""
        self._sock.close()

    def _collect(self, replies: list[Reply], wanted: int, deadline: float) -> None:
        held = 0
        gets = self._gets
        while True:
            chunk = self._recv(_CHUNK)
            if not chunk:
                raise ConnectionResetError("it closed the connection")
            self._feed(chunk)
            held += len(chunk)
            while len(replies) < wanted and (reply := gets()) is not False:
                held = 0
                if self.owed:
                    self.owed -= 1
                    self.fault = None
                else:
                    replies.append(reply)
            if len(replies) >= wanted:
                break
            if held > MOST_OCTETS:
                replies.append(ReplyError("TOOBIG", f"a reply of more than {MOST_OCTETS} octets"))
                self.spent = True
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.wait_at_most(left)
        if self._restore:
            self._restore = False
            self._set_wait(self._timeout)

    def _set_wait(self, seconds: float) -> None:
        if self._kernel_waits:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        else:
            self._sock.settimeout(seconds)

    def _fetch_owed(self) -> None:
        while self._is_readable():
            chunk = self._recv(_CHUNK)
            if not chunk:
                raise ConnectionResetError("it closed the connection")
            self._feed(chunk)
            self._drop_owed()

    def _drop_owed(self) -> None:
        """Those that are here; what is wrong with them is nobody's fault."""
        fault = self.fault
        while self.owed and self._gets() is not False:
            self.owed -= 1
        self.fault = fault

    def _is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _failed(self, text: str) -> ReplyError:
        error = ReplyError.of(text)
        if self.fault is None or not self.fault.unfit:
            self.fault = error
        return error


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))


def words_of(error: OSError) -> str:
    """What went wrong, for a log."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return error.strerror or str(error) or type(error).__name__
