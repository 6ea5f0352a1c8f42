"""The configuration file: from its text to a `Config`, or to everything that is wrong with it at once.

How a domain's setting is written is `settings`' business, what a key file holds `keyfile`'s. Here names are
known, values are put in their places, and what does not fit together is found.
"""

import time
from pathlib import Path

from backstop.config.model import (
    BUILT_IN,
    Config,
    ConfigurationError,
    Layer,
    LogAddresses,
    Origin,
)
from backstop.config.reader import Reader
from backstop.config.warnings import warnings
from backstop.plain import plain
from backstop.tomlfile import TomlFault, read

__all__ = [
    "BUILT_IN",
    "Config",
    "ConfigurationError",
    "Layer",
    "LogAddresses",
    "Origin",
    "check",
    "load",
]


def load(path: Path) -> Config:
    """The configuration in a file. Raises `ConfigurationError` with every fault there is."""
    config, faults, _ = check(path)
    if config is None:
        raise ConfigurationError(faults)
    return config


def check(path: Path, now: float | None = None) -> tuple[Config | None, tuple[str, ...], tuple[str, ...]]:
    """The configuration, or all its faults; and what deserves a warning. `now` is in seconds since 1970."""
    try:
        file = read(path)
    except TomlFault as fault:
        where = f"{path}:{fault.line}" if fault.line else str(path)
        return None, (plain(f"{where}: {fault.text}"),), ()
    reader = Reader(path, file)
    config = reader.config()
    if config is None:
        return None, reader.sorted_faults(), ()
    return config, (), warnings(config, file, time.time() if now is None else now)
