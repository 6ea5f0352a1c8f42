"""The commands `block`, `unblock` and `status`: the toggle for the bad hour."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.cli.store import Toggles
    from backstop.config import Config


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    block = commands.add_parser(
        "block",
        help="refuse or mark bounces without proof, for a domain or an address",
        description="Act on bounces that cannot prove that we wrote the original, from the next message on.",
    )
    _add_target(block)
    block.add_argument("--for", dest="span", metavar="TIME", help="2d, 12h, or until 2026-11-21T12:00Z")
    block.add_argument(
        "--as", dest="action", metavar="ACTION", default="junk", help="junk (default), reject, ... or off"
    )
    block.add_argument("--reason", default="", metavar="TEXT", help="why, for `backstop status`")
    block.set_defaults(run=_block)
    unblock = commands.add_parser("unblock", help="end a block", description="End a block at once.")
    _add_target(unblock)
    unblock.set_defaults(run=_unblock)
    status = commands.add_parser(
        "status",
        help="what is blocked, and what happened today",
        description="All blocks there are, whether the store answers, and today's counters.",
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("name", metavar="DOMAIN|ADDRESS", nargs="?")
    target.add_argument("--all", action="store_true", help="all protected domains")
    parser.add_argument("--force", action="store_true", help="also where the domain is not protected")


def _block(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.cli.store import open_store
    from backstop.cli.times import moment_text, parse_span
    from backstop.settings import parse_action

    now = time.time()
    try:
        action = parse_action(arguments.action)
        seconds = None if arguments.span is None else parse_span(arguments.span, now)
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    config, toggles = open_store(arguments)
    name = _target(config, toggles, arguments)
    key = redis_names.block(name) if name else redis_names.BLOCK_ALL
    info = redis_names.block_info(name) if name else redis_names.BLOCK_ALL_INFO
    expiry = () if seconds is None else ("EX", seconds)
    said = {"by": _person(), "why": arguments.reason}
    if seconds is not None:
        said["until"] = moment_text(now + seconds)
    commands: list[tuple[bytes | str | int, ...]] = [
        ("SET", key, action.label, *expiry),
        ("DEL", info),
        ("HSET", info, *(word for field, value in said.items() if value for word in (field, value))),
    ]
    if seconds is not None:
        commands.append(("EXPIRE", info, seconds))
    toggles.change(*commands)
    until = f" until {said['until']}" if seconds is not None else ", until `backstop unblock`"
    shown = name or "all protected domains"
    if action.label == "off":
        output.say(f"{shown}: no block holds, not even a wider one{until}")
    else:
        output.say(f"{shown}: bounces without proof are answered with {action.label}{until}")
    output.say(f"the same by hand: {toggles.redis_cli('SET', key, action.label, *expiry)}")
    return os.EX_OK


def _unblock(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.cli.blocklist import holding
    from backstop.cli.store import open_store

    config, toggles = open_store(arguments)
    name = _target(config, toggles, arguments)
    key = redis_names.block(name) if name else redis_names.BLOCK_ALL
    info = redis_names.block_info(name) if name else redis_names.BLOCK_ALL_INFO
    existed, _ = toggles.change(("DEL", key), ("DEL", info))
    shown = name or "all protected domains"
    output.say(f"{shown}: the block is off" if existed else f"{shown}: no block was on")
    output.say(f"the same by hand: {toggles.redis_cli('DEL', key, info)}")
    if name and (wider := holding(toggles, name)):
        output.say(
            f"still on is the block of {wider.shown_name} ({wider.value}); `backstop block {name} --as off`"
            " exempts this one from it"
        )
    return os.EX_OK


def _target(config: "Config", toggles: "Toggles", arguments: argparse.Namespace) -> str:
    """The last part of the block's key; empty for all domains."""
    from backstop.cli.names import block_name, not_protected
    from backstop.cli.store import protected

    if arguments.all:
        return ""
    name = block_name(config, toggles, arguments.name)
    domain = name.rpartition("@")[2]
    if not arguments.force and not protected(config, toggles, domain):
        raise CommandFailed(f"{not_protected(config, domain)}; --force does it all the same")
    return name


def _person() -> str:
    """Who gives the command: the person behind sudo, where there is one."""
    import pwd

    if person := os.environ.get("SUDO_USER"):
        return person
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _status(arguments: argparse.Namespace) -> int:
    from backstop.cli.blocklist import all_blocks
    from backstop.cli.counters import today
    from backstop.cli.store import all_domains, open_store

    config, toggles = open_store(arguments)
    domains = all_domains(config, toggles)
    blocks = all_blocks(toggles, domains)
    counts = today(toggles, domains, time.time())
    if arguments.json:
        output.say_json(
            {
                "store": {"url": str(toggles), "reachable": True},
                "blocks": [block.as_json() for block in blocks],
                "today": counts,
            }
        )
        return os.EX_OK
    output.say(f"store: {toggles} answers")
    output.say()
    if blocks:
        output.table(("blocked", "action", "left", "by", "why"), [block.as_row() for block in blocks])
    else:
        output.say("no block is on")
    output.say()
    output.table(
        ("today (UTC)", "bounces", "proved", "observed", "junk", "refused", "tagged"),
        [(domain, *map(str, _columns(counts[domain]))) for domain in domains],
    )
    return os.EX_OK


def _columns(counts: dict[str, int]) -> tuple[int, ...]:
    def total(*names: str) -> int:
        return sum(counts.get(name, 0) for name in names)

    return (
        total("bounce.seen"),
        total("bounce.proved"),
        total("action.observe"),
        total("action.junk", "action.quarantine", "action.discard"),
        total("action.reject", "action.tempfail"),
        total("outgoing.tagged"),
    )
