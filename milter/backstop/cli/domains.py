"""The commands `domain list`, `show`, `set`, `unset`, `add` and `remove`."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backstop.adapters.redis_store import Word
    from backstop.cli.effective import Effective
    from backstop.cli.store import Toggles
    from backstop.config import Config
    from backstop.settings import DomainSettings

    Command = Sequence[Word]


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    domain = commands.add_parser(
        "domain", help="the protected domains and their settings", description="Protected domains."
    )
    actions = domain.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="all protected domains")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="one domain's settings, and where each comes from")
    show.add_argument("domain", metavar="DOMAIN")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(run=_show)
    change = actions.add_parser("set", help="change a setting, or the action of a check, in Redis")
    change.add_argument("domain", metavar="DOMAIN")
    change.add_argument("name", metavar="NAME", help="a setting, or a check for its action")
    change.add_argument("value", metavar="VALUE", help="as in the configuration file; lists by commas")
    change.add_argument(
        "--force", action="store_true", help="enforce `unproved` before `backstop readiness` says it is safe"
    )
    change.set_defaults(run=_set)
    unset = actions.add_parser("unset", help="let the configuration file decide again")
    unset.add_argument("domain", metavar="DOMAIN")
    unset.add_argument("name", metavar="NAME")
    unset.set_defaults(run=_unset)
    add = actions.add_parser("add", help="protect a domain that the configuration file does not name")
    add.add_argument("domain", metavar="DOMAIN")
    add.set_defaults(run=_add)
    remove = actions.add_parser("remove", help="protect such a domain no more")
    remove.add_argument("domain", metavar="DOMAIN")
    remove.set_defaults(run=_remove)


def _list(arguments: argparse.Namespace) -> int:
    from backstop.cli import effective
    from backstop.cli.blocklist import holding
    from backstop.cli.store import all_domains, open_store

    config, toggles = open_store(arguments)
    rows = []
    for domain in all_domains(config, toggles):
        found = effective.read(config, toggles, domain)
        block = holding(toggles, domain)
        key = config.ring.signer(domain)
        rows.append(
            {
                "domain": domain,
                "named_in": "file" if domain in config.domains else "store",
                "tag_form": found.value("tag_form"),
                "signing_key": None if key is None else key.number,
                "tag": found.value("actions.tag"),
                "unproved": found.value("actions.unproved"),
                "block": None if block is None else block.action,
                "grace_until": _grace_end(config, domain, found.settings),
            }
        )
    if arguments.json:
        output.say_json(rows)
    else:
        headings = ("domain", "named in", "form", "key", "tag", "unproved", "block", "grace until")
        output.table(
            headings, [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
        )
    return os.EX_OK


def _show(arguments: argparse.Namespace) -> int:
    from backstop.cli import effective
    from backstop.cli.blocklist import holding
    from backstop.cli.names import protected_domain
    from backstop.cli.store import open_store
    from backstop.grace import of_domain as latest_grace

    config, toggles = open_store(arguments)
    domain = protected_domain(config, toggles, arguments.domain)
    found = effective.read(config, toggles, domain)
    block = holding(toggles, domain)
    actions = [f"{effective.ACTIONS}{name}" for name in found.settings.actions]
    keys = [key for key in config.ring.keys if key.serves(domain)]
    grace = _grace_end(config, domain, found.settings)
    latest = latest_grace(config.ring, domain, found.settings)
    if arguments.json:
        output.say_json(
            {
                "domain": domain,
                "settings": {name: _value(found, name) for name in effective.NAMES},
                "actions": {name.removeprefix(effective.ACTIONS): _value(found, name) for name in actions},
                "faults": found.faults,
                "block": None if block is None else block.as_json(),
                "keys": [{"number": key.number, "state": key.state.value} for key in keys],
                "grace_until": grace,
                "grace_since": None if latest is None else _date(latest.since),
                "grace_because": None if latest is None else latest.why,
            }
        )
        return os.EX_OK
    output.table(("setting", "value", "from"), [_row(found, name) for name in effective.NAMES])
    output.say()
    output.table(("check", "action", "from"), [_row(found, name) for name in actions])
    output.say()
    for key in keys:
        output.say(f"key {key.number}: {key.state.value}, since {_date(key.created)}")
    if config.ring.signer(domain) is None:
        output.say("no key signs: mail goes out without tags")
    if latest is not None:
        until = f"a missing tag is only observed until {grace}" if grace else "over"
        output.say(f"grace: {until}; it began on {_date(latest.since)}: {latest.why}")
    if block is None:
        output.say("block: off")
    else:
        _, action, left, by, why = block.as_row()
        more = "".join(f", {word} {said}" for word, said in (("by", by), ("because", why)) if said)
        output.say(f"block: {action} ({block.shown_name}), left: {left}{more}")
    for fault in found.faults:
        output.say(f"fault: {fault}")
    return os.EX_OK


def _row(found: "Effective", name: str) -> tuple[str, str, str]:
    return name.removeprefix("actions."), found.value(name) or "-", str(found.origin(name))


def _value(found: "Effective", name: str) -> dict[str, str]:
    return {"value": found.value(name), "from": str(found.origin(name))}


def _set(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.cli import effective, precautions
    from backstop.cli.names import protected_domain
    from backstop.cli.store import open_store
    from backstop.settings import override

    config, toggles = open_store(arguments)
    domain = protected_domain(config, toggles, arguments.domain)
    name, value = arguments.name, arguments.value
    before = effective.read(config, toggles, domain)
    _, faults = override(before.settings, {name: value})
    if faults:
        raise CommandFailed("; ".join(faults) + _hint(name, before))
    after, _ = override(config.settings_for(domain), {**before.fields, name: value})
    if trouble := precautions.does_not_fit(config, domain, after):
        raise CommandFailed(f"{domain}: {trouble}; nothing was changed")
    warning = precautions.too_early(config, toggles, before, after, forced=arguments.force)
    again, told = precautions.grace_again(before, after)
    key = redis_names.domain(domain)
    command = ("HSET", key, name, value, *again)
    toggles.change(command)
    found = effective.read(config, toggles, domain)
    place = effective.meant(name, value)
    output.say(
        f"{domain}: {place} = {found.value(place) or '(empty)'} (before: {before.value(place) or '(empty)'})"
    )
    for line in (*warning, *told):
        output.say(line)
    output.say(f"the same by hand: {toggles.redis_cli(*command)}")
    return os.EX_OK


def _hint(name: str, found: "Effective") -> str:
    import difflib

    from backstop.cli import effective

    known = [*effective.NAMES, *found.settings.actions]
    if name in known:
        return ""
    near = difflib.get_close_matches(name, known, 1)
    return f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known)}"


def _unset(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.cli import effective, precautions
    from backstop.cli.names import protected_domain
    from backstop.cli.store import open_store
    from backstop.settings import override

    config, toggles = open_store(arguments)
    domain = protected_domain(config, toggles, arguments.domain)
    name = arguments.name
    before = effective.read(config, toggles, domain)
    if name not in before.fields:
        _, faults = override(before.settings, {name: ""})
        if any("has this name" in fault for fault in faults):
            raise CommandFailed("; ".join(faults) + _hint(name, before))
        output.say(f"{domain}: {name} was not set in Redis")
        return os.EX_OK
    after, _ = override(
        config.settings_for(domain), {field: value for field, value in before.fields.items() if field != name}
    )
    if trouble := precautions.does_not_fit(config, domain, after):
        raise CommandFailed(f"{domain}: {trouble}; nothing was changed")
    again, told = precautions.grace_again(before, after)
    key = redis_names.domain(domain)
    commands: list[Command] = [("HDEL", key, name)]
    if again:
        commands.append(("HSET", key, *again))
    toggles.change(*commands)
    if name in effective.NAMES or name in effective.CHECK_NAMES:
        place = effective.meant(name, before.fields[name])
        found = effective.read(config, toggles, domain)
        output.say(f"{domain}: {place} = {found.value(place) or '(empty)'}, from {found.origin(place)}")
    else:
        output.say(f"{domain}: {name} is gone")
    for line in told:
        output.say(line)
    output.say(f"the same by hand: {_by_hand(toggles, commands)}")
    return os.EX_OK


def _add(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.cli import precautions
    from backstop.cli.names import new_domain
    from backstop.cli.store import open_store, protected

    config, toggles = open_store(arguments)
    domain = new_domain(arguments.domain)
    if domain in config.domains:
        output.say(f"{domain}: protected already, by {config.path}")
        return os.EX_OK
    commands: list[Command] = [("SADD", redis_names.DOMAINS, domain)]
    is_new = not protected(config, toggles, domain)
    if is_new:  # the key that signs for it may be old
        commands.append(("HSET", redis_names.domain(domain), *precautions.newly_protected(time.time())))
    toggles.change(*commands)
    output.say(f"{domain}: protected" + ("" if is_new else " already"))
    if config.ring.signer(domain) is None:
        output.say("no key signs for it: mail goes out without tags; see `backstop key new`")
    output.say(f"the same by hand: {_by_hand(toggles, commands)}")
    return os.EX_OK


def _remove(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.cli.names import domain as folded
    from backstop.cli.store import open_store

    config, toggles = open_store(arguments)
    domain = folded(arguments.domain)
    if domain in config.domains:
        raise CommandFailed(f"{domain} is protected by {config.path}; take it out of domains there")
    (removed,) = toggles.change(("SREM", redis_names.DOMAINS, domain))
    output.say(f"{domain}: protected no more" if removed else f"{domain}: was not protected")
    output.say(f"the same by hand: {toggles.redis_cli('SREM', redis_names.DOMAINS, domain)}")
    return os.EX_OK


def _by_hand(toggles: "Toggles", commands: "list[Command]") -> str:
    return " && ".join(toggles.redis_cli(*words) for words in commands)


def _grace_end(config: "Config", domain: str, settings: "DomainSettings") -> str | None:
    """The first day on which a missing tag counts; None where it counts today, or nothing is signed."""
    from backstop import grace
    from backstop.batv import day_of

    found = grace.of_domain(config.ring, domain, settings)
    return None if found is None or day_of(time.time()) >= found.end else _date(found.end)


def _date(day: int) -> str:
    from backstop.cli.times import date_text

    return date_text(day)
