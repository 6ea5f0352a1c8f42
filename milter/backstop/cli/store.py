"""The store as commands use it: an answer, or the end of the command with a clear text."""

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from backstop.adapters import redis_names
from backstop.adapters.redis_place import Place, parse_place
from backstop.adapters.redis_store import Reply, ReplyError, Store, StoreUnavailable, Word, pack
from backstop.cli.output import CommandFailed
from backstop.config import Config, ConfigurationError, load

TIMEOUT: Final = 2.0
"""Seconds; nobody's mail waits for a command."""

PAGE: Final = 500
"""Questions put, and names asked for, at once."""

_DEFAULT: Final = Place(hosts=(("127.0.0.1", 6379),))


def open_store(arguments: argparse.Namespace) -> "tuple[Config, Toggles]":
    """The configuration and its store, until the command ends. Raises `CommandFailed`."""
    config = load_config(arguments.config)
    toggles = Toggles(config)
    arguments.closing.callback(toggles.close)
    return config, toggles


def load_config(path: Path) -> Config:
    """The configuration. Raises `CommandFailed`."""
    try:
        return load(path)
    except ConfigurationError as error:
        raise CommandFailed(*error.faults, status=os.EX_CONFIG) from None


class Toggles:
    """Redis for one command."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.place = parse_place(config.store)
        try:
            self.store = Store(config.store, connections=1, timeout=TIMEOUT, write_timeout=TIMEOUT)
        except ValueError as error:  # its TLS files
            raise CommandFailed(f"{config.path}: {error}", status=os.EX_CONFIG) from None

    def __str__(self) -> str:
        return str(self.store)

    def ask(self, *commands: bytes) -> list[Reply]:
        """The replies to packed commands that read. Raises `CommandFailed`."""
        replies: list[Reply] = []
        try:
            for start in range(0, len(commands), PAGE):
                replies += self.store.ask(commands[start : start + PAGE])
        except StoreUnavailable as error:
            raise self._away(str(error)) from None
        return replies

    def close(self) -> None:
        """Ask nothing any more."""
        self.store.close()

    def probe(self) -> bool:
        """Whether the store answers, tried at most once a second."""
        return self.store.probe()

    def change(self, *commands: Sequence[Word]) -> list[Reply]:
        """Carry commands out, all or none. Raises `CommandFailed`."""
        packed = [pack("MULTI"), *(pack(*words) for words in commands), pack("EXEC")]
        try:
            replies = self.store.write(packed)
        except StoreUnavailable as error:
            raise self._away(str(error)) from None
        for reply in replies:
            if isinstance(reply, ReplyError) and reply.kind != "EXECABORT":
                raise self._refused(reply)
        if len(replies) < len(packed) or not isinstance(replies[-1], list):
            raise CommandFailed(
                f"the store {self} broke off, and nobody knows whether the change was made;"
                " look with `backstop status`, or give the command again",
                status=os.EX_TEMPFAIL,
            )
        done = replies[-1]
        for reply in done:
            if isinstance(reply, ReplyError):
                raise self._refused(reply)
        return done

    def members(self, key: bytes) -> Iterator[str]:
        """All members of a set, in no order; a key of another type ends the command."""
        yield from self._pages("SSCAN", key)

    def fields(self, key: bytes, pattern: str) -> Iterator[tuple[str, str]]:
        """The fields of a hash whose names fit a pattern, with their values."""
        words = self._pages("HSCAN", key, pattern=pattern)
        yield from zip(words, words, strict=False)

    def names(self, pattern: str) -> Iterator[str]:
        """All keys of a pattern."""
        yield from self._pages("SCAN", pattern=pattern)

    def redis_cli(self, *words: Word) -> str:
        """The line for a shell that does the same, without password."""
        shown = [
            word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else str(word)
            for word in words
        ]
        return " ".join([*_client(self.place), shlex.join(shown)])

    def _pages(self, *words: Word, pattern: str = "*") -> Iterator[str]:
        cursor: Word = b"0"
        while True:
            (reply,) = self.ask(pack(*words, cursor, "MATCH", pattern, "COUNT", PAGE))
            match reply:
                case [bytes(following), list(found)]:
                    yield from (text(name) for name in found)
                case ReplyError():
                    raise self._refused(reply)
                case _:
                    raise CommandFailed(
                        f"the store {self} answered what was not asked", status=os.EX_PROTOCOL
                    )
            if following == b"0":
                return
            cursor = following

    def _away(self, why: str) -> CommandFailed:
        return CommandFailed(f"the store {self} cannot be reached: {why}", status=os.EX_UNAVAILABLE)

    def _refused(self, error: ReplyError) -> CommandFailed:
        hints = {
            "READONLY": "it is a replica: name the master, or its Sentinels, in `store`",
            "OOM": "its memory is full: see maxmemory in its configuration",
            "MISCONF": "it cannot save to its disk",
            "NOPERM": "its user has no right to this",
            "WRONGTYPE": "another kind of value is under this name; look at it with redis-cli",
        }
        hint = hints.get(error.kind, "")
        return CommandFailed(
            f"the store {self} refused: {error.text}" + (f" ({hint})" if hint else ""),
            status=os.EX_UNAVAILABLE,
        )


def text(reply: Reply) -> str:
    """A reply as text, whatever it is; octets outside UTF-8 stay visible as such."""
    if reply is None:
        return ""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape")
    return reply.text if isinstance(reply, ReplyError) else str(reply)


def pairs(reply: Reply) -> dict[str, str]:
    """A hash as Redis returns it; what is none is empty."""
    if not isinstance(reply, list):
        return {}
    words = [text(word) for word in reply]
    return dict(zip(words[::2], words[1::2], strict=False))


def protected(config: Config, toggles: Toggles, domain: str) -> bool:
    """Whether a domain is protected, by the file or by the store."""
    if domain in config.domains:
        return True
    (reply,) = toggles.ask(pack("SISMEMBER", redis_names.DOMAINS, domain))
    return reply == 1


def all_domains(config: Config, toggles: Toggles) -> list[str]:
    """Every protected domain: those of the file in its order, then those that only the store names."""
    more = set(toggles.members(redis_names.DOMAINS)) - set(config.domains)
    return [*config.domains, *sorted(more)]


def _client(place: Place) -> list[str]:
    if place == _DEFAULT:
        return ["redis-cli"]
    if place.path:
        words = ["redis-cli", "-s", place.path]
    elif place.service:  # the Sentinels know the master of the moment, not this line
        words = ["redis-cli", "-h", "MASTER"]
    else:
        host, port = place.hosts[0]
        words = ["redis-cli", "-h", host, "-p", str(port)]
    words += ["-n", str(place.database)] if place.database else []
    options = {"ssl_ca_certs": "--cacert", "ssl_certfile": "--cert", "ssl_keyfile": "--key"}
    words += ["--tls"] if place.speaks_tls else []
    for name, file in place.tls_files:
        words += [options[name], file]
    words += ["--user", place.user] if place.user else []
    words += ["--askpass"] if place.password else []
    return [shlex.quote(word) for word in words]
