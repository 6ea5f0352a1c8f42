"""The words of Postfix's configuration: lists with braces, match lists, entries of milters (postconf(5))."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class DomainClass(Enum):
    """For what Postfix takes a domain (ADDRESS_CLASS_README), with the parameter that lists the class.

    In the order in which Postfix decides where a domain stands in several lists.
    """

    LOCAL = "mydestination"
    ALIAS = "virtual_alias_domains"
    MAILBOX = "virtual_mailbox_domains"
    RELAY = "relay_domains"


@dataclass(frozen=True, slots=True)
class MilterEntry:
    """One item of smtpd_milters: the socket as written, and what the braces say beside it."""

    socket: str
    options: tuple[tuple[str, str], ...]

    def option(self, name: str) -> str:
        """The value of an option, empty when it is not given."""
        return dict(self.options).get(name, "")


def split_list(value: str) -> tuple[str, ...]:
    """The items of a list: divided by commas and white space, what stands in braces kept whole."""
    items: list[str] = []
    item, depth = "", 0
    for character in value:
        if depth == 0 and character in ", \t\r\n":
            if item:
                items.append(item)
            item = ""
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        item += character
    return (*items, item) if item else tuple(items)


def flat(value: str) -> str:
    """A value on one line, as postconf(1) shows it."""
    return " ".join(value.split())


def parse_milter(item: str) -> MilterEntry:
    """Read one item of smtpd_milters, with or without braces."""
    if not item.startswith("{"):
        return MilterEntry(item, ())
    socket, *options = split_list(item[1:-1])
    pairs = [option.strip("{} ").partition("=") for option in options]
    return MilterEntry(socket, tuple((name.strip(), value.strip()) for name, _, value in pairs))


def listed(
    domain: str,
    patterns: tuple[str, ...],
    *,
    lookup: Callable[[str, str], str],
    read: Callable[[str], str],
    with_subdomains: bool,
) -> bool:
    """Tell whether a match list names a domain: plain names, `!` for not, files of patterns, tables."""
    for written in patterns:
        pattern = written.removeprefix("!").lower()
        if pattern.startswith("/"):
            lines = [
                line for line in read(written.removeprefix("!")).splitlines() if not line.startswith("#")
            ]
            inner = split_list(" ".join(lines))
            hit = listed(domain, inner, lookup=lookup, read=read, with_subdomains=with_subdomains)
        elif ":" in pattern and not pattern.startswith("["):
            table = written.removeprefix("!")
            keys = [domain, *_parents(domain)] if with_subdomains else [domain]
            hit = any(lookup(table, key) for key in keys)
        else:
            hit = domain == pattern or (with_subdomains and domain.endswith("." + pattern.lstrip(".")))
        if hit:
            return not written.startswith("!")
    return False


def _parents(domain: str) -> list[str]:
    labels = domain.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]
