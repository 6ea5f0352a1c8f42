"""Questions to slow recipient sources, put to the process that asks them for all workers.

The asker and the workers of one configuration share a *door*, a socket pair made before any of them. A
worker that wants to ask makes another pair, a *conversation*, and hands one end in at the door. There is no
path in the file system, and nobody else who could speak. A packet is a question or an answer; the sockets
keep packets apart (SOCK_SEQPACKET), so nothing can be cut or run together.

A conversation has one question under way. Whoever waits too long leaves it, and the asker notices.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from backstop.adapters.redis_store import Reply
from backstop.facts import Existence
from backstop.settings import SourceKind, SourceName

PATIENCE: Final = 5.5
"""Seconds that all slow sources of one recipient have together; the mail server's client waits meanwhile."""

LAST_WORD: Final = 0.2
"""Seconds beyond the deadline for the asker's answer: that it got none in time, or what it knew before."""

MAX_PACKET: Final = 65536
"""Octets of a question or an answer."""

MAX_IDLE: Final = 8
"""Conversations that a worker keeps for its next questions."""

TRIES: Final = 2
"""Times that a question is put whose asker ends meanwhile: what kills it may well be the question."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a domain has any of these local parts, by one source; the widest of them comes last.

    `deadline` is by time.monotonic(), which all processes of a machine share.
    """

    source: str
    domain: str
    locals_: tuple[str, ...]
    deadline: float


class Asking(Protocol):
    """Somebody who can be asked."""

    def ask(self, question: Question) -> Existence | None:
        """The answer; None where nobody gave one by the deadline."""


class Nobody:
    """Where there is nobody to ask."""

    def ask(self, question: Question) -> Existence | None:  # noqa: ARG002 - see Asking
        """No answer."""
        return None


NOBODY: Final = Nobody()


def pack_question(question: Question) -> bytes:
    """A question as a packet."""
    return json.dumps([question.source, question.domain, question.locals_, question.deadline]).encode()


def read_question(packet: bytes) -> Question | None:
    """The question in a packet; None where there is none."""
    try:
        match json.loads(packet):
            case [str(source), str(domain), [str(), *_] as locals_, float(deadline)]:
                return Question(source, domain, tuple(map(str, locals_)), deadline)
    except (ValueError, RecursionError):
        pass
    return None


def pack_answer(existence: Existence) -> bytes:
    """An answer as a packet."""
    return existence.name.encode()


def read_answer(packet: bytes) -> Existence | None:
    """The answer in a packet; None where there is none."""
    return _ANSWERS.get(packet)


_ANSWERS: Final = {pack_answer(existence): existence for existence in Existence}


class AskerClient:
    """One worker's way to the asker; its threads may all ask at once.

    Made before the fork, so that every worker has the same `door`; its first question begins a conversation.
    """

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []

    def ask(self, question: Question) -> Existence | None:
        """The asker's answer; None where it gives none by the deadline."""
        packet = pack_question(question)
        if len(packet) > MAX_PACKET:
            return None
        for _ in range(TRIES):
            conversation = self._take() or knock(self._door)
            if conversation is None:
                return None
            try:
                answer = _exchange(conversation, packet, question.deadline)
            except TimeoutError:
                conversation.close()
                return None
            except OSError:
                answer = b""
            if answer:
                self._keep(conversation)
                return read_answer(answer)
            conversation.close()  # the asker has ended; another one may be there by now
        return None

    def close(self) -> None:
        """End all conversations that wait for a question."""
        with self._lock:
            idle, self._idle = self._idle, []
        for conversation in idle:
            conversation.close()

    def _take(self) -> socket.socket | None:
        """A conversation that was kept, unless its asker has ended since."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                conversation = self._idle.pop()
            if _is_open(conversation):
                return conversation
            conversation.close()

    def _keep(self, conversation: socket.socket) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(conversation)
                return
        conversation.close()


def _exchange(conversation: socket.socket, packet: bytes, deadline: float) -> bytes:
    """The answer to a question; none where the conversation ends. Raises OSError, TimeoutError among them."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    conversation.settimeout(left + LAST_WORD)
    conversation.send(packet)
    return conversation.recv(MAX_PACKET)


def _is_open(conversation: socket.socket) -> bool:
    conversation.setblocking(False)
    try:
        conversation.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False  # nothing is to be read before a question but the end


class AskedSource:
    """A slow source as the decision sees it; see `recipients.RecipientSource`."""

    def __init__(self, name: SourceName, asking: Asking, on_trouble: Callable[[str], None]) -> None:
        self.tells_cases_apart = name.kind is SourceKind.CALLAHEAD
        """Whether it is asked for local parts as they are written: what their case means is the next hop's
        business alone (RFC 5321, section 2.4)."""

        self._name = str(name)
        self._asking = asking
        self._on_trouble = on_trouble

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:  # noqa: ARG002 - see RecipientSource
        """Ask nothing of Redis."""
        return ()

    def existence(
        self,
        domain: str,
        locals_: Sequence[str],
        replies: Sequence[Reply] | None,  # noqa: ARG002 - see RecipientSource
        now: float,  # noqa: ARG002 - see RecipientSource
        deadline: float,
    ) -> Existence:
        """Ask, and wait until the deadline at most."""
        answer = self._asking.ask(Question(self._name, domain, tuple(locals_), deadline))
        if answer is None:
            self._on_trouble(f"recipient source {self._name}: nobody answered in time")
        return answer or Existence.UNKNOWN


def make_door() -> tuple[socket.socket, socket.socket]:
    """The asker's end and the workers' end of a door; nobody waits at the latter."""
    inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outer.setblocking(False)
    return inner, outer


def knock(door: socket.socket) -> socket.socket | None:
    """Begin a conversation at the workers' end; None where too many wait there, or descriptors are out."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        return None
    with theirs:
        try:
            socket.send_fds(door, [b"c"], [theirs.fileno()])
        except OSError:
            ours.close()
            return None
    return ours


def visitor(door: socket.socket) -> socket.socket | None:
    """The conversation that was handed in at the asker's end; None once nobody is left who could.

    Raises OSError where it cannot be taken.
    """
    octets, descriptors, _, _ = socket.recv_fds(door, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not octets:
        return None
    if not descriptors:
        raise OSError(0, "a visitor without a conversation")
    conversation = socket.socket(fileno=descriptors[0])
    with contextlib.suppress(OSError):
        conversation.setblocking(False)
    return conversation
