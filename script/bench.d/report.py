"""Ratios within each round, their spread, and the goals of the design beside them."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from generators import Figures

BASE: Final = "empty C"


@dataclass(frozen=True, slots=True)
class Round:
    """One subject in one round; processor time in microseconds a message."""

    figures: Figures
    cpu_us: float
    redis_us: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Pss in MB: the first process, then each worker."""

    idle: Sequence[float]
    loaded: Sequence[float]


@dataclass(frozen=True, slots=True)
class Run:
    """All figures, by the subject's name, in the order of the rounds."""

    title: str
    rounds: dict[str, list[Round]]
    memory: dict[str, Memory]

    @property
    def wrong(self) -> int:
        """Wrong verdicts and lost connections of all subjects."""
        return sum(
            each.figures.wrong + each.figures.lost for rounds in self.rounds.values() for each in rounds
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit for one subject's figure: an upper one, or a lower one."""

    what: str
    subject: str
    measure: Callable[[Run, str], Spread]
    limit: float
    is_upper: bool

    def verdict(self, spread: Spread) -> str:
        """Whether the median meets it, or at least the better quartile."""
        sign = 1 if self.is_upper else -1
        if sign * spread.median <= sign * self.limit:
            return "met"
        best = spread.low if self.is_upper else spread.high
        return "within the spread" if sign * best <= sign * self.limit else "missed"


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles of a few values."""
    ordered = sorted(values)
    if len(ordered) == 1:
        ordered *= 2
    low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Spread(median, low, high)


def cpu_ratio(run: Run, name: str) -> Spread:
    """Processor time a message against the base, round by round."""
    return _ratio(run, name, lambda each: each.cpu_us)


def cost_of_origin(run: Run, name: str) -> Spread:
    """Processor time a message with SPF and a list against the same daemon without, round by round."""
    return _ratio(run, name, lambda each: each.cpu_us, name.replace("with SPF and a list", "backstop"))


def sum_ratio(run: Run, name: str) -> Spread:
    """The same with the Redis that the subject uses."""
    return _ratio(run, name, lambda each: each.cpu_us + each.redis_us)


def rate_ratio(run: Run, name: str) -> Spread:
    """Messages a second against the base, round by round."""
    return _ratio(run, name, lambda each: each.figures.rate)


def worker_memory(run: Run, name: str) -> Spread:
    """Pss of the workers after the load; it has no base."""
    return spread(run.memory[name].loaded[1:])


GOALS: Final = (
    Goal("CPU a message, of the empty C milter's", "backstop, 1 worker", cpu_ratio, 0.9, is_upper=True),
    Goal("CPU a message, of the empty C milter's", "backstop, 2 workers", cpu_ratio, 0.9, is_upper=True),
    Goal("rate, of the empty C milter's", "backstop, 1 worker", rate_ratio, 0.9, is_upper=False),
    Goal("rate, of the empty C milter's", "backstop, 2 workers", rate_ratio, 1.2, is_upper=False),
    Goal("CPU, the final goal", "backstop, 2 workers", cpu_ratio, 0.65, is_upper=True),
    Goal("rate, the final goal", "backstop, 2 workers", rate_ratio, 1.5, is_upper=False),
    Goal(
        "CPU a message, of that without", "with SPF and a list, 1 worker", cost_of_origin, 1.5, is_upper=True
    ),
    Goal(
        "CPU a message, of that without", "with SPF and a list, 2 workers", cost_of_origin, 1.5, is_upper=True
    ),
    Goal("Pss of a worker, MB", "backstop, 1 worker", worker_memory, 40, is_upper=True),
    Goal("Pss of a worker, MB", "backstop, 2 workers", worker_memory, 40, is_upper=True),
)


def as_table(run: Run) -> str:
    """The whole report as text."""
    lines = [run.title, "", _row("", "msg/s", "CPU us", "Redis us", "rate", "CPU", "CPU+Redis")]
    for name, rounds in run.rounds.items():
        lines.append(
            _row(
                name,
                f"{statistics.median(each.figures.rate for each in rounds):.0f}",
                f"{statistics.median(each.cpu_us for each in rounds):.0f}",
                f"{statistics.median(each.redis_us for each in rounds):.0f}",
                str(rate_ratio(run, name)),
                str(cpu_ratio(run, name)),
                str(sum_ratio(run, name)),
            )
        )
    lines += [
        "",
        "CPU and Redis: processor time a message. Ratios: against the empty C milter in the same round,",
    ]
    lines += ["median (quartiles). Redis has its own column; the goals count the milter's processes.", ""]
    lines.append(_row("RCPT answered in us", "p50", "p95", "p99"))
    lines += [_row(name, *_latency(rounds)) for name, rounds in run.rounds.items()]
    lines += ["", _row("Pss in MB", "parent", "", "", "a worker, idle", "after the load")]
    for name, memory in run.memory.items():
        lines.append(
            _row(name, f"{memory.loaded[0]:.1f}", "", "", _megabytes(memory.idle), _megabytes(memory.loaded))
        )
    lines += ["", *_goals(run), "", *_verdicts(run)]
    return "\n".join(line.rstrip() for line in lines)


def as_json(run: Run) -> str:
    """The same for programs, with every round."""
    goals = [
        {
            "what": goal.what,
            "subject": goal.subject,
            "limit": goal.limit,
            "measured": asdict(seen),
            "verdict": word,
        }
        for goal, seen, word in _judged(run)
    ]
    return json.dumps(asdict(run) | {"wrong": run.wrong, "goals": goals}, indent=1)


def _ratio(run: Run, name: str, figure: Callable[[Round], float], base: str = BASE) -> Spread:
    return spread(
        figure(ours) / figure(other) for ours, other in zip(run.rounds[name], run.rounds[base], strict=True)
    )


def _judged(run: Run) -> list[tuple[Goal, Spread, str]]:
    measured = [(goal, goal.measure(run, goal.subject)) for goal in GOALS if goal.subject in run.rounds]
    return [(goal, seen, goal.verdict(seen)) for goal, seen in measured]


def _goals(run: Run) -> list[str]:
    return [
        f"{goal.subject + ':':32}{goal.what:40}"
        f"{'at most' if goal.is_upper else 'at least':>9} {goal.limit:5.2f}   {seen!s:19} {word}"
        for goal, seen, word in _judged(run)
    ]


def _verdicts(run: Run) -> list[str]:
    lines = [f"wrong verdicts and lost connections: {run.wrong}"]
    for name, rounds in run.rounds.items():
        if any(each.figures.wrong or each.figures.lost for each in rounds):
            lines.append(f"{name}:")
            for number, each in enumerate(rounds, 1):
                lines.append(f"  round {number}: {json.dumps(each.figures.verdicts)}")
    return lines


def _latency(rounds: Sequence[Round]) -> list[str]:
    seen = [each.figures.rcpt for each in rounds if each.figures.rcpt]
    return [f"{statistics.median(column):.0f}" for column in zip(*seen, strict=True)]


def _megabytes(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values[1:] or values)


def _row(name: str, *cells: str) -> str:
    widths = (8, 8, 9, 19, 19, 19)
    return f"{name:32}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
