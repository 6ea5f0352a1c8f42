"""Reads the key file, until `backstop.keyfile` does."""

import tomllib
from datetime import date
from pathlib import Path

from backstop.batv import Key, KeyRing, KeyState
from backstop.settings import DAY, parse_duration

_EPOCH = date(1970, 1, 1).toordinal()


class KeyFileError(Exception):
    """The key file is wrong."""


def load(path: Path) -> KeyRing:
    """The ring in a key file. Raises `KeyFileError`."""
    try:
        values = tomllib.loads(path.read_text())
        keys = [
            Key(
                number=key["number"],
                secret=bytes.fromhex(key["secret_hex"]) if "secret_hex" in key else key["secret"].encode(),
                state=KeyState(key["state"]),
                domains=tuple(key["domains"]),
                created=key["created"].toordinal() - _EPOCH,
                max_lifetime=parse_duration(key["max_lifetime"]) // DAY,
            )
            for key in values["key"]
        ]
    except (OSError, ValueError, KeyError) as error:
        raise KeyFileError(f"{path}: {error}") from None
    return KeyRing(keys, bytes.fromhex(values.get("memory", {}).get("secret_hex", "")))
