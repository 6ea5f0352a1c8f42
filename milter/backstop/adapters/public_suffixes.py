"""Public suffixes: below which names anybody may register one, and so whose a domain is.

The list is that of publicsuffix.org, as Debian's package `publicsuffix` or the Python module
`publicsuffixlist` brings it; the module's own code is not used. Both sections of the list count, as DMARC
says (RFC 7489, section 3.2): who has a domain under `github.io` is not who has the one beside it. It is read
when it is first needed: 9,500 rules take 30 ms and 1.7 MB.
"""

import importlib.util
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import idna

from backstop.value import value

DEBIAN: Final = Path("/usr/share/publicsuffix/public_suffix_list.dat")

MODULE: Final = "publicsuffixlist"
_FILE: Final = "public_suffix_list.dat"

MIN_RULES: Final = 1000
"""With fewer the file is not the list: each domain would be taken for its owner's."""

_CURE: Final = (
    "there is no list of public suffixes, without which DMARC cannot be judged: install Debian's package"
    f' publicsuffix ({DEBIAN}), or the Python module {MODULE} (pip install "backstop-milter[dmarc]")'
)


@value
class _Rules:
    """The rules by kind, without their marks, in A-labels."""

    plain: frozenset[str]
    wildcards: frozenset[str]
    exceptions: frozenset[str]
    labels: int
    """Of the longest rule."""


class PublicSuffixes:
    """The list, read at the first question; one for all threads."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` is that of a file in place of the two known places."""
        self._path = path
        self._lock = threading.Lock()
        self._rules: _Rules | None = None

    def load(self) -> None:
        """Read the list, if it was not. Raises LookupError with the cure in its text."""
        self._loaded()

    def organizational(self, domain: str) -> str | None:
        """The organisational domain of a folded one: the public suffix and one label more.

        None for what is a public suffix itself, or no domain. Raises LookupError if there is no list.
        """
        rules = self._loaded()
        labels = domain.split(".")
        if "" in labels or domain.startswith("["):
            return None
        size = _suffix_labels(labels, rules)
        return ".".join(labels[-size - 1 :]) if len(labels) > size else None

    def _loaded(self) -> _Rules:
        if self._rules is None:
            with self._lock:
                if self._rules is None:
                    self._rules = _read(self._path)
        return self._rules


def _suffix_labels(labels: list[str], rules: _Rules) -> int:
    """How many labels the public suffix has; by the rule `*`, which stands in no file, at least one."""
    size = 1
    for count in range(1, min(len(labels), rules.labels) + 1):
        name = ".".join(labels[-count:])
        if name in rules.exceptions:
            return count - 1
        if name in rules.plain:
            size = max(size, count)
        if name in rules.wildcards and len(labels) > count:
            size = max(size, count + 1)
    return size


def _read(path: Path | None) -> _Rules:
    for place in (path,) if path else (DEBIAN, _of_module()):
        if place is None:
            continue
        try:
            with place.open(encoding="utf-8") as lines:
                rules = _parsed(lines)
        except (OSError, UnicodeDecodeError):
            continue
        if len(rules.plain) >= MIN_RULES:
            return rules
    raise LookupError(_CURE)


def _of_module() -> Path | None:
    """Where the module has its list; importing it would read the list a second time."""
    found = importlib.util.find_spec(MODULE)
    return Path(found.origin).with_name(_FILE) if found and found.origin else None


def _parsed(lines: Iterable[str]) -> _Rules:
    plain: list[str] = []
    wildcards: list[str] = []
    exceptions: list[str] = []
    for line in lines:
        rule = (line.split(None, 1) or [""])[0]  # what stands behind a blank is a remark
        if not rule or rule.startswith("//"):
            continue
        if rule.startswith("*."):
            wildcards.append(_folded(rule[2:]))
        elif rule.startswith("!"):
            exceptions.append(_folded(rule[1:]))
        else:
            plain.append(_folded(rule))
    longest = max((rule.count(".") + 1 for rule in (*plain, *wildcards, *exceptions)), default=1)
    return _Rules(frozenset(plain), frozenset(wildcards), frozenset(exceptions), longest)


def _folded(rule: str) -> str:
    if rule.isascii():
        return rule.lower()
    try:
        return idna.encode(rule).decode("ascii")
    except idna.IDNAError:  # a rule that no domain can meet
        return ""
