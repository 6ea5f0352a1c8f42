"""An SPF record, term by term: what each is and what is wrong with it. RFC 7208, sections 4.6.1, 5, 6 and 12.

Mail is judged by pyspf; here it is told why a record does not do what its owner means.
"""

import ipaddress
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from backstop.address import MAX_LABEL_OCTETS, Network
from backstop.value import value

MAX_TERMS: Final = 1000
"""Of a record; what comes after them is not read."""

_VERSION: Final = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_MODIFIER: Final = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", re.IGNORECASE | re.DOTALL)
_MECHANISM: Final = re.compile(r"([+?~-]?)([a-z][a-z0-9]*)(?:([:/])(.*))?", re.IGNORECASE | re.DOTALL)
_BITS: Final = "0|[1-9][0-9]{0,2}"
_NETWORK: Final = re.compile(rf"[0-9a-f.:]+(?:/(?:{_BITS}))?", re.IGNORECASE)
_PREFIXES: Final = re.compile(rf"(.*?)(?:/({_BITS}))?(?://({_BITS}))?", re.DOTALL)
_NAME: Final = re.compile(r"(?:[a-z0-9_-]+\.)+(?![0-9]+\.?\Z)[a-z0-9_-]+\.?", re.IGNORECASE)
_MACRO_STRING: Final = re.compile(
    r"(?:[!-$&-~]|%[%_-]|%\{[slodiphcrtv][0-9]{0,3}r?[-.+,/_=]*\})+", re.IGNORECASE
)


class Qualifier(Enum):
    """What a term says of those it names; the value is how it is written."""

    PASS = "+"  # noqa: S105 - a sign of RFC 7208
    FAIL = "-"
    SOFTFAIL = "~"
    NEUTRAL = "?"


class Kind(Enum):
    """What a term is; `value` is its name."""

    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"
    REDIRECT = "redirect"
    EXPLANATION = "exp"
    OTHER = "other"
    """A modifier that nobody knows, which is passed over."""


LOOKED_UP: Final = frozenset({Kind.INCLUDE, Kind.A, Kind.MX, Kind.PTR, Kind.EXISTS, Kind.REDIRECT})
"""Those of which a record may have ten, with all that it includes: section 4.6.4."""

_MECHANISMS: Final = {kind.value: kind for kind in list(Kind)[:8]}
_NAMED: Final = frozenset({Kind.INCLUDE, Kind.EXISTS, Kind.REDIRECT, Kind.EXPLANATION})


@value
class Term:
    """A term; `target` is the name it speaks of, empty where that is the domain itself.

    `prefix4` and `prefix6` are how many bits of an address count, for `a` and `mx`. `fault` is what makes the
    whole record void, empty if nothing does.
    """

    text: str
    kind: Kind
    qualifier: Qualifier = Qualifier.PASS
    target: str = ""
    network: Network | None = None
    prefix4: int = 32
    prefix6: int = 128
    fault: str = ""

    @property
    def has_macro(self) -> bool:
        """Whether what it asks depends on the message."""
        return "%" in self.target

    @property
    def is_mistaken(self) -> bool:
        """Whether it is `ip4=...` or the like, a modifier that nobody knows."""
        return self.kind is Kind.OTHER and self.text.partition("=")[0].lower() in _MECHANISMS


def is_record(record: bytes) -> bool:
    """Whether a TXT record is one of SPF: section 4.5."""
    return _VERSION.match(record) is not None


def terms(record: bytes) -> tuple[Term, ...]:
    """The terms of a record after its version."""
    words = record.decode("ascii", "surrogateescape").split(" ")[1:]
    return tuple(_term(word) for word in words if word)[:MAX_TERMS]


def reached(record: tuple[Term, ...]) -> Iterator[Term]:
    """Those that a verifier may come to: none behind `all`, and `redirect` last, if there is no `all`."""
    modifiers = (Kind.REDIRECT, Kind.EXPLANATION, Kind.OTHER)
    for term in record:
        if term.kind not in modifiers:
            yield term
            if term.kind is Kind.ALL and not term.fault:
                return
    yield from (term for term in record if term.kind is Kind.REDIRECT)


def _term(text: str) -> Term:
    if match := _MODIFIER.fullmatch(text):
        kind = {"redirect": Kind.REDIRECT, "exp": Kind.EXPLANATION}.get(match[1].lower(), Kind.OTHER)
        fault = _fault_of_name(match[2]) if kind is not Kind.OTHER else ""
        return Term(text, kind, target=match[2], fault=fault)
    match = _MECHANISM.fullmatch(text)
    if match is None or match[2].lower() not in _MECHANISMS:
        return Term(text, Kind.OTHER, fault="is no term of SPF")
    qualifier, kind = Qualifier(match[1] or "+"), _MECHANISMS[match[2].lower()]
    sign, rest = match[3] or "", match[4] or ""
    if kind is Kind.ALL:
        return Term(text, kind, qualifier, fault="takes nothing behind it" if sign else "")
    if kind in (Kind.IP4, Kind.IP6):
        return _network(text, kind, qualifier, rest if sign == ":" else "")
    return _named(text, kind, qualifier, sign + rest)


def _network(text: str, kind: Kind, qualifier: Qualifier, written: str) -> Term:
    try:
        # Python knows netmasks and scopes as well; SPF does not.
        network = ipaddress.ip_network(written if _NETWORK.fullmatch(written) else "", strict=False)
    except ValueError:
        return Term(text, kind, qualifier, fault="names no network")
    if network.version != (4 if kind is Kind.IP4 else 6):
        return Term(text, kind, qualifier, fault=f"names an IPv{network.version} network")
    return Term(text, kind, qualifier, network=network)


def _named(text: str, kind: Kind, qualifier: Qualifier, rest: str) -> Term:
    match = _PREFIXES.fullmatch(rest) if kind in (Kind.A, Kind.MX) else None
    name, prefix4, prefix6 = (match[1], match[2], match[3]) if match else (rest, None, None)
    target = name.removeprefix(":")
    bits4, bits6 = int(prefix4 or 32), int(prefix6 or 128)
    fault = ""
    if name.startswith(":") or kind in _NAMED:
        fault = _fault_of_name(target)
    elif name:
        fault = "has a prefix that is none"
    if bits4 > 32 or bits6 > 128:
        fault = "has a prefix that is too long"
    return Term(text, kind, qualifier, target, prefix4=bits4, prefix6=bits6, fault=fault)


def _fault_of_name(name: str) -> str:
    if "%" in name:
        return "" if _MACRO_STRING.fullmatch(name) else "has a macro that is none"
    is_name = _NAME.fullmatch(name) and max(map(len, name.split("."))) <= MAX_LABEL_OCTETS and len(name) < 255
    return "" if is_name else "names no domain"
