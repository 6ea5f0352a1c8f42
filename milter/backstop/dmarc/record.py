"""A DMARC record: from its octets to a policy. RFC 7489, sections 6.3, 6.4 and 6.6.3."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

from backstop.authentication import Disposition
from backstop.value import value

MAX_RECORD_OCTETS: Final = 4096
"""Longer ones are no records. The longest that are seen have 700 octets."""

MAX_TAGS: Final = 50
"""What comes after them is not read."""

_VERSION: Final = re.compile(rb"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:[^\s,;!]+(?:![0-9]+[kmgt]?)?", re.IGNORECASE)
_MAILTO: Final = re.compile(r"mailto:[^\s@]+@[^\s@!]+(?:![0-9]+[kmgt]?)?", re.IGNORECASE)
_DISPOSITIONS: Final = {disposition.label: disposition for disposition in Disposition}


class Alignment(Enum):
    """How like the domain of the header From the one that was proved must be. RFC 7489, section 3.1."""

    RELAXED = "r"
    STRICT = "s"


@value
class Policy:
    """What the owner of a domain asks for.

    `nonexistent` is `np` (RFC 9091, section 3.2), the same as `subdomain` where it is not said; `per_cent` is
    for how many of the messages that fail.
    """

    own: Disposition
    subdomain: Disposition
    nonexistent: Disposition
    spf: Alignment = Alignment.RELAXED
    dkim: Alignment = Alignment.RELAXED
    per_cent: int = 100


def is_record(record: bytes) -> bool:
    """Whether a TXT record is one of DMARC at all: it begins with the version, in this case of letters."""
    return _VERSION.match(record) is not None


def parse(record: bytes) -> Policy | None:
    """The policy of a TXT record, its strings joined; None for one that asks for nothing.

    Without a valid `p`, or with a wrong `sp`, a record that wants reports counts as `p=none`.
    """
    found = tags(record)
    if found is None:
        return None
    own = _DISPOSITIONS.get(found.get("p", "").lower())
    subdomain = _DISPOSITIONS.get(found.get("sp", found.get("p", "")).lower())
    if own is None or subdomain is None:
        if not reporting(found.get("rua", "")):
            return None
        own = subdomain = Disposition.NONE
    nonexistent = _DISPOSITIONS.get(found.get("np", "").lower(), subdomain)
    return Policy(
        own, subdomain, nonexistent, _alignment(found, "aspf"), _alignment(found, "adkim"), _per_cent(found)
    )


def tags(record: bytes) -> Mapping[str, str] | None:
    """The tags by name in lower case, blanks around them taken off; None for what is no record of DMARC.

    What has no `=` is passed over. A name that comes twice has no value: nobody knows which was meant.
    """
    if len(record) > MAX_RECORD_OCTETS or not is_record(record):
        return None
    found: dict[str, str] = {}
    for name, text in _specs(record):
        found[name] = "" if name in found else text
    return found


def reporting(text: str) -> tuple[str, ...]:
    """The addresses that a `rua` names, those that are valid. RFC 7489, section 6.2."""
    return tuple(uri for uri in map(str.strip, text.split(",")) if _is_uri(uri))


def _specs(record: bytes) -> Iterator[tuple[str, str]]:
    specs = record.decode("utf-8", "surrogateescape").split(";", MAX_TAGS)
    for spec in specs[:MAX_TAGS]:
        name, equals, text = spec.partition("=")
        name = name.strip().lower()
        if equals and _NAME.fullmatch(name):
            yield name, text.strip()


def _is_uri(text: str) -> bool:
    return bool((_MAILTO if text[:7].lower() == "mailto:" else _URI).fullmatch(text))


def _alignment(found: Mapping[str, str], name: str) -> Alignment:
    return Alignment.STRICT if found.get(name, "").lower() == "s" else Alignment.RELAXED


def _per_cent(found: Mapping[str, str]) -> int:
    """`t=y` is what became of `pct=0`: the owner tests."""
    if found.get("t", "").lower() == "y":
        return 0
    text = found.get("pct", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 100 else 100
