"""The blocks that are on, read from the store."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from backstop.adapters import redis_names
from backstop.adapters.redis_store import Reply, ReplyError, pack
from backstop.cli.store import Toggles, pairs, text
from backstop.cli.times import left_text
from backstop.settings import parse_block

_PREFIX: Final = redis_names.BLOCK_ALL.decode()
_VALUE_END: Final = 63


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """One block: `name` is empty for that of all domains, `left` None for one without end (seconds)."""

    name: str
    value: str
    left: float | None
    by: str
    why: str
    is_protected: bool

    @property
    def shown_name(self) -> str:
        """Whom it is for, in words."""
        return self.name or "all protected domains"

    @property
    def action(self) -> str:
        """What its value means."""
        action = parse_block(self.value)
        return f'"{self.value}" means nothing' if action is None else action.label

    def as_row(self) -> tuple[str, ...]:
        """For people."""
        name = self.shown_name if self.is_protected else f"{self.shown_name} (not protected)"
        left = "no end" if self.left is None else left_text(self.left)
        return name, self.action, left, self.by, self.why

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        action = parse_block(self.value)
        return {
            "name": self.name,
            "value": self.value,
            "action": None if action is None else action.label,
            "seconds_left": self.left,
            "by": self.by,
            "why": self.why,
            "protected": self.is_protected,
        }


def all_blocks(toggles: Toggles, domains: Iterable[str]) -> list[KnownBlock]:
    """Every block in the store, by name; that of all domains first."""
    keys = {key for key in toggles.names(f"{_PREFIX}*") if key == _PREFIX or key.startswith(f"{_PREFIX}:")}
    names = sorted({key.removeprefix(_PREFIX).removeprefix(":") for key in keys})
    return _read(toggles, names, frozenset(domains))


def holding(toggles: Toggles, name: str) -> KnownBlock | None:
    """The block that holds for a domain or an address: the narrowest there is, if it is not off."""
    domain = name.rpartition("@")[2]
    narrow_first = dict.fromkeys((name, domain, ""))
    found = {block.name: block for block in _read(toggles, list(narrow_first), frozenset({domain}))}
    block = next((found[one] for one in narrow_first if one in found), None)
    return None if block is None or not parse_block(block.value) else block


def _read(toggles: Toggles, names: list[str], domains: frozenset[str]) -> list[KnownBlock]:
    commands = []
    for name in names:
        key = redis_names.block(name) if name else redis_names.BLOCK_ALL
        info = redis_names.block_info(name) if name else redis_names.BLOCK_ALL_INFO
        commands += [pack("GETRANGE", key, 0, _VALUE_END), pack("PTTL", key), pack("HGETALL", info)]
    replies = iter(toggles.ask(*commands))
    blocks = [_block(name, next(replies), next(replies), next(replies), domains) for name in names]
    return [block for block in blocks if block is not None]


def _block(name: str, value: Reply, left: Reply, info: Reply, domains: frozenset[str]) -> KnownBlock | None:
    if value == b"":
        return None
    said = pairs(info)
    return KnownBlock(
        name=name,
        value="not a string" if isinstance(value, ReplyError) else text(value),
        left=left / 1000 if isinstance(left, int) and left >= 0 else None,
        by=said.get("by", ""),
        why=said.get("why", ""),
        is_protected=not name or name.rpartition("@")[2] in domains,
    )
