"""The command `doctor`: what is wrong between mail server, daemon, store and keys, each with its cure."""

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.cli.examinations.finding import Finding
    from backstop.cli.examinations.surroundings import MailServer, Surroundings
    from backstop.config import Config

_SERVER = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command's own."""
    doctor = commands.add_parser(
        "doctor",
        help="find what is wrong, each with its cure",
        description="Asks the running mail server, the daemon and the store whether all is well. It changes "
        "nothing and sends no message: the mail server is asked by RCPT whether it refuses users that do not "
        "exist. Exit status: 0 nothing is wrong, 1 something is, 75 something could not be examined.",
    )
    doctor.add_argument("domains", metavar="DOMAIN", nargs="*", help="examine these (all protected ones)")
    doctor.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="where the mail server takes mail from strangers (as Postfix says, or 127.0.0.1:25)",
    )
    doctor.add_argument(
        "--postfix-config",
        metavar="DIR",
        default="",
        help="the folder of main.cf, when it is not the system's own",
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from backstop.cli.examinations.finding import Level

    surroundings = _surroundings(arguments)
    counted: Counter[Level] = Counter()
    found = []
    for name, finding in _findings(surroundings):
        counted[finding.level] += 1
        if arguments.json:
            found.append((name, finding))
        else:
            _show(finding)
    if arguments.json:
        output.say_json(
            {
                "wrong": counted[Level.WRONG],
                "not_examined": counted[Level.UNKNOWN],
                "findings": [
                    {
                        "examination": name,
                        "level": finding.level.value,
                        "subject": finding.subject,
                        "text": finding.text,
                        "cure": finding.cure,
                    }
                    for name, finding in found
                ],
            }
        )
    else:
        output.say(_summary(counted[Level.WRONG], counted[Level.UNKNOWN]))
    if counted[Level.WRONG]:
        return 1
    return os.EX_TEMPFAIL if counted[Level.UNKNOWN] else os.EX_OK


def _findings(surroundings: "Surroundings") -> "Iterator[tuple[str, Finding]]":
    from backstop.cli.examinations import EXAMINATIONS

    for examination in EXAMINATIONS:
        for finding in examination.examine(surroundings):
            yield examination.name, finding


def _show(finding: "Finding") -> None:
    output.say(f"{finding.level.value:<12}  {finding.subject}: {finding.text}")
    if finding.cure:
        output.say(f"{'':<12}  cure: {finding.cure}")


def _summary(wrong: int, unknown: int) -> str:
    said = f"{wrong} thing{'' if wrong == 1 else 's'} wrong" if wrong else "nothing is wrong"
    return f"{said}; {unknown} could not be examined" if unknown else said


def _surroundings(arguments: argparse.Namespace) -> "Surroundings":
    from backstop.cli.examinations.surroundings import Surroundings, known_domains, mail_server
    from backstop.cli.store import open_store
    from backstop.setup.postfix.reading import Postfix, is_installed

    config, toggles = open_store(arguments)
    known = known_domains(config, toggles)
    # Where another host is named, the Postfix of this one is not the mail server that is meant.
    is_here = arguments.postfix_config or (arguments.server is None and is_installed())
    postfix = Postfix(arguments.postfix_config) if is_here else None
    return Surroundings(
        config=config,
        toggles=toggles,
        away=known.away,
        domains=_chosen(config, known.names, arguments.domains) if arguments.domains else known.names,
        server=mail_server(postfix) if arguments.server is None else _server(arguments.server),
        misnamed=known.misnamed,
        postfix=postfix,
    )


def _chosen(config: "Config", domains: tuple[str, ...], written: list[str]) -> tuple[str, ...]:
    from backstop.cli import names

    chosen = tuple(dict.fromkeys(names.domain(each) for each in written))
    for each in chosen:
        if each not in domains:
            raise CommandFailed(names.not_protected(config, each))
    return chosen


def _server(written: str) -> "MailServer":
    from backstop.cli.examinations.surroundings import MailServer

    match = _SERVER.fullmatch(written)
    if match is None or not 0 < int(match[3] or 25) < 65536:
        raise CommandFailed(f'--server: HOST:PORT is wanted, not "{written}"')
    return MailServer(match[1] or match[2], int(match[3] or 25))
