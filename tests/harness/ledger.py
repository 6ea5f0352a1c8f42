"""What became of every message of a load, and the rules that hold whatever fails meanwhile.

Nothing is lost or comes twice, nothing of ours goes out without exactly one good tag, no good-tag bounce is
refused for good and no forged one passes, no trouble of ours is answered by a 5xx, everything is well again
soon after a fault, and no counter shows too much. A `load` makes the entries.
"""

import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from backstop import batv
from backstop.address import parse
from backstop.batv import KeyRing, TagState

NO_ANSWER: Final = 0
"""The code of a message that was dropped or not taken: the mail server says 4xx, and its client retries."""

NONSENSE: Final = -1
"""The code of an answer that no milter may give, or that drops the message."""

TIMED_OUT: Final = "timed out"


class Kind(Enum):
    """What a message is."""

    ORDINARY = "ordinary mail"
    OUTGOING = "outgoing mail"
    GENUINE = "a bounce with a good tag"
    FORGED = "a bounce with a forged tag"
    UNTAGGED = "a bounce without a tag"

    @property
    def is_bounce(self) -> bool:
        """Whether it has the null sender."""
        return self not in (Kind.ORDINARY, Kind.OUTGOING)


SHARES: Final = {Kind.ORDINARY: 60, Kind.OUTGOING: 20, Kind.GENUINE: 10, Kind.FORGED: 5, Kind.UNTAGGED: 5}
"""Of a hundred messages."""

ENFORCED: Final[Mapping[Kind, frozenset[int]]] = {
    Kind.ORDINARY: frozenset({250}),
    Kind.OUTGOING: frozenset({250}),
    Kind.GENUINE: frozenset({250}),
    Kind.FORGED: frozenset({550}),
    Kind.UNTAGGED: frozenset({550}),
}
"""The right answers where `tag` and `unproved` are set to reject."""

COUNTERS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "outgoing.tagged": (Kind.OUTGOING,),
    "proof.tag": (Kind.GENUINE,),
    "tag.fail": (Kind.FORGED,),
    "unproved.fail": (Kind.UNTAGGED,),
    "action.reject": (Kind.FORGED, Kind.UNTAGGED),
    "bounce.seen": (Kind.GENUINE, Kind.FORGED, Kind.UNTAGGED),
}
"""Which messages each counter counts, once each, while everything is answered as in ENFORCED."""


class Plan:
    """The kinds of a load's messages, in an order that the seed alone decides; for any thread."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._drawn = 0

    def draw(self) -> tuple[int, Kind]:
        """The next message: its number, from 0, and its kind."""
        with self._lock:
            number, self._drawn = self._drawn, self._drawn + 1
            return number, self._chance.choices(list(SHARES), list(SHARES.values()))[0]


@dataclass(frozen=True, slots=True)
class Setback:
    """A try that was put off or dropped: on a connection opened then, at that time, with this answer."""

    opened: float
    at: float
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One message's fate. Times are monotonic; `opened` is when its connection was made.

    `code` is the client's last answer, or NO_ANSWER; `text` says more. `sender` is the reverse-path as it was
    given, `senders` what it was changed to: one, where all is well. `others` are other changes.
    `setbacks` are the tries before the last.
    """

    number: int
    kind: Kind
    opened: float
    began: float
    ended: float
    code: int
    text: str = ""
    sender: str = ""
    senders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    setbacks: tuple[Setback, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the client knows what became of it."""
        return self.code > 0


class Ledger:
    """All entries of a load. `right` are the right answers of each kind; `ring` knows which tags are good.

    `changes_are_seen` is for a load on the wire: there a tag is a change of the sender.
    """

    def __init__(
        self, ring: KeyRing, right: Mapping[Kind, frozenset[int]] = ENFORCED, *, changes_are_seen: bool = True
    ) -> None:
        self._ring = ring
        self._right = right
        self._changes_are_seen = changes_are_seen
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._began = time.monotonic()

    def note(self, entry: Entry) -> None:
        """Write an entry; for any thread."""
        with self._lock:
            self._entries.append(entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All so far, in the order in which they ended."""
        with self._lock:
            return tuple(self._entries)

    def of(self, *kinds: Kind) -> list[Entry]:
        """The entries of some kinds."""
        return [entry for entry in self.entries if entry.kind in kinds]

    def disturbed(self, since: float = 0.0) -> list[str]:
        """Tries on connections opened from then on that got a temporary failure, or no answer."""
        found = []
        for entry in self.entries:
            if entry.opened >= since and entry.code not in self._right[entry.kind]:
                found.append(self.shown(entry))
            found += [
                f"{self.shown(entry)}: a try before got {setback.code or 'no answer'} {setback.text}"
                for setback in entry.setbacks
                if setback.opened >= since
            ]
        return found

    # The rules

    def violations(
        self, over: Iterable[float] = (), *, recovery: float = 5.0, calm: float = 10.0
    ) -> list[str]:
        """Everything that may not be, in words; `over` are the moments at which faults ended for good.

        Within `recovery` seconds of each the first right verdict of every kind must have come; on connections
        opened more than `calm` seconds after it everything must be right.
        """
        found = [
            f"{self.shown(entry)}: {wrong}" for entry in self.entries for wrong in self._wrongs_of(entry)
        ]
        for moment in over:
            found += self._unrecovered(moment, recovery)
            found += [f"{shown}: long after the fault" for shown in self.disturbed(moment + calm)]
        return found

    def miscounted(self, counters: Mapping[str, int], *, missing: int = 0) -> list[str]:
        """What counters show too much, or too little by more than `missing` in each, in words.

        Nobody knows whether what got no answer was counted.
        """
        found = []
        for name, kinds in COUNTERS.items():
            entries = self.of(*kinds)
            sure = sum(one.code in self._right[one.kind] for one in entries)
            most = sum(one.code in self._right[one.kind] or not one.answered for one in entries)
            shown = counters.get(name, 0)
            if shown > most:
                found.append(f"{name} shows {shown}, but there were {most} at most")
            if shown < sure - missing:
                found.append(f"{name} shows {shown}, but there were {sure}, and {missing} may be missing")
        return found

    def undelivered(self, places: Mapping[int, Sequence[str]]) -> list[str]:
        """What was accepted and not delivered exactly once, or delivered all the same; `places` by number.

        A client that got no answer and tried again may have sent it twice.
        """
        found = []
        for entry in self.entries:
            where = places.get(entry.number, ())
            most = 1 + sum(setback.code == NO_ANSWER for setback in entry.setbacks)
            if entry.code == 250 and not 1 <= len(where) <= most:
                found.append(f"{self.shown(entry)}: delivered {len(where)} times: {', '.join(where)}")
            if entry.code != 250 and entry.answered and where:
                found.append(f"{self.shown(entry)}: delivered nevertheless: {', '.join(where)}")
        numbers = {entry.number for entry in self.entries}
        found += [f"message {number} was never sent" for number in places if number not in numbers]
        return found

    def tag_fault(self, path: str, original: str) -> str:
        """What is wrong with the tagged form of an address of ours; empty for exactly one good tag of it."""
        address = parse(path)
        tag = batv.parse(address) if address else None
        if tag is None:
            return f"{path} carries no tag"
        if batv.verify(tag, self._ring, batv.day_of(time.time())) is not TagState.GOOD:
            return f"{path} carries no good tag"
        inner = parse(original)
        if inner is None or tag.inner.folded != inner.folded:
            return f"{path} is no tagged form of {original}"
        return f"{path} is tagged twice" if batv.is_tagged(tag.inner) else ""

    # In words

    def shown(self, entry: Entry) -> str:
        """One entry for a person who reads why a test failed."""
        when = entry.began - self._began
        took = (entry.ended - entry.began) * 1000
        answer = f"{entry.code or 'no answer'} {entry.text}".rstrip()
        return f"message {entry.number} ({entry.kind.value}, at {when:.2f} s, {took:.0f} ms, {answer})"

    def summary(self) -> str:
        """How many got which answer, and how late."""
        counts = Counter((one.kind, one.code) for one in self.entries)
        words = [
            f"{kind.value} {code or 'unanswered'}: {counts[kind, code]}"
            for kind, code in sorted(counts, key=lambda pair: (pair[0].name, pair[1]))
        ]
        times = sorted((one.ended - one.began) * 1000 for one in self.entries) or [0.0]
        late = times[int(0.99 * (len(times) - 1))]
        put_off = sum(bool(one.setbacks) for one in self.entries)
        lateness = f"p50 {statistics.median(times):.1f} ms, p99 {late:.1f} ms"
        return f"{len(times)} messages; {'; '.join(words)}; put off {put_off}; {lateness}"

    def _wrongs_of(self, entry: Entry) -> Iterable[str]:
        right = self._right[entry.kind]
        if entry.code == NONSENSE:
            yield "no answer at all, but nonsense"
        if not entry.answered and entry.text == TIMED_OUT:
            yield "neither answered nor dropped"
        if entry.code >= 500 and entry.code not in right:
            yield "refused for good"
        if 200 <= entry.code < 300 and entry.code not in right:
            yield "accepted"
        if entry.code != 250 or not self._changes_are_seen:
            return
        if entry.kind is Kind.OUTGOING:
            if len(entry.senders) != 1:
                yield f"accepted with {len(entry.senders)} changes of the sender instead of one tag"
            for path in entry.senders:
                if fault := self.tag_fault(path, entry.sender):
                    yield fault
        elif entry.senders:
            yield "its sender was changed"
        if entry.others:
            yield f"it was changed: {', '.join(entry.others)}"

    def _unrecovered(self, moment: float, recovery: float) -> Iterable[str]:
        for kind in Kind:
            soon = [one for one in self.of(kind) if moment <= one.began and one.ended <= moment + recovery]
            if soon and not any(one.code in self._right[kind] for one in soon):
                yield f"{kind.value}: no right verdict within {recovery:g} s of the end of the fault"
