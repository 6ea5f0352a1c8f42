"""What a configuration may well mean, but should know about."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from backstop import grace
from backstop.adapters.postfix_table import can_be_seen_empty
from backstop.adapters.redis_place import parse_place
from backstop.batv import DAY, day_of
from backstop.config.model import Config
from backstop.plain import plain
from backstop.settings import SourceKind
from backstop.tomlfile import TomlFile

MAX_GRACED: Final = 20
"""Domains in grace that are named."""

MAX_NAMED: Final = 3
"""Domains that one warning names."""

_LOOPBACK = re.compile(r"inet6?:[0-9]+@(?:127\.[0-9.]+|::1|localhost)")


def warnings(config: Config, file: TomlFile, now: float) -> tuple[str, ...]:
    """All of them, in the form of a fault. `now` is in seconds since 1970."""

    def line(text: str, *place: str | int) -> str:
        return plain(f"{config.path}:{file.line(*place)}: {text}")

    return (
        *(line(f"socket: {text}", "socket") for text in _socket(config)),
        *(line(f"store: {text}", "store") for text in _store(config)),
        *(line(f"keys: {text}", "keys") for text in _forgetful(config)),
        *(line(f"domains: {text}", "domains") for text in _unsigned(config)),
        *(line(f"domains: {text}", "domains") for text in _graced(config, now)),
        *(line(f"recipients: {text}", "domains") for text in _missing_files(config)),
        *(line(f"recipients: {text}", "domains") for text in _unseen_tables(config)),
    )


def _socket(config: Config) -> Iterator[str]:
    if config.socket.startswith("unix:"):
        folder = Path(config.socket.removeprefix("unix:")).parent
        if fault := _unfit(folder, os.path.isdir, os.F_OK):
            yield f"the directory {folder} {fault}"
        return
    yield "TCP is slow here (40 ms a message wait for acknowledgements); a unix socket is not"
    if not _LOOPBACK.fullmatch(config.socket):
        yield "whoever reaches this address can speak to the milter as if it were the mail server"


def _store(config: Config) -> Iterator[str]:
    try:
        mode = config.path.stat().st_mode
    except OSError:
        return
    place = parse_place(config.store)
    if mode & stat.S_IROTH and (place.password or place.sentinel_password):
        yield f"it holds a password, and everybody can read {config.path}; chmod o= {config.path}"


def _forgetful(config: Config) -> Iterator[str]:
    wanted = any(settings.remembers for settings in (config.defaults, *config.by_domain.values()))
    if wanted and not config.ring.memory_secret:
        yield (
            f"{config.keys} has no [memory]: sent mail is not remembered, so memory and correspondent prove"
            " nothing; the next `backstop key new` or `backstop key rotate` makes one"
        )


def _unsigned(config: Config) -> Iterator[str]:
    names = [domain for domain in config.domains if config.ring.signer(domain) is None]
    if names:
        yield f"no key signs for {_listed(names)}: mail goes out without tags; see `backstop key new`"


def _graced(config: Config, now: float) -> Iterator[str]:
    named = 0
    for domain in config.domains:
        found = grace.of_domain(config.ring, domain, config.settings_for(domain))
        if found is None or day_of(now) >= found.end:
            continue
        named += 1
        if named <= MAX_GRACED:
            date = datetime.fromtimestamp(found.end * DAY, UTC).date()
            since = datetime.fromtimestamp(found.since * DAY, UTC).date()
            yield (
                f"{domain} is in grace until {date}: until then a missing tag is only observed"
                f" (since {since}: {found.why})"
            )
    if named > MAX_GRACED:
        yield f"{named - MAX_GRACED} more domains are in grace; see `backstop domain list`"


def _missing_files(config: Config) -> Iterator[str]:
    for path in _sources(config, SourceKind.FILE):
        if fault := _unfit(Path(path), os.path.isfile, os.R_OK):
            yield f"the file {path} {fault}; until then its domain's recipients are unknown"


def _unseen_tables(config: Config) -> Iterator[str]:
    for table in _sources(config, SourceKind.POSTFIX):
        if not can_be_seen_empty(table):
            yield (
                f"nothing would show that postfix:{table} is empty, and all its recipients would be refused;"
                " ldap:NAME and sql:NAME see it"
            )


def _sources(config: Config, kind: SourceKind) -> list[str]:
    """What the sources of one kind name."""
    every = [config.defaults, *(config.settings_for(domain) for domain in config.domains)]
    return sorted({source.argument for one in every for source in one.recipients if source.kind is kind})


def _unfit(path: Path, is_one: Callable[[Path], bool], right: int) -> str:
    """Why a path is of no use to whoever asks, who may not be the user of the daemon; empty where it is."""
    if is_one(path):
        return "" if os.access(path, right) else "gives this user no permission"
    try:
        path.lstat()
    except PermissionError:
        return "is out of this user's reach"
    except OSError:
        return "does not exist yet"
    return "is something else"


def _listed(names: list[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
