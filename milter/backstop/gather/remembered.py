"""The memory of sent mail, asked about one message: one pipeline over the sets of the last days."""

from collections.abc import Sequence
from typing import Final

from backstop import memory
from backstop.adapters.redis_memory import asked_sets, is_found, is_member
from backstop.adapters.redis_store import Reply
from backstop.batv import day_of
from backstop.proof import Proof
from backstop.session import Evidence, Proofs

_DAYS: Final = memory.DAYS


class Remembered:
    """The commands about a message's evidence, and their replies in the same order."""

    __slots__ = ("_evidence", "_now", "_secret")

    def __init__(self, secret: bytes, evidence: Evidence, now: float) -> None:
        self._secret = secret
        self._evidence = evidence
        self._now = now

    def commands(self) -> list[bytes]:
        """What Redis is asked; nothing where nothing is remembered."""
        if not self._secret:
            return []
        ids = [memory.of_id(self._secret, one) for one in self._evidence.ids]
        pairs = [memory.of_pair(self._secret, *pair) for pair in self._evidence.pairs]
        sent, wrote = asked_sets(day_of(self._now))
        commands: list[bytes] = []
        for entry in ids:
            commands += is_member(sent, entry)
        for entry in pairs:
            commands += is_member(wrote, entry)
        return commands

    def proofs(self, replies: Sequence[Reply]) -> Proofs:
        """What the replies prove."""
        answers = (is_found(replies[at : at + _DAYS]) for at in range(0, len(replies), _DAYS))
        found: set[Proof] = set()
        unanswered: set[Proof] = set()
        for _ in self._evidence.ids:
            answer = next(answers)
            if answer is None:
                unanswered.add(Proof.MEMORY)
            elif answer:
                found.add(Proof.MEMORY)
        correspondents = set()
        for base, _address in self._evidence.pairs:
            answer = next(answers)
            if answer is None:
                unanswered.add(Proof.CORRESPONDENT)
            elif answer:
                correspondents.add(base)
        return Proofs(frozenset(found), frozenset(correspondents), frozenset(unanswered))

    def unanswered(self) -> Proofs:
        """What nobody could be asked."""
        kinds = {Proof.MEMORY: self._evidence.ids, Proof.CORRESPONDENT: self._evidence.pairs}
        return Proofs(unanswered=frozenset(kind for kind, asked in kinds.items() if asked))
