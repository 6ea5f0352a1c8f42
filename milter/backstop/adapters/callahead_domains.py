"""What a next hop's word about a domain is worth: whether it takes everybody, and whether it knows anybody.

A next hop that accepts every recipient says nothing by accepting one, and one that refuses every recipient
(its directory is away, say) says nothing by refusing one. Both are found out by a second recipient in the
same session: a random name that cannot exist, or one that surely does. That one was taken in another session
is not enough, as the directory may have gone away since. The caller holds the lock.
"""

import secrets
from collections import OrderedDict
from enum import Enum, auto
from typing import Final

DOUBTED_SECONDS: Final = 300.0
"""For how long refusals are not believed after a recipient was refused who should exist."""

POSTMASTER: Final = "postmaster"
"""Exists in every domain: RFC 5321, section 4.5.1."""

MAX_WITNESSES: Final = 8
"""Recipients of a domain that are remembered to try refusals by: one may be deleted, not all at once."""

_CONSONANTS = "bdfghklmnprstvz"
_VOWELS = "aeiou"


class Takes(Enum):
    """Whom the next hop takes of a domain."""

    UNTRIED = auto()
    SOME = auto()
    ANYBODY = auto()
    UNDECIDED = auto()
    """It was tried, and nothing came of it; it is tried again when its time is over."""


class Domain:
    """The next hop's word about one domain; times are by the clock of the caller."""

    __slots__ = ("_doubted_until", "_takes", "_takes_until", "_witnesses", "stranger")

    def __init__(self) -> None:
        self._takes = Takes.UNTRIED
        self._takes_until = float("-inf")
        self._doubted_until = float("-inf")
        self.stranger = random_local()
        """The local part that is tried to see whether anybody is taken; the same until it is decided, as it
        may be greylisted the first time."""

        self._witnesses: list[str] = []
        """Local parts that were accepted when others were not, the latest last."""

    def takes(self, now: float) -> Takes:
        """Whom it takes, as far as that is known."""
        return self._takes if now < self._takes_until else Takes.UNTRIED

    @property
    def takes_until(self) -> float:
        """Until when that holds."""
        return self._takes_until

    def settle(self, takes: Takes, until: float) -> None:
        """Keep what a trial showed."""
        if takes in (Takes.SOME, Takes.ANYBODY):
            self.stranger = random_local()
        self._takes, self._takes_until = takes, until

    def believe(self, local: str) -> None:
        """This one was accepted, and others were not: refusals mean something."""
        # Not so postmaster, who may well be taken while the directory is away.
        if local.lower() != POSTMASTER:
            self.forget(local)
            self._witnesses = [*self._witnesses, local][-MAX_WITNESSES:]
            self._doubted_until = float("-inf")

    def doubt(self, control: str, now: float) -> None:
        """This one was refused, who should exist: refusals mean nothing for a while."""
        self.forget(control)
        self._doubted_until = now + DOUBTED_SECONDS

    def is_doubted(self, now: float) -> bool:
        """Whether a refusal means nothing, whoever else is tried."""
        return now < self._doubted_until

    def control(self, local: str) -> str:
        """Who should exist beside this one; empty where nobody is known."""
        others = [each for each in self._witnesses if each.lower() != local.lower()]
        if others:
            return others[-1]
        return "" if local.lower() == POSTMASTER else POSTMASTER

    def forget(self, local: str) -> None:
        """This one is no more."""
        if local in self._witnesses:
            self._witnesses.remove(local)


class Domains:
    """The domains of a next hop, at most so many; the ones not used for longest are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._domains: OrderedDict[str, Domain] = OrderedDict()

    def __getitem__(self, name: str) -> Domain:
        domain = self._domains.get(name)
        if domain is None:
            domain = self._domains[name] = Domain()
            if len(self._domains) > self._most:
                self._domains.popitem(last=False)
        self._domains.move_to_end(name)
        return domain


def random_local() -> str:
    """A local part that nobody has and nobody guesses, and that looks like any other: 57 bits."""
    syllables = [secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(8)]
    return f"{''.join(syllables[:4])}.{''.join(syllables[4:])}{secrets.randbelow(90) + 10}"
