"""The table of a recipient source in the configuration file, `[ldap.NAME]` or `[sql.NAME]`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from backstop.settings import parse_duration

MAX_SECONDS: Final = 60

_REQUIRED: Final = object()


class Table:
    """Takes one option after the other; each fault is a ValueError `name: what is wanted`."""

    def __init__(self, table: Mapping[str, object]) -> None:
        self._table = table
        self._taken: set[str] = set()

    def text(self, name: str, default: object = _REQUIRED) -> str:
        """A text on one line, not empty."""
        value = self._take(name, default)
        if value is default and isinstance(value, str):
            return value
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ValueError(f"{name}: a text in quotes is wanted")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """A text, or a list of them."""
        value = self._take(name, _REQUIRED)
        values = value if isinstance(value, list) else [value]
        texts = tuple(each.strip() for each in values if isinstance(each, str))
        if not values or len(texts) < len(values) or not all(texts):
            raise ValueError(f"{name}: a text in quotes is wanted, or a list of them")
        return texts

    def word(self, name: str, words: Collection[str], default: str) -> str:
        """One of these words."""
        value = self._take(name, default)
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"{name}: wanted is one of " + ", ".join(f'"{word}"' for word in words))
        return value

    def path(self, name: str) -> Path | None:
        """A path that means the same wherever the daemon is started; None where none is given."""
        value = self._take(name, None)
        if value is None:
            return None
        if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
            raise ValueError(f"{name}: a path that begins with / is wanted")
        return Path(value)

    def flag(self, name: str) -> bool:
        """True or false; without one false."""
        value = self._take(name, False)
        if not isinstance(value, bool):
            raise ValueError(f"{name}: true or false is wanted, without quotes")  # noqa: TRY004 - a wrong setting is one kind of fault
        return value

    def seconds(self, name: str, default: int) -> int:
        """A duration of at least a second."""
        value = self._take(name, f"{default}s")
        try:
            seconds = parse_duration(value)
        except ValueError:
            seconds = 0
        if not 1 <= seconds <= MAX_SECONDS:
            raise ValueError(f'{name}: a duration from "1s" to "{MAX_SECONDS}s" is wanted')
        return seconds

    def table(self, name: str) -> Mapping[str, object]:
        """A table within; empty where none is given."""
        value = self._take(name, {})
        if not isinstance(value, dict):
            raise ValueError(f'{name}: a table is wanted, as in {name} = {{ host = "::1" }}')  # noqa: TRY004 - as in `flag`
        return value

    def nothing_else(self) -> None:
        """Refuse what was not taken."""
        for name in self._table:
            if name not in self._taken:
                raise ValueError(
                    f"{name}: there is no such option; known are {', '.join(sorted(self._taken))}"
                )

    def _take(self, name: str, default: object) -> object:
        self._taken.add(name)
        if name not in self._table and default is _REQUIRED:
            raise ValueError(f"{name}: this is wanted")
        return self._table.get(name, default)
