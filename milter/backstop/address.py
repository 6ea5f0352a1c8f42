"""Envelope addresses, domains and client networks, parsed once at the edge.

Addresses are those of RFC 5321, section 4.1.2, with RFC 6531 for letters outside ASCII.
Domains are folded here and nowhere else. Tags are `batv`'s business, not this module's.
"""

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final, TypeAlias

import idna

from backstop.value import value

MAX_PATH_OCTETS: Final = 1000
"""Longer paths are not parsed. RFC 5321 allows 256 octets; mail servers let more through."""

MAX_LOCAL_OCTETS: Final = 64
"""RFC 5321, section 4.5.3.1.1."""

MAX_DOMAIN_OCTETS: Final = 255
"""RFC 5321, section 4.5.3.1.2."""

MAX_LABEL_OCTETS: Final = 63
"""Of each part of a domain; RFC 1035, section 2.3.4."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_OCTET = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
_NEEDS_QUOTES = re.compile(r'[\s()<>\[\]:;@\\,"\x80-\x9f\ud800-\udfff]')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?:@(.*))?', re.DOTALL)
_DOTS = re.compile(r"[.\u3002\uff0e\uff61]")
_PLAIN_DOMAIN = re.compile(r"[a-z0-9._-]*[a-z0-9_-]|\[[a-z0-9:._-]+\]")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@value
class Address:
    """A mailbox: `local` without quotes and in the case it was written, `domain` folded.

    `domain` is empty for an address without one (`<postmaster>`). `domain_as_written` keeps the domain's
    case, over which other systems sign.
    """

    local: str
    domain: str
    domain_as_written: str

    @property
    def folded(self) -> str:
        """The one form of an address: lower case, Unicode NFC. Redis keys, logs and tags use it."""
        local = self.local.lower()
        if not local.isascii():
            local = unicodedata.normalize("NFC", local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def is_plain(self) -> bool:
        """Whether the local part can be written without quotes."""
        return bool(self.local) and not _NEEDS_QUOTES.search(self.local)

    @property
    def path(self) -> str:
        """The address as it stands between angle brackets."""
        if self is NULL_SENDER:
            return ""
        local = self.local if self.is_plain else quoted(self.local)
        return f"{local}@{self.domain_as_written}" if self.domain else local


NULL_SENDER: Final = Address("", "", "")
"""The reverse-path of bounces: `MAIL FROM:<>`, RFC 5321, section 4.5.5."""


def quoted(local: str) -> str:
    """A local part as a quoted string, RFC 5321, section 4.1.2."""
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse(path: str) -> Address | None:
    """The address in a MAIL or RCPT argument; None for what is no address.

    Takes it with or without angle brackets (mail that did not come by SMTP has none) and drops a source
    route (RFC 5321, appendix C). `<>`, the empty string and `<"">` are the null sender, as in Postfix.
    """
    if path.startswith("<") and path.endswith(">"):
        path = path[1:-1]
    if not path:
        return NULL_SENDER
    if len(path) > MAX_PATH_OCTETS:
        return None
    # Octets that are no UTF-8 arrive as U+DC80 to U+DCFF; no other surrogate stands for an octet.
    if not path.isprintable() and (_CONTROL.search(path) or _NO_OCTET.search(path)):
        return None
    if path.startswith("@"):
        path = path.partition(":")[2]
        if not path:
            return None
    if path.startswith('"'):
        match = _QUOTED.fullmatch(path)
        if match is None:
            return None
        local, written = re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match[2]
    else:
        local, at, written = path.rpartition("@")
        if not at:
            local, written = path, None
        elif not local:
            return None
    if written is None:
        return Address(local, "", "") if local else NULL_SENDER  # there is one; it is compared by identity
    domain = fold_domain(written)
    return None if domain is None else Address(local, domain, written)


def fold_domain(text: str) -> str | None:
    """A domain in A-labels and lower case, without a trailing dot; None for what is no domain.

    `[192.0.2.1]` and other address literals are only lower-cased.
    """
    return _folded(text) if len(text) <= MAX_DOMAIN_OCTETS + 1 else None


@lru_cache(maxsize=1024)  # a few domains are most of the mail
def _folded(text: str) -> str | None:
    text = text.removesuffix(".")
    if not text.isascii():
        # idna takes time by the square of a label's length (8 ms for 250 digits), and finds it too long then.
        if max(map(len, _DOTS.split(text))) > MAX_LABEL_OCTETS:
            return None
        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    text = text.lower()
    if len(text) > MAX_DOMAIN_OCTETS:
        return None
    return text if _PLAIN_DOMAIN.fullmatch(text) else None


def without_extension(local: str, delimiters: str) -> str:
    """The local part up to the first delimiter, as Postfix's `recipient_delimiter` divides it.

    Never divided are `postmaster`, `mailer-daemon`, `double-bounce`, what begins with a delimiter, and with
    the delimiter `-` also `owner-list` and `list-request` (postconf(5), owner_request_special).
    """
    folded = local.lower()
    if folded in ("postmaster", "mailer-daemon", "double-bounce"):
        return local
    if "-" in delimiters and (folded.startswith("owner-") or folded.endswith("-request")):
        return local
    if len(delimiters) == 1:
        cut = max(local.find(delimiters), 0)
    else:
        cut = min((at for at in map(local.find, delimiters) if at >= 0), default=0)
    return local[:cut] if cut else local


@lru_cache(maxsize=1024)  # each client is looked up three times, and many come again; parsing takes 5 us
def client_network(address: str) -> str:
    """What limits count for: the IPv4 address itself, the /64 of an IPv6 address; "" for neither."""
    ip = _ip(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(ip) >> 64 << 64))
    return str(ip) if ip else ""


def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether a client's address lies in one of the networks; a mapped IPv4 address counts as IPv4."""
    ip = _ip(address)
    if ip is not None:
        for network in networks:
            if ip in network:
                return True
    return False


@lru_cache(maxsize=1024)  # as above
def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
