"""Keys in the store that mean nothing, or that nobody reads because of how they are written."""

import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Final

from backstop.adapters import redis_alias, redis_names
from backstop.adapters.redis_store import ReplyError, pack
from backstop.address import fold_domain, parse
from backstop.cli import names
from backstop.cli.examinations.finding import Examination, Finding, fine, wrong
from backstop.cli.examinations.surroundings import Surroundings
from backstop.cli.output import CommandFailed
from backstop.cli.store import text
from backstop.settings import parse_block

MAX_NAMED: Final = 20
"""Findings about keys; whoever wrote a thousand wrong ones knows by then."""

MAX_ALIASES: Final = 100_000
"""Disposable addresses that are looked at."""

_TYPES: Final = {
    redis_names.DOMAINS: "set",
    redis_names.UNTAGGED: "hash",
    redis_names.EVENTS: "stream",
    redis_names.SEEN: "hash",
}
_VALUE_END: Final = 63


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at the types and values of the keys by which an administrator decides."""
    if surroundings.away:
        return
    count = 0
    try:
        for finding in (
            *_names(surroundings),
            *_types(surroundings),
            *_settings(surroundings),
            *_blocks(surroundings),
            *_aliases(surroundings),
        ):
            count += 1
            if count <= MAX_NAMED:
                yield finding
    except CommandFailed as failure:  # it went away, or one of its keys cannot be read
        yield wrong("store", str(failure), "look at the key with redis-cli")
        return
    if count > MAX_NAMED:
        yield wrong("store", f"{count - MAX_NAMED} more keys mean nothing", "mend those named first")
    if not count:
        yield fine("store", "every setting, block and disposable address in it means something")


def _names(surroundings: Surroundings) -> Iterator[Finding]:
    for name in surroundings.misnamed:
        meant = fold_domain(name.strip())
        yield wrong(
            text(redis_names.DOMAINS),
            f'"{name}" is '
            + (f"written {meant}" if meant else "no domain")
            + ", so nothing is protected by it",
            (f"`backstop domain add {meant}`, then " if meant else "")
            + surroundings.toggles.redis_cli("SREM", redis_names.DOMAINS, name),
        )


def _types(surroundings: Surroundings) -> Iterator[Finding]:
    wanted = dict(_TYPES)
    for domain in surroundings.domains:
        wanted |= {
            redis_names.domain(domain): "hash",
            redis_names.recipients(domain): "set",
            redis_names.count(domain): "hash",
            redis_names.elsewhere(domain): "zset",
        }
    found = surroundings.toggles.ask(*(pack("TYPE", key) for key in wanted))
    for (key, kind), reply in zip(wanted.items(), found, strict=True):
        is_one = text(reply)
        if not isinstance(reply, ReplyError) and is_one not in (kind, "none"):
            yield wrong(
                text(key),
                f"is a {is_one} where a {kind} is wanted, so it is passed over",
                surroundings.toggles.redis_cli("DEL", key) + " takes it away",
            )


def _settings(surroundings: Surroundings) -> Iterator[Finding]:
    """What `override` finds in the hashes of domains; a key that is no hash was told of already."""
    for domain in surroundings.domains:
        found = surroundings.effective(domain)
        for fault in found.faults if found.fields else ():
            key, _, rest = fault.partition(": ")
            field = shlex.quote(rest.partition(":")[0])  # cures are for a shell
            yield wrong(
                key,
                f"{rest}; the field is passed over",
                f"`backstop domain unset {domain} {field}`, or `backstop domain set {domain} {field} VALUE`",
            )


def _blocks(surroundings: Surroundings) -> Iterator[Finding]:
    every, prefix = text(redis_names.BLOCK_ALL), text(redis_names.block(""))
    keys = sorted({key for key in surroundings.toggles.names(f"{every}*") if _is_block(key, every, prefix)})
    values = surroundings.toggles.ask(*(pack("GETRANGE", key, 0, _VALUE_END) for key in keys))
    for key, value in zip(keys, values, strict=True):
        delete = surroundings.toggles.redis_cli("DEL", key)
        name = key.removeprefix(prefix) if key != every else ""
        shown = shlex.quote(name) if name else "--all"
        if isinstance(value, ReplyError):
            yield wrong(key, "is no string, so it blocks nothing", f"{delete} takes it away")
        elif value and parse_block(text(value)) is None:
            yield wrong(
                key,
                f'its value "{text(value)}" is no action, so it blocks nothing',
                f"`backstop block {shown} --as junk`, or `backstop unblock {shown}`",
            )
        elif name and (meant := _meant(surroundings, name)) != name:
            yield wrong(
                key,
                "no decision reads this key: "
                + (
                    f"the name is written {meant}" if meant else "its name is neither a domain nor an address"
                ),
                (f"`backstop block {shlex.quote(meant)}`, then " if meant else "")
                + f"{delete} takes it away",
            )


def _aliases(surroundings: Surroundings) -> Iterator[Finding]:
    prefix = text(redis_names.alias(""))
    keys = sorted(set(islice(surroundings.toggles.names(f"{prefix}*"), MAX_ALIASES)))
    values = surroundings.toggles.ask(*(pack("HGET", key, "off") for key in keys))
    for key, off in zip(keys, values, strict=True):
        name = key.removeprefix(prefix)
        address = parse(name)
        delete = surroundings.toggles.redis_cli("DEL", key)
        forget = surroundings.toggles.redis_cli("HDEL", key, "off")
        if isinstance(off, ReplyError):
            yield wrong(key, "is no hash, so it switches nothing off", f"{delete} takes it away")
        elif address is None or not address.domain:
            yield wrong(key, "no decision reads this key: its name is no address", f"{delete} takes it away")
        elif address.folded != name:
            yield wrong(
                key,
                f"no decision reads this key: the name is written {address.folded}",
                f"`backstop alias off {shlex.quote(address.folded)}` if that is meant, then {delete}",
            )
        elif isinstance(off, bytes) and not redis_alias.means_something(off):
            yield wrong(
                key,
                f'its field off, "{text(off[:_VALUE_END])}", means neither yes nor no, so the address is on',
                f"`backstop alias off {shlex.quote(name)}`, or {forget}",
            )


def _is_block(key: str, every: str, prefix: str) -> bool:
    return key == every or key.startswith(prefix)


def _meant(surroundings: Surroundings, name: str) -> str:
    """How the name of a block is written where it is read; empty for what is none."""
    if "@" not in name:
        return fold_domain(name.strip()) or ""
    address = parse(name.strip())
    if address is None or not address.domain or not address.local:
        return ""
    return names.mailbox(address, surroundings.effective(address.domain).settings)


EXAMINATION = Examination("keys of the store", examine)
