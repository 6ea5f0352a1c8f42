"""Whose addresses a message shows: the domains in its header From, read from whatever octets stand there.

RFC 5322, section 3.6.2, with the obsolete forms; RFC 7489, section 6.6.1. A field read in vain is read again
as the most careless program would: what it shows must not be what nobody judged. Each octet is looked at a
fixed number of times: no expression here can match the same octets in two ways.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from backstop.address import fold_domain

MAX_FROM_OCTETS: Final = 16_000
"""Of a From field; what is longer is only read carelessly."""

MAX_DOMAINS: Final = 100
"""Addresses of a field that are read."""

# A quoted string and a domain literal end with the field if nothing else ends them, else each opening mark
# would be tried to the end anew.
_TOKEN: Final = re.compile(
    rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|\[[^\]\\<>,;"]*+(?:\]|\Z)?|[()<>,:;@.\\]|[ \t\r\n]++'
    rb'|[^"\[()<>,:;@.\\ \t\r\n]++',
    re.DOTALL,
)
_HOST: Final = re.compile(rb"@([^][\s<>()@,;:\"\\]+)")
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
_COMMENT: Final = re.compile(rb"[()]|\\.?|[^()\\]++", re.DOTALL)


class NoAuthor(Enum):
    """Why there is no domain that could be judged."""

    NO_FIELD = "there is no From"
    NO_DOMAIN = "From holds no address with a domain"


def authors(values: Sequence[bytes]) -> tuple[str, ...] | NoAuthor:
    """The domains, folded, of whom a message shows as its authors; one nearly always.

    `values` are what stands after the colon of each field From, still folded. That there is one field is the
    rule (RFC 5322, section 3.6); programs that show mail choose among several as they like.
    """
    if not values:
        return NoAuthor.NO_FIELD
    return tuple(dict.fromkeys(domain for field in values for domain in domains(field))) or NoAuthor.NO_DOMAIN


def domains(field: bytes) -> tuple[str, ...]:
    """The domains of all addresses in a From field, folded, each once; address literals are none."""
    found = _strictly(field) if len(field) <= MAX_FROM_OCTETS else ()
    return found or tuple(_carelessly(field))


def _strictly(field: bytes) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for host in _hosts(_addresses(_tokens(field))):
        if len(found) == MAX_DOMAINS:
            break
        domain = _domain(host)
        if domain and not domain.startswith("["):
            found[domain] = None
    return tuple(found)


def _carelessly(field: bytes) -> Iterator[str]:
    """What stands behind each @ and has a dot, the first and the last of many."""
    hosts = list(dict.fromkeys(_HOST.findall(field)))
    half = MAX_DOMAINS // 2
    for host in hosts if len(hosts) <= MAX_DOMAINS else (*hosts[:half], *hosts[-half:]):
        domain = _domain(host)
        if domain and "." in domain:
            yield domain


def _domain(host: bytes) -> str | None:
    """The domain, folded; of what is none its plain beginning, as a blank outside ASCII is not shown."""
    plain = _PLAIN.match(host)
    folded = fold_domain(host.decode("utf-8", "surrogateescape"))
    return folded or (fold_domain(plain[0].decode("ascii")) if plain else None)


def _tokens(field: bytes) -> Iterator[bytes]:
    """What stands there without comments, each run of blanks as one blank."""
    at = 0
    while match := _TOKEN.match(field, at):
        at = match.end()
        if match[0] == b"(":
            at = _after_comment(field, at)
            yield b" "
        else:
            yield b" " if match[0].isspace() else match[0]


def _after_comment(field: bytes, at: int) -> int:
    depth = 1
    while depth and (match := _COMMENT.match(field, at)):
        at = match.end()
        depth += {b"(": 1, b")": -1}.get(match[0], 0)
    return at


def _addresses(tokens: Iterator[bytes]) -> Iterator[list[bytes]]:
    """What may be an address, token by token: what is between angle brackets, or there are none.

    Before angle brackets stands a name, in which anything is only a name, also an address.
    """
    bare: list[bytes] = []
    angled: list[bytes] | None = None
    for token in tokens:
        if token == b"<":
            if angled:
                yield angled
            angled = []
        elif token == b">":
            if angled:
                yield angled
                bare = []
            angled = None
        elif angled is not None:
            angled.append(token)
        elif token in (b",", b";", b":"):  # a colon ends the name of a group, which should be no address
            yield bare
            bare = []
        else:
            bare.append(token)
    if angled:
        yield angled
    yield bare


def _hosts(addresses: Iterator[list[bytes]]) -> Iterator[bytes]:
    """What stands behind each @ of an address, without blanks: of several, programs show one or the other.

    A source route is passed over.
    """
    for address in addresses:
        is_route = b":" in address and next(token for token in address if token != b" ") == b"@"
        host: list[bytes] | None = None
        for token in (*address[address.index(b":") if is_route else 0 :], b"@"):
            if token == b"@":
                if host:
                    yield b"".join(_dotted(host))
                host = []
            elif host is not None:
                host.append(token)


def _dotted(tokens: list[bytes]) -> Iterator[bytes]:
    """Labels with dots between them, up to where two labels stand without one."""
    is_after_label = False
    for token in tokens:
        if token == b" ":
            continue
        if token != b"." and is_after_label:
            return
        is_after_label = token != b"."
        yield token
