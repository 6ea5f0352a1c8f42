"""A load of mail at the wire of a milter: several mail server processes at once, each with its sessions."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tests.harness.fake_mta import (
    Client,
    Hangup,
    Message,
    Outcome,
    ProtocolError,
    SenderChanged,
    Session,
    Verdict,
)
from tests.harness.ledger import NO_ANSWER, NONSENSE, Entry, Kind, Ledger, Plan
from tests.harness.waiting import wait_for

STRANGER: Final = Client(name="mx.remote.example", address="198.51.100.25")
INSIDER: Final = Client(name="localhost", address="127.0.0.1")
MOST_PER_SESSION: Final = 20
USERS: Final = 40


@dataclass(slots=True)
class _Open:
    session: Session
    since: float
    left: int


class WireLoad:
    """Messages at `rate` a second, for the ledger, until the block ends; `seed` decides which.

    `tagged` gives an address its tag of today. `patience` is how long an answer may take, in seconds: none by
    then is a violation, not a disturbance. A mail server process that was cut goes on with a new session.
    """

    def __init__(
        self,
        target: str,
        ledger: Ledger,
        tagged: Callable[[str], str],
        *,
        seed: int,
        rate: float = 100.0,
        processes: int = 10,
        patience: float = 10.0,
        domain: str = "our.example",
    ) -> None:
        print(f"load of seed {seed}, {rate:g} messages a second")
        self.ledger = ledger
        self._target = target
        self._tagged = tagged
        self._seed = seed
        self._rate = rate
        self._patience = patience
        self._domain = domain
        self._plan = Plan(seed)
        self._ended = threading.Event()
        self._bugs: list[BaseException] = []
        self._began = 0.0
        self._threads = [
            threading.Thread(target=self._guarded, args=(number,), name=f"mail server {number}")
            for number in range(processes)
        ]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        print(self.ledger.summary())
        if self._bugs and kind is None:
            raise self._bugs[0]

    def go_on(self, seconds: float) -> None:
        """Let it run for so long."""
        self._ended.wait(seconds)

    def go_on_for(self, messages: int, seconds: float = 60) -> None:
        """Let it run until so many more messages have an entry; at most so many seconds."""
        wanted = len(self.ledger.entries) + messages
        wait_for(lambda: len(self.ledger.entries) >= wanted, seconds, f"{messages} messages of the load")

    # One mail server process

    def _guarded(self, process: int) -> None:
        try:
            self._run(process)
        except BaseException as bug:  # noqa: BLE001 - of this harness; it is raised again where the load ends
            self._bugs.append(bug)

    def _run(self, process: int) -> None:
        chance = random.Random(f"{self._seed} {process}")
        sessions: dict[Client, _Open] = {}
        while True:
            number, kind = self._plan.draw()
            self._ended.wait(max(self._began + number / self._rate - time.monotonic(), 0))
            if self._ended.is_set():
                break
            self.ledger.note(self._deliver(number, kind, sessions, chance))
        for each in sessions.values():
            each.session.connection.quit()

    def _deliver(
        self, number: int, kind: Kind, sessions: dict[Client, _Open], chance: random.Random
    ) -> Entry:
        client = INSIDER if kind is Kind.OUTGOING else STRANGER
        message = self.message(kind, number, chance)
        began = time.monotonic()
        held = sessions.get(client)
        try:
            if held is None:
                session = Session(self._target, client, timeout=self._patience)
                held = sessions[client] = _Open(session, began, chance.randint(1, MOST_PER_SESSION))
            outcome = held.session.send(message)
        except (Hangup, OSError) as error:
            if held is not None:
                sessions.pop(client)
                held.session.connection.close()
            opened = held.since if held else began
            return Entry(number, kind, opened, began, time.monotonic(), NO_ANSWER, str(error))
        except ProtocolError as error:
            if held is not None:
                sessions.pop(client).session.connection.close()
            return Entry(number, kind, began, began, time.monotonic(), NONSENSE, str(error))
        entry = _entry(number, kind, held.since, began, message, outcome)
        held.left -= 1
        if not held.left:
            sessions.pop(client).session.connection.quit()
        return entry

    def message(self, kind: Kind, number: int, chance: random.Random) -> Message:
        """A message of a kind, to or from one of our users."""
        user = f"user{chance.randrange(USERS)}@{self._domain}"
        headers = (("Subject", f"message {number}"), ("X-Load", str(number)))
        match kind:
            case Kind.ORDINARY:
                return Message(f"<a{number}@remote.example>", (f"<{user}>",), headers=headers)
            case Kind.OUTGOING:
                return Message(f"<{user}>", ("<friend@remote.example>",), headers=headers)
            case Kind.GENUINE:
                return Message("<>", (f"<{self._tagged(user)}>",), headers=headers)
            case Kind.FORGED:
                forged = f"prvs=1{chance.randrange(1000):03}{chance.randrange(1 << 24):06x}"
                return Message("<>", (f"<{forged}={user}>",), headers=headers)
            case Kind.UNTAGGED:
                return Message("<>", (f"<{user}>",), headers=headers)


def _entry(number: int, kind: Kind, opened: float, began: float, message: Message, outcome: Outcome) -> Entry:
    ended = time.monotonic()
    decisive = next((answer for _, answer in outcome.recipients if answer.refused), outcome.final)
    code = NONSENSE if decisive.verdict is Verdict.DISCARD else decisive.code
    senders = [change.address for change in outcome.changes if isinstance(change, SenderChanged)]
    others = [str(change) for change in outcome.changes if not isinstance(change, SenderChanged)]
    text = f"at {outcome.stage} {decisive.text}".rstrip()
    return Entry(
        number, kind, opened, began, ended, code, text, message.reverse_path, tuple(senders), tuple(others)
    )
