"""The command `backstop`. What a command needs is imported when it runs, so that `--help` is quick."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from backstop import __version__
from backstop.cli import (
    aliases,
    blocks,
    dns,
    doctor,
    domains,
    explain,
    keys,
    output,
    readiness,
    recipients,
    records,
    service,
    tags,
)
from backstop.cli.output import CommandFailed

CONFIG: Final = Path("/etc/backstop/backstop.toml")


class Parser(argparse.ArgumentParser):
    """A parser of the command or of one below it: each takes `--config`, and prints nothing unescaped."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "allow_abbrev": False})
        self.color = False  # since Python 3.14 help would come in colours of argparse's own
        self.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            default=argparse.SUPPRESS,
            help=f"the configuration file ({CONFIG})",
        )

    def error(self, message: str) -> NoReturn:
        """Tell how the command is used; the exit status is that of sysexits(3)."""
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        output.write(message, file or sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status, as in sysexits(3)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:  # who read us has read enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _run(words: Sequence[str]) -> int:
    try:
        arguments = _parser(words).parse_args(words, argparse.Namespace(config=CONFIG))
    except SystemExit as exit_:  # argparse has printed its help or its complaint
        return exit_.code if isinstance(exit_.code, int) else os.EX_OK
    with contextlib.ExitStack() as arguments.closing:
        try:
            status: int = arguments.run(arguments)
        except CommandFailed as failure:
            output.complain(*failure.lines)
            return failure.status
        return status


def _parser(words: Sequence[str]) -> Parser:
    parser = Parser(prog="backstop", description="Ends backscatter: bounces of mail that was never sent.")
    parser.add_argument("--version", action="version", version=f"backstop {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for group in (
        service,
        blocks,
        domains,
        readiness,
        records,
        recipients,
        aliases,
        keys,
        tags,
        explain,
        doctor,
        dns,
    ):
        group.add_commands(commands)
    service.add_setup(commands, words)
    return parser
