"""The outside world for the tests: an SMTP server that accepts everything, and refuses where told."""

import contextlib
import fnmatch
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.harness.waiting import wait_for

#: The reply of a rule that closes the connection without a word.
DROP = "drop"

_EXTENSIONS = ("next.hop", "PIPELINING", "SIZE 20000000", "DSN", "8BITMIME", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that a next hop accepted, with its envelope as it stood on the wire."""

    reverse_path: str
    mail_parameters: str
    recipients: tuple[str, ...]
    recipient_parameters: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Rule:
    """Where the next hop does not answer 250: the verb, a pattern (fnmatch) for its argument, the reply."""

    verb: str
    pattern: str
    reply: str


@dataclass(slots=True)
class _Transaction:
    reverse_path: str = ""
    mail_parameters: str = ""
    recipients: list[str] = field(default_factory=list)
    recipient_parameters: list[str] = field(default_factory=list)


class NextHop:
    """A mail server for the outside world. It accepts everything that no rule refuses, and keeps it.

    The verbs of rules: EHLO, MAIL, RCPT, DATA (before the message), END (after it, its argument being the
    recipients with spaces between). The argument of MAIL and RCPT is the address without brackets.
    """

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._letters: list[Letter] = []
        self._refused: list[str] = []
        self._rules: list[Rule] = []
        hop = self

        class Connection(socketserver.StreamRequestHandler):
            timeout = 60

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    _serve(hop, self.rfile.readline, self.wfile.write)

        self._server = _Server(("127.0.0.1", port), Connection)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on, on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def letters(self) -> tuple[Letter, ...]:
        """What was accepted so far, in order."""
        with self._lock:
            return tuple(self._letters)

    @property
    def refused(self) -> tuple[str, ...]:
        """What rules refused so far, as `VERB argument`."""
        with self._lock:
            return tuple(self._refused)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, verb: str, pattern: str, reply: str) -> None:
        """Answer so from now on; of several rules that fit the latest counts. `DROP` hangs up."""
        with self._lock:
            self._rules.append(Rule(verb, pattern, reply))

    def forget(self) -> None:
        """Forget letters, refusals and rules."""
        with self._lock:
            self._letters.clear()
            self._refused.clear()
            self._rules.clear()

    def letters_to(self, recipient: str) -> tuple[Letter, ...]:
        """The letters for one recipient, as it was written on the wire."""
        return tuple(letter for letter in self.letters if recipient in letter.recipients)

    def wait_for_letters(self, count: int, *, seconds: float = 30.0) -> tuple[Letter, ...]:
        """Wait until so many letters have come; the letters."""
        wait_for(lambda: len(self.letters) >= count, seconds, f"{count} letters at the next hop")
        return self.letters

    def _keep(self, letter: Letter) -> None:
        with self._lock:
            self._letters.append(letter)

    def _reply_to(self, verb: str, argument: str, otherwise: str) -> str:
        with self._lock:
            for rule in reversed(self._rules):
                if rule.verb == verb and fnmatch.fnmatchcase(argument, rule.pattern):
                    self._refused.append(f"{verb} {argument}")
                    return rule.reply
        return otherwise


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Dropped(Exception):
    pass


def _serve(hop: NextHop, readline: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    """Serve one connection."""
    transaction = _Transaction()
    write(b"220 next.hop ESMTP\r\n")
    with contextlib.suppress(_Dropped):
        for line in iter(readline, b""):
            verb, _, argument = line.decode("utf-8", "surrogateescape").rstrip("\r\n").partition(" ")
            match verb.upper():
                case "QUIT":
                    write(b"221 2.0.0 bye\r\n")
                    return
                case "EHLO" | "HELO":
                    transaction = _Transaction()
                    greeting = "\r\n".join(
                        [f"250-{extension}" for extension in _EXTENSIONS[:-1]] + [f"250 {_EXTENSIONS[-1]}"]
                    )
                    _say(write, hop._reply_to("EHLO", argument, greeting))
                case "MAIL":
                    address, parameters = _path(argument)
                    transaction = _Transaction(address, parameters)
                    _say(write, hop._reply_to("MAIL", address, "250 2.1.0 sender ok"))
                case "RCPT":
                    address, parameters = _path(argument)
                    reply = hop._reply_to("RCPT", address, "250 2.1.5 recipient ok")
                    if reply.startswith("2"):
                        transaction.recipients.append(address)
                        transaction.recipient_parameters.append(parameters)
                    _say(write, reply)
                case "DATA":
                    _take(hop, transaction, readline, write)
                    transaction = _Transaction()
                case "RSET":
                    transaction = _Transaction()
                    _say(write, "250 2.0.0 ok")
                case "NOOP":
                    _say(write, "250 2.0.0 ok")
                case _:
                    _say(write, "502 5.5.1 what?")


def _take(
    hop: NextHop, transaction: _Transaction, readline: Callable[[], bytes], write: Callable[[bytes], object]
) -> None:
    """Answer DATA, read the message, answer its end."""
    if not transaction.recipients:
        _say(write, "554 5.5.1 no valid recipients")
        return
    recipients = " ".join(transaction.recipients)
    reply = hop._reply_to("DATA", recipients, "354 go on")
    _say(write, reply)
    if not reply.startswith("354"):
        return
    lines = []
    for line in iter(readline, b""):
        if line == b".\r\n":
            break
        lines.append(line.removeprefix(b"."))
    else:
        raise _Dropped
    reply = hop._reply_to("END", recipients, "250 2.0.0 taken")
    if reply.startswith("2"):
        hop._keep(
            Letter(
                transaction.reverse_path,
                transaction.mail_parameters,
                tuple(transaction.recipients),
                tuple(transaction.recipient_parameters),
                b"".join(lines),
            )
        )
    _say(write, reply)


def _say(write: Callable[[bytes], object], reply: str) -> None:
    if reply == DROP:
        raise _Dropped
    write(reply.encode("utf-8", "surrogateescape") + b"\r\n")


def _path(argument: str) -> tuple[str, str]:
    """The address of `FROM:<...> parameters`, without brackets, and the parameters."""
    _, _, rest = argument.partition("<")
    address, _, parameters = rest.rpartition(">")
    return address, parameters.strip()
