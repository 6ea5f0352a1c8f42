"""What a stored message is, and each kind of proof: where it was sought, and whether it was found."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import Any, Final

from backstop.adapters import dkim_signature
from backstop.adapters.own_signature import MAX_SIGNATURES
from backstop.batv import TagState
from backstop.facts import Facts, excuse
from backstop.gather import Gather
from backstop.proof import Proof
from backstop.report import Kind, Mark, Report
from backstop.session import Answer, Evidence, Incoming, Proofs
from backstop.settings import DomainSettings

_NOTHING: Final = Evidence((), (), b"")


class Result(Enum):
    """What became of the search for one kind of proof."""

    FOUND = "found"
    NOT_FOUND = "not found"
    UNANSWERED = "could not be asked"
    NOT_SOUGHT = "not sought"


@dataclass(frozen=True, slots=True)
class Sought:
    """One kind of proof, what became of it, and where it was sought or why not."""

    proof: Proof
    result: Result
    where: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """For people: what has several places takes several lines."""
        for number, place in enumerate(self.where):
            yield ("", "", place) if number else (self.proof.value, self.result.value, place)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"proof": self.proof.value, "result": self.result.value, "where": list(self.where)}


class Onlooker(Gather):
    """Asks as the daemon does, counts nothing, and keeps what was asked about the message.

    What is explained is nobody's guess of a tag.
    """

    evidence: Evidence = _NOTHING
    """What the session asked about, once it read the message."""

    def incoming(self, question: Incoming, now: float) -> Answer | None:
        """As in `Gather`."""
        return super().incoming(replace(question, counts=()), now)

    def proofs(self, evidence: Evidence, now: float) -> Proofs:
        """As in `Gather`."""
        self.evidence = evidence
        return super().proofs(evidence, now)

    @property
    def remembers(self) -> bool:
        """Whether there is a secret for the memory of sent mail."""
        return bool(self._secret)

    def is_sent(self, message_id: str, now: float) -> bool:
        """Whether the memory of sent mail has one id."""
        return Proof.MEMORY in super().proofs(replace(_NOTHING, ids=(message_id,)), now).found

    def has_written(self, writer: str, reader: str, now: float) -> bool:
        """Whether one address wrote to another lately."""
        return bool(super().proofs(replace(_NOTHING, pairs=((writer, reader),)), now).correspondents)

    def signatures(self, now: float) -> list[str]:
        """The signatures of the returned header in words, those of our domains first."""
        block, is_ours = self.evidence.block, self._knowledge.is_ours
        found = [
            f"d={one.domain} s={one.selector}: {one.why}" for one in self._signature.look(block, is_ours, now)
        ]
        return [*found, *islice(_of_others(block, is_ours), MAX_SIGNATURES)]


def _of_others(block: bytes, is_ours: Callable[[str], bool]) -> Iterator[str]:
    for field in dkim_signature.fields(block):
        if field.name != b"dkim-signature":
            continue
        tags = dkim_signature.tags(field)
        domain = dkim_signature.domain_of(tags) if tags else None
        if not domain:
            yield "a signature that cannot be read"
        elif not is_ours(domain):
            yield f"d={domain}: none of our domains, so it proves nothing"


def kinds_sought(
    facts: Facts, settings: DomainSettings, onlooker: Onlooker, unread: str, now: float
) -> list[Sought]:
    """Every kind of proof; `unread` says why the message was not read, and is empty if it was."""
    found = []
    for proof in Proof:
        if proof not in settings.proof:
            one = Sought(proof, Result.NOT_SOUGHT, ("the setting proof does not name it",))
        elif proof is Proof.TAG:
            one = Sought(proof, _result(proof, facts), (_TAG[facts.tag].format(facts.recipient.path),))
        elif unread:
            one = Sought(proof, Result.NOT_SOUGHT, (unread,))
        else:
            one = Sought(proof, _result(proof, facts), tuple(_places(proof, facts, onlooker, now)))
        found.append(one)
    return found


def why_unread(facts: Facts, settings: DomainSettings, *, is_refused: bool, would_read: bool) -> str:
    """Why the daemon does not read the message for this recipient; empty if it was read."""
    if facts.report is not None:
        return ""
    if is_refused:
        return "the recipient is refused at RCPT, before the message comes"
    if would_read:
        return "the message is refused at DATA, and no proof could change that"
    if facts.proofs:
        return "the tag is proof enough; the message is not read"
    if not facts.is_bounce:
        return "the message is no bounce, and not read: proof is asked of bounces, and by the check report"
    if reason := excuse(facts, settings):
        return f"no proof is asked for: {reason}"
    return "the message is not read: the check unproved is off, or the setting proof names only tag"


def _result(proof: Proof, facts: Facts) -> Result:
    if proof in facts.proofs:
        return Result.FOUND
    return Result.UNANSWERED if proof in facts.unanswered else Result.NOT_FOUND


def _places(proof: Proof, facts: Facts, onlooker: Onlooker, now: float) -> Iterable[str]:
    is_found = proof in facts.proofs
    if proof is Proof.DKIM:
        return _in_signatures(facts.report, onlooker, now)
    if not onlooker.remembers:
        return ("the key file has no [memory], so nothing is remembered: backstop key rotate adds it",)
    if proof is Proof.MEMORY:
        ids = onlooker.evidence.ids
        named = [f"<{one}>{_here(is_found and onlooker.is_sent(one, now))}" for one in ids]
        return [f"among the mail we sent: {one}" for one in named] or ("the message returns and names no id",)
    readers = [reader for base, reader in onlooker.evidence.pairs if base == facts.base]
    return [
        f"whether {facts.base} wrote to {one}{_here(is_found and onlooker.has_written(facts.base, one, now))}"
        for one in readers
    ] or ("the message names no address",)


def _here(is_found: bool) -> str:  # noqa: FBT001 - an answer to be worded, no switch
    return ": yes" if is_found else ""


def _in_signatures(report: Report | None, onlooker: Onlooker, now: float) -> Iterable[str]:
    if report is None or report.returned is None:
        return ("the message returns no header that could be signed",)
    return onlooker.signatures(now) or ("the returned header has no DKIM-Signature",)


def report_lines(report: Report) -> Iterator[str]:
    """What a message is, why, and what it returns, for people."""
    yield f"kind: {report.kind.value.replace('_', ' ')}, {_KINDS[report.kind]}"
    yield f"marks: {'; '.join(_MARKS.get(mark, mark.replace('_', ' ')) for mark in report.marks) or 'none'}"
    for one in report.recipients[:10]:
        yield " ".join(word for word in ("reports:", one.address, one.action, one.status) if word)
    if report.returned is not None:
        returned = report.returned
        message_id = f"Message-ID <{returned.message_id}>" if returned.message_id else "no Message-ID"
        yield f"returns: a header with {message_id}"
        yield f"  from: {returned.from_ or 'not said'}"
        yield f"  to: {returned.to or 'not said'}"
    elif report.kind is not Kind.ORDINARY or Mark.NULL_SENDER in report.marks:
        yield "returns: nothing of the original"
    if report.mentioned:
        yield f"mentions: {' '.join(f'<{one}>' for one in report.mentioned[:6])}"


def report_as_json(report: Report) -> dict[str, Any]:
    """For programs."""
    returned = report.returned
    return {
        "kind": report.kind.value,
        "marks": list(report.marks),
        "reported": [
            {"address": one.address, "action": one.action, "status": one.status} for one in report.recipients
        ],
        "mentioned": list(report.mentioned),
        "returned": None
        if returned is None
        else {
            "message_id": returned.message_id,
            "from": returned.from_,
            "to": returned.to,
            "return_path": returned.return_path,
        },
    }


_TAG: Final = {
    TagState.NONE: "{}: it carries no tag",
    TagState.GOOD: "{}: its tag is good",
    TagState.EXPIRED: "{}: its tag is ours, but has expired",
    TagState.FORGED: "{}: its tag is forged",
    TagState.UNKNOWN_KEY: "{}: its tag names a key that we do not have",
}

_KINDS: Final = {
    Kind.BOUNCE: "a report that a message was not delivered",
    Kind.AUTO_REPLY: "an automatic answer, as of somebody who is away",
    Kind.CHALLENGE: "a request to confirm that one wrote",
    Kind.RECEIPT: "a receipt",
    Kind.FEEDBACK: "a complaint about abuse",
    Kind.ORDINARY: "no report and no automatic answer",
}

_MARKS: Final[Mapping[str, str]] = {
    Mark.NULL_SENDER: "it has the null sender",
    Mark.REPORT_TYPE: "its type is that of a delivery report",
    Mark.STATUS_PART: "it has a delivery-status part",
    Mark.FAILED_RECIPIENTS: "it has the field X-Failed-Recipients",
    Mark.FAILURE: "Auto-Submitted says failure",
    Mark.MAILER_FROM: "its From is a mail server's",
    Mark.MAILER_NAME: "its From has a mail server's name",
    Mark.ROBOT_FROM: "its From is a robot's",
    Mark.BOUNCE_SUBJECT: "its subject is a bounce's",
    Mark.BOUNCE_WORDING: "its text is a bounce's",
    Mark.NAMES_CODE: "it names an SMTP status",
    Mark.NAMES_ADDRESS: "it names an address that failed",
    Mark.RETURNED: "it returns a header",
    Mark.RETURNED_TO_AUTHOR: "it returns to its author what he wrote",
    Mark.AUTO_REPLIED: "Auto-Submitted says auto-replied",
    Mark.AUTO_REPLY_FIELD: "it has a field that responders set",
    Mark.AUTO_REPLY_SUBJECT: "its subject is an automatic answer's",
    Mark.AUTO_REPLY_WORDING: "its text is an automatic answer's",
    Mark.ABSENCE: "it speaks of absence",
    Mark.CHALLENGE_SUBJECT: "its subject asks for confirmation",
    Mark.CHALLENGE_WORDING: "its text asks for confirmation",
    Mark.RECEIPT_PART: "it has a receipt's part",
    Mark.RECEIPT_SUBJECT: "its subject is a receipt's",
    Mark.RECEIPT_WORDING: "its text is a receipt's",
    Mark.FEEDBACK_PART: "it has an abuse report's part",
    Mark.FEEDBACK_FIELD: "it has an abuse report's field",
    Mark.FEEDBACK_WORDING: "its text is an abuse report's",
    Mark.LIST_MAIL: "a mailing list sent it",
    Mark.ANSWER: "it answers a message",
    Mark.PROGRAM_ATTACHED: "a program is attached",
}
"""Marks in words, where their names do not say enough."""
