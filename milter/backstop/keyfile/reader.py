"""From a key file to a key ring, or to everything that is wrong with it at once."""

import os
import re
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from backstop.address import fold_domain
from backstop.batv import MIN_SECRET_OCTETS, Key, KeyRing, KeyState, day_of
from backstop.settings import PARSERS
from backstop.tomlfile import Place, TomlFault, TomlFile
from backstop.tomlfile import parse as parse_toml

MAX_OCTETS: Final = 1_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_REQUIRED: Final = ("number", "state", "domains", "created", "max_lifetime")
_KNOWN: Final = frozenset({*_REQUIRED, "secret", "secret_hex", "verify_since"})
_HEX = re.compile(r"[0-9a-fA-F]*")
_SAMPLES: Final = {
    "number": "number = 1",
    "state": 'state = "sign"',
    "domains": 'domains = ["*"]',
    "created": "created = 2026-11-21",
    "max_lifetime": 'max_lifetime = "11d"',
}
# What tomllib complains of may quote a character or a name.
_QUOTING = re.compile(r"(not TOML): [^;]*")


class KeyFileError(Exception):
    """The key file cannot be used or written. Each fault names file, line and cure, never the content."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def load(path: Path) -> KeyRing:
    """The keys in a file, of which one signs. Raises `KeyFileError` with every fault there is."""
    ring = read(path)
    if not any(key.state is KeyState.SIGN for key in ring.keys):
        raise KeyFileError([f"{path}: no key signs; make one with `backstop key new`"])
    return ring


def read(path: Path) -> KeyRing:
    """The same for who wants to mend it: perhaps no key signs."""
    octets, faults = _octets(path)
    ring, more = parse(octets, day_of(time.time()))
    if faults or more:
        raise KeyFileError(
            [f"{path}: {text}" for text in faults] + [f"{path}:{line}: {text}" for line, text in more]
        )
    return ring


def parse(octets: bytes, today: int) -> tuple[KeyRing, tuple[tuple[int, str], ...]]:
    """The keys in a file's octets, and what is wrong there, with its line; `today` in days since 1970."""
    if not octets.strip():
        return KeyRing(()), ((1, "the file is empty; remove it, and make a key with `backstop key new`"),)
    try:
        file = parse_toml(octets)
    except TomlFault as fault:
        return KeyRing(()), ((fault.line or 1, _QUOTING.sub(r"\1", fault.text)),)
    reader = _Reader(file, today)
    ring = reader.ring()
    return ring, tuple(sorted(reader.faults))


def _octets(path: Path) -> tuple[bytes, list[str]]:
    try:
        # A pipe or device must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError([f"{path}: this is no ordinary file; the key file itself is wanted"])
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                octets = file.read(MAX_OCTETS + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise KeyFileError([f"{path}: there is no such file; make one with `backstop key new`"]) from None
    except PermissionError:
        raise KeyFileError(
            [f"{path}: no permission to read it; give it to the user this runs as with chown, or use sudo"]
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise KeyFileError([f"{path}: cannot be read: {reason}"]) from None
    if len(octets) > MAX_OCTETS:
        raise KeyFileError([f"{path}: the file is larger than {MAX_OCTETS:,} octets"])
    return octets, _seen_by_others(path, status)


def _seen_by_others(path: Path, status: os.stat_result) -> list[str]:
    faults = []
    mode = stat.S_IMODE(status.st_mode)
    # A credential of systemd belongs to root:root and is opened to the service by an access list, which shows
    # as a right of the group; that group is root's own.
    harmless = stat.S_IRGRP if status.st_uid == status.st_gid == 0 else 0
    if mode & 0o077 & ~harmless:
        faults.append(
            f"others can read it (mode {mode:04o}), and must not: chmod 0400 {path}; then rotate the keys"
        )
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        faults.append(
            "it belongs to another user, who can read it; give it to the user this runs as with chown"
        )
    return faults


class _Reader:
    """Goes through the values of one file and collects faults, each with its line."""

    def __init__(self, file: TomlFile, today: int) -> None:
        self.faults: list[tuple[int, str]] = []
        self._file = file
        self._today = today

    def ring(self) -> KeyRing:
        """The keys without a fault."""
        for name in self._file.values.keys() - {"memory", "key"}:
            self._fault((name,), "the file has a table [memory] and tables [[key]], and nothing else")
        memory = self._memory(self._file.values.get("memory", {}))
        tables = self._file.values.get("key", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fault(("key",), "each key is a table of its own under [[key]]")
            return KeyRing(())
        places = {}
        for number, table in enumerate(tables):
            if (key := self._key(table, ("key", number))) is not None:
                places[number] = key
        self._compare(places)
        return KeyRing(places.values(), memory)

    def _fault(self, place: Place, text: str) -> None:
        self.faults.append((self._file.line(*place), text))

    def _memory(self, table: Any) -> bytes:
        if not isinstance(table, dict):
            self._fault(("memory",), "[memory] is a table")
            return b""
        for name in table.keys() - {"secret", "secret_hex"}:
            self._fault(("memory", name), "[memory] has a secret or secret_hex, and nothing else")
        return self._secret(table, ("memory",)) if table else b""

    def _key(self, table: Mapping[str, Any], place: Place) -> Key | None:
        before = len(self.faults)
        for name in table.keys() - _KNOWN:
            self._fault((*place, name), f"no key has this name; known are {', '.join(sorted(_KNOWN))}")
        for name in _REQUIRED:
            if name not in table:
                self._fault(place, f"this key has no {name}; write {_SAMPLES[name]}")
        secret = self._secret(table, place)
        values = {
            name: self._field(name, value, (*place, name)) for name, value in table.items() if name in _FIELDS
        }
        since = values.get("verify_since")
        if since is not None and values.get("state") is KeyState.SIGN:
            self._fault((*place, "verify_since"), "this key signs; take the line out")
        if len(self.faults) > before:
            return None
        return Key(secret=secret, **values)

    def _field(self, name: str, value: object, place: Place) -> Any:
        try:
            found = _FIELDS[name](value)
        except ValueError as error:
            self._fault(place, f"{name}: {error}")
            return None
        if isinstance(value, date) and found > self._today + 1:
            self._fault(
                place, f"{name}: this day is still to come; write the right one, and look at the clock"
            )
        return found

    def _secret(self, table: Mapping[str, Any], place: Place) -> bytes:
        given = [name for name in ("secret", "secret_hex") if name in table]
        if len(given) != 1:
            many = "secret and secret_hex are both there" if given else "there is no secret"
            self._fault((*place, *given[1:]), f"{many}; write one of them, or let `backstop key new` make it")
            return b""
        name = given[0]
        value = table[name]
        try:
            return _text_secret(value) if name == "secret" else _hex_secret(value)
        except ValueError as error:
            self._fault((*place, name), f"{name}: {error}")
            return b""

    def _compare(self, keys: Mapping[int, Key]) -> None:
        """Holds each key against those before it: number and domain select one, one signs a domain."""
        secrets: dict[bytes, Key] = {}
        signing: dict[str, Key] = {}
        served: dict[int, set[str]] = {}
        for at, key in keys.items():
            twin = secrets.setdefault(key.secret, key)
            if twin is not key:
                self._fault(
                    ("key", at), f"it has the secret of key {twin.number}; let `backstop key new` make one"
                )
            if key.state is KeyState.RETIRED:
                continue
            others = served.setdefault(key.number, set())
            if others and overlap(key.domains, others):
                self._fault(
                    ("key", at, "number"),
                    f"another key has the number {key.number} too, and domains in common; give it another",
                )
            others.update(key.domains)
            for domain in key.domains if key.state is KeyState.SIGN else ():
                if (older := signing.setdefault(domain, key)) is not key:
                    self._fault(
                        ("key", at, "state"),
                        f'keys {older.number} and {key.number} both sign for {domain}; write state = "verify"'
                        " for the older, with verify_since = today's date",
                    )


def overlap(one: Collection[str], other: Collection[str]) -> bool:
    """Whether two keys serve a domain in common."""
    return "*" in one or "*" in other or not set(one).isdisjoint(other)


def _text_secret(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a text in quotes is wanted")  # noqa: TRY004 - one kind of error for all bad values
    return _long_enough(value.encode())


def _hex_secret(value: object) -> bytes:
    if not isinstance(value, str) or len(value) % 2 or not _HEX.fullmatch(value):
        raise ValueError("hexadecimal digits in quotes are wanted, two for each octet")
    return _long_enough(bytes.fromhex(value))


def _long_enough(secret: bytes) -> bytes:
    if len(secret) < MIN_SECRET_OCTETS:
        raise ValueError(
            f"{len(secret)} octets are too few, at least {MIN_SECRET_OCTETS} are wanted;"
            " `backstop key new` makes them"
        )
    return secret


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= 9:
        raise ValueError("a digit from 0 to 9 is wanted")
    return value


def _state(value: object) -> KeyState:
    for state in KeyState:
        if state.value == value:
            return state
    raise ValueError("wanted is one of " + ", ".join(f'"{state.value}"' for state in KeyState))


def _domains(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
        raise ValueError('a list of domains is wanted, or ["*"] for all')
    folded = [entry if entry == "*" else fold_domain(entry) for entry in value]
    if None in folded:
        raise ValueError(
            f"entry {folded.index(None) + 1} is no domain; patterns are not known here, only the whole *"
        )
    return tuple(dict.fromkeys(domain for domain in folded if domain is not None))


def _day(value: object) -> int:
    if type(value) is not date:
        raise ValueError("a day such as 2026-11-21 is wanted, without quotes")
    return value.toordinal() - _EPOCH


_FIELDS: Final[Mapping[str, Any]] = {
    "number": _number,
    "state": _state,
    "domains": _domains,
    "created": _day,
    "max_lifetime": PARSERS["lifetime"],
    "verify_since": _day,
}
