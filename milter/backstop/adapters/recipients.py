"""Who exists: the recipient sources of a domain, asked in their order; the first that knows is believed.

A source that knows nobody knows nothing: an empty set, or a file that is missing, empty, cut short or
suddenly half as long, says UNKNOWN and never "no such user". Sources that take their time are asked in
another process, see `asker_client`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from backstop.adapters import redis_names
from backstop.adapters.asker_client import AskedSource, Asking
from backstop.adapters.recipient_file import FileSource
from backstop.adapters.redis_store import Reply, pack
from backstop.facts import Existence
from backstop.settings import SourceKind, SourceName


class RecipientSource(Protocol):
    """Where it is known which recipients exist.

    `commands` are put into the one pipeline of the decision, and `existence` gets their replies; None for
    a store that did not answer. `locals_` are the local parts to try, without tag, folded, the one with
    its extension first. `deadline` is by time.monotonic(), for sources that wait. NOT_ASKED means that this
    source never says more.
    """

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:
        """Commands for Redis; none for other sources."""

    def existence(
        self,
        domain: str,
        locals_: Sequence[str],
        replies: Sequence[Reply] | None,
        now: float,
        deadline: float,
    ) -> Existence:
        """What this source says."""


class MtaSource:
    """The mail server: what it refuses never comes this far, and of the rest it says nothing."""

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:  # noqa: ARG002 - see RecipientSource
        """Ask nothing."""
        return ()

    def existence(
        self,
        domain: str,  # noqa: ARG002 - see RecipientSource
        locals_: Sequence[str],  # noqa: ARG002 - see RecipientSource
        replies: Sequence[Reply] | None,  # noqa: ARG002 - see RecipientSource
        now: float,  # noqa: ARG002 - see RecipientSource
        deadline: float,  # noqa: ARG002 - see RecipientSource
    ) -> Existence:
        """Know nothing of a recipient that the mail server took."""
        return Existence.NOT_ASKED


class RedisSource:
    """The set `backstop:recipients:<domain>` of local parts."""

    def commands(self, domain: str, locals_: Sequence[str]) -> Sequence[bytes]:
        """Ask for each local part, and whether anybody is there at all."""
        key = redis_names.recipients(domain)
        return [pack("SISMEMBER", key, redis_names.octets(local)) for local in locals_] + [
            pack("EXISTS", key)
        ]

    def existence(
        self,
        domain: str,  # noqa: ARG002 - see RecipientSource
        locals_: Sequence[str],  # noqa: ARG002 - see RecipientSource
        replies: Sequence[Reply] | None,
        now: float,  # noqa: ARG002 - see RecipientSource
        deadline: float,  # noqa: ARG002 - see RecipientSource
    ) -> Existence:
        """Read the replies; an empty set and a key of another type know nobody."""
        if replies is None or any(not isinstance(reply, int) for reply in replies):
            return Existence.UNKNOWN
        *members, exists = replies
        if any(members):
            return Existence.EXISTS
        return Existence.MISSING if exists else Existence.UNKNOWN


def make(name: SourceName, on_trouble: Callable[[str], None], asking: Asking) -> RecipientSource:
    """The source that a setting names; `asking` is asked where it takes its time."""
    match name.kind:
        case SourceKind.MTA:
            return MtaSource()
        case SourceKind.REDIS:
            return RedisSource()
        case SourceKind.FILE:
            return FileSource(name.argument, on_trouble)
        case _:
            return AskedSource(name, asking, on_trouble)


def is_decisive(answer: Existence) -> bool:
    """Whether no further source need be asked."""
    return answer in (Existence.EXISTS, Existence.MISSING)


def first_answer(answers: Sequence[Existence]) -> Existence:
    """What several sources say together: the first that knows wins; else UNKNOWN if one should have known.

    ANYBODY is said where all others leave it to the next hop.
    """
    for answer in answers:
        if is_decisive(answer):
            return answer
    for answer in (Existence.UNKNOWN, Existence.ANYBODY):
        if answer in answers:
            return answer
    return Existence.NOT_ASKED
