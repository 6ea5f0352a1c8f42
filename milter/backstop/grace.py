"""Grace: for how long a merely missing tag is only observed, because mail is under way that never had one.

It begins with the first key that signs for a domain (a key that takes another's place begins none, see
`KeyRing.oldest_day`), and again on the day in `grace_since`. That is set where bounces that were let pass
without a tag until now would be refused from now on: the domain is newly protected, or was not for a while;
a sender is exempt no more; the mail server has no "+" any more by which tags under way are known.

What else changes begins none. A tag carries its own last day and its key remembers the longest lifetime, so
neither a longer nor a shorter `lifetime` takes anything from tags under way (but a grace is as long as
`lifetime` and five days). Of mail to a destination that is exempt no more each sender is remembered, in
`backstop:untagged`. Tags of a key that is lost look forged, and no grace covers those.
"""

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from backstop.address import parse
from backstop.batv import KeyRing
from backstop.settings import Addresses, DomainSettings

MAX_NAMED: Final = 3
"""Exemptions that a reason names."""

NEWLY: Final = "the domain was not protected before"
"""Why grace begins for a domain that nobody has seen before."""


@dataclass(frozen=True, slots=True)
class Grace:
    """The grace of a domain, in days since 1970: missing tags count from `end` on. `why` it began then."""

    since: int
    end: int
    why: str


def first_day(ring: KeyRing, domain: str, settings: DomainSettings) -> int | None:
    """The day with which the grace of a domain begins; None where no key signs."""
    since = ring.oldest_day(domain)
    if since is None or settings.grace_since is None:
        return since
    return max(since, settings.grace_since.day)


def holds(ring: KeyRing, domain: str, settings: DomainSettings, today: int) -> bool:
    """Whether a missing tag is only observed on a day; always so where no key signs."""
    since = first_day(ring, domain, settings)
    return since is None or today - since < settings.grace_days


def of_domain(ring: KeyRing, domain: str, settings: DomainSettings) -> Grace | None:
    """The latest grace of a domain, over or not; None where no key signs."""
    since = first_day(ring, domain, settings)
    if since is None:
        return None
    again = settings.grace_since
    if again is None or again.day != since:
        why = "the signing key is of that day"
    else:
        why = again.why or "grace_since says so"
    return Grace(since, since + settings.grace_days, why)


@dataclass(frozen=True, slots=True)
class Seen:
    """What let bounces of a domain pass without a tag when somebody looked last.

    `day` is the day of that look, `exempt` what of `exempt_senders` concerns the domain, `plus` whether the
    mail server takes "+" for a delimiter.
    """

    day: int
    exempt: tuple[str, ...] = ()
    plus: bool = True

    def text(self) -> str:
        """As it is kept."""
        return json.dumps({"day": self.day, "exempt": self.exempt, "plus": self.plus})


def see(domain: str, settings: DomainSettings, today: int) -> Seen:
    """How a domain looks today."""
    entries = [entry for entry in settings.exempt_senders.entries if _concerns(domain, entry)]
    return Seen(today, tuple(sorted(entries)), "+" in settings.recipient_delimiter)


def seen(text: str) -> Seen | None:
    """What was kept; None for what nobody here wrote."""
    try:
        match json.loads(text):
            case {"day": int(day), "exempt": [*exempt], "plus": bool(plus)}:
                return Seen(day, tuple(entry for entry in exempt if isinstance(entry, str)), plus)
    except (ValueError, RecursionError):
        pass
    return None


def begins_again(before: Seen, after: Seen, running_since: int) -> str:
    """Why bounces that passed without a tag would be refused from now on; empty where none would.

    `running_since` is the day on which whoever looks began to: if the look before is older than the day
    before that, nobody tagged the domain's mail in between.
    """
    if before.day < running_since - 1:
        return "it was not protected for a time"
    if lost := list(_lost(before.exempt, Addresses(after.exempt))):
        more = f" and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else ""
        return f"exempt no more: {', '.join(lost[:MAX_NAMED])}{more}"
    if before.plus and not after.plus:
        return '"+" is no recipient_delimiter any more'
    return ""


def _lost(before: tuple[str, ...], after: Addresses) -> Iterator[str]:
    for entry in before:
        address = parse(entry)
        kept = entry in after.entries or f"@{entry.rpartition('@')[2]}" in after.entries
        if not kept and (address is None or entry.startswith("@") or address not in after):
            yield entry


def _concerns(domain: str, entry: str) -> bool:
    """Whether an exempt sender may be one of a domain: many are written for all domains together."""
    return "@" not in entry or fnmatch.fnmatchcase(domain, entry.rpartition("@")[2])
