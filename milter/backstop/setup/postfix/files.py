"""The text of main.cf and master.cf: what it says, and small edits that leave all the rest as it stands.

postconf -e would do, but it moves things and leaves nothing to show beforehand. Here the text that is shown
as a diff is the text that is written: comments, order and line breaks stay. Syntax: postconf(5), master(5).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADING = "# For Backstop, by `backstop setup postfix`."

#: The fields of a service before its command: name, type, private, unpriv, chroot, wakeup, maxproc.
_FIELDS = 7


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of a file: what it says, and where it begins and ends."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Option:
    """An `-o name=value` of a service; `place` is the word after `-o`."""

    name: str
    value: str
    place: Word


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of master.cf."""

    name: str
    type: str
    chroot: str
    command: str
    options: tuple[Option, ...]
    end: int

    @property
    def label(self) -> str:
        """How postconf -M names it."""
        return f"{self.name}/{self.type}"

    def option(self, name: str) -> str | None:
        """The value of an option, the last one when it is given twice; None when it is not given."""
        values = [option.value for option in self.options if option.name == name]
        return values[-1] if values else None

    def sets(self, name: str) -> bool:
        """True when an option of this name is given, be it empty."""
        return self.option(name) is not None


def services(master: str) -> tuple[Service, ...]:
    """Read all services of master.cf."""
    return tuple(_service(words) for words in _entries(master) if len(words) > _FIELDS)


def set_option(master: str, label: str, name: str, value: str) -> str:
    """Give a service an option, in place of the one of that name or on a line at the entry's end."""
    service = next(service for service in services(master) if service.label == label)
    written = f"{{ {name} = {value} }}" if re.search(r"\s", value) else f"{name}={value}"
    for option in reversed(service.options):
        if option.name == name:
            return master[: option.place.start] + written + master[option.place.end :]
    return f"{master[: service.end]}\n  -o {written}{master[service.end :]}"


def set_parameter(main: str, name: str, value: str) -> str:
    """Give main.cf a parameter: in place of the last of that name, the one that counts, or at the end."""
    found = [words for words in _entries(main) if _assigned(main, words) == name]
    if found:
        first, last = found[-1][0], found[-1][-1]
        # Comments may stand between the lines of a value; they are kept, behind it.
        inside = main[first.start : last.end].split("\n")
        comments = "".join(f"\n{line}" for line in inside if line.lstrip().startswith("#"))
        rest = main[last.end :].lstrip(" \t")
        return f"{main[: first.start]}{name} = {value}{comments}{rest}"
    main = main if main.endswith("\n") or not main else main + "\n"
    heading = "" if _HEADING in main else f"\n{_HEADING}\n"
    return f"{main}{heading}{name} = {value}\n"


def _entries(text: str) -> Iterator[list[Word]]:
    """The logical lines, as words. A line that begins with white space goes on the one before."""
    entry: list[Word] = []
    for line in re.finditer(r"[^\n]+", text):
        if not line.group().strip() or line.group().lstrip().startswith("#"):
            continue
        if entry and not line.group()[0].isspace():
            yield entry
            entry = []
        entry.extend(
            Word(word.group(), word.start(), word.end()) for word in _WORD.finditer(text, *line.span())
        )
    if entry:
        yield entry


# A word, or a pair of braces with what is in it, two deep, on one line.
_WORD = re.compile(r"\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\})*\}|[^\s{][^\s]*|\{")


def _assigned(main: str, words: list[Word]) -> str:
    """The name a logical line of main.cf assigns to."""
    return main[words[0].start : words[-1].end].partition("=")[0].strip()


def _service(words: list[Word]) -> Service:
    texts = [word.text for word in words]
    options = []
    for index, word in enumerate(words[_FIELDS + 1 :], _FIELDS + 1):
        if texts[index - 1] == "-o":
            inner = word.text[1:-1] if word.text.startswith("{") else word.text
            name, _, value = inner.partition("=")
            options.append(Option(name.strip(), value.strip(), word))
    name, kind, _, _, chroot = texts[:5]
    return Service(name, kind, chroot, texts[_FIELDS], tuple(options), words[-1].end)
