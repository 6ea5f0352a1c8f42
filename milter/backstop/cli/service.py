"""The commands `serve`, `check-config` and `setup`."""

import argparse
import os
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backstop.cli import output

if TYPE_CHECKING:
    from backstop.config import Config


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add them to the command's own."""
    serve = commands.add_parser("serve", help="run the daemon", description="Run the daemon until SIGTERM.")
    serve.set_defaults(run=_serve)
    check = commands.add_parser(
        "check-config",
        help="read the configuration and tell every fault",
        description="Read the configuration file and the key file, and tell every fault with its line.",
    )
    check.add_argument("file", metavar="FILE", nargs="?", type=Path, help="in place of --config FILE")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check_config)


def add_setup(commands: "argparse._SubParsersAction[Any]", words: Sequence[str]) -> None:
    """`setup` brings half of the program with it, so its arguments are read only where it is named."""
    setup = commands.add_parser(
        "setup", help="fit the mail server to Backstop", description="Fit the mail server to Backstop."
    )
    if "setup" in words:
        from backstop.setup import postfix

        server = setup.add_subparsers(metavar="SERVER", required=True)
        parser = server.add_parser("postfix", help="Postfix")
        postfix.add_arguments(parser)
        parser.set_defaults(run=postfix.run)


def _serve(arguments: argparse.Namespace) -> int:
    from backstop.daemon import serve

    return serve(arguments.config)


def _check_config(arguments: argparse.Namespace) -> int:
    from backstop.config import check

    path = arguments.file or arguments.config
    config, faults, warnings = check(path)
    if arguments.json:
        output.say_json({"file": str(path), "faults": faults, "warnings": warnings})
    else:
        output.complain(*faults)
        for warning in warnings:
            output.say(f"warning: {warning}")
        if config is not None:
            output.say(_summary(config))
    return os.EX_CONFIG if faults else os.EX_OK


def _summary(config: "Config") -> str:
    return f"{config.path}: in order; {_count(config.domains, 'domain')}, {_count(config.ring.keys, 'key')}"


def _count(many: Sized, name: str) -> str:
    return f"{len(many)} {name}" if len(many) == 1 else f"{len(many)} {name}s"
