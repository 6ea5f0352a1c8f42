"""What a table of Postfix is asked about an address, and what follows from the keys that are there.

Postfix asks for `user@domain`, then for `user` where the domain is its own, then for `@domain`, which stands
for everybody (virtual(5), postconf(5) on relay_recipient_maps). All three are asked here whatever the table
is for: of a table that lists people by local part, or takes everybody, nobody is to be called unknown. The
value does not matter.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from backstop.address import Address, quoted
from backstop.facts import Existence

KNOWS_NOBODY: Final = "is empty, so it is not believed that somebody does not exist"

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one recipient: `addresses` and `locals_`; `everybody` stands for all recipients of the domain."""

    addresses: tuple[str, ...]
    locals_: tuple[str, ...]
    everybody: str

    @classmethod
    def of(cls, local: str, domain: str) -> Self:
        """The keys for an address. What no line of a table can hold is nobody's key."""
        # Where quotes are needed Postfix asks with them, and then without (mail_addr_find.c).
        written = (local,) if Address(local, domain, domain).is_plain else (quoted(local), local)
        locals_ = tuple(each for each in written if each == each.strip() and not _UNWRITABLE.search(each))
        return cls(tuple(f"{each}@{domain}" for each in locals_), locals_, f"@{domain}")

    @property
    def all(self) -> tuple[str, ...]:
        """Every key, in the order in which Postfix asks."""
        return (*self.addresses, *self.locals_, self.everybody)

    def judge(self, found: Iterable[str]) -> Existence:
        """What the keys that are there say, where the table could be read and is not empty."""
        there = frozenset(found)
        if not there.isdisjoint(self.addresses + self.locals_):
            return Existence.EXISTS
        return Existence.ANYBODY if self.everybody in there else Existence.MISSING
