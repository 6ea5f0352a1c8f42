"""A query as it is written, with `{address}`, `{local}` and `{domain}`, and as a driver takes it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Parameters: TypeAlias = Sequence[str] | Mapping[str, str]

_PLACEHOLDER = re.compile(r"\{(address|local|domain)\}")
_LOOKALIKE = re.compile(r"\{[A-Za-z_]+\}")
_LITERAL = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`")


@dataclass(frozen=True, slots=True)
class Style:
    """How a driver writes parameters (PEP 249, `paramstyle`).

    `mark` makes the n-th one, counted from 1, of a name. `by_name` says that they are handed over in a
    mapping, `doubles_percent` that a percent sign of the query itself is written twice.
    """

    mark: Callable[[int, str], str]
    by_name: bool = False
    doubles_percent: bool = False


STYLES: Final[Mapping[str, Style]] = {
    "qmark": Style(lambda _number, _name: "?"),
    "numeric": Style(lambda number, _name: f":{number}"),
    "named": Style(lambda _number, name: f":{name}", by_name=True),
    "format": Style(lambda _number, _name: "%s", doubles_percent=True),
    "pyformat": Style(lambda _number, name: f"%({name})s", by_name=True, doubles_percent=True),
}


@dataclass(frozen=True, slots=True)
class Query:
    """The text between the parameters, and their names: one piece more than names."""

    pieces: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def asks_for_a_recipient(self) -> bool:
        """Whether the answer depends on more than the domain."""
        return "address" in self.names or "local" in self.names

    def written(self, style: Style, values: Mapping[str, str]) -> tuple[str, tuple[Parameters, ...]]:
        """The text that a driver of this style takes, and its parameters, where there are any."""
        if not self.names:
            return self.pieces[0], ()
        pieces = [piece.replace("%", "%%") if style.doubles_percent else piece for piece in self.pieces]
        text = pieces[0]
        for number, (name, piece) in enumerate(zip(self.names, pieces[1:], strict=True), 1):
            text += style.mark(number, name) + piece
        if style.by_name:
            return text, ({name: values[name] for name in self.names},)
        return text, (tuple(values[name] for name in self.names),)


def parse_query(text: str) -> Query:
    """Divide a query at its placeholders; ValueError says what is wrong with it."""
    for literal in _LITERAL.findall(text):
        if _PLACEHOLDER.search(literal):
            raise ValueError(f"no quotes are wanted around a placeholder, as in {literal[:40]}")
    parts = _PLACEHOLDER.split(text)
    for piece in parts[::2]:
        if unknown := _LOOKALIKE.search(piece):
            raise ValueError(f"{unknown[0][:40]} means nothing; {{address}}, {{local}} and {{domain}} do")
    return Query(tuple(parts[::2]), tuple(parts[1::2]))
