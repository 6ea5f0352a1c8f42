"""Daemons for the tests of this ring."""

from collections.abc import Callable, Iterator

import pytest

from tests.harness.daemon import Daemon


@pytest.fixture
def stand_in() -> Iterator[Daemon]:
    """A daemon that was configured but not started; its service does what the recipient's name says."""
    with Daemon() as daemon:
        daemon.configure(settings(daemon))
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
