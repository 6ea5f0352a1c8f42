"""What counts as proof that we wrote the message a bounce is about.

A kind of proof is one member here and one entry in `gather`, which finds it out. From which stage on a
kind can be known decides when an unproved bounce is judged.
"""

from enum import Enum

from backstop.reply import Stage


class Proof(Enum):
    """The kinds of proof, by the names they have in settings and counters."""

    TAG = "tag"

    @property
    def stage(self) -> Stage:
        """From when on this kind can be known."""
        return _KNOWN_AT[self]


_KNOWN_AT = {Proof.TAG: Stage.RCPT}
