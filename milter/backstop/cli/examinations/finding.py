"""What an examination says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from backstop.cli.examinations.surroundings import Surroundings


class Level(Enum):
    """How much a finding weighs. A note is good to know; only WRONG wants something done."""

    FINE = "fine"
    NOTE = "note"
    UNKNOWN = "not examined"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of `subject`: a domain, a key of Redis, a part of the system; and what to do."""

    level: Level
    subject: str
    text: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """One question that `doctor` asks. It yields a finding of level FINE where all is well.

    `name` is how it is called in `--json`.
    """

    name: str
    examine: Callable[[Surroundings], Iterator[Finding]]


def fine(subject: str, text: str) -> Finding:
    """Nothing is wrong with the subject."""
    return Finding(Level.FINE, subject, text)


def note(subject: str, text: str, cure: str = "") -> Finding:
    """Something good to know."""
    return Finding(Level.NOTE, subject, text, cure)


def unknown(subject: str, text: str, cure: str = "") -> Finding:
    """The subject could not be examined."""
    return Finding(Level.UNKNOWN, subject, text, cure)


def wrong(subject: str, text: str, cure: str) -> Finding:
    """Something is wrong, and this mends it."""
    return Finding(Level.WRONG, subject, text, cure)
