"""How the values are written that hold for the whole server. A parser raises ValueError, for a person."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from backstop.adapters.name_servers import parse as parse_name_server
from backstop.adapters.redis_place import parse_place
from backstop.adapters.redis_server import tls_context
from backstop.address import Network, fold_domain
from backstop.config.model import LogAddresses
from backstop.settings import DnsList, ListOf

MAX_WORKERS: Final = 256
MAX_MEMORY: Final = 10**8
MAX_SOCKET_PATH: Final = 103
"""unix(7) allows 107 octets; the daemon opens the socket as `<path>.new` and renames it."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r"inet6?:([0-9]{1,5})@([0-9A-Za-z.:_-]+)")
_AUTHSERV_ID = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_])?")
_DAEMON = re.compile(r"[!-~]{1,255}")


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text in quotes is wanted")
    return value


def absolute_path(value: Any) -> Path:
    """A path that means the same wherever the daemon is started."""
    written = text(value)
    if not written.startswith("/") or "\0" in written:
        raise ValueError(f'a path that begins with / is wanted, not "{written[:80]}"')
    return Path(written)


def socket(value: Any) -> str:
    """Where the mail server finds us, in libmilter's words: `unix:/path` or `inet:PORT@ADDRESS`."""
    written = text(value)
    if written.startswith("unix:"):
        path = absolute_path(written.removeprefix("unix:"))
        octets = len(str(path).encode())
        if octets > MAX_SOCKET_PATH:
            raise ValueError(
                f"the path is too long for a socket: {octets} octets, {MAX_SOCKET_PATH} are allowed"
            )
        if path.name == "" or written.endswith("/"):
            raise ValueError("this is a directory; name the socket within it")
        return f"unix:{path}"
    match = _PORT.fullmatch(written)
    if match and 0 < int(match[1]) < 65536:
        return written
    raise ValueError(f'"unix:/path" or "inet:PORT@ADDRESS" is wanted, not "{written[:80]}"')


def workers(value: Any) -> int:
    """How many worker processes; 0 is one for each core."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_WORKERS:
        raise ValueError(f"a whole number from 0 to {MAX_WORKERS} is wanted, without quotes")
    return value


def memory_max(value: Any) -> int:
    """How many entries the memory of sent mail takes in each set of a day."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_MEMORY:
        raise ValueError(f"a whole number from 1 to {MAX_MEMORY:,} is wanted, without quotes")
    return value


def store(value: Any) -> tuple[str, ...]:
    """The store's URL, or a list of Sentinels."""
    urls = [value] if isinstance(value, str) else value
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ValueError('a URL such as "redis://127.0.0.1:6379/0" is wanted, or a list of Sentinels')
    place = parse_place(urls)
    if place.speaks_tls:
        tls_context(place)  # else each worker would fall over the files at its start
    return tuple(urls)


def log_addresses(value: Any) -> LogAddresses:
    """One of the words of `LogAddresses`."""
    words = [one.value for one in LogAddresses]
    if value not in words:
        raise ValueError("wanted is one of " + ", ".join(f'"{word}"' for word in words))
    return LogAddresses(value)


def network(entry: str) -> Network:
    """A network of clients, or one address."""
    try:
        found = ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:
        raise ValueError(f'a network such as "192.0.2.0/24" is wanted, not "{entry[:80]}"') from None
    if "/" in entry and ipaddress.ip_interface(entry.strip()).ip != found.network_address:
        raise ValueError(
            f'"{entry[:80]}" is an address within a network; write "{found}", or the address alone'
        )
    if found.prefixlen == 0:
        raise ValueError(f'"{entry[:80]}" is the whole world: every client would be ours')
    return found


def name_server(entry: str) -> str:
    """The address of a DNS server, with or without a port."""
    if parse_name_server(entry) is None:
        raise ValueError(f'the address of a name server such as "192.0.2.53" is wanted, not "{entry[:80]}"')
    return entry


def daemon(entry: str) -> str:
    """The {daemon_name} of a mail server's port."""
    if not _DAEMON.fullmatch(entry):
        raise ValueError("a daemon's name is one word, as in milter_macro_daemon_name of Postfix")
    return entry


def authserv_id(value: Any) -> str:
    """Who we are in Authentication-Results, RFC 8601, section 2.5; "" for no such field."""
    if not isinstance(value, str) or (value and not _AUTHSERV_ID.fullmatch(value)):
        raise ValueError('the name of this server such as "mx.example.com" is wanted, or "" for none')
    return value


def dns_list(zone: str, table: Any) -> DnsList:
    """A DNS list: what it names, and whether it is asked about bounces only."""
    folded = domain(zone)
    if not isinstance(table, dict) or "of" not in table:
        raise ValueError('{ of = "client" } or { of = "sender" } is wanted')
    unknown = sorted(set(table) - {"of", "bounces_only", "shown_as"})
    if unknown:
        raise ValueError(f'"{unknown[0][:80]}" is not known here; known are of, bounces_only and shown_as')
    kinds = {kind.value: kind for kind in ListOf}
    if table["of"] not in kinds:
        raise ValueError('of = "client" or of = "sender" is wanted')
    bounces_only = table.get("bounces_only", False)
    if not isinstance(bounces_only, bool):
        raise ValueError("bounces_only = true or false is wanted, without quotes")  # noqa: TRY004 - as above
    if bounces_only and kinds[table["of"]] is ListOf.SENDER:
        raise ValueError("bounces have no sender: bounces_only is for lists of clients")
    shown_as = table.get("shown_as", "")
    if not isinstance(shown_as, str) or (shown_as and fold_domain(shown_as) is None):
        raise ValueError('shown_as = "zen.example.org" or another name is wanted')
    return DnsList(folded, kinds[table["of"]], bounces_only, shown_as)


def domain(entry: str) -> str:
    """A protected domain, folded."""
    if "@" in entry:
        raise ValueError(
            f'a domain is wanted, not the address "{entry[:80]}"; write what stands behind its @'
        )
    if "*" in entry:
        raise ValueError(f'"{entry[:80]}" is a pattern; name each domain')
    folded = fold_domain(entry.strip())
    if folded is None or not all(_LABEL.fullmatch(label) for label in folded.split(".")):
        raise ValueError(f'a domain such as "example.com" is wanted, not "{entry[:80]}"')
    return folded


PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "socket": socket,
    "workers": workers,
    "store": store,
    "state_directory": absolute_path,
    "keys": absolute_path,
    "dkim_keys": absolute_path,
    "memory_max": memory_max,
    "log_addresses": log_addresses,
}
"""One parser for each single value at the top of the file."""
