"""What an administrator can set for a domain, and how each value is written.

One parser a name serves the file, the hash in Redis and the command line, so that a value means the same
everywhere. A parser takes a TOML value or a text and raises ValueError that says what is wanted. Where
values come from and which wins is `config`'s business; which checks exist is `checks`'.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import Enum, IntEnum
from typing import Any, Final, TypeVar

from backstop.address import Address, fold_domain, parse
from backstop.batv import MAX_LIFETIME_DAYS, TagCase, TagForm
from backstop.proof import IN_THE_MESSAGE, REMEMBERED, Proof

DAY: Final = 86400
QUEUE_DAYS: Final = 5
"""How long mail servers keep trying (Postfix: maximal_queue_lifetime)."""

MAX_LIST: Final = 10_000
"""Entries of a list in a setting."""

MAX_WHY: Final = 300
"""Characters of the reason in `grace_since`."""

MAX_TEXT: Final = 1_000_000
"""Characters of a setting in Redis."""

_E = TypeVar("_E", bound=Enum)

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_COUNT = re.compile(r"0*([0-9]{1,9})")
_LOCAL_PART = re.compile(r"[!#-'*+\-/0-9=?^_`a-z{|}~.]{1,64}")
_DELIMITERS = re.compile(r"[!#$%&'*+./=?^_`{|}~-]{0,8}")
_EPOCH: Final = date(1970, 1, 1)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_TRUE: Final = ("1", "on", "yes", "true")
_FALSE: Final = ("0", "off", "no", "false")


class Action(IntEnum):
    """What is done about a failed check, mildest first."""

    OFF = 0
    OBSERVE = 1
    JUNK = 2
    QUARANTINE = 3
    DISCARD = 4
    TEMPFAIL = 5
    REJECT = 6

    @property
    def label(self) -> str:
        """The word for it in files, logs and commands."""
        return self.name.lower()


class SourceDown(Enum):
    """What happens to mail when no recipient source can answer."""

    TEMPFAIL = "tempfail"
    CONTINUE = "continue"


class Strip(Enum):
    """Who takes the tag off a recipient for delivery."""

    MTA = "mta"
    MILTER = "milter"


class NothingReturned(Enum):
    """What a bounce counts as that returns nothing of the original, not even an id."""

    UNPROVED = "unproved"
    IGNORED = "ignored"


class ReportScope(Enum):
    """Whose mail is read for reports that come with a real sender."""

    ROBOTS = "robots"
    ALL = "all"


class Quiet(Enum):
    """Whether a later failure on our side is reported to senders for whom nothing vouches."""

    OFF = "off"
    UNVOUCHED = "unvouched"


class ListOf(Enum):
    """What a DNS list names."""

    CLIENT = "client"
    SENDER = "sender"


@dataclass(frozen=True, slots=True)
class DnsList:
    """A DNS list; its zone is folded. With `bounces_only` it is asked for the null sender only.

    `shown_as` is its name wherever it can be read, for a zone that holds a customer's key.
    """

    zone: str
    of: ListOf
    bounces_only: bool = False
    shown_as: str = ""


class SourceKind(Enum):
    """Where it is known which recipients exist."""

    MTA = "mta"
    REDIS = "redis"
    FILE = "file"
    CALLAHEAD = "callahead"
    POSTFIX = "postfix"
    LDAP = "ldap"
    SQL = "sql"

    @property
    def is_slow(self) -> bool:
        """Whether an answer may take seconds, so that a process of its own asks for it."""
        return self in _SLOW


_SLOW: Final = (SourceKind.CALLAHEAD, SourceKind.POSTFIX, SourceKind.LDAP, SourceKind.SQL)
_IN_REDIS: Final = (SourceKind.MTA, SourceKind.REDIS)
"""The sources that may be named in Redis: others read files or connect somewhere."""


@dataclass(frozen=True, slots=True)
class SourceName:
    """One recipient source as it is written: `mta`, `file:/path`, `ldap:staff`."""

    kind: SourceKind
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.argument}" if self.argument else self.kind.value


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` in a window of `seconds`."""

    count: int
    seconds: int

    def __str__(self) -> str:
        return f"{self.count}/{duration_text(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many bad things a client network, or an address, may do."""

    unknown_recipients: Limit = Limit(20, 600)
    bad_tags: Limit = Limit(10, 60)
    bad_tags_address: Limit = Limit(100, 3600)


@dataclass(frozen=True, slots=True)
class GraceSince:
    """The day (days since 1970) from which grace counts anew, and why."""

    day: int
    why: str = ""

    def __str__(self) -> str:
        return f"{_EPOCH + timedelta(days=self.day)} {self.why}".rstrip()


@dataclass(frozen=True, slots=True)
class Block:
    """The block that is on for a recipient: `name` is its key's last part, "" for all domains."""

    action: Action
    name: str
    by_person: bool


class Addresses:
    """A set of addresses: whole ones, `@domain` for all of a domain, and patterns with `*` and `?`."""

    __slots__ = ("_domains", "_exact", "_patterns", "entries")

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.entries = tuple(entries)
        wild = [entry for entry in self.entries if _is_pattern(entry)]
        plain = [entry for entry in self.entries if not _is_pattern(entry)]
        self._domains = frozenset(entry[1:] for entry in plain if entry.startswith("@"))
        self._exact = frozenset(entry for entry in plain if not entry.startswith("@"))
        self._patterns = tuple(re.compile(fnmatch.translate(entry)) for entry in wild)

    def __contains__(self, address: Address) -> bool:
        if not self.entries:
            return False
        folded = address.folded
        if folded in self._exact or address.domain in self._domains:
            return True
        return any(pattern.match(folded) for pattern in self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Addresses) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return f"Addresses({self.entries!r})"


NO_ADDRESSES: Final = Addresses()


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """All settings of one protected domain. `lifetime` in days; `grace` in days, None for automatic.

    `actions` names every check there is; `robot_senders` are local parts in lower case.
    """

    tag_form: TagForm
    actions: Mapping[str, Action]
    tag_case: TagCase = TagCase.FOLD
    tag_internal: bool = False
    lifetime: int = 11
    grace: int | None = None
    grace_since: GraceSince | None = None
    strip: Strip = Strip.MTA
    recipient_delimiter: str = "+"
    proof: tuple[Proof, ...] = tuple(Proof)
    nothing_returned: NothingReturned = NothingReturned.UNPROVED
    recipients: tuple[SourceName, ...] = ()
    source_down: SourceDown = SourceDown.TEMPFAIL
    receive_only: Addresses = NO_ADDRESSES
    exempt_senders: Addresses = NO_ADDRESSES
    exempt_destinations: frozenset[str] = frozenset()
    robot_senders: frozenset[str] = frozenset({"mailer-daemon", "postmaster"})
    report_scope: ReportScope = ReportScope.ROBOTS
    quarantine_max: int = 500
    copy_to: Address | None = None
    """None: nowhere."""
    quiet: Quiet = Quiet.OFF

    @property
    def proof_is_in_message(self) -> bool:
        """Whether a message must be read to know all that may count as proof."""
        return not IN_THE_MESSAGE.isdisjoint(self.proof)

    @property
    def remembers(self) -> bool:
        """Whether sent mail is remembered for proof."""
        return not REMEMBERED.isdisjoint(self.proof)

    @property
    def replaces_recipients(self) -> bool:
        """Whether a recipient may be taken away and put back, without its tag or without reports."""
        return self.strip is Strip.MILTER or self.quiet is Quiet.UNVOUCHED

    @property
    def grace_days(self) -> int:
        """Days from the first tag, or from `grace_since`, during which a missing tag is only observed."""
        return self.lifetime + QUEUE_DAYS if self.grace is None else self.grace


def duration_text(seconds: int) -> str:
    """A duration as it is written: 172800 is `2d`."""
    for letter, length in reversed(_UNITS.items()):
        if seconds % length == 0 and letter != "w":
            return f"{seconds // length}{letter}"
    return f"{seconds}s"


def parse_duration(value: object) -> int:
    """Seconds of `90s`, `15m`, `12h`, `2d`, `1w`."""
    match = _DURATION.fullmatch(_text(value).strip().lower())
    if match is None:
        raise ValueError('a duration such as "12h" or "2d" is wanted')
    return int(match[1]) * _UNITS[match[2]]


def parse_action(value: object) -> Action:
    """One of the actions by its word; case and spaces are forgiven."""
    word = _text(value).strip().upper()
    if word not in Action.__members__:
        raise ValueError("an action is wanted: " + ", ".join(action.label for action in Action))
    return Action[word]


def parse_block(text: str) -> Action | None:
    """The value of a block key: OFF for what switches it off explicitly; None for what means nothing."""
    word = text.strip().lower()
    if word in _TRUE:
        return Action.JUNK
    if word in _FALSE:
        return Action.OFF
    return Action.__members__.get(word.upper())


def parse_limit(value: object) -> Limit:
    """`20/10m`: twenty in ten minutes."""
    count, slash, window = _text(value).partition("/")
    number = _COUNT.fullmatch(count.strip())
    if not slash or number is None or not 0 < int(number[1]) <= 10**6:
        raise ValueError('a limit such as "20/10m" is wanted')
    seconds = parse_duration(window)
    if not 0 < seconds <= DAY:
        raise ValueError("the window of a limit is between 1s and 1d")
    return Limit(int(number[1]), seconds)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes is wanted")  # noqa: TRY004 - one kind of error for all bad values
    return value


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE + _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError("true or false is wanted")


def _number(value: object) -> int:
    if isinstance(value, str) and (match := _COUNT.fullmatch(value.strip())):
        value = int(match[1])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10**8:
        raise ValueError("a whole number from 0 on is wanted")
    return value


def _list(value: object) -> list[str]:
    if isinstance(value, str):
        value = [entry for entry in re.split(r"[\s,]+", value) if entry]
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("a list of texts is wanted")
    if len(value) > MAX_LIST:
        raise ValueError(f"a list of at most {MAX_LIST} entries is wanted")
    return value


def _lifetime(value: object) -> int:
    seconds = parse_duration(value)
    if seconds % DAY or not DAY <= seconds <= MAX_LIFETIME_DAYS * DAY:
        raise ValueError(f"whole days from 1d to {MAX_LIFETIME_DAYS}d are wanted")
    return seconds // DAY


def _grace(value: object) -> int | None:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return None
    seconds = parse_duration(value)
    if seconds % DAY or seconds > 365 * DAY:
        raise ValueError('"auto" or whole days up to 365d are wanted')
    return seconds // DAY


def _grace_since(value: object) -> GraceSince | None:
    if type(value) is date:  # as TOML writes it
        value = value.isoformat()
    day, _, why = _text(value).strip().partition(" ")
    if day.lower() == "none" and not why:
        return None
    try:
        begun = date.fromisoformat(day)
    except ValueError:
        raise ValueError('"none" or a date such as "2026-11-21" is wanted, and perhaps why') from None
    if begun < _EPOCH:
        raise ValueError("a date after 1970 is wanted")
    return GraceSince((begun - _EPOCH).days, why.strip()[:MAX_WHY])


def _one_of(kind: type[_E]) -> Callable[[object], _E]:
    def parser(value: object) -> _E:
        word = _text(value).strip().lower()
        for member in kind:
            if member.value == word:
                return member
        raise ValueError("wanted is one of " + ", ".join(str(member.value) for member in kind))

    return parser


def _proof(value: object) -> tuple[Proof, ...]:
    kinds = tuple(_one_of(Proof)(entry) for entry in _list(value))
    if not kinds:
        raise ValueError("at least one kind of proof is wanted: without any every bounce would be unproved")
    return kinds


def _delimiter(value: object) -> str:
    text = _text(value)
    if _DELIMITERS.fullmatch(text) is None:
        raise ValueError('the delimiter characters of Postfix\'s recipient_delimiter are wanted, such as "+"')
    return text


def parse_source(entry: str) -> SourceName:
    """A recipient source as it is written."""
    word, _, argument = entry.strip().partition(":")
    kinds = [kind for kind in SourceKind if kind.value == word]
    if not kinds:
        forms = ", ".join(f'"{form.written}"' for form in _FORMS.values())
        raise ValueError(f'a recipient source is wanted, one of {forms}, not "{entry[:80]}"')
    form = _FORMS[kinds[0]]
    if form.argument is None and argument:
        raise ValueError(f'"{form.written}" alone is wanted, not "{entry[:80]}"')
    if form.argument is not None and form.argument.fullmatch(argument) is None:
        raise ValueError(f'"{form.written}" is wanted, {form.meant}, not "{entry[:80]}"')
    return SourceName(kinds[0], argument)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a source is written, and what is meant by what stands behind its colon."""

    written: str
    argument: re.Pattern[str] | None = None
    meant: str = ""


_FORMS: Final[Mapping[SourceKind, _Form]] = {
    SourceKind.MTA: _Form("mta"),
    SourceKind.REDIS: _Form("redis"),
    SourceKind.FILE: _Form("file:/path", re.compile(r"/.+"), "a path that begins with /"),
    SourceKind.CALLAHEAD: _Form(
        "callahead:[host]:port",
        re.compile(r"\[[0-9A-Za-z.:_-]{1,255}\](?::[0-9]{1,5})?"),
        "the next hop's name or address in brackets, and a port",
    ),
    SourceKind.POSTFIX: _Form(
        "postfix:lmdb:/path", re.compile(r"(?:proxy:)?[a-z0-9_]+:\S+"), "a table as Postfix writes it"
    ),
    SourceKind.LDAP: _Form("ldap:name", re.compile(r"[\w-]+", re.ASCII), "the name of a table [ldap.name]"),
    SourceKind.SQL: _Form("sql:name", re.compile(r"[\w-]+", re.ASCII), "the name of a table [sql.name]"),
}


def _sources(value: object) -> tuple[SourceName, ...]:
    return tuple(parse_source(entry) for entry in _list(value))


def _addresses(value: object) -> Addresses:
    entries = []
    for entry in _list(value):
        text = entry.strip().lower()
        if _is_pattern(text):
            local, at, domain = text.rpartition("@")
            entries.append(f"{local}{at}{domain if _is_pattern(domain) else fold_domain(domain) or domain}")
            continue
        address = parse(f"x{text}" if text.startswith("@") else text)
        if address is None or not address.domain:
            raise ValueError(f'an address, "@domain" or a pattern with * is wanted, not "{entry[:80]}"')
        entries.append(f"@{address.domain}" if text.startswith("@") else address.folded)
    return Addresses(entries)


def _local_parts(value: object) -> frozenset[str]:
    folded = frozenset(entry.strip().lower() for entry in _list(value))
    for entry in folded:
        if not _LOCAL_PART.fullmatch(entry):
            raise ValueError(
                f'what stands before the @ is wanted, such as "mailer-daemon", not "{entry[:80]}"'
            )
    return folded


def _copy_to(value: object) -> Address | None:
    text = _text(value).strip()
    if not text:
        return None
    address = parse(text)
    if address is None or not address.domain or not address.is_plain:
        raise ValueError(f'an address, or "" for none, is wanted, not "{text[:80]}"')
    return address


def _is_pattern(entry: str) -> bool:
    return "*" in entry or "?" in entry


def _domains(value: object) -> frozenset[str]:
    folded = set()
    for entry in _list(value):
        domain = fold_domain(entry.strip().removeprefix("@"))
        if not domain:
            raise ValueError(f'a domain is wanted, not "{entry[:80]}"')
        folded.add(domain)
    return frozenset(folded)


PARSERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "tag_form": _one_of(TagForm),
    "tag_case": _one_of(TagCase),
    "tag_internal": _truth,
    "lifetime": _lifetime,
    "grace": _grace,
    "grace_since": _grace_since,
    "strip": _one_of(Strip),
    "recipient_delimiter": _delimiter,
    "proof": _proof,
    "nothing_returned": _one_of(NothingReturned),
    "recipients": _sources,
    "source_down": _one_of(SourceDown),
    "receive_only": _addresses,
    "exempt_senders": _addresses,
    "exempt_destinations": _domains,
    "robot_senders": _local_parts,
    "report_scope": _one_of(ReportScope),
    "quarantine_max": _number,
    "copy_to": _copy_to,
    "quiet": _one_of(Quiet),
}
"""One parser for each setting of a domain but `actions`, whose names are the checks'."""


def override(base: DomainSettings, texts: Mapping[str, str]) -> tuple[DomainSettings, tuple[str, ...]]:
    """The settings with the fields of a domain's hash in Redis laid over them, and what was wrong there.

    A field that is a check's name and holds an action gives that check's action. What means nothing is
    left as the file has it. Redis names no files and no servers: who may write there may not read here, or
    make us connect somewhere.
    """
    faults = []
    values: dict[str, Any] = {}
    actions: dict[str, Action] = {}
    for name, text in texts.items():
        try:
            if _names_action(base, name, text):
                actions[name] = parse_action(text)
            else:
                values[name] = _value(name, text)
        except ValueError as error:
            faults.append(f"{name[:80]}: {error}")
    form = values.get("tag_form", base.tag_form)
    if form is TagForm.SUBADDRESS and "+" not in values.get("recipient_delimiter", base.recipient_delimiter):
        wrong = [name for name in ("tag_form", "recipient_delimiter") if values.pop(name, None) is not None]
        faults += [f'{name}: sub-address tags want a "+" in recipient_delimiter' for name in wrong]
    if actions:
        values["actions"] = {**base.actions, **actions}
    return (replace(base, **values) if values else base), tuple(faults)


def _names_action(base: DomainSettings, name: str, text: str) -> bool:
    """`receive_only` is a check and a setting: its value tells which is meant."""
    return name in base.actions and (name not in PARSERS or text.strip().upper() in Action.__members__)


def _value(name: str, text: str) -> Any:
    parser = PARSERS.get(name)
    if parser is None:
        raise ValueError("no setting and no check has this name")
    if len(text) > MAX_TEXT:
        raise ValueError(f"at most {MAX_TEXT} characters are wanted")
    value = parser(text)
    if name == "recipients":
        for source in value:
            if source.kind not in _IN_REDIS:
                raise ValueError(f'"{source}" is named in the configuration file only')
    return value
