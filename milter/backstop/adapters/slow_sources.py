"""The slow recipient sources of one configuration, opened when they are first asked.

Whoever holds this waits for the sources: the asker for all workers, a command for its administrator.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from backstop.adapters.asker_client import Question
from backstop.adapters.callahead_target import Options, parse_target
from backstop.adapters.slow_source import NOTHING_KEPT, KeptAnswers
from backstop.facts import Existence
from backstop.settings import SourceKind, SourceName


@dataclass(frozen=True, slots=True)
class SlowOptions:
    """How slow sources are asked: what the configuration file says of them beside their names."""

    callahead: Options = Options()  # noqa: RUF009 - it is never changed


def open_source(name: SourceName, options: SlowOptions) -> KeptAnswers:
    """A source, with what is kept of its answers. What it needs is imported only here, where it is used."""
    match name.kind:
        case SourceKind.CALLAHEAD:
            from backstop.adapters.callahead import Callahead  # noqa: PLC0415

            return KeptAnswers(Callahead(parse_target(name.argument), options.callahead), NOTHING_KEPT)
        case _:
            raise AssertionError(f"{name} does not take its time")


UNCLEAR: Final = "it gave no clear answer"


class SlowSources:
    """Asks sources by their names, as `asker_client.Asking`; any number of threads may.

    `open_source` makes a source. `on_answer` is told of each answer whose it was, and what is wrong with the
    source: nothing, where it knew.
    """

    def __init__(
        self,
        names: Iterable[SourceName],
        open_source: Callable[[SourceName], KeptAnswers],
        on_answer: Callable[[str, str], None],
    ) -> None:
        self._names = {str(name): name for name in names}
        self._open = open_source
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._opened: dict[str, KeptAnswers] = {}

    def known(self, question: Question) -> Existence | None:
        """The answer that is kept; None where the source must be asked. Never waits."""
        source = self._opened.get(question.source)
        if source is None:
            return None
        for local in reversed(question.locals_):
            existence = source.known(local, question.domain)
            if existence is not Existence.MISSING:
                return existence
        return Existence.MISSING

    def ask(self, question: Question) -> Existence:
        """What the source says of the local parts, the widest first, which exists more often."""
        source = self._source(question.source)
        if source is None:
            return Existence.UNKNOWN
        existence = Existence.UNKNOWN
        for local in reversed(question.locals_):
            existence = source.ask(local, question.domain, question.deadline)
            if existence is not Existence.MISSING:
                break
        trouble = source.trouble or UNCLEAR if existence is Existence.UNKNOWN else ""
        self._on_answer(question.source, trouble)
        return existence

    def _source(self, name: str) -> KeptAnswers | None:
        if name not in self._names:  # no more than the configuration names
            return None
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._open(self._names[name])
            return self._opened[name]


def asked_here(
    names: Iterable[SourceName], options: SlowOptions, on_trouble: Callable[[str], None]
) -> SlowSources:
    """The sources for a command, which waits for them itself."""

    def note(_source: str, trouble: str) -> None:
        if trouble:
            on_trouble(trouble)

    return SlowSources(names, partial(open_source, options=options), note)
