"""Measure the daemon against empty milters: ratios within one interleaved run.

usage: see `script/bench --help`; README.md beside this file says how to read the table.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import generators
import mix
import report
import subjects
from generators import Generator
from processes import NotMeasured
from report import Memory, Round, Run
from subjects import Subject

SETTLE_SECONDS: Final = 0.35
"""Counters are written behind, four times a second: the last of them belong to the round."""

WARM_UP_MESSAGES: Final = 300

CLIENTS: Final = 1000
KNOWN_CLIENTS: Final = 40
"""Where DNS is asked: a worker puts 50 questions a second at most, and is to know the answers for all."""

QUICK: Final = (3, 800)


def main(arguments: Sequence[str]) -> int:
    """Exit status: 1 when a verdict was wrong, a connection was lost or nothing could be measured."""
    options = _parser().parse_args(arguments)
    if options.quick:
        options.rounds, options.messages = QUICK
    try:
        with ExitStack() as stack:
            run = _measure(options, stack)
    except (NotMeasured, ValueError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    print(report.as_json(run) if options.json else report.as_table(run))
    return 1 if run.wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=7, help="rounds (7)")
    add("--messages", type=int, default=2500, help="messages a round (2500)")
    add("--quick", action="store_true", help="{} rounds of {}: a look, not a figure".format(*QUICK))
    add(
        "--workers",
        type=int,
        nargs="*",
        default=[1, 2],
        metavar="N",
        help="daemons with N workers each; none: only the empty milters (1 2)",
    )
    add("--conns", type=int, default=10, help="connections at a time (10)")
    add("--per-conn", type=int, default=1, help="messages a connection (1)")
    add("--only", metavar="SCENARIO", help="one scenario of the mix by itself")
    add("--profile", choices=sorted(subjects.PROFILES), default="gate", help="the daemon's settings (gate)")
    add("--lean", action="store_true", help="measure the empty C milter with few steps, too")
    add(
        "--against", metavar="COMMAND", help="another milter; {socket} and {key} in its command are filled in"
    )
    add("--yardstick", type=Path, metavar="PROGRAM", help="make the load with this milterload")
    add("--programs", type=Path, required=True, help=argparse.SUPPRESS)
    add("--json", action="store_true", help="figures for programs")
    return parser


def _measure(options: argparse.Namespace, stack: ExitStack) -> Run:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backstop-bench-")))
    secret = secrets.token_bytes(20)
    scenarios = mix.mixed_load(secret, time.time())
    if options.only:
        scenarios = mix.only(scenarios, options.only)
    generator = generators.prepare(
        options.yardstick or options.programs / "load",
        is_own=options.yardstick is None,
        connections=options.conns,
        per_connection=options.per_conn,
        clients=KNOWN_CLIENTS if options.profile == "origin" else CLIENTS,
        scenarios=scenarios,
        folder=folder,
    )
    tested = _start(options, secret, folder, stack)
    idle = {subject.name: subject.memory() for subject in tested}
    for subject in tested:
        generator.run(subject.socket, subject.judge, WARM_UP_MESSAGES)
    rounds: dict[str, list[Round]] = {subject.name: [] for subject in tested}
    for number in range(options.rounds):
        turn = number % len(tested)
        for subject in tested[turn:] + tested[:turn]:
            rounds[subject.name].append(_round(subject, generator, options.messages))
    memory = {subject.name: Memory(idle[subject.name], subject.memory()) for subject in tested}
    title = (
        f"{options.only or 'mixed load'}, profile {options.profile}, {options.rounds} rounds of"
        f" {options.messages} messages, {options.conns} connections, {options.per_conn} messages each;"
        f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    return Run(title, rounds, memory)


def _start(options: argparse.Namespace, secret: bytes, folder: Path, stack: ExitStack) -> list[Subject]:
    base = stack.enter_context(subjects.empty_c(options.programs / "empty", "all", folder))
    tested = [base, stack.enter_context(subjects.empty_pymilter(folder))]
    if options.lean:
        tested.append(stack.enter_context(subjects.empty_c(options.programs / "empty", "lean", folder)))
    if options.against:
        tested.append(stack.enter_context(subjects.other(options.against, secret, folder)))
    # What the origin costs is a ratio to the same daemon that asks nobody, so that one runs beside it.
    profiles = ["gate", "origin"] if options.profile == "origin" else [options.profile]
    resolver = subjects.NO_RESOLVER
    if options.profile == "origin":
        resolver = stack.enter_context(subjects.name_server(folder))
    tested += [
        stack.enter_context(subjects.backstop(workers, profile, secret, folder, resolver))
        for workers in options.workers
        for profile in profiles
    ]
    return tested


def _round(subject: Subject, generator: Generator, messages: int) -> Round:
    cpu, redis_cpu = subject.cpu_seconds(), subject.redis_cpu_seconds()
    figures = generator.run(subject.socket, subject.judge, messages)
    time.sleep(SETTLE_SECONDS)
    per_message = 1e6 / figures.messages
    return Round(
        figures,
        (subject.cpu_seconds() - cpu) * per_message,
        (subject.redis_cpu_seconds() - redis_cpu) * per_message,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
