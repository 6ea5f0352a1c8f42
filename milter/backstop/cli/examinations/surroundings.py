"""What is examined: the configuration, the store as far as it answers, the domains, and the mail server."""

import contextlib
import socket
import time
from dataclasses import dataclass, field

from backstop.adapters.redis_store import pack
from backstop.address import fold_domain
from backstop.cli import effective
from backstop.cli.effective import Effective
from backstop.cli.output import CommandFailed
from backstop.cli.store import Toggles, all_domains
from backstop.config import Config
from backstop.setup.postfix import files
from backstop.setup.postfix.reading import Postfix, PostfixUnavailable

PATIENCE = 10.0
"""Seconds for a connection, and for each reply."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where the mail server takes mail from strangers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything an examination may look at.

    `away` says why the store does not answer, and is empty when it does.
    """

    config: Config
    toggles: Toggles
    away: str
    domains: tuple[str, ...]
    server: MailServer
    misnamed: tuple[str, ...] = ()
    """What the store names as protected domains, and is none."""

    postfix: Postfix | None = None
    """The Postfix of this host, where it is the mail server that is asked."""

    now: float = field(default_factory=time.time)

    def effective(self, domain: str) -> Effective:
        """A domain's settings as they hold now, by the file alone where the store does not answer."""
        if not self.away:
            with contextlib.suppress(CommandFailed):
                return effective.read(self.config, self.toggles, domain)
        return effective.by_file(self.config, domain)


def mail_server(postfix: Postfix | None) -> MailServer:
    """Where Postfix takes mail from strangers, by master.cf; else where any server does."""
    host, port = "127.0.0.1", 25
    if postfix is not None:
        try:
            interfaces = postfix.run("postconf", "-xh", "inet_interfaces").replace(",", " ").split()
            listeners = [
                service.name
                for service in files.services(postfix.run("postconf", "-M"))
                if service.type == "inet" and service.command in ("smtpd", "postscreen")
            ]
        except PostfixUnavailable:  # its own examination tells
            return MailServer(host, port)
        if interfaces and interfaces[0] not in ("all", "loopback-only", "localhost"):
            host = interfaces[0].strip("[]")
        for name in listeners[:1]:
            before, _, service = name.rpartition(":")
            host = before.strip("[]") or host
            with contextlib.suppress(OSError):
                port = int(service) if service.isdigit() else socket.getservbyname(service, "tcp")
    return MailServer(host, port)


@dataclass(frozen=True, slots=True)
class Domains:
    """The protected domains, what the store names beside them that is none, and why it does not answer."""

    names: tuple[str, ...]
    misnamed: tuple[str, ...] = ()
    away: str = ""


def known_domains(config: Config, toggles: Toggles) -> Domains:
    """All protected domains; those of the file alone where the store does not name any."""
    try:
        found = all_domains(config, toggles)
    except CommandFailed:
        try:  # it may be there, and the set be none
            toggles.ask(pack("PING"))
        except CommandFailed as failure:
            return Domains(config.domains, away=str(failure))
        return Domains(config.domains)
    # What stands in Redis goes into commands of SMTP: only what is a domain may.
    names = tuple(name for name in found if fold_domain(name) == name)
    return Domains(names, tuple(name for name in found if name not in names))
