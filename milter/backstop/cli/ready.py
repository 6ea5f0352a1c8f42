"""Whether a domain may enforce `unproved`: from counters to a date and its reason. Nothing is asked here.

A *genuine* bounce is one of a letter that we wrote: it came back to a good tag, or without one and something
else proved it (our memory of sent mail, our DKIM signature). Automatic answers are not counted: they never
carry a tag.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from backstop.cli.times import date_text
from backstop.grace import Grace
from backstop.proof import Proof
from backstop.settings import Action, DomainSettings

TAGGED: Final = "proof.tag"
UNTAGGED: Final = "bounce.untagged"
NO_PROOF: Final = "unproved.fail"
SENT_TAGGED: Final = "outgoing.tagged"
SENT_UNTAGGED: Final = "outgoing.untagged"
WHY_UNTAGGED: Final = "untagged."

_WEEK = 7
_THURSDAY: Final = 3
"""The first of January 1970 was one; weeks begin on Mondays."""


@dataclass(frozen=True, slots=True)
class Sender:
    """An address of ours, and a time in seconds since 1970."""

    name: str
    moment: float


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a domain. `counts` goes by day (days since 1970) and name of the counter.

    `under_way` are senders with untagged mail under way, and until when; `elsewhere` those whose mail left by
    another host, as their bounces show, and when the last of these came.
    """

    domain: str
    settings: DomainSettings
    grace: Grace | None
    counts: Mapping[int, Mapping[str, int]]
    under_way: tuple[Sender, ...] = ()
    elsewhere: tuple[Sender, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """Genuine bounces with and without a tag, and bounces of which nobody knows, from `day` on."""

    day: int
    tagged: int
    untagged: int
    no_proof: int

    @property
    def per_cent(self) -> float | None:
        """How many of the genuine ones carried a good tag; None where there were none."""
        genuine = self.tagged + self.untagged
        return 100 * self.tagged / genuine if genuine else None


@dataclass(frozen=True, slots=True)
class Condition:
    """Something to wait for, and its day (days since 1970); None for what no waiting brings about."""

    day: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """From when on enforcing is safe (days since 1970; None while nobody can say), and why.

    `against` is what stands against it today, `advice` what should be known or done besides.
    """

    safe_from: int | None
    is_safe: bool
    sentence: str
    against: tuple[str, ...]
    advice: tuple[str, ...]


def judge(known: Known, today: int) -> Readiness:
    """Weigh all that is known of a domain on a day."""
    conditions = list(_conditions(known))
    against = tuple(one.text for one in conditions if one.day is None or one.day > today)
    endless = next((one for one in conditions if one.day is None), None)
    advice = tuple(_advice(known, today))
    if endless is not None:
        sentence = f"Nobody can say yet from when on enforcing is safe, because {endless.text}."
        return Readiness(None, is_safe=False, sentence=sentence, against=against, advice=advice)
    last = max(conditions, key=lambda one: one.day or 0)
    assert last.day is not None  # else it were endless
    is_safe = last.day <= today
    reason = _why_safe(known) if is_safe else last.text
    sentence = f"Enforcing is safe from {date_text(last.day)} on, because {reason}."
    return Readiness(last.day, is_safe, sentence, against, advice)


def figures(known: Known, first: int, last: int) -> Figures:
    """What was counted from one day to another, both included."""
    days = [counts for day, counts in known.counts.items() if first <= day <= last]

    def total(name: str) -> int:
        return sum(counts.get(name, 0) for counts in days)

    return Figures(first, total(TAGGED), total(UNTAGGED), total(NO_PROOF))


def by_week(known: Known, today: int, days: int) -> list[Figures]:
    """The last days by weeks from Monday to Sunday, the latest first, back to the first with any figures."""
    oldest = today - days + 1
    start = _monday(today)
    weeks = []
    while start > oldest - _WEEK:
        weeks.append(figures(known, max(start, oldest), min(start + _WEEK - 1, today)))
        start -= _WEEK
    while weeks and not (weeks[-1].tagged or weeks[-1].untagged or weeks[-1].no_proof):
        weeks.pop()
    return weeks


def sent(known: Known, today: int, days: int) -> dict[str, int]:
    """How many messages went out with a tag, and how many without by reason, within the last days."""
    total: dict[str, int] = {}
    for day, counts in known.counts.items():
        for name, count in counts.items() if today - days < day <= today else ():
            if name in (SENT_TAGGED, SENT_UNTAGGED) or name.startswith(WHY_UNTAGGED):
                total[name] = total.get(name, 0) + count
    return total


def first_tagged(known: Known) -> int | None:
    """The day on which the first message went out with a tag, as far back as counters are kept."""
    return min((day for day, counts in known.counts.items() if counts.get(SENT_TAGGED)), default=None)


def last_untagged(known: Known) -> int | None:
    """The day on which a genuine bounce without a tag came last."""
    return max((day for day, counts in known.counts.items() if counts.get(UNTAGGED)), default=None)


def _conditions(known: Known) -> Iterator[Condition]:
    settings, found = known.settings, known.grace
    if found is None:
        yield Condition(
            None, "no key signs for it, so all its mail goes out without a tag (`backstop key new`)"
        )
        return
    span = f"{settings.grace_days} days"
    yield Condition(
        found.end,
        f"bounces of mail from before {date_text(found.since)} carry no tag and may come for {span}"
        f" ({found.why})",
    )
    first = first_tagged(known)
    if first is None:
        yield Condition(
            None, "no message has gone out with a tag yet, as if outgoing mail did not pass the milter"
        )
    elif first > found.since:
        yield Condition(
            first + settings.grace_days,
            f"the first message with a tag went out on {date_text(first)}, and bounces of older mail may come"
            f" for {span}",
        )
    last = last_untagged(known)
    if last is not None:
        yield Condition(
            last + settings.lifetime,
            f"a genuine bounce without a tag came on {date_text(last)}, so some mail goes out untagged;"
            f" wait until none has come for {settings.lifetime} days",
        )


def _why_safe(known: Known) -> str:
    first, last = first_tagged(known), last_untagged(known)
    found = known.grace
    assert first is not None  # else a condition without end were left
    assert found is not None  # the same
    issued = f"mail has gone out with tags since {date_text(max(first, found.since))}"
    if last is None:
        return f"{issued}, and no genuine bounce without one was seen"
    return f"{issued}, and the last genuine bounce without one came on {date_text(last)}"


def _advice(known: Known, today: int) -> Iterator[str]:
    settings = known.settings
    if settings.actions["unproved"] is Action.OFF:
        yield (
            "the check `unproved` is off, so bounces without a tag are not looked at and cannot be counted:"
            f" backstop domain set {known.domain} unproved observe"
        )
    elif set(settings.proof) <= {Proof.TAG}:
        yield (
            "only a tag counts as proof here, so a genuine bounce without one looks like a forged one and is"
            " not counted above: the date is reckoned from time alone; see the setting `proof`"
        )
    if not any(counts.get(TAGGED) for counts in known.counts.values()):
        yield (
            "no bounce to a good tag has come back yet: write to an address elsewhere that does not exist,"
            " and see that the bounce arrives"
        )
    if known.elsewhere:
        yield (
            "the senders named at the end wrote by hosts that make no tags, or before this one did: let their"
            " mail leave through this server, let those hosts tag with the same key, or name the senders in"
            " exempt_senders"
        )
    if known.grace is not None and settings.grace == 0 and today < known.grace.since + settings.lifetime:
        yield 'grace is switched off (grace = "0d"), although tags are new: bounces of older mail carry none'


def _monday(day: int) -> int:
    return day - (day + _THURSDAY) % _WEEK
