"""A courier who plays a mail server at the wire of a milter."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
from tests.harness.ledger import NO_ANSWER, NONSENSE, Entry, Kind

STRANGER: Final = Client(name="mx.remote.example", address="198.51.100.25")
INSIDER: Final = Client(name="localhost", address="127.0.0.1")
MOST_PER_SESSION: Final = 20
USERS: Final = 40


@dataclass(slots=True)
class _Open:
    session: Session
    since: float
    left: int


class WireCourier:
    """One process of a mail server, with a session of each client; what is cut is followed by a new session.

    `tagged` gives an address its tag of today. `patience` is how long an answer may take, in seconds: none by
    then is a violation, not a disturbance.
    """

    def __init__(
        self,
        target: str,
        tagged: Callable[[str], str],
        chance: random.Random,
        *,
        domain: str,
        patience: float = 10.0,
        most_per_session: int = MOST_PER_SESSION,
    ) -> None:
        self._target = target
        self._tagged = tagged
        self._chance = chance
        self._domain = domain
        self._patience = patience
        self._most_per_session = most_per_session
        self._sessions: dict[Client, _Open] = {}

    def deliver(self, number: int, kind: Kind) -> Entry:
        """One transaction, and no second try: what a mail server answers 4xx to comes again as another."""
        client = INSIDER if kind is Kind.OUTGOING else STRANGER
        message = self._message(kind, number)
        began = time.monotonic()
        held = self._sessions.get(client)
        try:
            if held is None:
                session = Session(self._target, client, timeout=self._patience)
                held = _Open(session, began, self._chance.randint(1, self._most_per_session))
                self._sessions[client] = held
            outcome = held.session.send(message)
        except (Hangup, OSError, ProtocolError) as error:
            if held is not None:
                self._sessions.pop(client).session.connection.close()
            code = NONSENSE if isinstance(error, ProtocolError) else NO_ANSWER
            opened = held.since if held else began
            return Entry(number, kind, opened, began, time.monotonic(), code, str(error))
        held.left -= 1
        if not held.left:
            self._sessions.pop(client).session.connection.quit()
        return _entry(number, kind, held.since, began, message, outcome)

    def close(self) -> None:
        """End the sessions that are open."""
        for each in self._sessions.values():
            each.session.connection.quit()

    def _message(self, kind: Kind, number: int) -> Message:
        chance = self._chance
        user = f"user{chance.randrange(USERS)}@{self._domain}"
        headers = (("Subject", f"message {number}"), ("From", f"<{user}>"))
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
    return Entry(
        number,
        kind,
        opened,
        began,
        ended,
        NONSENSE if decisive.verdict is Verdict.DISCARD else decisive.code,
        f"at {outcome.stage} {decisive.text}".rstrip(),
        message.reverse_path,
        tuple(change.address for change in outcome.changes if isinstance(change, SenderChanged)),
        tuple(str(change) for change in outcome.changes if not isinstance(change, SenderChanged)),
    )
