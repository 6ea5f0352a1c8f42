"""What checks find, what is decided, and what is then done: plain values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from backstop.authentication import Listing
from backstop.facts import Facts, Need
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.value import value


class Result(Enum):
    """What a check found: the words of RFC 8601, section 2.7."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - a word of RFC 8601
    FAIL = "fail"
    TEMPERROR = "temperror"


@dataclass(frozen=True, slots=True)
class Finding:
    """A result and, for the log, its reason."""

    result: Result
    reason: str = ""


NOTHING: Final = Finding(Result.NONE)
"""The check does not apply."""


class Cost(Enum):
    """What a check needs that a server without it would not spend."""

    ENVELOPE = "envelope"
    DNS = "dns"
    BODY = "body"


def _never(_facts: Facts, _settings: DomainSettings) -> bool:
    return False


def _observe(_settings: DomainSettings, _action: Action) -> Action:
    return Action.OBSERVE


def lose_nothing(_settings: DomainSettings, action: Action) -> Action:
    """What an unanswered question does where mail may be genuine: it is marked or held, else it waits."""
    return action if action < Action.DISCARD else Action.TEMPFAIL


def unless_proved(facts: Facts, finding: Finding) -> Finding:
    """The finding, but for a bounce that is proved no failure: that may come from anywhere."""
    if finding.result is Result.FAIL and facts.is_proved:
        return Finding(Result.PASS, f"{finding.reason}; but this bounce is proved")
    return finding


def of_listing(listing: Listing, who: str) -> Finding:
    """What DNS lists amount to: one that names somebody is enough, one that is silent says nothing."""
    if listing.zones:
        return Finding(Result.FAIL, f"{who} is on {', '.join(listing.zones)}")
    if listing.unanswered:
        return Finding(Result.TEMPERROR, f"no answer from {', '.join(listing.unanswered)}")
    return Finding(Result.PASS, f"{who} is on no list")


class UnderBlock(Enum):
    """What a block does to a check's action."""

    NOTHING = "nothing"
    RAISES = "raises"
    REPLACES = "replaces"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what it finds, when, what that costs, and what it says to the client.

    `about_client`: it judges the client and not the recipient, so it waits for DATA with the null sender,
    and is skipped for our relays. `graced`: it only observes while a domain is in grace.
    `tempfail` is the reply where the action is `tempfail`; `on_temperror` says what an unanswered question
    of this check does, by the domain's settings and the action a failure would have: never a 5xx.
    `unanswered` is the reply to such a question where it is another one than `tempfail`.
    `reads` says whether a message must be read before the check can judge this recipient; it then has the
    last word at the end of the message.
    """

    name: str
    stage: Stage
    judge: Callable[[Facts, DomainSettings], Finding]
    reject: Reply
    tempfail: Reply
    unanswered: Reply | None = None
    default: Action = Action.OBSERVE
    cost: Cost = Cost.ENVELOPE
    needs: frozenset[Need] = frozenset()
    about_client: bool = False
    graced: bool = False
    under_block: UnderBlock = UnderBlock.NOTHING
    reads: Callable[[Facts, DomainSettings], bool] = _never
    on_temperror: Callable[[DomainSettings, Action], Action] = _observe
    meaning: str = ""

    def stage_for(self, *, null_sender: bool) -> Stage:
        """When the check may answer. The null sender is refused at RCPT only for what is the recipient's."""
        return max(self.stage, Stage.DATA) if null_sender and self.about_client else self.stage

    @property
    def may_read(self) -> bool:
        """Whether there are messages that the check wants to read."""
        return self.reads is not _never

    def reply(self, action: Action, result: Result = Result.FAIL) -> Reply | None:
        """The reply for an action and what was found; None for an action that accepts."""
        if action is Action.REJECT:
            return self.reject
        if action is not Action.TEMPFAIL:
            return None
        return self.unanswered if self.unanswered and result is Result.TEMPERROR else self.tempfail


@value
class Judgement:
    """One check's finding about one recipient, and the action that its domain's settings give it."""

    check: Check
    finding: Finding
    action: Action


@value
class Decision:
    """What is done about a recipient, and why: the judgement that named the action, if any did."""

    action: Action
    reply: Reply | None = None
    judgement: Judgement | None = None
    reason: str = ""


ACCEPTED: Final = Decision(Action.OFF)
"""Nothing failed."""


class Verb(Enum):
    """What the mail server is told at a stage."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    DISCARD = "discard"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Put a header at the end of the block."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class InsertHeader:
    """Put a header at the top of the block."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class RemoveHeader:
    """Take away the `index`th header of this name, counted from 1."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Replace the reverse-path; its ESMTP parameters stay."""

    path: str


@dataclass(frozen=True, slots=True)
class ReplaceRecipient:
    """Deliver to another address, or to the same with other ESMTP parameters than the client gave."""

    old: str
    new: str
    parameters: str


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Deliver to one more address."""

    path: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Put the message into the hold queue."""

    reason: str


Change = AddHeader | InsertHeader | RemoveHeader | ChangeSender | ReplaceRecipient | AddRecipient | Hold


@value
class Count:
    """One thing to add to a limit: `name` is a client network or an address, `what` a field of `Limits`."""

    name: str
    what: str


@value
class Record:
    """One line of the journal: what happened to one recipient or to one outgoing message.

    `counters` are the names that go up by one for `domain`. `notable` records are logged and shown as
    events, the others only counted. `untagged` names a sender whose mail went out without a tag, and
    until when (seconds since 1970) its bounces may come back so; `elsewhere` one whose mail left by another
    host, as its bounce shows; `alias` a disposable address that was used, and when it ends.
    """

    domain: str
    counters: tuple[str, ...]
    notable: bool = False
    queue_id: str = ""
    client: str = ""
    reverse_path: str = ""
    recipient: str = ""
    check: str = ""
    result: str = ""
    action: str = ""
    reply: str = ""
    reason: str = ""
    untagged: tuple[str, float] | None = None
    elsewhere: str = ""
    alias: tuple[str, float] | None = None


@value
class Sent:
    """What is remembered of an outgoing message: its id, without brackets, and who wrote to whom, folded.

    The id is empty where the message has none, or where it is not to be remembered.
    """

    message_id: str
    pairs: tuple[tuple[str, str], ...]


@value
class Outcome:
    """What a stage leads to."""

    verb: Verb
    reply: Reply | None = None
    changes: tuple[Change, ...] = ()
    counts: tuple[Count, ...] = ()
    records: tuple[Record, ...] = ()
    sent: Sent | None = None


CONTINUE: Final = Outcome(Verb.CONTINUE)
ACCEPT: Final = Outcome(Verb.ACCEPT)


def defaults(checks: tuple[Check, ...]) -> Mapping[str, Action]:
    """The action of every check where an administrator said nothing."""
    return {check.name: check.default for check in checks}
