"""What `setup postfix` wants, what it sees, and what it would do, as plain values.

The planning functions turn a `View` and a `Wanted` into steps. Nothing here runs a program or opens a file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from backstop.address import Network
from backstop.batv import TagForm
from backstop.setup.postfix import files
from backstop.setup.postfix.words import DomainClass, split_list


class LookupFailed(Exception):
    """A table of Postfix could not be asked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What Backstop's configuration asks of Postfix.

    `forms` has the protected domains and the tag form of each; None leaves the choice to `setup`.
    `delimiters` are the values of Backstop's own recipient_delimiter, `internal_networks` the clients whose
    mail is our own, to compare. `validated` are the domains whose unknown users Backstop itself refuses.
    `replaces` says that Backstop takes recipients away and puts them back, without tag or reports.
    """

    forms: Mapping[str, TagForm | None]
    socket: str
    originating: str = "ORIGINATING"
    reinjecting: str = "REINJECT"
    delimiters: frozenset[str] = frozenset()
    internal_networks: tuple[Network, ...] = ()
    validated: frozenset[str] = frozenset()
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """Postfix's configuration as it stands.

    `raw` has every parameter as written or by default, `expanded` the same with `$name` replaced; `named` are
    those that main.cf sets. `lookup(table, key)` asks a table, answers empty where there is no such key, and
    raises LookupFailed. `classes` tells what a domain is to Postfix; one it does not receive for is absent.
    """

    main: str
    master: str
    raw: Mapping[str, str]
    expanded: Mapping[str, str]
    named: frozenset[str]
    map_types: frozenset[str]
    classes: Mapping[str, DomainClass]
    lookup: Callable[[str, str], str]

    @property
    def services(self) -> tuple[files.Service, ...]:
        """The services of master.cf."""
        return files.services(self.master)

    def list(self, name: str) -> tuple[str, ...]:
        """The items of a parameter that is a list, `$` expanded."""
        return split_list(self.expanded.get(name, ""))

    def commands(self, *commands: str) -> tuple[files.Service, ...]:
        """The services that run one of these daemons."""
        return tuple(service for service in self.services if service.command in commands)


class Level(Enum):
    """How much a remark weighs."""

    NOTE = "note"
    WARNING = "warning"
    REFUSAL = "refused"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something the administrator should read: what is so, and what to do about it."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class SetParameter:
    """A parameter of main.cf gets another value. Line breaks in it are those of the file."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class SetOption:
    """A service of master.cf gets an `-o name=value`."""

    service: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class WriteMap:
    """A file beside main.cf."""

    name: str
    content: str


Step = Remark | SetParameter | SetOption | WriteMap


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything to do and to say, in order."""

    steps: tuple[Step, ...]

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What to say."""
        return tuple(step for step in self.steps if isinstance(step, Remark))

    @property
    def is_refused(self) -> bool:
        """True when nothing may be done."""
        return any(remark.level is Level.REFUSAL for remark in self.remarks)

    @property
    def maps(self) -> tuple[WriteMap, ...]:
        """The files beside main.cf."""
        return tuple(step for step in self.steps if isinstance(step, WriteMap))

    def main(self, text: str) -> str:
        """What main.cf says afterwards."""
        for step in self.steps:
            if isinstance(step, SetParameter):
                text = files.set_parameter(text, step.name, step.value)
        return text

    def master(self, text: str) -> str:
        """What master.cf says afterwards."""
        for step in self.steps:
            if isinstance(step, SetOption):
                text = files.set_option(text, step.service, step.name, step.value)
        return text


def note(text: str) -> Remark:
    """Say something good to know."""
    return Remark(Level.NOTE, text)


def warning(text: str) -> Remark:
    """Say that something is wrong that `setup` does not mend."""
    return Remark(Level.WARNING, text)


def refusal(text: str) -> Remark:
    """Say why nothing is done."""
    return Remark(Level.REFUSAL, text)
