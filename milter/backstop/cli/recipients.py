"""The commands `recipient add`, `remove`, `list` and `test`."""

import argparse
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.cli.store import Toggles
    from backstop.config import Config
    from backstop.facts import Existence
    from backstop.settings import DomainSettings, SourceName


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    recipient = commands.add_parser(
        "recipient", help="who exists, by the recipient sources", description="Recipients and their sources."
    )
    actions = recipient.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("add", help="add addresses to the set in Redis")
    add.add_argument("addresses", metavar="ADDRESS", nargs="+")
    add.set_defaults(run=_add)
    remove = actions.add_parser("remove", help="take addresses out of the set in Redis")
    remove.add_argument("addresses", metavar="ADDRESS", nargs="+")
    remove.set_defaults(run=_remove)
    listing = actions.add_parser("list", help="the set of a domain in Redis")
    listing.add_argument("domain", metavar="DOMAIN")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.set_defaults(run=_list)
    test = actions.add_parser("test", help="ask every source of the domain whether an address exists")
    test.add_argument("address", metavar="ADDRESS")
    test.add_argument("--json", action="store_true", help="print one JSON object")
    test.set_defaults(run=_test)


def _add(arguments: argparse.Namespace) -> int:
    from backstop.cli import effective
    from backstop.settings import SourceKind

    config, toggles, by_domain = _addresses(arguments)
    for domain, locals_ in by_domain.items():
        _change(toggles, "SADD", domain, locals_)
        sources = effective.read(config, toggles, domain).settings.recipients
        if not any(source.kind is SourceKind.REDIS for source in sources):
            output.say(
                f"{domain} does not ask this set yet: `backstop domain set {domain} recipients redis`"
                ' does it, or recipients = ["redis"] in the configuration file'
            )
    return os.EX_OK


def _remove(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.adapters.redis_store import pack

    _, toggles, by_domain = _addresses(arguments)
    for domain, locals_ in by_domain.items():
        _change(toggles, "SREM", domain, locals_)
        (left,) = toggles.ask(pack("EXISTS", redis_names.recipients(domain)))
        if left == 0:
            output.say(f"{domain}: the set is empty now: it knows nobody, and refuses nobody")
    return os.EX_OK


def _change(toggles: "Toggles", verb: str, domain: str, locals_: list[str]) -> None:
    from backstop.adapters import redis_names
    from backstop.cli.store import text

    key = redis_names.recipients(domain)
    (changed,) = toggles.change((verb, key, *locals_))
    output.say(f"{domain}: {text(changed)} of {len(locals_)} {'added' if verb == 'SADD' else 'removed'}")
    output.say(f"the same by hand: {toggles.redis_cli(verb, key, *locals_)}")


def _addresses(arguments: argparse.Namespace) -> "tuple[Config, Toggles, dict[str, list[str]]]":
    """The local parts by domain. Nothing is done where one of the addresses is wrong."""
    from backstop import batv
    from backstop.cli import names
    from backstop.cli.store import open_store, protected

    config, toggles = open_store(arguments)
    by_domain: dict[str, list[str]] = {}
    for written in arguments.addresses:
        found = names.address(written)
        if batv.is_tagged(found):
            raise CommandFailed(f'"{written}" carries a tag; name the address without it')
        if found.domain not in by_domain and not protected(config, toggles, found.domain):
            raise CommandFailed(names.not_protected(config, found.domain))
        by_domain.setdefault(found.domain, []).append(found.local.lower())
    return config, toggles, by_domain


def _list(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.address import Address
    from backstop.cli.names import domain as folded
    from backstop.cli.store import open_store

    _, toggles = open_store(arguments)
    domain = folded(arguments.domain)
    locals_ = sorted(set(toggles.members(redis_names.recipients(domain))))
    if arguments.json:
        output.say_json([Address(local, domain, domain).path for local in locals_])
        return os.EX_OK
    for local in locals_:
        output.say(Address(local, domain, domain).path)
    return os.EX_OK


def _test(arguments: argparse.Namespace) -> int:
    from backstop.adapters import recipients
    from backstop.cli import effective, names
    from backstop.cli.store import open_store, protected

    config, toggles = open_store(arguments)
    found = names.address(arguments.address)
    if not protected(config, toggles, found.domain):
        raise CommandFailed(names.not_protected(config, found.domain))
    settings = effective.read(config, toggles, found.domain).settings
    locals_ = names.locals_(found, settings.recipient_delimiter)
    answers = [ask(toggles, source, found.domain, locals_) for source in settings.recipients]
    outcome = recipients.first_answer([answer.existence for answer in answers])
    if arguments.json:
        output.say_json(
            {
                "address": f"{locals_[0]}@{found.domain}",
                "tried": locals_,
                "sources": [
                    {"source": one.source, "answer": one.existence.name.lower(), "trouble": one.trouble}
                    for one in answers
                ],
                "answer": outcome.name.lower(),
            }
        )
    else:
        output.say(f"asked for: {' and '.join(f'{local}@{found.domain}' for local in locals_)}")
        if answers:
            output.table(
                ("source", "answer", "trouble"),
                [(one.source, WORDS[one.existence.name], one.trouble) for one in answers],
            )
        output.say(f"in the end: {_end(outcome.name, settings)}")
    return _STATUS.get(outcome.name, os.EX_OK)


WORDS: Final = {
    "EXISTS": "exists",
    "MISSING": "does not exist",
    "UNKNOWN": "unknown",
    "NOT_ASKED": "leaves it to others",
    "ANYBODY": "takes everybody",
}
_STATUS: Final = {"MISSING": 1, "UNKNOWN": os.EX_TEMPFAIL}


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What one source says of a recipient, and its `trouble` where it cannot say."""

    source: str
    existence: "Existence"
    trouble: str


def ask(toggles: "Toggles", name: "SourceName", domain: str, locals_: Sequence[str]) -> SourceAnswer:
    """What one source of a domain says of a recipient, whose local parts are as written."""
    from backstop.adapters.asker_client import PATIENCE, AskedSource
    from backstop.adapters.recipients import make
    from backstop.adapters.slow_sources import asked_here

    troubles: list[str] = []
    with contextlib.closing(asked_here([name], toggles.config.slow, troubles.append)) as asking:
        source = make(name, troubles.append, asking)
        if not (isinstance(source, AskedSource) and source.tells_cases_apart):
            locals_ = [local.lower() for local in locals_]
        replies = toggles.ask(*source.commands(domain, locals_))
        existence = source.existence(domain, locals_, replies, time.time(), time.monotonic() + PATIENCE)
    if existence.name == "UNKNOWN" and not troubles and replies:
        troubles.append("the set is missing, empty or no set: it knows nobody")
    if existence.name == "UNKNOWN" and not troubles:
        troubles.append("it gave no clear answer")
    return SourceAnswer(str(name), existence, "; ".join(troubles))


def _end(outcome: str, settings: "DomainSettings") -> str:
    if outcome == "NOT_ASKED":
        return "no source says anything, so nobody is refused here for not existing"
    if outcome == "MISSING":
        action = settings.actions["recipient"]
        return f"does not exist; the check `recipient` fails, its action is {action.label}"
    if outcome == "UNKNOWN":
        return f"unknown; source_down says {settings.source_down.value}"
    if outcome == "ANYBODY":
        return "the next hop takes everybody, so nobody is refused here for not existing"
    return "exists"
