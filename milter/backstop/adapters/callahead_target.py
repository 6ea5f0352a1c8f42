"""Which next hop is asked whether recipients exist, how, and about which addresses it can be asked.

The next hop is written as Postfix writes one, `[host]:port`. No MX record is ever looked up, with brackets
or without: who is asked is what the administrator named, and nobody else.
"""

import ipaddress
import re
from typing import Final

from backstop.address import MAX_DOMAIN_OCTETS, MAX_LOCAL_OCTETS, fold_domain, quoted
from backstop.value import value

SMTP_PORT: Final = 25

MAX_FORWARD_PATH_OCTETS: Final = 254
"""An address in RCPT without its angle brackets; RFC 5321, section 4.5.3.1.3."""

_PLACE = re.compile(r"\[(?P<literal>[^\[\]]*)\](?::(?P<port>\d+))?|(?P<name>[^\[\]:]*)(?::(?P<port2>\d+))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAIL_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[a-z0-9:.]+\]")
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*", re.IGNORECASE)


@value
class Target:
    """Where the next hop listens: a name or an IP address, without brackets."""

    host: str
    port: int = SMTP_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}"


@value
class Options:
    """How a next hop is asked; times are in seconds.

    `sender` is the reverse-path of the question, empty for the null sender; `helo` the name said in EHLO,
    empty for this host's own. A question, with everything it takes, may last `timeout`; at most
    `connections` are open at a time, and at most `questions` go out a minute.

    A recipient that exists is believed for `exists_seconds` and, while the next hop says nothing better, for
    `stale_seconds`; one that does not for `missing_seconds`, or for `unwitnessed_seconds` where only
    postmaster was accepted beside it, who may not be in the next hop's directory. After a temporary answer it
    is asked again when `temporary_seconds` have passed; whether it takes every recipient of a domain, once in
    `anybody_seconds`. `cache_entries` answers are kept; those not used for longest go.
    """

    sender: str = ""
    helo: str = ""
    timeout: float = 5.0
    connections: int = 2
    questions: int = 10
    exists_seconds: float = 86_400.0
    stale_seconds: float = 7 * 86_400.0
    missing_seconds: float = 7_200.0
    unwitnessed_seconds: float = 300.0
    temporary_seconds: float = 50.0  # with what those who ask keep themselves, never more than a minute
    anybody_seconds: float = 3_600.0
    cache_entries: int = 100_000


@value
class Path:
    """An address as it stands between the angle brackets of RCPT; `is_ascii` unless it needs SMTPUTF8."""

    text: str
    is_ascii: bool


NULL_PATH: Final = Path("", True)


def parse_target(text: str) -> Target:
    """The next hop of `callahead:[host]:port`, with or without that first word; port 25 where none is named.

    Raises ValueError, whose text says what was wrong and what is meant.
    """
    written = text.removeprefix("callahead:")
    match = _PLACE.fullmatch(written)
    if match is None:
        cure = f"write [{written}]" if _is_ip(written) else 'write "callahead:[host]:port"'
        raise ValueError(f'"{written}" names no next hop: {cure}')
    host, port = match["literal"] or match["name"] or "", match["port"] or match["port2"] or str(SMTP_PORT)
    if match["literal"] and host.lower().startswith("ipv6:"):  # Postfix writes it so too
        host = host[len("ipv6:") :]
    if not _is_ip(host):
        host = host.lower().removesuffix(".")
        if not _HOST.fullmatch(host) or len(host) > MAX_DOMAIN_OCTETS or host.replace(".", "").isdigit():
            raise ValueError(
                f'"{host}" is neither a host name nor an IP address: write "callahead:[host]:port"'
            )
    if len(port) > len("65535") or not 0 < int(port) < 65536:
        raise ValueError(f"{port[:12]} is no port: it is from 1 to 65535")
    return Target(host, int(port))


def path_of(local: str, domain: str) -> Path | None:
    """The address as RCPT takes it, quoted where it must be; None for what RFC 5321 does not let pass there.

    Nothing invisible comes through, least of all what would end the line.
    """
    folded = fold_domain(domain)
    if not folded or not _MAIL_DOMAIN.fullmatch(folded) or not local or not local.isprintable():
        return None
    written = local if _DOT_STRING.fullmatch(local) else quoted(local)
    path = f"{written}@{folded}"
    if len(local.encode()) > MAX_LOCAL_OCTETS or len(path.encode()) > MAX_FORWARD_PATH_OCTETS:
        return None
    return Path(path, path.isascii())


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
