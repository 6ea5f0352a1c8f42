"""The slow recipient sources of one configuration, opened when they are first asked.

Whoever holds this waits for the sources: the asker for all workers, a command for its administrator.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from backstop.adapters.asker_client import Question
from backstop.adapters.callahead_target import Options, parse_target
from backstop.adapters.slow_source import CLEAR_WORDS, NOTHING_KEPT, SECONDS, KeptAnswers
from backstop.facts import Existence
from backstop.settings import SourceKind, SourceName

if TYPE_CHECKING:
    from backstop.adapters.ldap_directory import LdapOptions
    from backstop.adapters.sql_database import SqlOptions


@dataclass(frozen=True, slots=True)
class SlowOptions:
    """How slow sources are asked: what the configuration file says of them beside their names."""

    callahead: Options = Options()  # noqa: RUF009 - it is never changed
    ldap: "Mapping[str, LdapOptions]" = field(default_factory=dict)
    sql: "Mapping[str, SqlOptions]" = field(default_factory=dict)


def open_source(name: SourceName, options: SlowOptions) -> KeptAnswers:
    """A source, with what is kept of its answers. What it needs is imported only here, where it is used."""
    match name.kind:
        case SourceKind.CALLAHEAD:
            from backstop.adapters.callahead import Callahead  # noqa: PLC0415

            return KeptAnswers(Callahead(parse_target(name.argument), options.callahead), CLEAR_WORDS)
        case SourceKind.POSTFIX:
            from backstop.adapters.lmdb_file import LmdbFile  # noqa: PLC0415
            from backstop.adapters.postfix_map import open_table  # noqa: PLC0415

            table = open_table(name.argument)
            return KeptAnswers(table, NOTHING_KEPT if isinstance(table, LmdbFile) else SECONDS)
        case SourceKind.LDAP:
            from backstop.adapters.ldap_directory import LdapDirectory  # noqa: PLC0415

            return KeptAnswers(LdapDirectory(options.ldap[name.argument]))
        case SourceKind.SQL:
            from backstop.adapters.sql_database import SqlDatabase  # noqa: PLC0415

            return KeptAnswers(SqlDatabase(options.sql[name.argument]))
        case _:
            raise AssertionError(f"{name} does not take its time")


class SlowSources:
    """Asks sources by their names, as `asker_client.Asking`; any number of threads may.

    `open_source` makes a source; a next hop that is written in two ways is one, with one limit. `on_answer`
    is told of each answer whose it was, and what is wrong with the source; nothing, where it knows.
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
        self._by_target: dict[str, KeptAnswers] = {}

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
        self._on_answer(question.source, source.trouble)
        return existence

    def close(self) -> None:
        """Leave all sources; nothing is asked any more."""
        with self._lock:
            opened = list(self._by_target.values())
            self._opened.clear()
            self._by_target.clear()
        for source in opened:
            source.close()

    def _source(self, name: str) -> KeptAnswers | None:
        source = self._opened.get(name)
        if source is not None or name not in self._names:  # no more than the configuration names
            return source
        with self._lock:
            if name not in self._opened:
                target = _target(self._names[name])
                if target not in self._by_target:
                    self._by_target[target] = self._open(self._names[name])
                self._opened[name] = self._by_target[target]
            return self._opened[name]


def _target(name: SourceName) -> str:
    """What is asked, however it is written: `callahead:[mx]` and `callahead:[MX]:25` are one next hop."""
    return f"callahead:{parse_target(name.argument)}" if name.kind is SourceKind.CALLAHEAD else str(name)


def asked_here(
    names: Iterable[SourceName], options: SlowOptions, on_trouble: Callable[[str], None]
) -> SlowSources:
    """The sources for a command, which waits for them itself and closes them."""

    def note(_source: str, trouble: str) -> None:
        if trouble:
            on_trouble(trouble)

    return SlowSources(names, partial(open_source, options=options), note)
