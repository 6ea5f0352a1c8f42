"""The daemon behind `backstop serve`: a parent that supervises, and workers that answer mail servers.

The parent reads the configuration, opens the milter socket and forks the worker processes; it never touches
mail. What a worker answers is the business of `backstop.callbacks`.
"""

import contextlib
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

from backstop.adapters.asker_client import NOBODY, AskerClient, make_door
from backstop.adapters.slow_sources import open_source
from backstop.callbacks import Service
from backstop.config import Config, ConfigurationError, LogAddresses, check
from backstop.daemon.asker import Plan
from backstop.daemon.console import Console, to_terminal
from backstop.daemon.listener import CannotListen, Listener
from backstop.daemon.signals import Signals
from backstop.daemon.supervisor import Blueprint, Supervisor


def serve(config_path: Path) -> int:
    """Run until SIGTERM or SIGINT; the exit status, as in sysexits(3).

    78: the configuration, or the place of the socket, is wrong. 75: something else has the socket.
    SIGHUP reads the configuration anew.
    """

    def build() -> Blueprint:
        config, faults, warnings = check(config_path)
        if config is None:
            raise ConfigurationError(faults)
        for warning in warnings:
            Console().warning("configuration", warning=warning)
        plan = _asker(config)
        asking = AskerClient(plan.outer) if plan else NOBODY
        return Blueprint(config.socket, config.workers, Service(config, asking), plan)

    return run(build)


def _asker(config: Config) -> Plan | None:
    """What an asker is needed for; None where every source answers at once."""
    sources = config.slow_sources
    if not sources:
        return None
    try:
        inner, outer = make_door()
    except OSError as error:
        raise ConfigurationError(
            [f"{config.path}: recipients: no sockets for them: {error.strerror}"]
        ) from None
    shows_addresses = config.log_addresses is LogAddresses.FULL
    return Plan(
        sources, partial(open_source, options=config.slow), inner, outer, shows_addresses=shows_addresses
    )


def run(build: Callable[[], Blueprint]) -> int:
    """Serve what `build` makes of the configuration, at the start and at each SIGHUP."""
    signals = Signals()
    try:
        first = build()
        first.service.install()  # libmilter opens no socket for a milter it does not know
        listener = Listener(first.socket)
    except ConfigurationError as error:
        to_terminal(str(error))
        return os.EX_CONFIG
    except CannotListen as error:
        to_terminal(str(error))
        return error.status
    if listener.path is None:
        Console().warning(
            "slow_socket",
            socket=first.socket,
            reason="libmilter waits 40 ms for delayed acknowledgements on TCP; use a unix socket",
        )
    _raise_descriptor_limit()
    return Supervisor(first, build, listener, signals).run()


def _raise_descriptor_limit() -> None:
    """To what the system allows: each open session of the mail server takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a system that forbids it has set what it wants
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
