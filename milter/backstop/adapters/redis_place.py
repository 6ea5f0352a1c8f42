"""Where the store is: what the setting `store` may say.

    redis://[[USER]:PASSWORD@]HOST[:6379][/DATABASE]
    rediss://...[?ssl_ca_certs=FILE&ssl_certfile=FILE&ssl_keyfile=FILE]     TLS, certificate and name checked
    unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]
    redis+sentinel://[[USER]:PASSWORD@]HOST[:26379]/SERVICE[/DATABASE][?sentinel_username=&sentinel_password=]

Several Sentinels are a list of the last form, which may differ in host and port only; `rediss+sentinel://`
speaks TLS to the Sentinels and to the server. User and password are percent-encoded.

A host name is looked up when a worker starts and after an outage, never while a message waits; `localhost`
and addresses need no name server.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_TLS_FILES: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL: Final = frozenset({"sentinel_username", "sentinel_password"})
_NO_HOST: Final = "the store's URL has no HOST:PORT (is / @ : # in its password percent-encoded?)"


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says. With a `service`, `hosts` are Sentinels."""

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    speaks_tls: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """As a URL, without user and password."""
        if self.path:
            return f"unix://{self.path}?db={self.database}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = ("rediss" if self.speaks_tls else "redis") + ("+sentinel" if self.service else "")
        return f"{scheme}://{hosts}/{self.service + '/' if self.service else ''}{self.database}"


def parse_place(urls: str | Sequence[str]) -> Place:
    """Where a URL, or a list of Sentinels, leads; ValueError in words for the administrator."""
    places = [_parse(url) for url in ([urls] if isinstance(urls, str) else urls)]
    if not places:
        raise ValueError("the store's list is empty")
    first = places[0]
    if len(places) > 1 and not all(place.service for place in places):
        raise ValueError("several stores: only Sentinels (redis+sentinel://HOST:PORT/SERVICE) make a list")
    if any(replace(place, hosts=first.hosts) != first for place in places):
        raise ValueError("the Sentinels of one list may differ in host and port only")
    return replace(first, hosts=tuple(host for place in places for host in place.hosts))


def _parse(url: str) -> Place:
    try:
        parts = urlsplit(url)
        port, host = parts.port, unquote(parts.hostname or "")
    except ValueError:  # its text would show a piece of a password that holds an unencoded / or @
        raise ValueError(_NO_HOST) from None
    if parts.fragment:
        raise ValueError(_NO_HOST)
    words = dict(parse_qsl(parts.query, keep_blank_values=True))
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or host:
            raise ValueError("unix: wants an absolute path, as in unix:///run/redis/redis.sock?db=0")
        _only_known(words, {"db"})
        database = _database(words.get("db", "0"))
        return Place(path=unquote(parts.path), user=user, password=password, database=database)
    name, _, watched = parts.scheme.partition("+")
    if name not in {"redis", "rediss"} or watched not in {"", "sentinel"}:
        raise ValueError("a store is redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://")
    if not host or host.startswith("."):
        raise ValueError(_NO_HOST)
    known = (_TLS_FILES if name == "rediss" else frozenset()) | (_SENTINEL if watched else frozenset())
    _only_known(words, known)
    way = [unquote(step) for step in parts.path.split("/")[1:]]
    service = way.pop(0) if watched and way else ""
    if watched and not service:
        raise ValueError(
            f"{parts.scheme}: wants the service's name, as in redis+sentinel://HOST:26379/mymaster"
        )
    if len(way) > 1:
        raise ValueError(f"{parts.scheme}: after the host comes the number of a database and nothing else")
    return Place(
        hosts=((host, port or (26379 if watched else 6379)),),
        service=service,
        user=user,
        password=password,
        database=_database(way[0] if way and way[0] else "0"),
        speaks_tls=name == "rediss",
        tls_files=tuple(sorted((key, value) for key, value in words.items() if key in _TLS_FILES)),
        sentinel_user=words.get("sentinel_username", ""),
        sentinel_password=words.get("sentinel_password", ""),
    )


def _only_known(words: Mapping[str, str], known: AbstractSet[str]) -> None:
    if not words.keys() <= known:  # not quoted: it may be a piece of a password that holds an unencoded ?
        listed = ", ".join(sorted(known)) or "none"
        raise ValueError(f"the store's URL has an unknown setting after its ? (known here: {listed})")


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError("the store's database is a number, as in redis://127.0.0.1:6379/0")
    return int(text)
