"""The recipient source `ldap:NAME`: whether a directory has an entry for an address (RFC 4511).

    [ldap.staff]
    uri = "ldaps://directory.example.com"       # or a list, tried in order; ldap://, ldapi:// too
    base = "ou=people,dc=example,dc=com"
    filter = "(&(objectClass=person)(mail={address}))"

What comes from an address is escaped octet by octet (RFC 4515, section 3). A part of the directory that is
kept elsewhere (RFC 4511, section 4.5.3) is not visited: who is not found may be there, and that is no clear
word. python-ldap is wanted.
"""

import contextlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from backstop.adapters import password_file
from backstop.adapters.lookup_crew import (
    KEEPALIVE_IDLE,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_PROBES,
    Crew,
    LookupFailed,
    NoClearWord,
)
from backstop.adapters.source_options import Table

_URI = re.compile(r"ldap(?:s|i)?://[!-~]*")
_NO_ATTRIBUTES: Final = "1.1"
"""RFC 4511, section 4.5.1.8."""

_STANDING = re.compile(
    r"ldaps?://[^/]*/(?:DC=DomainDnsZones|DC=ForestDnsZones|CN=Configuration),", re.IGNORECASE
)
"""Where Active Directory points to in each answer about a whole domain; nobody has an address there."""

_PLACEHOLDER = re.compile(r"\{(address|local|domain)\}")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._+-=")


class Scope(Enum):
    """How deep below the base is searched."""

    BASE = "base"
    ONE = "one"
    SUB = "sub"


@dataclass(frozen=True, slots=True)
class LdapOptions:
    """How a directory is asked. `timeout` is in seconds, for connecting and for each answer."""

    uri: tuple[str, ...]
    base: str
    filter: str
    scope: Scope = Scope.SUB
    bind_dn: str = ""
    password_file: Path | None = None
    starttls: bool = False
    ca_file: Path | None = None
    timeout: int = 5


def read_ldap(table: Mapping[str, object]) -> LdapOptions:
    """The options in a table `[ldap.NAME]`; ValueError names the one that is wrong."""
    given = Table(table)
    options = LdapOptions(
        uri=given.texts("uri"),
        base=given.text("base"),
        filter=given.text("filter"),
        scope=Scope(given.word("scope", [one.value for one in Scope], "sub")),
        bind_dn=given.text("bind_dn", ""),
        password_file=given.path("password_file"),
        starttls=given.flag("starttls"),
        ca_file=given.path("ca_file"),
        timeout=given.seconds("timeout", 5),
    )
    given.nothing_else()
    _check(options)
    return options


def _check(options: LdapOptions) -> None:
    for uri in options.uri:
        if not _URI.fullmatch(uri):
            raise ValueError('uri: "ldap://HOST", "ldaps://HOST" or "ldapi://%2Fpath" is wanted')
        if options.starttls and not uri.startswith("ldap://"):
            raise ValueError("starttls: only ldap:// can begin TLS later")
    if not re.search(r"\{(address|local)\}", options.filter):
        raise ValueError("filter: {address} or {local} is wanted where the recipient stands")
    unknown = re.search(r"\{(?!(?:address|local|domain)\})[^}]*\}?", options.filter)
    if unknown:
        raise ValueError(f"filter: {unknown[0][:40]} means nothing; {{address}}, {{local}} and {{domain}} do")
    if not (options.filter.startswith("(") and options.filter.endswith(")")):
        raise ValueError("filter: it stands in parentheses, as in (mail={address})")
    if bool(options.bind_dn) != (options.password_file is not None):
        raise ValueError("bind_dn: bind_dn and password_file belong together")


class LdapDirectory(Crew):
    """One directory, for any number of threads."""

    def __init__(self, options: LdapOptions) -> None:
        super().__init__(lambda deadline: _Connection(options, deadline))


class _Connection:
    """python-ldap's object, which is not to be used by two threads at a time."""

    def __init__(self, options: LdapOptions, deadline: float) -> None:
        self._options = options
        self._ldap = _library()
        try:
            self._directory = self._ldap.initialize(" ".join(options.uri))
        except self._ldap.LDAPError as error:
            raise LookupFailed(f"{' '.join(options.uri)}: {_words(error)}") from None
        try:
            self._begin(deadline)
        except LookupFailed:
            self.close()
            raise
        except (self._ldap.LDAPError, ValueError) as error:  # ValueError: an option it does not take
            self.close()
            raise LookupFailed(f"{' '.join(options.uri)}: {_words(error)}") from None

    def knows(self, local: str, domain: str, deadline: float) -> bool:
        """Whether the filter finds an entry."""
        words = {"address": escaped(f"{local}@{domain}"), "local": escaped(local), "domain": escaped(domain)}
        return self._finds(words, deadline)

    def has_anybody(self, domain: str, deadline: float) -> bool:
        """Whether the filter finds an entry with any address at all."""
        return self._finds({"address": "*", "local": "*", "domain": escaped(domain)}, deadline)

    def close(self) -> None:
        """Say good-bye."""
        with contextlib.suppress(self._ldap.LDAPError):  # it may be gone already
            self._directory.unbind_ext()

    def _begin(self, deadline: float) -> None:
        ldap, directory, options = self._ldap, self._directory, self._options
        seconds = self._seconds(deadline)
        directory.protocol_version = ldap.VERSION3
        directory.set_option(ldap.OPT_TIMEOUT, seconds)
        # Not OPT_NETWORK_TIMEOUT: with it libldap takes a whole core, for ever, while a server is silent amid
        # the handshake of TLS (2.5.13 with GnuTLS). Connecting is bounded by the kernel; each has its share.
        share = max(1.0, seconds / len(options.uri))
        directory.set_option(ldap.OPT_TCP_USER_TIMEOUT, int(share * 1000))
        directory.set_option(ldap.OPT_X_KEEPALIVE_IDLE, KEEPALIVE_IDLE)
        directory.set_option(ldap.OPT_X_KEEPALIVE_INTERVAL, KEEPALIVE_INTERVAL)
        directory.set_option(ldap.OPT_X_KEEPALIVE_PROBES, KEEPALIVE_PROBES)
        directory.set_option(ldap.OPT_REFERRALS, 0)
        directory.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
        if options.ca_file is not None:
            directory.set_option(ldap.OPT_X_TLS_CACERTFILE, str(options.ca_file))
        directory.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if options.starttls:
            try:
                directory.start_tls_s()
            except ldap.LDAPError as error:  # which says nothing of a certificate that it does not know
                cure = "does ca_file name who signed its certificate?"
                raise LookupFailed(f"{' '.join(options.uri)}: no TLS: {_words(error)}; {cure}") from None
        if options.password_file is not None:
            try:
                password = password_file.read(options.password_file)
            except password_file.PasswordUnreadable as fault:
                raise LookupFailed(str(fault)) from None
            directory.result(
                directory.simple_bind(options.bind_dn, password), timeout=self._seconds(deadline)
            )

    def _finds(self, words: Mapping[str, str], deadline: float) -> bool:
        ldap, options = self._ldap, self._options
        scopes = {Scope.BASE: ldap.SCOPE_BASE, Scope.ONE: ldap.SCOPE_ONELEVEL, Scope.SUB: ldap.SCOPE_SUBTREE}
        filled = _PLACEHOLDER.sub(lambda match: words[match[1]], options.filter)
        seconds = self._seconds(deadline)
        try:
            question = self._directory.search_ext(
                options.base,
                scopes[options.scope],
                filled,
                [_NO_ATTRIBUTES],
                timeout=math.ceil(seconds),
                sizelimit=1,
            )
            _, entries = self._directory.result(question, timeout=seconds)
        except ldap.SIZELIMIT_EXCEEDED:
            return True
        except ldap.LDAPError as error:
            raise LookupFailed(f"{' '.join(options.uri)}: {_words(error)}") from None
        if any(name is not None for name, *_ in entries):
            return True
        # What has no name points elsewhere, by the addresses of one or more servers that have it.
        elsewhere = [url for _, urls, *_ in entries for url in urls if not _STANDING.match(url)]
        if elsewhere:
            where = " ".join(elsewhere[0].split())[:150]
            raise NoClearWord(f"a part of it is elsewhere, and not asked there: {where}")
        return False

    def _seconds(self, deadline: float) -> float:
        left = min(deadline - time.monotonic(), self._options.timeout)
        if left <= 0:
            raise LookupFailed("no answer in time")
        return left


def escaped(text: str) -> str:
    """A value as it stands in a filter; octets that are no UTF-8 stay what they were."""
    octets = text.encode(errors="surrogateescape")
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in octets)


def _library() -> Any:
    try:
        import ldap  # noqa: PLC0415 - only who names such a source has python-ldap
    except ImportError as error:
        raise LookupFailed(f"python-ldap cannot be used ({error}); Debian has it as python3-ldap") from None
    return ldap


def _words(error: Exception) -> str:
    """What a directory or python-ldap complains of, on one line."""
    told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    said = " ".join(str(told.get(key, "")) for key in ("desc", "info")).strip() or str(error)
    return " ".join((said or type(error).__name__).split())[:200]
