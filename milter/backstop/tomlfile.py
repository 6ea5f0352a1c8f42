"""A TOML file as it was written: its values, and on which line each of them stands.

tomllib tells lines of syntax errors only, and trusts its input; a file is read here within bounds, and what
is wrong with it becomes one `TomlFault` that a person can act on.
"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_OCTETS: Final = 1_000_000
"""A longer file is refused: tomllib needs seconds for it."""

Place = tuple[str | int, ...]
"""The way to a value: names of tables and keys, numbers of list entries."""

# tomllib copies the way to a key once for each of its parts.
_TOO_MANY_DOTS = re.compile(
    r"""^[ \t]*\[{0,2}(?:[ \t]*(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.){32}""", re.ASCII | re.MULTILINE
)
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_HINTS: Final = {
    "Cannot overwrite a value": "the same name is set twice",
    "Cannot mutate": "the same table is written in two ways: put its lines under one heading",
    "Cannot declare": "the same table stands there twice: put its lines under one heading",
    "Invalid value": 'a text stands in quotes: name = "value"',
    "Unterminated string": "a closing quote is missing",
    "Unescaped '\\'": "write \\\\ for a backslash, or put the text in single quotes",
    "Expected '=' after a key": 'a line reads: name = "value"',
    "Invalid statement": 'a line reads: name = "value"',
    "Invalid initial character for a key part": "braces stand on one line, without a comma at their end",
    "Unclosed array": "a closing ] is missing",
    "Expected ']'": "a closing ] is missing",
    "Expected newline or end of document": "one name a line; a text with blanks stands in quotes",
}


class TomlFault(Exception):
    """The file cannot be read or is not TOML. `line` is 0 where no line is to blame."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.line = line


@dataclass(frozen=True, slots=True)
class TomlFile:
    """The values of a file, and the line of each: `lines[("domains", 2)]` is that of the third domain."""

    values: Mapping[str, Any]
    lines: Mapping[Place, int]

    def line(self, *place: str | int) -> int:
        """The line of a value, or of the nearest thing around it."""
        while place:
            if place in self.lines:
                return self.lines[place]
            place = place[:-1]
        return 1


def read(path: Path) -> TomlFile:
    """The file's values and lines. Raises `TomlFault`."""
    return parse(_octets(path))


def parse(octets: bytes) -> TomlFile:
    """The same of a file's octets. Raises `TomlFault`."""
    text = _text(octets).replace("\r\n", "\n")
    if match := _TOO_MANY_DOTS.search(text):
        raise TomlFault("a name of so many parts is never meant", _line(text, match.start()))
    try:
        values = tomllib.loads(text)
        return TomlFile(values, _Index(text).lines)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(text, str(error)) from None
    except RecursionError:
        raise TomlFault("not TOML that is meant: brackets within brackets without end") from None
    except ValueError:  # Python refuses to read a number of that many digits
        raise TomlFault("a number there is far too long") from None


def _octets(path: Path) -> bytes:
    try:
        # A pipe or device must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise TomlFault("there is no such file; name another with --config FILE") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise TomlFault(f"cannot be opened: {_reason(error)}") from None
    try:
        octets = _content(descriptor)
    finally:
        os.close(descriptor)
    if len(octets) > MAX_OCTETS:
        raise TomlFault(f"the file is larger than {MAX_OCTETS:,} octets")
    return octets


def _content(descriptor: int) -> bytes:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise TomlFault("this is a directory; the file itself is wanted")
    if not stat.S_ISREG(mode):
        raise TomlFault("this is no ordinary file")
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise TomlFault(f"cannot be read: {_reason(error)}") from None


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "no permission; give its group to the user this runs as, or use sudo"
    return getattr(error, "strerror", None) or str(error)


def _text(octets: bytes) -> str:
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TomlFault("this is UTF-16; save the file as UTF-8", 1)
    if octets.startswith(b"\xef\xbb\xbf"):
        raise TomlFault("the file begins with a byte order mark; save it as UTF-8 without one", 1)
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise TomlFault(f"this is no UTF-8: octet 0x{octets[error.start]:02x}", line) from None
    if "\0" in text:
        raise TomlFault("this is no text: it holds a NUL", _line(text, text.index("\0")))
    return text


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _syntax(text: str, said: str) -> TomlFault:
    where = _WHERE.search(said)
    what = said[: where.start()] if where else said
    hint = next((hint for start, hint in _HINTS.items() if what.startswith(start)), "")
    if where and where[1]:
        line, column = int(where[1]), f"column {where[2]}: "
    else:
        line, column = _line(text.rstrip("\n"), len(text)), "at the end of the file: "
    return TomlFault(f"{column}not TOML: {what}" + (f"; {hint}" if hint else ""), line)


class _Index:
    """Finds the line of every key and list entry in a text that tomllib has taken."""

    _KEY_PART = re.compile(r'[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|\'[^\']*\')[ \t]*(\.?)')
    _BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
    _STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL)
    _SCALAR = re.compile(r"[^,\]}\n#]*")

    def __init__(self, text: str) -> None:
        self.lines: dict[Place, int] = {}
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self._document()

    def _document(self) -> None:
        table: Place = ()
        tables: dict[Place, int] = {}
        while self._blank() < len(self._text):
            if self._text.startswith("[[", self._at):
                self._at += 2
                name = self._key()
                tables[name] = tables.get(name, -1) + 1
                table = (*name, tables[name])
                self._note(table)
                self._at = self._text.index("]]", self._at) + 2
            elif self._text.startswith("[", self._at):
                self._at += 1
                table = self._key()
                self._note(table)
                self._at = self._text.index("]", self._at) + 1
            else:
                self._pair(table)

    def _pair(self, table: Place) -> None:
        place = (*table, *self._key())
        self._note(place)
        self._at = self._text.index("=", self._at) + 1
        self._value(place)

    def _value(self, place: Place) -> None:
        self._blank()
        if self._text.startswith("[", self._at):
            self._many(place, "]")
        elif self._text.startswith("{", self._at):
            self._many(place, "}")
        else:
            match = self._STRING.match(self._text, self._at) or self._SCALAR.match(self._text, self._at)
            assert match is not None  # _SCALAR matches anywhere
            self._at = match.end()

    def _many(self, place: Place, end: str) -> None:
        self._at += 1
        number = 0
        while not self._text.startswith(end, self._blank()):
            if end == "]":
                self._note((*place, number))
                self._value((*place, number))
            else:
                self._pair(place)
            number += 1
            if self._text.startswith(",", self._blank()):
                self._at += 1
        self._at += 1

    def _key(self) -> Place:
        parts = []
        while match := self._KEY_PART.match(self._text, self._at):
            self._at = match.end()
            name = match[1]
            parts.append(tomllib.loads(f"x = {name}")["x"] if name[0] in "\"'" else name)
            if not match[2]:
                break
        return tuple(parts)

    def _blank(self) -> int:
        match = self._BLANK.match(self._text, self._at)
        assert match is not None  # it matches the empty text
        self._at = match.end()
        return self._at

    def _note(self, place: Place) -> None:
        position, line = self._counted
        line += self._text.count("\n", position, self._at)
        self._counted = (self._at, line)
        while place and place not in self.lines:  # [domain.example.org] makes three tables
            self.lines[place] = line
            place = place[:-1]
