"""The memory of sent mail, asked about one message: one pipeline over the sets of the last days."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from backstop import memory
from backstop.adapters import redis_names
from backstop.adapters.redis_memory import is_found, is_member
from backstop.adapters.redis_store import Reply
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
        today = datetime.fromtimestamp(self._now, UTC).date()
        days = [today - timedelta(days=back) for back in range(_DAYS)]
        ids = [memory.of_id(self._secret, one) for one in self._evidence.ids]
        pairs = [memory.of_pair(self._secret, *pair) for pair in self._evidence.pairs]
        sent = [redis_names.sent(day) for day in days] if ids else []
        wrote = [redis_names.wrote(day) for day in days] if pairs else []
        return [
            *(is_member(key, entry) for entry in ids for key in sent),
            *(is_member(key, entry) for entry in pairs for key in wrote),
        ]

    def proofs(self, replies: Sequence[Reply]) -> Proofs:
        """What the replies prove."""
        answers = iter(replies)
        found: set[Proof] = set()
        unanswered: set[Proof] = set()
        for answer in (self._next(answers) for _ in self._evidence.ids):
            if answer is None:
                unanswered.add(Proof.MEMORY)
            elif answer:
                found.add(Proof.MEMORY)
        correspondents = set()
        for base, _address in self._evidence.pairs:
            answer = self._next(answers)
            if answer is None:
                unanswered.add(Proof.CORRESPONDENT)
            elif answer:
                correspondents.add(base)
        return Proofs(frozenset(found), frozenset(correspondents), frozenset(unanswered))

    def unanswered(self) -> Proofs:
        """What nobody could be asked."""
        kinds = {Proof.MEMORY: self._evidence.ids, Proof.CORRESPONDENT: self._evidence.pairs}
        return Proofs(unanswered=frozenset(kind for kind, asked in kinds.items() if asked))

    @staticmethod
    def _next(replies: Iterator[Reply]) -> bool | None:
        return is_found([next(replies) for _ in range(_DAYS)])
