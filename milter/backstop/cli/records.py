"""The commands `stats` and `tail`: what was counted, and what is decided at the moment."""

import argparse
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.cli.store import Toggles

MAX_DAYS: Final = 400
MAX_EVENTS: Final = 10_000
EVERY: Final = 0.5
"""Seconds between two looks at the stream."""

_PAGE: Final = 200


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    stats = commands.add_parser("stats", help="counters", description="Counters of one or all domains.")
    stats.add_argument("domain", metavar="DOMAIN", nargs="?")
    stats.add_argument("--days", metavar="N", type=int, default=7, help="how many days, today included (7)")
    stats.add_argument("--json", action="store_true", help="print one JSON object, day by day")
    stats.set_defaults(run=_stats)
    tail = commands.add_parser(
        "tail",
        help="the latest decisions",
        description="The latest decisions of all hosts that share the store. Under a flood this is a sample.",
    )
    tail.add_argument("-n", dest="count", metavar="N", type=int, default=10, help="how many (10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    tail.add_argument("--json", action="store_true", help="print one JSON object a line")
    tail.set_defaults(run=_tail)


def _stats(arguments: argparse.Namespace) -> int:
    from backstop.cli import counters
    from backstop.cli.names import domain as folded
    from backstop.cli.store import all_domains, open_store

    days = arguments.days
    if not 0 < days <= MAX_DAYS:
        raise CommandFailed(f"--days: a number from 1 to {MAX_DAYS} is wanted")
    config, toggles = open_store(arguments)
    domains = [folded(arguments.domain)] if arguments.domain else all_domains(config, toggles)
    now = time.time()
    ever = counters.since_ever(toggles, domains)
    daily = {domain: counters.by_day(toggles, domain, days, now) for domain in domains}
    if arguments.json:
        output.say_json({domain: {"ever": ever[domain], "days": daily[domain]} for domain in domains})
        return os.EX_OK
    rows = []
    for domain in domains:
        last = counters.summed(daily[domain].values())
        first_day = next(iter(daily[domain].values()), {})
        rows += [
            (domain, name, str(first_day.get(name, 0)), str(last.get(name, 0)), str(count))
            for name, count in sorted(ever[domain].items())
        ]
    if rows:
        output.table(("domain", "counter", "today (UTC)", f"{days} days", "ever"), rows)
    else:
        output.say("nothing was counted yet")
    return os.EX_OK


def _tail(arguments: argparse.Namespace) -> int:
    from backstop.cli.store import open_store

    if not 0 <= arguments.count <= MAX_EVENTS:
        raise CommandFailed(f"-n: a number from 0 to {MAX_EVENTS} is wanted")
    _, toggles = open_store(arguments)
    events = _last(toggles, max(arguments.count, 1))
    seen = events[-1][0] if events else "0-0"
    for number, fields in events if arguments.count else ():
        _show(number, fields, as_json=arguments.json)
    while arguments.follow:
        time.sleep(EVERY)
        for number, fields in _after(toggles, seen):
            _show(number, fields, as_json=arguments.json)
            seen = number
    return os.EX_OK


def _last(toggles: "Toggles", count: int) -> list[tuple[str, dict[str, str]]]:
    """The latest events, the oldest of them first."""
    from backstop.adapters import redis_names
    from backstop.adapters.redis_store import pack

    found: list[tuple[str, dict[str, str]]] = []
    end = "+"
    while len(found) < count:
        wanted = min(count - len(found), _PAGE)
        page = _events(toggles, pack("XREVRANGE", redis_names.EVENTS, end, "-", "COUNT", wanted))
        found += page
        if len(page) < wanted:
            break
        end = _before(page[-1][0])
    return found[::-1]


def _after(toggles: "Toggles", seen: str) -> list[tuple[str, dict[str, str]]]:
    """What came since; nothing, and a complaint, while the store is away."""
    from backstop.adapters import redis_names
    from backstop.adapters.redis_store import pack

    try:
        return _events(toggles, pack("XRANGE", redis_names.EVENTS, _next(seen), "+", "COUNT", _PAGE))
    except CommandFailed as failure:
        output.complain(f"{failure}; trying again")
        while not toggles.probe():
            time.sleep(EVERY)
        return []


def _next(number: str) -> str:
    """The number after; Redis knows "(" for this from version 6.2 on only."""
    milliseconds, _, count = number.partition("-")
    return f"{milliseconds}-{int(count) + 1}"


def _before(number: str) -> str:
    milliseconds, _, count = number.partition("-")
    return f"{milliseconds}-{int(count) - 1}" if count != "0" else f"{int(milliseconds) - 1}"


def _events(toggles: "Toggles", command: bytes) -> list[tuple[str, dict[str, str]]]:
    from backstop.adapters.redis_store import ReplyError
    from backstop.cli.store import pairs, text

    (reply,) = toggles.ask(command)
    if isinstance(reply, ReplyError):
        raise CommandFailed(f"backstop:events: {reply.text}", status=os.EX_UNAVAILABLE)
    events = []
    for entry in reply if isinstance(reply, list) else []:
        match entry:
            case [number, fields]:
                events.append((text(number), pairs(fields)))
    return events


def _show(number: str, fields: Mapping[str, str], *, as_json: bool) -> None:
    from backstop.cli.times import moment_text
    from backstop.journal import shown

    milliseconds = number.partition("-")[0]
    moment = (
        moment_text(int(milliseconds) / 1000) if milliseconds.isdigit() and len(milliseconds) < 15 else number
    )
    if as_json:
        output.say_json({"id": number, "time": moment, **fields})
        return
    words = [f"{name}={shown(value)}" for name, value in fields.items() if value]
    output.say(" ".join([moment, *words]))
