"""What a configuration is, once it was read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from backstop.adapters.slow_sources import SlowOptions
from backstop.batv import KeyRing
from backstop.session import Site
from backstop.settings import PARSERS, DnsList, DomainSettings, Limits, SourceName


class LogAddresses(Enum):
    """How much of an address logs and events show."""

    FULL = "full"
    DOMAIN = "domain"
    HASH = "hash"


class ConfigurationError(Exception):
    """What is wrong, ready to be shown, one fault a line: `FILE:LINE: name: what is wrong; what is meant`."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class Layer(Enum):
    """Which layer of settings gives a value."""

    BUILT_IN = "built-in default"
    DEFAULTS = "defaults"
    DOMAIN = "domain"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting has its value from; `place` is ready to be shown."""

    layer: Layer
    place: str

    def __str__(self) -> str:
        return self.place


BUILT_IN: Final = Origin(Layer.BUILT_IN, Layer.BUILT_IN.value)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a file says. `domains` are folded; only those with a table of their own are in `by_domain`.

    `origins` goes by domain ("" for all of them) and setting, or `actions.<check>`; `origin` reads it.
    """

    path: Path
    socket: str
    workers: int
    store: tuple[str, ...]
    state_directory: Path
    keys: Path
    dkim_keys: Path
    memory_max: int
    resolver: tuple[str, ...]
    slow: SlowOptions
    lists: tuple[DnsList, ...]
    ring: KeyRing
    site: Site
    limits: Limits
    log_addresses: LogAddresses
    domains: tuple[str, ...]
    defaults: DomainSettings
    by_domain: Mapping[str, DomainSettings]
    origins: Mapping[tuple[str, str], Origin] = field(repr=False)

    @property
    def slow_sources(self) -> tuple[SourceName, ...]:
        """The recipient sources of all domains that take their time, each once."""
        every = (self.defaults, *self.by_domain.values())
        names = (name for settings in every for name in settings.recipients)
        return tuple(dict.fromkeys(name for name in names if name.kind.is_slow))

    def settings_for(self, domain: str) -> DomainSettings:
        """The settings that a folded domain has by the file."""
        return self.by_domain.get(domain, self.defaults)

    def origin(self, domain: str, name: str) -> Origin:
        """Where the file has a domain's setting from.

        An action goes by its check's name, or by `actions.<check>` where a setting has that name too.
        """
        wanted = name if name in PARSERS or "." in name else f"actions.{name}"
        places = ((domain, wanted), ("", wanted))
        return next((self.origins[place] for place in places if place in self.origins), BUILT_IN)
