"""Bounce address tags: `prvs=KDDDSSSSSS=local@domain` and `local+prvs=KDDDSSSSSS@domain`.

The tag is that of draft-levine-smtp-batv-01: K is a key number, DDD the day it expires (days since 1970
modulo 1000, UTC), SSSSSS the first three octets of HMAC-SHA1 over KDDD and the address. It is made over
the address in lower case, because other systems fold the case of what they return; Exim signs the
address as written, so that form is tried as well.

Disposable addresses (`user+d-KDDDSSSSSS@domain`) use the same function under another label. Where keys
come from is `keyfile`'s business, and when an address is tagged is the session's.
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from backstop.address import MAX_LOCAL_OCTETS, Address
from backstop.value import value

DAY: Final = 86400
"""Seconds."""

TAG_OCTETS: Final = 16
"""What a tag adds to a local part, in both forms."""

MAX_TAGGABLE_OCTETS: Final = MAX_LOCAL_OCTETS - TAG_OCTETS
"""Longer local parts would leave the 64 octets of RFC 5321 and stay untagged."""

SKEW_DAYS: Final = 1
"""By how much two clocks may differ."""

EXPIRED_DAYS: Final = 30
"""How long a tag with the right hash is `EXPIRED` and not `FORGED` after its day."""

MAX_LIFETIME_DAYS: Final = 100
"""The window must stay far below 1000 days, where the day number wraps."""

ALIAS_OCTETS: Final = 13
"""What a disposable address adds to a local part, its delimiter among them."""

MAX_ALIAS_DAYS: Final = 500
"""For how long a disposable address may be made."""

ALIAS_MEMORY_DAYS: Final = 4000
"""How long a disposable address that has ended is known as ours, and not taken for the user's own."""

MIN_SECRET_OCTETS: Final = 16

_DRAFT = re.compile(r"prvs=(\d)(\d{3})([0-9a-f]{6})=(.+)", re.IGNORECASE | re.ASCII | re.DOTALL)
_CISCO = re.compile(r"prvs=(.+)=(\d)(\d{3})([0-9a-f]{6})", re.IGNORECASE | re.ASCII | re.DOTALL)
_SUBADDRESS = re.compile(
    r"(.+)([^a-z0-9])prvs=(\d)(\d{3})([0-9a-f]{6})", re.IGNORECASE | re.ASCII | re.DOTALL
)
_ALIAS = re.compile(r"(.+)([^a-z0-9])d-(\d)(\d{3})([0-9a-f]{6})", re.IGNORECASE | re.ASCII | re.DOTALL)
_SRS = re.compile(r"srs[01][=+-]", re.IGNORECASE | re.ASCII)
_FOREIGN = re.compile(r"(?:prvs=|btv1==|msprvs1=|srs[01][=+-])", re.IGNORECASE | re.ASCII)


class TagForm(Enum):
    """Where the tag stands in the local part."""

    PRVS = "prvs"
    SUBADDRESS = "subaddress"


class TagCase(Enum):
    """Over what the hash is made: FOLD survives a change of case, AS_WRITTEN verifies in Exim."""

    FOLD = "fold"
    AS_WRITTEN = "as-written"


class KeyState(Enum):
    """What a key is used for; a `RETIRED` key verifies no tag, but the disposable addresses it has made."""

    SIGN = "sign"
    VERIFY = "verify"
    RETIRED = "retired"


class TagState(Enum):
    """What a recipient's or reverse-path's tag is worth."""

    NONE = "none"
    GOOD = "good"
    EXPIRED = "expired"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown-key"

    @property
    def is_bad(self) -> bool:
        """Whether somebody made this tag up, as far as we can know."""
        return self is TagState.FORGED or self is TagState.UNKNOWN_KEY


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the ring; `created` in days since 1970, `max_lifetime` the longest in days it has known.

    `verify_since` is the day on which it ceased to sign; None while it signs, or where nobody wrote it down.
    """

    number: int
    secret: bytes = field(repr=False)
    state: KeyState
    domains: tuple[str, ...]
    created: int
    max_lifetime: int
    verify_since: int | None = None

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits by which a person can tell keys apart."""
        return hmac.digest(self.secret, b"backstop key fingerprint", "sha256")[:4].hex()

    def serves(self, domain: str) -> bool:
        """Whether the key is for this domain."""
        return domain in self.domains or "*" in self.domains

    def signed_on(self, day: int) -> bool:
        """Whether the key still signed on a day, as far as anybody wrote down."""
        if self.verify_since is None:
            return self.state is not KeyState.RETIRED
        return day <= self.verify_since


class KeyRing:
    """All keys, found by number and domain. A key that names the domain comes before one for `*`."""

    __slots__ = ("_by_number", "_of_number", "_signing", "keys", "memory_secret")

    def __init__(self, keys: Iterable[Key], memory_secret: bytes = b"") -> None:
        self.keys = tuple(keys)
        self.memory_secret = memory_secret
        self._by_number: Mapping[tuple[int, str], Key] = {
            (key.number, domain): key
            for key in self.keys
            if key.state is not KeyState.RETIRED
            for domain in key.domains
        }
        self._of_number: Mapping[int, tuple[Key, ...]] = {
            number: tuple(key for key in self.keys if key.number == number)
            for number in {key.number for key in self.keys}
        }
        self._signing: Mapping[str, Key] = {
            domain: key for key in self.keys if key.state is KeyState.SIGN for domain in key.domains
        }

    def key(self, number: int, domain: str) -> Key | None:
        """The one key that a tag's key number selects for a domain."""
        return self._by_number.get((number, domain)) or self._by_number.get((number, "*"))

    def alias_keys(self, number: int, domain: str) -> tuple[Key, ...]:
        """Every key that may have made a disposable address: it outlives the retirement of its key.

        They are several where the number of a retired key was given to another.
        """
        return tuple(key for key in self._of_number.get(number, ()) if key.serves(domain))

    def signer(self, domain: str) -> Key | None:
        """The key that signs for a domain."""
        return self._signing.get(domain) or self._signing.get("*")

    def oldest_day(self, domain: str) -> int | None:
        """Since which day (days since 1970) tags are issued without a gap; None where no key signs."""
        signer = self.signer(domain)
        if signer is None:
            return None
        since = signer.created
        # From each key to the one that gave way to it; a retired one verifies no more, but it did sign.
        while earlier := [
            key.created
            for key in self.keys
            if key.created < since and key.serves(domain) and key.signed_on(since)
        ]:
            since = min(earlier)
        return since


@value
class Tag:
    """A tag as it stands in a local part, not yet verified; `inner` is the address without it."""

    number: int
    day: int
    digest: str
    inner: Address


def day_of(now: float) -> int:
    """The day number, days since 1970 in UTC, of a time in seconds."""
    return int(now // DAY)


def parse(address: Address, delimiters: str = "+") -> Tag | None:
    """The tag in an address: the draft's order, Cisco's reversed one, or the sub-address form."""
    local = address.local
    if "=" not in local:
        return None
    if match := _DRAFT.fullmatch(local):
        number, day, digest, inner = match.groups()
    elif match := _CISCO.fullmatch(local):
        inner, number, day, digest = match.groups()
    elif (match := _SUBADDRESS.fullmatch(local)) and match[2] in delimiters:
        inner, _, number, day, digest = match.groups()
    else:
        return None
    return Tag(int(number), int(day), digest, Address(inner, address.domain, address.domain_as_written))


def is_tagged(address: Address) -> bool:
    """Whether a local part carries a tag already, ours or another system's: it is never tagged again."""
    return _FOREIGN.match(address.local) is not None or _SUBADDRESS.fullmatch(address.local) is not None


def is_of_forwarder(address: Address) -> bool:
    """Whether a local part is one that a mail server makes of others' senders when it forwards (SRS).

    It stands in no table of recipients: whoever made it takes it back.
    """
    return _SRS.match(address.local) is not None


def can_be_tagged(address: Address) -> bool:
    """Whether a tag fits: a plain local part of at most 48 octets that is valid UTF-8."""
    if not address.is_plain or not address.domain:
        return False
    return len(address.local.encode()) <= MAX_TAGGABLE_OCTETS


def sign(
    address: Address, key: Key, today: int, lifetime: int, form: TagForm, case: TagCase = TagCase.FOLD
) -> str:
    """The tagged path of an address, good for `lifetime` days from `today` (days since 1970).

    The address must be one that `can_be_tagged`.
    """
    stamp = f"{key.number}{(today + lifetime) % 1000:03d}"
    value = stamp + _digest(key.secret, stamp, _signed_text(address, case))
    if form is TagForm.PRVS:
        return f"prvs={value}={address.local}@{address.domain_as_written}"
    return f"{address.local}+prvs={value}@{address.domain_as_written}"


def verify(tag: Tag, ring: KeyRing, today: int) -> TagState:
    """What a tag is worth on a day. The hash is compared before the date, and in constant time."""
    key = ring.key(tag.number, tag.inner.domain)
    if key is None:
        return TagState.UNKNOWN_KEY
    stamp = f"{tag.number}{tag.day:03d}"
    given = tag.digest.lower().encode()
    matches = False
    for text in {_signed_text(tag.inner, case) for case in TagCase}:
        matches |= hmac.compare_digest(_digest(key.secret, stamp, text).encode(), given)
    if not matches:
        return TagState.FORGED
    ahead = (tag.day - today) % 1000
    if ahead <= key.max_lifetime + SKEW_DAYS or ahead >= 1000 - SKEW_DAYS:
        return TagState.GOOD
    return TagState.EXPIRED if ahead >= 1000 - EXPIRED_DAYS else TagState.FORGED


def sign_alias(address: Address, key: Key, last_day: int, delimiter: str = "+") -> str:
    """A disposable address of a mailbox, good up to and on `last_day` (days since 1970).

    `last_day` is at most MAX_ALIAS_DAYS from now; the caller sees to it.
    """
    text = address.folded.encode(errors="surrogateescape")
    digest = _digest(key.secret, _alias_label(key.number, last_day), text)
    return (
        f"{address.local}{delimiter}d-{key.number}{last_day % 1000:03d}{digest}@{address.domain_as_written}"
    )


def parse_alias(address: Address, delimiters: str = "+") -> Tag | None:
    """The label of a disposable address; None for an extension that is the user's own."""
    match = _ALIAS.fullmatch(address.local)
    if match is None or match[2] not in delimiters:
        return None
    inner, _, number, day, digest = match.groups()
    return Tag(int(number), int(day), digest, Address(inner, address.domain, address.domain_as_written))


def verify_alias(tag: Tag, ring: KeyRing, today: int) -> TagState:
    """What a disposable address is worth: GOOD, EXPIRED, or FORGED for an extension that only looks alike.

    UNKNOWN_KEY, too, is for an extension that is the user's own.
    """
    if not ring.alias_keys(tag.number, tag.inner.domain):
        return TagState.UNKNOWN_KEY
    last = alias_last_day(tag, ring, today)
    if last is None:
        return TagState.FORGED
    return TagState.GOOD if today <= last <= today + MAX_ALIAS_DAYS + SKEW_DAYS else TagState.EXPIRED


def alias_last_day(tag: Tag, ring: KeyRing, today: int) -> int | None:
    """The last day (days since 1970) of a disposable address; None if none of our keys has made it."""
    given = tag.digest.lower().encode()
    text = tag.inner.folded.encode(errors="surrogateescape")
    next_day = today + (tag.day - today) % 1000
    keys = ring.alias_keys(tag.number, tag.inner.domain)
    for day in range(next_day, next_day - ALIAS_MEMORY_DAYS - 1, -1000):
        label = _alias_label(tag.number, day)
        if any(hmac.compare_digest(_digest(key.secret, label, text).encode(), given) for key in keys):
            return day
    return None


def last_alias_day(key: Key, today: int) -> int:
    """The latest day (since 1970) up to which a disposable address can be good that a key has made."""
    return (today if key.verify_since is None else key.verify_since) + MAX_ALIAS_DAYS


def _alias_label(number: int, day: int) -> str:
    # The hash covers the whole day number: three digits come round again while 500 days are half of
    # the circle, and an address would come back to life as long after its end.
    return f"d{day // 1000}-{number}{day % 1000:03d}"


def _signed_text(address: Address, case: TagCase) -> bytes:
    text = address.folded if case is TagCase.FOLD else f"{address.local}@{address.domain_as_written}"
    return text.encode(errors="surrogateescape")


def _digest(secret: bytes, stamp: str, text: bytes) -> str:
    return hmac.digest(secret, stamp.encode() + text, "sha1")[:3].hex()
