"""Goes through one file and gathers its values, or all its faults."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from backstop.adapters.callahead_target import Options
from backstop.adapters.slow_sources import SlowOptions
from backstop.batv import KeyRing, TagForm
from backstop.checks import CHECKS
from backstop.config import sources, values
from backstop.config.model import Config, Layer, LogAddresses, Origin
from backstop.keyfile import KeyFileError
from backstop.keyfile import load as load_ring
from backstop.plain import plain
from backstop.session import Site
from backstop.settings import (
    MAX_LIST,
    PARSERS,
    DnsList,
    DomainSettings,
    Limits,
    ListOf,
    SourceName,
    parse_action,
    parse_limit,
)
from backstop.tomlfile import TomlFile
from backstop.verdict import defaults as default_actions

DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "socket": "unix:/var/spool/postfix/backstop/milter.sock",
        "workers": 0,
        "store": "redis://127.0.0.1:6379/0",
        "state_directory": "/var/lib/backstop",
        "dkim_keys": "/etc/backstop/dkim.d",
        "memory_max": 200_000,
        "resolver": [],
        "authserv_id": "",
        "log_addresses": LogAddresses.FULL.value,
        "internal_networks": ["127.0.0.0/8", "::1/128"],
        "relays": [],
        "originating_daemons": ["ORIGINATING"],
        "reinjecting_daemons": ["REINJECT"],
    }
)
"""What holds where the top of the file says nothing."""

TOP_NAMES: Final = (
    *DEFAULTS,
    "keys",
    "domains",
    "limits",
    "lists",
    "callahead",
    "ldap",
    "sql",
    "defaults",
    "domain",
)
MAX_LISTS: Final = 50
"""DNS lists: each is one question more about a message."""

DOMAIN_NAMES: Final = (*PARSERS, "actions")
CHECK_NAMES: Final = tuple(check.name for check in CHECKS)
MAX_FAULTS: Final = 100
"""So many are told; who made more will read the file again anyway."""


_T = TypeVar("_T")
_ANY_DOMAIN = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a list: its place in the file, and its value."""

    place: tuple[str, int]
    value: Any


class Reader:
    """One reading of one file."""

    def __init__(self, path: Path, file: TomlFile) -> None:
        self._path = path
        self._file = file
        self._faults: list[tuple[int, str]] = []
        self._untold = 0
        self._origins: dict[tuple[str, str], Origin] = {}
        self._places: dict[tuple[str, str], tuple[str, ...]] = {}
        self._slow = SlowOptions()

    def config(self) -> Config | None:
        """The configuration; None where there are faults."""
        top = {**DEFAULTS, **self._known(self._file.values, TOP_NAMES, ())}
        single: dict[str, Any] = {
            name: self._value(parser, top.get(name), (name,)) for name, parser in values.PARSERS.items()
        }
        domains = self._domains(top)
        site = self._site(top)
        resolver = tuple(entry.value for entry in self._entries(top, "resolver", values.name_server))
        limits = self._limits(top.get("limits", {}))
        lists = self._lists(top.get("lists", {}))
        self._slow = self._slow_options(top)
        base = DomainSettings(tag_form=TagForm.PRVS, actions=default_actions(CHECKS))
        defaults = self._settings(_ANY_DOMAIN, top.get("defaults", {}), base, ("defaults",))
        by_domain = self._by_domain(top.get("domain", {}), domains, defaults)
        defaults = self._tag_form(domains, by_domain, defaults)
        ring = self._ring(top, single["keys"])
        self._compare(ring, domains, defaults, by_domain)
        if self._faults:
            return None
        return Config(
            path=self._path,
            ring=ring,
            site=replace(site, ring=ring),
            limits=limits,
            slow=self._slow,
            resolver=resolver,
            lists=lists,
            domains=tuple(domains),
            defaults=defaults,
            by_domain=MappingProxyType(by_domain),
            origins=MappingProxyType(self._origins),
            **single,
        )

    def sorted_faults(self) -> tuple[str, ...]:
        """Every fault once, in the order of the file."""
        texts = dict.fromkeys(text for _, text in sorted(self._faults, key=lambda one: one[0]))
        more = f"{self._path}: and {self._untold:,} more"
        return (*texts, plain(more)) if self._untold else tuple(texts)

    def _fault(self, place: Sequence[str | int], text: str, name: str = "") -> None:
        if len(self._faults) >= MAX_FAULTS:
            self._untold += 1
            return
        line = self._file.line(*place)
        self._faults.append((line, plain(f"{self._path}:{line}: {name or dotted(place)}: {text}")))

    # -- names and values -------------------------------------------------------------------------------

    def _known(self, table: Any, names: Sequence[str], place: tuple[str, ...]) -> dict[str, Any]:
        """The table without the names that nobody knows: each of them is a fault."""
        if not isinstance(table, dict):
            self._fault(place, f"a table is wanted: a heading {heading(place)}, and below it one name a line")
            return {}
        unknown = [name for name in table if name not in names]
        for name in unknown[:MAX_FAULTS]:
            self._fault((*place, name), _unknown(name, names, place))
        self._untold += len(unknown[MAX_FAULTS:])
        return {name: value for name, value in table.items() if name in names}

    def _value(self, parser: Callable[[Any], _T], value: Any, place: Sequence[str | int]) -> _T | None:
        """What a value means. None, and a fault, for what means nothing; None for what is missing."""
        if value is None:
            return None
        try:
            return parser(value)
        except ValueError as error:
            self._fault(place, str(error))
            return None

    def _entries(self, top: Mapping[str, Any], name: str, parser: Callable[[str], Any]) -> list[_Entry]:
        """The entries of a list at the top of the file; wrong ones are faults on lines of their own."""
        entries = top[name]
        if not isinstance(entries, list):
            self._fault((name,), 'a list in brackets is wanted, such as ["one", "two"]')
            return []
        if len(entries) > MAX_LIST:
            self._fault((name,), f"a list of at most {MAX_LIST:,} entries is wanted")
            return []
        found = []
        for number, entry in enumerate(entries):
            place = (name, number)
            if not isinstance(entry, str):
                self._fault(place, "a text in quotes is wanted", name)
                continue
            try:
                found.append(_Entry(place, parser(entry)))
            except ValueError as error:
                self._fault(place, str(error), name)
        return found

    # -- the whole server -------------------------------------------------------------------------------

    def _site(self, top: Mapping[str, Any]) -> Site:
        def all_of(name: str, parser: Callable[[str], Any]) -> tuple[Any, ...]:
            return tuple(entry.value for entry in self._entries(top, name, parser))

        return Site(
            ring=KeyRing(()),
            internal_networks=all_of("internal_networks", values.network),
            relays=all_of("relays", values.network),
            originating_daemons=frozenset(all_of("originating_daemons", values.daemon)),
            reinjecting_daemons=frozenset(all_of("reinjecting_daemons", values.daemon)),
            authserv_id=self._value(values.authserv_id, top["authserv_id"], ("authserv_id",)) or "",
        )

    def _limits(self, table: Any) -> Limits:
        known = self._known(table, tuple(Limits.__dataclass_fields__), ("limits",))
        found = {name: self._value(parse_limit, value, ("limits", name)) for name, value in known.items()}
        return replace(Limits(), **{name: limit for name, limit in found.items() if limit is not None})

    def _lists(self, table: Any) -> tuple[DnsList, ...]:
        if not isinstance(table, dict):
            self._fault(("lists",), 'a table is wanted: [lists], and below it "zone" = { of = "client" }')
            return ()
        if len(table) > MAX_LISTS:
            self._fault(("lists",), f"at most {MAX_LISTS} lists are wanted")
            return ()
        found: dict[tuple[str, ListOf], DnsList] = {}
        for zone, written in table.items():
            place = ("lists", zone)
            if isinstance(written, dict) and any(isinstance(inner, dict) for inner in written.values()):
                self._fault(place, 'a zone stands in quotes here: "zone.example" = { of = "client" }')
                continue
            one = self._value(partial(values.dns_list, zone), written, place)
            if one is not None and (one.zone, one.of) in found:
                self._fault(place, f"{one.zone} stands there twice")
            elif one is not None:
                found[one.zone, one.of] = one
        return tuple(found.values())

    def _slow_options(self, top: Mapping[str, Any]) -> SlowOptions:
        place = "callahead"
        known = self._known(top.get(place, {}), tuple(sources.CALLAHEAD), (place,))
        found = {
            name: self._value(sources.CALLAHEAD[name], value, (place, name)) for name, value in known.items()
        }
        return SlowOptions(
            callahead=replace(Options(), **{name: one for name, one in found.items() if one is not None}),
            ldap=self._named_tables(top, "ldap"),
            sql=self._named_tables(top, "sql"),
        )

    def _named_tables(self, top: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """The tables [ldap.NAME] or [sql.NAME]."""
        tables = top.get(kind, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            self._fault((kind,), f"each of them has a heading with a name of its own: [{kind}.name]")
            return {}
        found = {}
        for name, table in tables.items():
            if not sources.is_table_name(name):
                self._fault((kind, name), f"a name of letters, digits, - and _ is wanted: [{kind}.name]")
                continue
            try:
                found[name] = sources.READERS[kind](table)
            except ValueError as error:
                option, _, text = str(error).partition(": ")
                self._fault((kind, name, option), text)
        return found

    def _ring(self, top: Mapping[str, Any], path: Path | None) -> KeyRing:
        if "keys" not in top:
            self._fault((), 'the key file is missing; write keys = "/etc/backstop/keys.toml"', "keys")
        if path is None:
            return KeyRing(())
        try:
            return load_ring(path)
        except KeyFileError as error:
            line = self._file.line("keys")
            self._faults += [(line, plain(fault)) for fault in str(error).split("\n")]
            return KeyRing(())

    # -- domains ----------------------------------------------------------------------------------------

    def _domains(self, top: Mapping[str, Any]) -> dict[str, int]:
        """The protected domains, folded, with the number of each in the list."""
        if "domains" not in top:
            self._fault((), 'the protected domains are missing; write domains = ["example.com"]', "domains")
            return {}
        if top["domains"] == []:
            self._fault(("domains",), 'at least one domain is wanted: domains = ["example.com"]')
            return {}
        found: dict[str, int] = {}
        for entry in self._entries(top, "domains", values.domain):
            if entry.value in found:
                first = self._file.line("domains", found[entry.value])
                self._fault(
                    entry.place, f'"{entry.value}" stands there twice, first in line {first}', "domains"
                )
            else:
                found[entry.value] = entry.place[1]
        return found

    def _by_domain(
        self, tables: Any, domains: Mapping[str, int], defaults: DomainSettings
    ) -> dict[str, DomainSettings]:
        if not isinstance(tables, dict):
            self._fault(("domain",), 'the domains are named in domains = ["example.com"]')
            return {}
        found: dict[str, DomainSettings] = {}
        for written, table in tables.items():
            place = ("domain", written)
            domain = self._value(values.domain, written, place)
            if domain is None:
                continue
            if domain in found:
                self._fault(place, f"another heading is for {domain} too; put the lines under one")
            elif domain in domains or not domains:  # without any, that is the fault
                found[domain] = self._settings(domain, table, defaults, place)
            elif isinstance(table, dict) and any(isinstance(inner, dict) for inner in table.values()):
                self._fault(place, 'a domain stands in quotes here: [domain."example.com"]')
            else:
                self._fault(place, f'the domain is not protected; add "{domain}" to domains, or remove this')
        return found

    def _settings(
        self, domain: str, table: Any, base: DomainSettings, place: tuple[str, ...]
    ) -> DomainSettings:
        known = self._known(table, DOMAIN_NAMES, place)
        changed: dict[str, Any] = {}
        for name, parser in PARSERS.items():
            if name not in known:
                continue
            self._note(domain, name, (*place, name))
            value = self._value(parser, known[name], (*place, name))
            if value is not None or name in ("grace", "grace_since", "copy_to"):
                changed[name] = value
            if name == "recipients":
                self._check_sources(value or (), (*place, name))
        if "actions" in known:
            changed["actions"] = {
                **base.actions,
                **self._actions(domain, known["actions"], (*place, "actions")),
            }
        return replace(base, **changed)

    def _check_sources(self, names: Sequence[SourceName], place: tuple[str, ...]) -> None:
        """Whether what a source needs is there."""
        for number, name in enumerate(names):
            kind = name.kind.value
            tables = self._file.values.get(kind, {})
            if kind in sources.READERS and not (isinstance(tables, dict) and name.argument in tables):
                text = f'there is no [{kind}.{name.argument}] in this file, which "{name}" means'
            else:
                text = sources.lack(name, self._slow)
            if text:
                self._fault((*place, number), text, dotted(place))

    def _actions(self, domain: str, table: Any, place: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._fault(place, 'checks and their actions are wanted: { tag = "reject", unproved = "junk" }')
            return {}
        found = {}
        for name, value in self._known(table, CHECK_NAMES, place).items():
            self._note(domain, f"actions.{name}", (*place, name))
            action = self._value(parse_action, value, (*place, name))
            if action is not None:
                found[name] = action
        return found

    def _note(self, domain: str, name: str, place: tuple[str, ...]) -> None:
        """Keep where a setting was found."""
        table, layer = (place[:1], Layer.DEFAULTS) if domain == _ANY_DOMAIN else (place[:2], Layer.DOMAIN)
        shown = plain(f"{self._path}:{self._file.line(*place)} {heading(table)}")
        self._origins[domain, name] = Origin(layer, shown)
        self._places[domain, name] = place

    # -- what must fit together -------------------------------------------------------------------------

    def _tag_form(
        self, domains: Iterable[str], by_domain: Mapping[str, DomainSettings], defaults: DomainSettings
    ) -> DomainSettings:
        """The defaults, with a form of tags for domains that only Redis names."""
        if (_ANY_DOMAIN, "tag_form") in self._places:
            return defaults
        without = [domain for domain in domains if (domain, "tag_form") not in self._places]
        if without:
            self._fault(
                ("defaults",),
                f"it is missing for {without[0]}{' and others' if without[1:] else ''}; write"
                ' tag_form = "subaddress" where the mail server\'s recipient_delimiter has a +,'
                ' else tag_form = "prvs" (`backstop setup postfix` tells)',
                "tag_form",
            )
            return defaults
        first = next(iter(by_domain.values()), defaults)
        return replace(defaults, tag_form=first.tag_form)

    def _compare(
        self,
        ring: KeyRing,
        domains: Mapping[str, int],
        defaults: DomainSettings,
        by_domain: Mapping[str, DomainSettings],
    ) -> None:
        for domain, number in domains.items():
            settings = by_domain.get(domain, defaults)
            if settings.tag_form is TagForm.SUBADDRESS and "+" not in settings.recipient_delimiter:
                self._fault(
                    self._place(domain, "recipient_delimiter", number),
                    'sub-address tags are written with "+", which recipient_delimiter does not hold;'
                    ' add it here and in the mail server, or write tag_form = "prvs"',
                )
            if settings.copy_to is not None and settings.copy_to.domain not in domains:
                self._fault(
                    self._place(domain, "copy_to", number),
                    f"{settings.copy_to.domain} is not protected here: copies of bounces stay with us",
                )
            key = ring.signer(domain)
            if key is not None and settings.lifetime > key.max_lifetime:
                self._fault(
                    self._place(domain, "lifetime", number),
                    f"{settings.lifetime}d is longer than the {key.max_lifetime}d key {key.number} knows:"
                    f" its tags would end too early; give `backstop key lifetime {settings.lifetime}d`"
                    f' first, or write lifetime = "{key.max_lifetime}d"',
                    "lifetime",
                )

    def _place(self, domain: str, name: str, number: int) -> tuple[str | int, ...]:
        """Where a setting of a domain is written, or else the domain itself."""
        places = self._places
        return places.get((domain, name)) or places.get((_ANY_DOMAIN, name)) or ("domains", number)


def dotted(place: Sequence[str | int]) -> str:
    """A place as TOML would name it."""
    parts = [str(part) for part in place]
    bare = [part if part.replace("-", "_").isidentifier() else f'"{part}"' for part in parts]
    return ".".join(bare)


def heading(place: Sequence[str]) -> str:
    """The heading of a table."""
    return f"[{place[0]}]" if len(place) == 1 else f'[{place[0]}."{place[1]}"]'


def _unknown(name: str, names: Sequence[str], place: tuple[str, ...]) -> str:
    if not place and name in DOMAIN_NAMES:
        return 'this stands under [defaults], or under [domain."example.com"] for one domain'
    if place and name in TOP_NAMES:
        return "this stands at the top of the file, before the first heading in brackets"
    if name in CHECK_NAMES:
        return f'the action of a check stands in actions: [defaults] actions = {{ {name} = "observe" }}'
    text = "no check has this name" if place[-1:] == ("actions",) else "this version does not know this name"
    near = difflib.get_close_matches(name[:80].lower().replace("-", "_"), names, 1, 0.7)
    return f'{text}; did you mean "{near[0]}"?' if near else f"{text}; known here: {', '.join(sorted(names))}"
