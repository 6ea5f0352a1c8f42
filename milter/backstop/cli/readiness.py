"""The command `readiness`: from which date on a domain may refuse bounces without proof."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backstop.cli.effective import Effective
    from backstop.cli.ready import Figures, Known, Readiness, Sender
    from backstop.cli.store import Toggles
    from backstop.config import Config

NOT_YET: Final = 1
"""The exit status while enforcing is not safe."""

KEPT_DAYS: Final = 400
"""For so long the counters of a day are kept."""

MAX_SENDERS: Final = 20
"""Senders of a kind that are shown to a person."""

MOST_SENDERS: Final = 1000
"""Senders of a kind that are read."""

REASONS: Final = {
    "tagged-before": "carried a tag already",
    "exempt-sender": "the sender is exempt",
    "exempt-destination": "a recipient's domain is exempt",
    "internal": "all recipients are ours",
    "untaggable": "the address takes no tag",
    "no-key": "no key signs",
    "forward": "a forward of somebody else's mail",
}
"""Why mail went out without a tag, in words."""


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command's own."""
    readiness = commands.add_parser(
        "readiness",
        help="from which date on it is safe to refuse bounces without proof",
        description="How many genuine bounces carried a tag, who sends without one, and from which date on it"
        " is safe to enforce. Exit status 0: it is safe now; 1: not yet.",
    )
    readiness.add_argument("domain", metavar="DOMAIN")
    readiness.add_argument(
        "--days", metavar="N", type=int, default=56, help="how many days the figures go back (56)"
    )
    readiness.add_argument("--json", action="store_true", help="print one JSON object")
    readiness.set_defaults(run=_readiness)


def _readiness(arguments: argparse.Namespace) -> int:
    from backstop.batv import day_of
    from backstop.cli import effective, ready
    from backstop.cli.names import protected_domain
    from backstop.cli.store import open_store

    days = arguments.days
    if not 0 < days <= KEPT_DAYS:
        raise CommandFailed(f"--days: a number from 1 to {KEPT_DAYS} is wanted")
    config, toggles = open_store(arguments)
    domain = protected_domain(config, toggles, arguments.domain)
    now = time.time()
    found = effective.read(config, toggles, domain)
    known = look(config, toggles, found, now)
    result = ready.judge(known, day_of(now))
    if arguments.json:
        output.say_json(_as_json(known, result, found, day_of(now), days))
    else:
        _tell(known, result, found, day_of(now), days)
    return os.EX_OK if result.is_safe else NOT_YET


def look(config: "Config", toggles: "Toggles", found: "Effective", now: float) -> "Known":
    """All that the store, the file and the keys know of a domain."""
    from datetime import date

    from backstop import grace
    from backstop.batv import DAY
    from backstop.cli import counters
    from backstop.cli.ready import Known

    domain = found.domain
    epoch = date(1970, 1, 1)
    counted = counters.by_day(toggles, domain, KEPT_DAYS, now)
    return Known(
        domain,
        found.settings,
        grace.of_domain(config.ring, domain, found.settings),
        {(date.fromisoformat(day) - epoch).days: counts for day, counts in counted.items() if counts},
        tuple(_under_way(toggles, domain, now)),
        tuple(one for one in _elsewhere(toggles, domain) if one.moment > now - KEPT_DAYS * DAY),
    )


def _under_way(toggles: "Toggles", domain: str, now: float) -> "list[Sender]":
    """Senders with untagged mail under way; the longest first."""
    from itertools import islice

    from backstop.adapters.redis_names import UNTAGGED

    fields = toggles.fields(UNTAGGED, f"*@{domain}")
    found = (_sender(name, until) for name, until in fields)
    senders = islice((one for one in found if one is not None and one.moment > now), MOST_SENDERS)
    return sorted(senders, key=lambda one: -one.moment)


def _elsewhere(toggles: "Toggles", domain: str) -> "Iterator[Sender]":
    """Senders whose mail left by another host; the latest first."""
    from backstop.adapters import redis_names
    from backstop.adapters.redis_store import pack
    from backstop.cli.store import text

    key = redis_names.elsewhere(domain)
    (reply,) = toggles.ask(pack("ZREVRANGE", key, 0, MOST_SENDERS - 1, "WITHSCORES"))
    words = [text(word) for word in reply] if isinstance(reply, list) else []
    for name, moment in zip(words[::2], words[1::2], strict=False):
        sender = _sender(name, moment)
        if sender is not None:
            yield sender


def _sender(name: str, moment: str) -> "Sender | None":
    from backstop.cli.ready import Sender

    try:
        seconds = float(moment)
    except ValueError:  # written by another hand
        return None
    return Sender(name, seconds) if 0 <= seconds < 1e11 else None


# -- words --------------------------------------------------------------------------------------------------


def _tell(known: "Known", result: "Readiness", found: "Effective", today: int, days: int) -> None:
    from backstop.cli import ready

    output.say(f"{known.domain}: {result.sentence}")
    output.say(f"now: unproved = {found.value('actions.unproved')}, from {found.origin('actions.unproved')}")
    if len(result.against) > 1:  # one alone is the sentence's
        _tell_list("What stands against it today:", result.against)
    _tell_list("What to know besides:", result.advice)
    output.say()
    _tell_bounces(ready.by_week(known, today, days), ready.figures(known, today - days + 1, today), days)
    output.say()
    _tell_sent(known, today, days)
    _tell_senders("senders with untagged mail under way", "their bounces need no tag until", known.under_way)
    _tell_senders("senders whose mail left by other hosts, untagged", "last such bounce", known.elsewhere)


def _tell_list(heading: str, texts: tuple[str, ...]) -> None:
    if texts:
        output.say()
        output.say(heading)
    for text in texts:
        output.say(f"- {text}")


def _tell_bounces(weeks: "list[Figures]", total: "Figures", days: int) -> None:
    from backstop.cli.times import date_text

    if not weeks:
        output.say(f"bounces: none were counted in {days} days")
        return
    headings = ("bounces from", "genuine with tag", "genuine without", "tagged", "no proof")
    rows = [_row(date_text(one.day), one) for one in weeks]
    output.table(headings, [*rows, _row(f"{days} days", total)])
    output.say('"no proof": with neither a tag nor other proof; these are what enforcing keeps out')


def _row(name: str, one: "Figures") -> tuple[str, ...]:
    share = "-" if one.per_cent is None else f"{one.per_cent:.1f} %"
    return name, str(one.tagged), str(one.untagged), share, str(one.no_proof)


def _tell_sent(known: "Known", today: int, days: int) -> None:
    from backstop.cli import ready
    from backstop.cli.times import date_text

    sent = ready.sent(known, today, days)
    first = ready.first_tagged(known)
    since = f", the first on {date_text(first)}" if first is not None else ""
    output.say(f"mail sent in {days} days: {sent.get(ready.SENT_TAGGED, 0)} with a tag{since},")
    output.say(f"  {sent.get(ready.SENT_UNTAGGED, 0)} without one")
    for name, count in sorted(sent.items()):
        reason = name.removeprefix(ready.WHY_UNTAGGED)
        if reason != name:
            output.say(f"  {count}: {REASONS.get(reason, reason)}")


def _tell_senders(who: str, when: str, senders: "tuple[Sender, ...]") -> None:
    from backstop.cli.times import moment_text

    if not senders:
        return
    output.say()
    output.table((who, when), [(one.name, moment_text(one.moment)) for one in senders[:MAX_SENDERS]])
    if len(senders) > MAX_SENDERS:
        output.say(f"and {len(senders) - MAX_SENDERS} more; --json names them")


def _as_json(
    known: "Known", result: "Readiness", found: "Effective", today: int, days: int
) -> dict[str, Any]:
    from backstop.cli import ready
    from backstop.cli.times import date_text

    def day(number: int | None) -> str | None:
        return None if number is None else date_text(number)

    def bounces(one: "Figures") -> dict[str, Any]:
        share = None if one.per_cent is None else round(one.per_cent, 1)
        return {
            "from": date_text(one.day),
            "tagged": one.tagged,
            "untagged": one.untagged,
            "per_cent": share,
            "no_proof": one.no_proof,
        }

    known_grace = known.grace
    return {
        "domain": known.domain,
        "safe": result.is_safe,
        "safe_from": day(result.safe_from),
        "sentence": result.sentence,
        "against": result.against,
        "advice": result.advice,
        "unproved": found.value("actions.unproved"),
        "grace": known_grace
        and {"since": day(known_grace.since), "until": day(known_grace.end), "why": known_grace.why},
        "first_tagged": day(ready.first_tagged(known)),
        "last_untagged": day(ready.last_untagged(known)),
        "days": days,
        "bounces": bounces(ready.figures(known, today - days + 1, today)),
        "weeks": [bounces(one) for one in ready.by_week(known, today, days)],
        "sent": ready.sent(known, today, days),
        "under_way": {one.name: int(one.moment) for one in known.under_way},
        "elsewhere": {one.name: int(one.moment) for one in known.elsewhere},
    }
