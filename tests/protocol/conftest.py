"""Daemons for the tests of this ring."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.harness.daemon import BACKSTOP, Daemon

KEY_FILE = """
[[key]]
number = 1
secret = "sixteen octets or more"
state = "sign"
domains = ["*"]
created = 2026-01-01
max_lifetime = "11d"
"""


@pytest.fixture
def stand_in() -> Iterator[Daemon]:
    """A daemon that was configured but not started; its service does what the recipient's name says."""
    with Daemon() as daemon:
        daemon.configure(settings(daemon))
        yield daemon


@pytest.fixture
def backstop() -> Iterator[Daemon]:
    """`backstop serve`, configured but not started, without a Redis."""
    with Daemon(BACKSTOP) as daemon:
        daemon.configure(backstop_settings(daemon))
        yield daemon


@pytest.fixture
def write(stand_in: Daemon) -> Callable[..., None]:
    """Write the stand-in's configuration: `write(tag="two", workers=3)`."""

    def _write(**more: object) -> None:
        stand_in.configure(settings(stand_in, **more))

    return _write


def settings(daemon: Daemon, **more: object) -> str:
    """The stand-in's configuration file."""
    values = {"socket": daemon.target, "workers": 2, "tag": "one", **more}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'


def backstop_settings(daemon: Daemon, *defaults: str, store: str = "redis://127.0.0.1:1/0") -> str:
    """A configuration of Backstop's own, with a key file beside it; without a `store` nobody answers there.

    `defaults` are lines of the section of that name.
    """
    keys = daemon.folder / "keys.toml"
    if not keys.exists():
        keys.write_text(KEY_FILE)
        keys.chmod(0o400)
        os.chown(keys, daemon.user, -1)
    return (
        f'socket = "{daemon.target}"\nworkers = 2\nkeys = "{keys}"\ndomains = ["example.com"]\n'
        f'store = "{store}"\n[defaults]\ntag_form = "prvs"\n' + "".join(f"{line}\n" for line in defaults)
    )
