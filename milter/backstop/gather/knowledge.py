"""What one worker keeps about the outside: settings as last read, and the last answers for an outage.

Whatever Redis said last about a domain or an address is kept with the time it has left. Kept entries are
bounded; what is forgotten falls to the configuration file.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from backstop import batv, grace
from backstop.adapters import recipients, redis_alias, redis_names
from backstop.adapters.asker_client import Asking
from backstop.adapters.recipients import RecipientSource
from backstop.adapters.redis_store import Reply, ReplyError, begun, ended, glance, pack
from backstop.checks import CHECKS
from backstop.config import Config, LogAddresses
from backstop.facts import Need
from backstop.settings import Action, Block, DomainSettings, Quiet, SourceName, override, parse_block
from backstop.verdict import Check, Cost, UnderBlock

_Kept = TypeVar("_Kept")

MAX_REMEMBERED: Final = 10_000
"""Addresses whose last answer is kept, and domains that are protected by Redis alone."""

MAX_FIELDS: Final = 200
"""Fields of a domain's hash that are read."""

MAX_DIGITS: Final = 18

ALL_DOMAINS: Final = ""
"""The name of the block of all domains."""


@dataclass(frozen=True, slots=True)
class LastBlock:
    """A block as it was read, and until when (seconds since 1970) it holds without another reading."""

    block: Block
    until: float


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """What was known of an address when Redis answered last."""

    exists: bool
    untagged_mail: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """Which facts the checks that may run with some settings read."""

    existence: bool
    unknown_recipients: bool
    untagged_mail: bool
    sender_domain: bool


@dataclass(frozen=True, slots=True)
class LastSettings:
    """A domain's hash as it was read, the settings it made, and what was wrong there."""

    reply: Reply
    settings: DomainSettings
    faults: tuple[str, ...] = ()


class Domain:
    """A domain: commands ready to send, and its settings as last read.

    `last` is one value and is replaced as a whole: between two of them another thread could read or write.
    """

    __slots__ = ("block", "hash", "in_file", "is_member", "last", "name")

    def __init__(self, name: str, settings: DomainSettings, *, in_file: bool) -> None:
        self.name = name
        self.in_file = in_file
        self.last = LastSettings([], settings)
        self.is_member = member_command(name)
        self.hash = ended(_HASH, redis_names.domain(name))
        self.block = block_commands(name)

    @property
    def settings(self) -> DomainSettings:
        """As last read, or by the file."""
        return self.last.settings


class Knowledge:
    """Everything kept, by domain and address."""

    def __init__(self, config: Config, on_trouble: Callable[[str], None], asking: Asking) -> None:
        self.on_trouble = on_trouble
        self._asking = asking
        self.limits = config.limits
        self.all_blocks = block_commands(ALL_DOMAINS)
        self._config = config
        self._in_file = {
            name: Domain(name, config.settings_for(name), in_file=True) for name in config.domains
        }
        self._found: OrderedDict[str, Domain] = OrderedDict()
        self._blocks: OrderedDict[str, LastBlock] = OrderedDict()
        self._answers: OrderedDict[str, LastAnswer] = OrderedDict()
        self._aliases_off: OrderedDict[str, bool] = OrderedDict()
        self._sources: dict[SourceName, RecipientSource] = {}
        self._needs: dict[int, tuple[DomainSettings, Needs]] = {}
        every = (config.defaults, *config.by_domain.values())
        self.reads = any(_may_read(settings) for settings in every)
        """Whether any domain's settings may want messages read, once known for good."""
        self.reads_signatures = any(_may_read_signatures(settings) for settings in every)
        """The same for their signatures, and `asks_helo` for what clients call themselves."""
        self.asks_helo = any(_may_ask_helo(settings) for settings in every)

    def alarm(self, base: str, text: str) -> None:
        """Say something of an address, by its domain alone where logs show no addresses."""
        shown = base if self._config.log_addresses is LogAddresses.FULL else f"...@{base.rpartition('@')[2]}"
        self.on_trouble(f"{shown}: {text}")

    def domain(self, name: str) -> Domain:
        """A domain as it is kept; a stranger to the file has the defaults."""
        kept = self._in_file.get(name) or self._found.get(name)
        return kept or Domain(name, self._config.settings_for(name), in_file=False)

    def expected(self, name: str) -> DomainSettings:
        """The settings of a domain as last read."""
        kept = self._in_file.get(name) or self._found.get(name)
        return kept.settings if kept else self._config.defaults

    def is_in_file(self, name: str) -> bool:
        """Whether the configuration file protects a domain."""
        return name in self._in_file

    def is_ours(self, name: str) -> bool:
        """Whether a domain is protected, by the file or as Redis said last."""
        return name in self._in_file or name in self._found

    def is_graced(self, name: str, settings: DomainSettings, now: float) -> bool:
        """Whether a domain may be in grace."""
        return grace.holds(self._config.ring, name, settings, batv.day_of(now))

    def is_member(self, name: str, reply: Reply) -> bool:
        """Whether Redis names a domain as protected; what it said last is kept."""
        if reply == 1:
            if name not in self._found:
                _keep(self._found, name, self.domain(name))
            return True
        if isinstance(reply, ReplyError):
            self.on_trouble(f"{redis_names.DOMAINS.decode()}: {reply.text}")
            return name in self._found
        if name in self._found:
            self._found.pop(name, None)
        return False

    def settings(self, domain: Domain, reply: Reply) -> DomainSettings:
        """The settings that the file and the domain's hash in Redis make together."""
        last = domain.last
        if reply == last.reply:
            for fault in last.faults:
                self.on_trouble(fault)
            return last.settings
        base = self._config.settings_for(domain.name)
        key = f"backstop:domain:{domain.name}"
        if isinstance(reply, ReplyError) or not isinstance(reply, list):
            self.on_trouble(f"{key}: {reply.text if isinstance(reply, ReplyError) else 'no hash'}")
            return base
        pairs = [text(part) for part in reply[: 2 * MAX_FIELDS]]
        settings, faults = override(base, dict(zip(pairs[::2], pairs[1::2], strict=False)))
        domain.last = LastSettings(reply, settings, tuple(f"{key}: {fault}" for fault in faults))
        for fault in domain.last.faults:
            self.on_trouble(fault)
        self.reads = self.reads or _may_read(settings)
        self.reads_signatures = self.reads_signatures or _may_read_signatures(settings)
        self.asks_helo = self.asks_helo or _may_ask_helo(settings)
        return settings

    def block(
        self, name: str, value: Reply, remaining: Reply, now: float, *, by_person: bool
    ) -> Block | None:
        """The block that a key's value means, kept; what means nothing is no block, and is said."""
        if value == b"":
            self._blocks.pop(name, None)
            return None
        action = parse_block(text(value)) if isinstance(value, bytes) else None
        if action is None:
            shown = value.text if isinstance(value, ReplyError) else f"{text(value)!r} is no action"
            self.on_trouble(f"{_block_key(name)}: {shown}")
            self._blocks.pop(name, None)
            return None
        block = Block(action, name, by_person)
        until = math.inf
        if (
            isinstance(remaining, int) and remaining != _NO_END
        ):  # below it: the key ended between the questions
            until = now + max(remaining, 0) / 1000
        _keep(self._blocks, name, LastBlock(block, until))
        return block

    def last_block(self, name: str, now: float) -> Block | None:
        """A block as last read, while it lasts."""
        last = self._blocks.get(name)
        return last.block if last is not None and last.until > now else None

    def has_blocks(self, now: float) -> bool:
        """Whether any block was on when last read and still is."""
        return any(
            last.until > now and last.block.action > Action.OBSERVE for last in tuple(self._blocks.values())
        )

    def remember(self, base: str, *, exists: bool, untagged_mail: bool) -> None:
        """Keep what Redis said of an address."""
        if exists or untagged_mail:
            _keep(self._answers, base, LastAnswer(exists, untagged_mail))
        elif base in self._answers:
            self._answers.pop(base, None)

    def last_answer(self, base: str) -> LastAnswer:
        """What Redis said last of an address."""
        return self._answers.get(base, _NEVER_HEARD)

    def alias_is_off(self, alias: str, reply: Reply) -> bool:
        """Whether Redis says that a disposable address is switched off; what it said last is kept."""
        if isinstance(reply, ReplyError):
            self.on_trouble(f"backstop:alias:{alias}: {reply.text}")
        elif redis_alias.is_off(reply):
            _keep(self._aliases_off, alias, True)
            return True
        self._aliases_off.pop(alias, None)
        return False

    def alias_was_off(self, alias: str) -> bool:
        """Whether Redis said so last."""
        return alias in self._aliases_off

    def needs(self, settings: DomainSettings) -> Needs:
        """What the checks that may run with these settings want to know."""
        kept = self._needs.get(id(settings))
        if kept is None or kept[0] is not settings:
            wanted = {need for check in CHECKS if _may_run(check, settings) for need in check.needs}
            needs = Needs(
                existence=Need.EXISTENCE in wanted,
                unknown_recipients=Need.UNKNOWN_RECIPIENTS in wanted,
                untagged_mail=Need.UNTAGGED_MAIL in wanted,
                sender_domain=Need.SENDER_DOMAIN in wanted,
            )
            kept = (settings, needs)
            if len(self._needs) > MAX_REMEMBERED:
                self._needs.clear()
            self._needs[id(settings)] = kept
        return kept[1]

    def sources(self, settings: DomainSettings) -> list[RecipientSource]:
        """The recipient sources of a domain, in their order."""
        return [self._source(name) for name in settings.recipients]

    def _source(self, name: SourceName) -> RecipientSource:
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = recipients.make(name, self.on_trouble, self._asking)
        return source


_NO_END: Final = -1
"""PTTL's answer for a key without an end."""

_NEVER_HEARD: Final = LastAnswer(exists=False, untagged_mail=False)
_HASH: Final = begun("HGETALL")
_MEMBER: Final = begun("SISMEMBER", redis_names.DOMAINS)
_TIME_LEFT: Final = begun("PTTL")
_UNTAGGED: Final = begun("HGET", redis_names.UNTAGGED)


def member_command(name: str) -> bytes:
    """Ask whether Redis names a domain as protected."""
    return ended(_MEMBER, redis_names.octets(name))


def untagged_command(base: str) -> bytes:
    """Ask until when untagged mail of an address is under way."""
    return ended(_UNTAGGED, redis_names.octets(base))


def block_commands(name: str, *, with_author: bool = True) -> tuple[bytes, ...]:
    """Ask for a block's value, the time it has left (milliseconds), and who set it."""
    key = redis_names.block(name) if name else redis_names.BLOCK_ALL
    commands = (glance(key), ended(_TIME_LEFT, key))
    if not with_author:
        return commands
    info = redis_names.block_info(name) if name else redis_names.BLOCK_ALL_INFO
    return (*commands, pack("HGET", info, "by"))


def whole(reply: Reply) -> int:
    """A number as Redis holds it; 0 for none and for what is none."""
    if isinstance(reply, int):
        return reply
    if isinstance(reply, bytes) and reply.isdigit() and len(reply) <= MAX_DIGITS:
        return int(reply)
    return 0


def text(reply: Reply) -> str:
    """A reply as text; octets that are no UTF-8 are replaced."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)


def _block_key(name: str) -> str:
    return f"backstop:block:{name}" if name else "backstop:block"


def _may_run(check: Check, settings: DomainSettings) -> bool:
    return settings.actions[check.name] is not Action.OFF or check.under_block is not UnderBlock.NOTHING


def _may_read(settings: DomainSettings) -> bool:
    if settings.proof_is_in_message or _may_read_signatures(settings):
        return True
    return any(check.cost is Cost.BODY and settings.actions[check.name] is not Action.OFF for check in CHECKS)


def _may_read_signatures(settings: DomainSettings) -> bool:
    return settings.quiet is Quiet.UNVOUCHED or _is_needed(Need.DMARC, settings)


def _may_ask_helo(settings: DomainSettings) -> bool:
    return settings.quiet is Quiet.UNVOUCHED or _is_needed(Need.SPF, settings)


def _is_needed(need: Need, settings: DomainSettings) -> bool:
    return any(need in check.needs and settings.actions[check.name] is not Action.OFF for check in CHECKS)


def _keep(kept: OrderedDict[str, _Kept], name: str, value: _Kept) -> None:
    kept[name] = value
    while len(kept) > MAX_REMEMBERED:
        try:
            kept.popitem(last=False)
        except KeyError:  # another thread was faster
            return
