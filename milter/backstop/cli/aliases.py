"""The commands `alias new`, `off` and `list`: disposable addresses.

Date and hash stand in the address itself, so one can be made while the store is away. Its record there is
claimed for one note: two addresses of one user that end on the same day would be the same.
"""

import argparse
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.address import Address
    from backstop.batv import Key
    from backstop.cli.store import Toggles
    from backstop.config import Config
    from backstop.settings import DomainSettings

MAX_NOTE: Final = 200
"""Characters."""

_STORE_FAILED: Final = (os.EX_UNAVAILABLE, os.EX_TEMPFAIL, os.EX_PROTOCOL)


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    alias = commands.add_parser(
        "alias", help="disposable addresses: they end by themselves", description="Disposable addresses."
    )
    actions = alias.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser(
        "new",
        help="make an address of a user that ends on a day",
        description="Make an address of a user that is refused after its last day. Mail to it reaches the"
        " user by the mail server's recipient_delimiter.",
    )
    new.add_argument("address", metavar="USER@DOMAIN")
    new.add_argument(
        "--for", dest="span", metavar="TIME", required=True, help="whole days from today, 1d to 500d"
    )
    new.add_argument("--note", default="", metavar="TEXT", help="what it is for, for `backstop alias list`")
    new.add_argument(
        "--delimiter", metavar="CHARACTER", help="one of recipient_delimiter; without it the first"
    )
    new.set_defaults(run=_new)
    off = actions.add_parser("off", help="refuse mail to a disposable address from now on")
    off.add_argument("address", metavar="ADDRESS")
    off.add_argument("--undo", action="store_true", help="take its mail again, up to its last day")
    off.set_defaults(run=_off)
    listing = actions.add_parser("list", help="disposable addresses with note, use and end")
    listing.add_argument("name", metavar="DOMAIN|USER@DOMAIN", nargs="?", help="of these alone")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    listing.set_defaults(run=_list)


@dataclass(frozen=True, slots=True)
class _Maker:
    """What an address is made of, but for its last day."""

    user: "Address"
    key: "Key"
    delimiter: str

    def path(self, last_day: int) -> str:
        """The disposable address that ends on a day (since 1970)."""
        from backstop.batv import sign_alias

        return sign_alias(self.user, self.key, last_day, self.delimiter)

    def record(self, last_day: int) -> bytes:
        """The key of its record."""
        from backstop.adapters import redis_names
        from backstop.address import parse

        address = parse(self.path(last_day))
        assert address is not None
        return redis_names.alias(address.folded)


def _new(arguments: argparse.Namespace) -> int:
    from backstop.batv import MAX_ALIAS_DAYS, day_of
    from backstop.cli import names
    from backstop.cli.store import open_store
    from backstop.cli.times import date_text

    today = day_of(time.time())
    wanted = today + _days(arguments.span)
    if len(arguments.note) > MAX_NOTE:
        raise CommandFailed(f"the note has {len(arguments.note)} characters; at most {MAX_NOTE} are kept")
    user = names.address(arguments.address)
    config, toggles = open_store(arguments)
    settings, trouble = _settings(config, toggles, user.domain)
    maker = _maker(config, settings, user, arguments.delimiter)
    last_day = wanted
    if not trouble:
        try:
            last_day = _claimed(toggles, maker, arguments.note, wanted, today + MAX_ALIAS_DAYS)
        except CommandFailed as failure:
            if failure.status not in _STORE_FAILED:
                raise
            trouble = failure.lines
    output.say(maker.path(last_day))
    end = date_text(last_day)
    output.say(f"takes mail up to and on {end} (UTC), unless `backstop alias off` ends it before")
    if last_day > wanted:
        output.say(
            f"not only up to {date_text(wanted)}: another address of {user.path} ends then, and would be the"
            " same"
        )
    if trouble:
        by_hand = toggles.redis_cli("HSET", maker.record(last_day), "note", arguments.note, "until", end)
        output.complain(
            *trouble,
            "the address holds all the same, by its date and hash; but its note is not kept, and nobody knows"
            f" whether it was given out before with this end. When the store answers again: {by_hand}",
        )
    if (action := settings.actions.get("alias")) is not None and action.label in ("off", "observe"):
        output.complain(f"the check `alias` is {action.label} for {user.domain}: its end refuses no mail")
    return os.EX_OK


def _days(text: str) -> int:
    from backstop.batv import MAX_ALIAS_DAYS
    from backstop.settings import DAY, parse_duration

    try:
        days, rest = divmod(parse_duration(text), DAY)
    except ValueError:
        days, rest = 0, 0
    if rest or not 1 <= days <= MAX_ALIAS_DAYS:
        raise CommandFailed(f'"{text}": whole days are wanted, "1d" to "{MAX_ALIAS_DAYS}d"')
    return days


def _settings(config: "Config", toggles: "Toggles", domain: str) -> "tuple[DomainSettings, tuple[str, ...]]":
    """The settings of a protected domain, by the file alone where the store fails; then why it does."""
    from backstop.cli import effective, names
    from backstop.cli.store import protected

    try:
        is_ours = protected(config, toggles, domain)
        settings = effective.read(config, toggles, domain).settings
    except CommandFailed as failure:  # the store's
        if domain in config.domains:
            return effective.by_file(config, domain).settings, failure.lines
        raise CommandFailed(
            *failure.lines,
            f"so nobody knows whether {domain} is protected; try again when it answers",
            status=os.EX_TEMPFAIL,
        ) from None
    if not is_ours:
        raise CommandFailed(names.not_protected(config, domain))
    return settings, ()


def _maker(config: "Config", settings: "DomainSettings", user: "Address", delimiter: str | None) -> _Maker:
    """What makes addresses of this user. Raises `CommandFailed` where mail to them would not reach it."""
    from backstop import batv
    from backstop.address import MAX_LOCAL_OCTETS, without_extension
    from backstop.policy import NEVER_REFUSED

    allowed = settings.recipient_delimiter
    if not allowed:
        raise CommandFailed(
            f"{user.domain} has no recipient_delimiter, so mail to a disposable address would not reach its"
            " user; set one in the mail server and under the same name in the configuration file",
            status=os.EX_CONFIG,
        )
    if delimiter is not None and (len(delimiter) != 1 or delimiter not in allowed):
        raise CommandFailed(f'"{delimiter}" is none of recipient_delimiter of {user.domain}, "{allowed}"')
    key = config.ring.signer(user.domain)
    if key is None:
        raise CommandFailed(
            f"no key signs for {user.domain}; make one with `backstop key new`", status=os.EX_CONFIG
        )
    if batv.is_tagged(user):
        raise CommandFailed(f"{user.path} carries a tag; name the address without it")
    most = MAX_LOCAL_OCTETS - batv.ALIAS_OCTETS
    if not user.is_plain or len(user.local.encode()) > most:
        raise CommandFailed(
            f"{user.path} has no room for it: its local part needs quotes or is longer than {most} octets"
        )
    if user.local.lower() in NEVER_REFUSED:
        raise CommandFailed(f"mail to {user.path} is never refused, so no address of it can end")
    chosen = delimiter or allowed[0]
    reached = without_extension(f"{user.local}{chosen}d-0000000000", allowed)
    if reached != user.local:
        raise CommandFailed(
            f'the mail server divides addresses of {user.domain} at the first of "{allowed}", so mail to a'
            f" disposable address of {user.path} would go to {reached}@{user.domain}; name the user without"
            " an extension"
        )
    return _Maker(user, key, chosen)


def _claimed(toggles: "Toggles", maker: _Maker, note: str, wanted: int, latest: int) -> int:
    """The first day from the wanted one on whose address is free or has this very note already.

    One that has a record without a note is taken: it was made while the store was away, and used since.
    """
    from backstop.adapters.redis_alias import end_command, is_off
    from backstop.adapters.redis_store import ReplyError, pack
    from backstop.cli.store import text
    from backstop.cli.times import date_text
    from backstop.settings import DAY

    for day in range(wanted, latest + 1):
        record = maker.record(day)
        kind, there = toggles.ask(pack("TYPE", record), pack("HMGET", record, "note", "off"))
        match kind, there:
            case ReplyError() as error, _:
                raise CommandFailed(f"the store {toggles} refused: {error.text}", status=os.EX_UNAVAILABLE)
            case b"hash", [bytes() as kept, off] if text(kept) == note and not is_off(off):
                return day
            case b"none", _:
                claimed, *_ = toggles.change(
                    ("HSETNX", record, "note", note),
                    ("HSET", record, "until", date_text(day)),
                    end_command(record, (day + 1) * DAY),
                )
                if claimed == 1:  # nobody else was quicker
                    return day
    raise CommandFailed(
        f"{maker.user.path} has a disposable address for each day from {date_text(wanted)} to"
        f" {date_text(latest)}, the last that may be; take one that ends earlier"
    )


def _off(arguments: argparse.Namespace) -> int:
    from backstop.adapters import redis_names
    from backstop.adapters.redis_alias import end_command
    from backstop.cli import names
    from backstop.cli.store import open_store
    from backstop.cli.times import date_text
    from backstop.settings import DAY

    config, toggles = open_store(arguments)
    written = names.address(arguments.address)
    try:
        address, last_day, has_ended = _known(config, toggles, written)
        record = redis_names.alias(address.folded)
        end = date_text(last_day)
        if has_ended:
            output.say(f"{address.path}: refused since the end of {end} (UTC); nothing to do")
        elif arguments.undo:
            (there,) = toggles.change(("HDEL", record, "off"))
            state = "switched on again" if there else "was not switched off"
            output.say(f"{address.path}: {state}; it takes mail up to and on {end} (UTC)")
            output.say(f"the same by hand: {toggles.redis_cli('HDEL', record, 'off')}")
        else:
            toggles.change(
                ("HSET", record, "off", "1", "until", end), end_command(record, (last_day + 1) * DAY)
            )
            output.say(f"{address.path}: switched off, from the next message on")
            output.say(f"the same by hand: {toggles.redis_cli('HSET', record, 'off', '1')}")
    except CommandFailed as failure:
        if toggles.store.available:
            raise
        raise CommandFailed(
            *failure.lines,
            "nothing is changed: the address takes mail up to its last day until the command is given again",
            status=os.EX_TEMPFAIL,
        ) from None
    return os.EX_OK


def _known(config: "Config", toggles: "Toggles", written: "Address") -> "tuple[Address, int, bool]":
    """A disposable address of ours without its tag, its last day, and whether that is over."""
    from backstop import batv
    from backstop.batv import TagState
    from backstop.cli import effective, names
    from backstop.cli.store import protected

    if not protected(config, toggles, written.domain):
        raise CommandFailed(names.not_protected(config, written.domain))
    delimiters = effective.read(config, toggles, written.domain).settings.recipient_delimiter
    tag = batv.parse(written, delimiters)
    address = tag.inner if tag else written
    label = batv.parse_alias(address, delimiters)
    today = batv.day_of(time.time())
    last_day = None if label is None else batv.alias_last_day(label, config.ring, today)
    if label is None or last_day is None:
        raise CommandFailed(
            f"{address.path} is no disposable address that a key of ours made: it is the user's own, and"
            " cannot be switched off"
        )
    return address, last_day, batv.verify_alias(label, config.ring, today) is TagState.EXPIRED


def _list(arguments: argparse.Namespace) -> int:
    from backstop.cli.aliaslist import MOST, known_aliases
    from backstop.cli.store import open_store

    config, toggles = open_store(arguments)
    rows, faults, more = known_aliases(config, toggles, arguments.name, time.time())
    if arguments.json:
        output.say_json([row.as_json() for row in rows])
    elif rows:
        output.table(
            ("address", "note", "used", "last use", "last day", "state"), [row.as_row() for row in rows]
        )
    else:
        output.say("no disposable address is known here")
    output.complain(*faults)
    if more:
        output.complain(f"there are more than {MOST:,}; name a domain or a user")
    return os.EX_OK
