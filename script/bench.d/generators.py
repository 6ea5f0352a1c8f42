"""The programs that make the load: our own, or another that understands the options of milterload."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mix import Judge, Scenario, as_json, as_lines
from processes import NotMeasured

LONGEST_RUN_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Figures:
    """What a generator saw; times in microseconds, None where the step was never answered."""

    messages: int
    rate: float
    wrong: int
    lost: int
    rcpt: tuple[float, float, float] | None
    """p50, p95, p99."""
    verdicts: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator with the load it is to make."""

    program: Path
    is_own: bool
    connections: int
    per_connection: int
    clients: int
    files: dict[Judge, Path]

    def run(self, socket: Path, judge: Judge, messages: int) -> Figures:
        """Send so many messages; NotMeasured when it breaks off."""
        figures = (
            self._own(socket, judge, messages) if self.is_own else self._yardstick(socket, judge, messages)
        )
        if not figures.messages:
            raise NotMeasured(f"{self.program}: no message was sent")
        return figures

    def _own(self, socket: Path, judge: Judge, messages: int) -> Figures:
        numbers = {"-c": self.connections, "-k": self.clients, "-m": self.per_connection, "-n": messages}
        options = [str(word) for pair in numbers.items() for word in pair]
        seen = _output([str(self.program), *options, str(socket), str(self.files[judge])])
        return Figures(
            seen["messages"],
            seen["rate"],
            seen["wrong"],
            seen["lost"],
            _quantiles(seen["latency_us"]),
            {name: each["verdicts"] for name, each in seen["scenarios"].items()},
        )

    def _yardstick(self, socket: Path, judge: Judge, messages: int) -> Figures:
        options = {
            "--target": f"unix:{socket}",
            "--scenarios": self.files[judge],
            "--conns": self.connections,
            "--per-conn": self.per_connection,
            "--messages": messages,
            "--duration": LONGEST_RUN_SECONDS,
        }
        seen = _output([str(self.program), *(str(word) for pair in options.items() for word in pair)])
        return Figures(
            seen["messages"],
            seen["msgs_per_s"],
            seen["wrong"],
            seen["errors"],
            _quantiles(seen["latency_us"]),
            {name: each["verdicts"] for name, each in seen["scenarios"].items()},
        )


def prepare(
    program: Path,
    *,
    is_own: bool,
    connections: int,
    per_connection: int,
    clients: int,
    scenarios: Sequence[Scenario],
    folder: Path,
) -> Generator:
    """Write the scenario files, one for each kind of verdict expected."""
    write = as_lines if is_own else as_json
    files = {}
    for judge in Judge:
        files[judge] = folder / f"{judge.value}.scenarios"
        files[judge].write_text(write(scenarios, judge))
    return Generator(program, is_own, connections, per_connection, clients, files)


def _output(command: list[str]) -> Any:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_RUN_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(str(error)) from None
    if done.returncode > 1 or not done.stdout:
        raise NotMeasured(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return json.loads(done.stdout)


def _quantiles(latency: Any) -> tuple[float, float, float] | None:
    step = latency.get("rcpt")
    return (step["p50"], step["p95"], step["p99"]) if step else None
