"""What counts as proof that we wrote the message a bounce is about.

A kind of proof is one member here and one entry in `gather`, which finds it out. From which stage on a
kind can be known decides when an unproved bounce is judged.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from backstop.reply import Stage


class Proof(Enum):
    """The kinds of proof, by the names they have in settings and counters."""

    TAG = "tag"
    """A good tag on the recipient."""
    MEMORY = "memory"
    """An id that the bounce returns or mentions is in the memory of sent mail."""
    DKIM = "dkim"
    """The returned header carries a signature of one of our domains that verifies."""
    CORRESPONDENT = "correspondent"
    """The recipient wrote lately to an address that the bounce names or comes from."""

    @property
    def stage(self) -> Stage:
        """From when on this kind can be known."""
        return Stage.RCPT if self is Proof.TAG else Stage.EOM


IN_THE_MESSAGE: Final = frozenset(proof for proof in Proof if proof.stage is Stage.EOM)
"""The kinds for which a message must be read."""

REMEMBERED: Final = frozenset({Proof.MEMORY, Proof.CORRESPONDENT})
"""The kinds for which outgoing mail is remembered."""


def words(proofs: Iterable[Proof]) -> str:
    """The names of some kinds for a person, always in the same order."""
    wanted = frozenset(proofs)
    return ", ".join(proof.value for proof in Proof if proof in wanted)
