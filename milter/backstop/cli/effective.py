"""A domain's settings as they hold now, with where each comes from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from backstop.adapters import redis_names
from backstop.adapters.redis_store import ReplyError, pack
from backstop.checks import CHECKS
from backstop.cli.store import Toggles, pairs
from backstop.config import Config, Layer, Origin
from backstop.settings import DAY, PARSERS, Action, Addresses, DomainSettings, duration_text, override

NAMES: Final = tuple(PARSERS)
"""The settings of a domain but the actions of its checks."""

ACTIONS: Final = "actions."
CHECK_NAMES: Final = tuple(check.name for check in CHECKS)


@dataclass(frozen=True, slots=True)
class Effective:
    """`fields` are those of the domain's hash in Redis, `faults` what is wrong there."""

    domain: str
    settings: DomainSettings
    fields: Mapping[str, str]
    faults: tuple[str, ...]
    config: Config

    def value(self, name: str) -> str:
        """A setting as it is written, or by `actions.<check>` the action of a check."""
        if name.startswith(ACTIONS):
            return self.settings.actions[name.removeprefix(ACTIONS)].label
        return written(name, getattr(self.settings, name))

    def origin(self, name: str) -> Origin:
        """Where a setting, or an action by `actions.<check>`, has its value from."""
        field = name.removeprefix(ACTIONS)
        text = self.fields.get(field)
        if text is not None and not override(self.settings, {field: text})[1] and meant(field, text) == name:
            return Origin(Layer.STORE, redis_names.domain(self.domain).decode())
        return self.config.origin(self.domain, name)


def meant(field: str, text: str) -> str:
    """What a field of the hash sets: the setting of this name, or the action of the check of this name."""
    is_action = field not in PARSERS or text.strip().upper() in Action.__members__
    return f"{ACTIONS}{field}" if is_action and field in CHECK_NAMES else field


def read(config: Config, toggles: Toggles, domain: str) -> Effective:
    """A domain's settings by the file and the store."""
    key = redis_names.domain(domain)
    (reply,) = toggles.ask(pack("HGETALL", key))
    base = config.settings_for(domain)
    if isinstance(reply, ReplyError):
        return Effective(domain, base, {}, (f"{key.decode()}: {reply.text}",), config)
    fields = pairs(reply)
    settings, faults = override(base, fields)
    return Effective(domain, settings, fields, tuple(f"{key.decode()}: {fault}" for fault in faults), config)


def by_file(config: Config, domain: str) -> Effective:
    """A domain's settings by the file alone."""
    return Effective(domain, config.settings_for(domain), {}, (), config)


def written(name: str, value: Any) -> str:
    """A setting's value as an administrator writes it on one line."""
    if name == "grace":
        return "auto" if value is None else f"{value}d"
    if name == "grace_since":
        return "none" if value is None else str(value)
    if name == "lifetime":
        return duration_text(value * DAY)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Addresses):
        return ", ".join(value.entries)
    if name == "copy_to":
        return value.path if value else ""
    if isinstance(value, str | int):
        return str(value)
    assert isinstance(value, Iterable)  # tuples of names, sets of domains
    entries = [str(entry.value if isinstance(entry, Enum) else entry) for entry in value]
    return ", ".join(sorted(entries) if isinstance(value, frozenset) else entries)
