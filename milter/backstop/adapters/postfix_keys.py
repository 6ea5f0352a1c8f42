"""What a table of Postfix is asked about an address, and what follows from the keys that are there.

Postfix asks for `user@domain`, then for `user` where the domain is its own, then for `@domain`, which stands
for everybody (virtual(5), postconf(5) on relay_recipient_maps). All three are asked here whatever the table
is for: of a table that lists people by local part, or takes everybody, nobody is to be called unknown. The
value does not matter. Letters outside ASCII are asked for in each form in which a table may hold them.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import idna

from backstop.address import Address, quoted
from backstop.facts import Existence

KNOWS_NOBODY: Final = "is empty, so it is not believed that somebody does not exist"

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NO_DOT_STRING = re.compile(r"\.\.|^\.|\.$")


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one recipient: `addresses` and `locals_`; `everybody` stands for all recipients of the domain."""

    addresses: tuple[str, ...]
    locals_: tuple[str, ...]
    everybody: tuple[str, ...]

    @classmethod
    def of(cls, local: str, domain: str) -> Self:
        """The keys for an address; `domain` is folded. What no line of a table can hold is nobody's key."""
        written = [local]
        # Where quotes are needed Postfix asks with them, and then without (mail_addr_find.c).
        if not Address(local, domain, domain).is_plain or _NO_DOT_STRING.search(local):
            written.insert(0, quoted(local))
        locals_ = tuple(
            form
            for each in written
            if each == each.strip() and not _UNWRITABLE.search(each)
            for form in _forms(each)
        )
        domains = _domains(domain) if "xn--" in domain else (domain,)
        addresses = tuple(f"{each}@{name}" for name in domains for each in locals_)
        return cls(addresses, locals_, tuple(f"@{name}" for name in domains))

    @property
    def all(self) -> tuple[str, ...]:
        """Every key, in the order in which Postfix asks."""
        return (*self.addresses, *self.locals_, *self.everybody)

    def judge(self, found: Iterable[str]) -> Existence:
        """What the keys that are there say, where the table could be read and is not empty."""
        there = frozenset(found)
        if not there.isdisjoint(self.addresses + self.locals_):
            return Existence.EXISTS
        return Existence.MISSING if there.isdisjoint(self.everybody) else Existence.ANYBODY


def _forms(text: str) -> tuple[str, ...]:
    """Composed as mail has it, and decomposed as some systems write it."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys(unicodedata.normalize(form, text) for form in ("NFC", "NFD")))


@lru_cache(maxsize=256)  # the domains of a site; to decode one takes longer than to look into a table
def _domains(domain: str) -> tuple[str, ...]:
    """A domain in A-labels, and in its own letters, as people write it into tables."""
    try:
        labels = [idna.decode(each) if each.startswith("xn--") else each for each in domain.split(".")]
        return (domain, *_forms(".".join(labels)))
    except (idna.IDNAError, UnicodeError):  # made by other rules
        return (domain,)
