"""The commands `tag sign` and `tag check`: one tag, made and judged by the daemon's own code."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.keys import add_keys
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.address import Address
    from backstop.batv import KeyRing, Tag, TagState
    from backstop.settings import DomainSettings

NOT_GOOD = 1
"""The exit status for a tag that is not good."""


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    tag = commands.add_parser("tag", help="make or check a tag", description="Make or check one tag.")
    actions = tag.add_subparsers(metavar="ACTION", required=True)
    sign = actions.add_parser(
        "sign",
        help="an address with the tag it would have",
        description="An address with the tag it would have; without a configuration prvs for 11 days.",
    )
    check = actions.add_parser(
        "check",
        help="what a tagged or disposable address is worth; exit status 0 good, 1 not",
        description="What a tagged or disposable address is worth. Exit status 0 for a good one, else 1.",
    )
    for parser, run in ((sign, _sign), (check, _check)):
        parser.add_argument("address", metavar="ADDRESS")
        add_keys(parser)
        parser.add_argument("--at", metavar="TIME", help="as if it were 2026-11-21 or 2026-11-21T12:00Z")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(run=run)


def _sign(arguments: argparse.Namespace) -> int:
    from backstop import batv

    address = _address(arguments.address)
    ring, settings = _means(arguments, address.domain)
    if batv.is_tagged(address):
        raise CommandFailed(f"{address.path} is tagged already", status=os.EX_DATAERR)
    if not batv.can_be_tagged(address):
        raise CommandFailed(
            f"{address.path} goes out as it is: its local part needs quotes or is longer than"
            f" {batv.MAX_TAGGABLE_OCTETS} octets",
            status=os.EX_DATAERR,
        )
    key = ring.signer(address.domain)
    if key is None:
        raise CommandFailed(f"no key signs for {address.domain}", status=os.EX_CONFIG)
    lifetime = min(settings.lifetime, key.max_lifetime)
    path = batv.sign(address, key, _day(arguments), lifetime, settings.tag_form, settings.tag_case)
    if arguments.json:
        output.say_json(
            {"address": address.path, "tagged": path, "key": key.number, "fingerprint": key.fingerprint}
        )
    else:
        output.say(path)
    return os.EX_OK


def _check(arguments: argparse.Namespace) -> int:
    from backstop import batv
    from backstop.batv import TagState

    address = _address(arguments.address)
    ring, settings = _means(arguments, address.domain)
    today = _day(arguments)
    found: dict[str, object] = {"address": address.path, "state": TagState.NONE.value}
    delimiters = settings.recipient_delimiter
    if (tag := batv.parse(address, delimiters)) is not None:
        found |= _described("tag", tag, batv.verify(tag, ring, today), _last_day(tag, today))
    elif (label := batv.parse_alias(address, delimiters)) is not None:
        last_day = batv.alias_last_day(label, ring, today)
        state = batv.verify_alias(label, ring, today)
        found |= _described(
            "disposable address", label, state, _last_day(label, today) if last_day is None else last_day
        )
    if arguments.json:
        output.say_json(found)
    else:
        output.say(_sentence(found))
    return os.EX_OK if found["state"] == TagState.GOOD.value else NOT_GOOD


def _described(kind: str, tag: "Tag", state: "TagState", last_day: int) -> dict[str, object]:
    from backstop.cli.times import date_text

    return {
        "state": state.value,
        "kind": kind,
        "inner": tag.inner.path,
        "key": tag.number,
        "last_day": date_text(last_day),
    }


def _sentence(found: dict[str, object]) -> str:
    if "kind" not in found:
        return f"{found['state']}: {found['address']} carries no tag"
    state = str(found["state"])
    end = _WHY_BAD.get(state, f"last day {found['last_day']}")
    return f"{state}: {found['kind']} of {found['inner']}, key {found['key']}, {end}"


_WHY_BAD: Final = {
    "forged": "which did not make it, or long ago",
    "unknown-key": "which is not in the key file, or is retired and verifies no tags",
}
"""The day in such a tag is anybody's word."""


def _last_day(tag: "Tag", today: int) -> int:
    """The day nearest to today that three digits can mean."""
    ahead = (tag.day - today) % 1000
    return today + (ahead if ahead <= 500 else ahead - 1000)


def _means(arguments: argparse.Namespace, domain: str) -> "tuple[KeyRing, DomainSettings]":
    """Keys and settings: as configured, or with --keys without any configuration."""
    from backstop.batv import TagForm
    from backstop.config import ConfigurationError, load
    from backstop.keyfile import KeyFileError
    from backstop.keyfile import read as read_keys
    from backstop.settings import DomainSettings

    try:
        ring = None if arguments.keys is None else read_keys(arguments.keys)
    except KeyFileError as error:
        raise CommandFailed(*error.faults, status=os.EX_CONFIG) from None
    try:
        config = load(arguments.config)
    except ConfigurationError as error:
        if ring is None:
            raise CommandFailed(*error.faults, status=os.EX_CONFIG) from None
        return ring, DomainSettings(tag_form=TagForm.PRVS, actions={})
    return config.ring if ring is None else ring, config.settings_for(domain)


def _address(text: str) -> "Address":
    from backstop.address import parse

    address = parse(text)
    if address is None or not address.domain:
        raise CommandFailed(f'"{text}" is no address')
    return address


def _day(arguments: argparse.Namespace) -> int:
    from backstop.batv import day_of
    from backstop.cli.times import parse_moment

    try:
        return day_of(time.time() if arguments.at is None else parse_moment(arguments.at))
    except ValueError as error:
        raise CommandFailed(f'"{arguments.at}": {error}') from None
