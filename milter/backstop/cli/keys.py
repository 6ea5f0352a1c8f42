"""The commands `key new`, `list`, `rotate`, `retire` and `lifetime`: the key ring.

A secret is never printed, and never an argument: others see a command line.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.batv import Key, KeyRing

KEYS: Final = Path("/etc/backstop/keys.toml")
MAX_SECRET_OCTETS: Final = 10_000


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    key = commands.add_parser("key", help="the keys that tags are made with", description="The key ring.")
    actions = key.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser(
        "new",
        help="make a key that signs",
        description="Make a key that signs, and the file if there is none. A key there is gets rotated.",
    )
    _add_domains(new, "for whom it signs, as often as there are domains; without it for all")
    new.add_argument("--number", type=int, choices=range(10), metavar="0-9", help="the digit in its tags")
    new.add_argument(
        "--lifetime", metavar="TIME", help="the longest lifetime of its tags; as configured, or 11d"
    )
    new.add_argument(
        "--secret-stdin",
        action="store_true",
        help="read the secret from standard input, to share it with another server; one newline is dropped",
    )
    new.add_argument(
        "--verify-only",
        action="store_true",
        help="with --secret-stdin: the other server signs, this one verifies",
    )
    listing = actions.add_parser("list", help="all keys, without their secrets")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    rotate = actions.add_parser(
        "rotate",
        help="let a new key sign; the old one goes on verifying",
        description="Let a new key sign in place of the one that signs now. The old one goes on verifying.",
    )
    _add_domain(rotate, "the key that signs for this domain, where several keys sign")
    retire = actions.add_parser(
        "retire",
        help="let a key verify no more tags, when none of its own can come back",
        description="Let a key verify no more tags, when none of its own can come back. Disposable addresses"
        " that it made go on.",
    )
    retire.add_argument("number", type=int, choices=range(10), metavar="NUMBER")
    _add_domain(retire, "the key for this domain, where several keys have the number")
    retire.add_argument("--force", action="store_true", help="now: bounces that carry its tags are refused")
    lifetime = actions.add_parser(
        "lifetime",
        help="let the keys that sign know a longer lifetime",
        description="Let the keys that sign know a longer lifetime, before it is configured.",
    )
    lifetime.add_argument("lifetime", metavar="TIME", help="such as 20d")
    for parser, run in (
        (new, _new),
        (listing, _list),
        (rotate, _rotate),
        (retire, _retire),
        (lifetime, _lifetime),
    ):
        add_keys(parser)
        parser.set_defaults(run=run)


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a key file."""
    parser.add_argument(
        "--keys", metavar="FILE", type=Path, help="the key file, in place of the configured one"
    )


def _add_domains(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--domain", dest="domains", metavar="DOMAIN", action="append", help=help_)


def _add_domain(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--domain", metavar="DOMAIN", help=help_)


def _new(arguments: argparse.Namespace) -> int:
    from backstop import keyfile
    from backstop.batv import KeyRing, KeyState

    if arguments.verify_only and not arguments.secret_stdin:
        raise CommandFailed("--verify-only goes with --secret-stdin: nobody knows the secret of a new key")
    path, configured = _configured(arguments)
    domains = [_folded(domain) for domain in arguments.domains or ["*"]]
    lifetime = configured if arguments.lifetime is None else _days(arguments.lifetime)
    ring = _read(path) if os.path.lexists(path) else KeyRing(())
    state = KeyState.VERIFY if arguments.verify_only else KeyState.SIGN
    number, today = arguments.number, _today()
    if arguments.secret_stdin:
        secret = _secret()
        changed = _change(lambda: keyfile.import_key(ring, secret, domains, today, lifetime, number, state))
    else:
        changed = _change(lambda: keyfile.new_key(ring, domains, today, lifetime, number))
    _write(path, changed)
    output.say(f"{path}: {_described(changed.keys[-1])}")
    _say_what_counts(path)
    return os.EX_OK


def _rotate(arguments: argparse.Namespace) -> int:
    from backstop import keyfile

    path, _ = _configured(arguments)
    ring = _read(path)
    domain = None if arguments.domain is None else _folded(arguments.domain)
    changed = _change(lambda: keyfile.rotate(ring, _today(), domain))
    _write(path, changed)
    for before, after in zip(ring.keys, changed.keys, strict=False):
        if before != after:
            output.say(f"{path}: {_described(after)}")
    output.say(f"{path}: {_described(changed.keys[-1])}")
    _say_what_counts(path)
    return os.EX_OK


def _retire(arguments: argparse.Namespace) -> int:
    from backstop import keyfile
    from backstop.batv import last_alias_day
    from backstop.cli.times import date_text

    path, _ = _configured(arguments)
    ring = _read(path)
    number = arguments.number
    domain = None if arguments.domain is None else _folded(arguments.domain)
    if arguments.force:
        changed = _change(lambda: keyfile.retire_at_once(ring, number, domain))
    else:
        changed = _change(lambda: keyfile.retire(ring, number, _today(), domain))
    _write(path, changed)
    output.say(f"{path}: key {number} is retired: it verifies no tags any more")
    (gone,) = (after for before, after in zip(ring.keys, changed.keys, strict=True) if before != after)
    output.say(
        f"Disposable addresses made with it go on, up to {date_text(last_alias_day(gone, _today()))} at the"
        " latest; for their sake it stays in the file."
    )
    _say_what_counts(path)
    return os.EX_OK


def _lifetime(arguments: argparse.Namespace) -> int:
    from backstop import keyfile

    path, _ = _configured(arguments)
    lifetime = _days(arguments.lifetime)
    ring = _read(path)
    changed = keyfile.raise_lifetime(ring, lifetime)
    if changed.keys == ring.keys:
        output.say(f"{path}: nothing to do, every key that signs knows {lifetime}d or longer")
        return os.EX_OK
    _write(path, changed)
    output.say(f'{path}: the keys that sign know {lifetime}d; now lifetime = "{lifetime}d" can be configured')
    _say_what_counts(path)
    return os.EX_OK


def _list(arguments: argparse.Namespace) -> int:
    from backstop.cli.times import date_text

    path, _ = _configured(arguments)
    rows = [
        {
            "number": key.number,
            "state": key.state.value,
            "domains": key.domains,
            "created": date_text(key.created),
            "verify_since": None if key.verify_since is None else date_text(key.verify_since),
            "max_lifetime": f"{key.max_lifetime}d",
            "fingerprint": key.fingerprint,
        }
        for key in _read(path).keys
    ]
    if arguments.json:
        output.say_json(rows)
    else:
        headings = [name.replace("_", " ") for name in rows[0]] if rows else ["no key"]
        output.table(headings, [[_cell(cell) for cell in row.values()] for row in rows])
    return os.EX_OK


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "-" if value is None else str(value)


def _described(key: "Key") -> str:
    whom = "all domains" if "*" in key.domains else ", ".join(key.domains)
    deed = {"sign": "signs", "verify": "verifies"}[key.state.value]
    return f"key {key.number} {deed} for {whom} (fingerprint {key.fingerprint})"


def _say_what_counts(path: Path) -> None:
    from backstop.keyfile import SERVICE

    try:
        owner = path.owner()
    except (KeyError, OSError):
        owner = "an unknown user"
    output.say(f"The file belongs to {owner}. `systemctl reload backstop` makes it count.")
    if owner != SERVICE:
        output.say(f"A service that runs as {SERVICE} cannot read it: chown {SERVICE} {path}")


def _configured(arguments: argparse.Namespace) -> tuple[Path, int]:
    """The key file, and the longest lifetime configured, in days.

    The configuration is not checked here: without its keys it is faulty, and keys are what is being made.
    """
    from backstop.settings import PARSERS
    from backstop.tomlfile import TomlFault, read

    try:
        values = read(arguments.config).values
    except TomlFault as fault:
        if os.path.lexists(arguments.config):
            raise CommandFailed(f"{arguments.config}: {fault}", status=os.EX_CONFIG) from None
        values = {}
    tables = [values.get("defaults"), *_tables(values.get("domain"))]
    lifetimes = [PARSERS["lifetime"]("11d")]
    for table in tables:
        try:
            lifetimes.append(PARSERS["lifetime"](table["lifetime"]))
        except (KeyError, TypeError, ValueError):
            continue
    named = values.get("keys")
    path = arguments.keys or (Path(named) if isinstance(named, str) else KEYS)
    return path, max(lifetimes)


def _tables(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []


def _read(path: Path) -> "KeyRing":
    from backstop.keyfile import KeyFileError, read

    try:
        return read(path)
    except KeyFileError as error:
        raise CommandFailed(*error.faults, status=os.EX_CONFIG) from None


def _write(path: Path, ring: "KeyRing") -> None:
    from backstop.keyfile import KeyFileError, write

    try:
        write(path, ring)
    except KeyFileError as error:
        raise CommandFailed(*error.faults, status=os.EX_CANTCREAT) from None


def _change(change: "Callable[[], KeyRing]") -> "KeyRing":
    try:
        return change()
    except ValueError as error:
        raise CommandFailed(f"{error}; nothing was changed") from None


def _secret() -> bytes:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("Secret: ").encode(errors="surrogateescape")
    secret = sys.stdin.buffer.read(MAX_SECRET_OCTETS + 1)
    if len(secret) > MAX_SECRET_OCTETS:
        raise CommandFailed("standard input is no secret: it is too long", status=os.EX_DATAERR)
    return secret.removesuffix(b"\n").removesuffix(b"\r")


def _days(text: str) -> int:
    from backstop.settings import PARSERS

    try:
        days: int = PARSERS["lifetime"](text)
    except ValueError as error:
        raise CommandFailed(f'"{text}": {error}') from None
    return days


def _folded(text: str) -> str:
    from backstop.address import fold_domain

    domain = text if text == "*" else fold_domain(text)
    if domain is None:
        raise CommandFailed(f'"{text}" is no domain')
    return domain


def _today() -> int:
    from backstop.batv import day_of

    return day_of(time.time())
