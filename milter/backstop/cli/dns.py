"""The command `dns`: SPF, DKIM and DMARC of a domain as the world sees them, with what to mend."""

import argparse
import ipaddress
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.adapters.resolver import Resolver
    from backstop.cli.examinations.finding import Finding
    from backstop.cli.published.view import View
    from backstop.config import Config

SECONDS: Final = 5.0
"""For one question; nobody's mail waits."""

RATE: Final = 1000.0
"""Questions a second: one run asks some dozens, at once."""

_SELECTOR: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command's own."""
    dns = commands.add_parser(
        "dns",
        help="SPF, DKIM and DMARC of a domain as the world sees them, with what to mend",
        description="Asks DNS for the records that say who may send for a domain, follows SPF through all it "
        "includes, and prints what to mend and what to publish. It works without a configuration too. Exit "
        "status: 0 nothing is wrong, 1 something is, 75 DNS did not say.",
    )
    dns.add_argument("domain", metavar="DOMAIN")
    dns.add_argument(
        "--selector",
        metavar="NAME",
        action="append",
        default=[],
        help="a DKIM selector, s= of a signature; beside those in dkim_keys",
    )
    dns.add_argument(
        "--client", metavar="IP", help="whether this address passes SPF, that of your server say"
    )
    dns.add_argument(
        "--resolver",
        metavar="IP",
        action="append",
        default=[],
        help="ask this name server (as configured, or the system's)",
    )
    dns.add_argument("--json", action="store_true", help="print one JSON object")
    dns.set_defaults(run=_dns)


def _dns(arguments: argparse.Namespace) -> int:
    from backstop.cli.examinations.finding import Level
    from backstop.cli.names import domain as named
    from backstop.cli.published import view

    domain = named(arguments.domain)
    if domain.startswith("["):
        raise CommandFailed(f'"{arguments.domain}" is an address; a domain is wanted')
    config = _config(arguments.config)
    found = view.look(
        domain,
        _resolver(arguments.resolver, config),
        selectors=tuple(_selector(text) for text in arguments.selector),
        local=_local(config, domain),
        client=_client(arguments.client),
    )
    if arguments.json:
        output.say_json(_as_json(found))
    else:
        _tell(found)
    if found.count(Level.WRONG):
        return 1
    return os.EX_TEMPFAIL if found.count(Level.UNKNOWN) else os.EX_OK


def _config(path: Path) -> "Config | None":
    """The configuration; None where there is none yet, or it is not for this user."""
    from backstop.cli import CONFIG
    from backstop.cli.store import load_config

    if path == CONFIG and not os.access(path, os.R_OK):
        return None
    return load_config(path)


def _resolver(named: list[str], config: "Config | None") -> "Resolver":
    from backstop.adapters.resolver import Resolver

    servers = named or (config.resolver if config else ())
    try:
        return Resolver(servers, lifetime=SECONDS, rate=RATE)
    except ValueError as error:
        raise CommandFailed(f"--resolver: {error}") from None


def _selector(text: str) -> str:
    selector = text.lower()
    if len(selector) > 200 or not _SELECTOR.fullmatch(selector):
        raise CommandFailed(f'--selector: "{text}" is no selector; it stands as s= in a DKIM-Signature')
    return selector


def _client(text: str | None) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise CommandFailed(f'--client: "{text}" is no IP address') from None


def _local(config: "Config | None", domain: str) -> dict[str, Any]:
    from backstop.adapters.dkim_keys import KeyDirectory

    if config is None:
        return {}
    return KeyDirectory(config.dkim_keys, output.complain).selectors(domain, time.time())


# -- words --------------------------------------------------------------------------------------------------


def _tell(found: "View") -> None:
    from backstop.cli.examinations.finding import Level

    for line in found.spf_lines():
        output.say(line)
    for finding in found.findings:
        _show(finding)
    if found.records:
        output.say()
        output.say(f"for the zone of {found.domain}, when you have read what stands above each line:")
    for record in found.records:
        output.say()
        output.say(f"; {record.why}")
        output.say(record.line)
    output.say()
    count, unknown = found.count(Level.WRONG), found.count(Level.UNKNOWN)
    said = f"{count} thing{'' if count == 1 else 's'} wrong" if count else "nothing is wrong"
    output.say(f"{found.domain}: {said}" + (f"; {unknown} could not be found out" if unknown else ""))


def _show(finding: "Finding") -> None:
    output.say(f"{finding.level.value:<12}  {finding.subject}: {finding.text}")
    if finding.cure:
        output.say(f"{'':<12}  cure: {finding.cure}")


def _as_json(found: "View") -> dict[str, Any]:
    from backstop.cli.examinations.finding import Level

    return {
        "domain": found.domain,
        "wrong": found.count(Level.WRONG),
        "not_examined": found.count(Level.UNKNOWN),
        "spf": found.spf_as_json(),
        "dkim": found.dkim_as_json(),
        "dmarc": found.dmarc_as_json(),
        "findings": [
            {"level": one.level.value, "subject": one.subject, "text": one.text, "cure": one.cure}
            for one in found.findings
        ],
        "records": [
            {
                "name": record.name,
                "value": record.value.decode("latin-1"),
                "line": record.line,
                "why": record.why,
            }
            for record in found.records
        ],
    }
