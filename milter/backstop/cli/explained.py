"""What every check says of one recipient, and what would change the decision: by the code that decides.

A decision is taken again with one thing changed; where it comes out differently, that thing is named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from backstop import policy
from backstop.batv import TagState
from backstop.checks import CHECKS
from backstop.cli.effective import ACTIONS, Effective
from backstop.cli.sought import Sought
from backstop.facts import Existence, Facts, Need, Role
from backstop.proof import Proof, words
from backstop.settings import Action, Block, DomainSettings, NothingReturned, SourceKind
from backstop.verdict import NOTHING, Check, Decision, Result, UnderBlock


@dataclass(frozen=True, slots=True)
class Said:
    """What one check says, the action it would have, and where that comes from."""

    check: str
    finding: str
    reason: str
    action: str
    origin: str

    def as_row(self) -> tuple[str, ...]:
        """For people."""
        return self.check, self.finding, self.action, self.origin, self.reason


@dataclass(frozen=True, slots=True)
class Alternative:
    """One thing that would change the decision, and what it would then be."""

    change: str
    decision: str


@dataclass(frozen=True, slots=True)
class Case:
    """One recipient with everything that decides about it.

    `sought` are the kinds of proof, once the message has ended. `unread` says why it was not read.
    """

    facts: Facts
    settings: DomainSettings
    block: Block | None
    effective: Effective
    grace_until: str
    sought: tuple[Sought, ...] = ()
    unread: str = ""

    def decide(self) -> Decision:
        """What is decided about this recipient, taken alone."""
        facts, settings, block = self.facts, self.settings, self.block
        judgements = policy.judge(CHECKS, facts, settings, block)
        return policy.too_many_guesses(facts, settings, block, CHECKS) or policy.decide(judgements)

    @property
    def waiting(self) -> tuple[Check, ...]:
        """The checks that would have their last word once the message was read, where it was not."""
        facts = self.facts
        unread = facts.dmarc is None, facts.report is None
        waiting = policy.waiting(CHECKS, facts, self.settings, self.block)
        return tuple(check for check in waiting if unread[Need.DMARC not in check.needs])

    @property
    def awaits_proof(self) -> bool:
        """Whether one of them would read the message for what it says of an original."""
        return any(Need.DMARC not in check.needs for check in self.waiting)

    def outcome(self) -> str:
        """What is decided, in words."""
        decision = self.decide()
        text = outcome_text(decision)
        is_open = decision.judgement is not None and decision.judgement.check in self.waiting
        return f"{text}, unless the message is read and proved" if is_open else text

    def checks(self) -> list[Said]:
        """Every check, those that are off included."""
        facts, settings, block = self.facts, self.settings, self.block
        judged = {one.check.name: one for one in policy.judge(CHECKS, facts, settings, block)}
        said = []
        waiting = self.waiting
        for check in CHECKS:
            if check in waiting and self.unread:
                action = policy.effective_action(check, facts, settings, block)
                origin = self._origin(check, Result.NONE, action)
                said.append(Said(check.name, "not judged", self.unread, action.label, origin))
                continue
            one = judged.get(check.name)
            finding = one.finding if one else NOTHING
            action = one.action if one else policy.effective_action(check, facts, settings, block)
            ran = "not run" if action is Action.OFF else finding.result.value
            reason = finding.reason or (check.meaning if finding.result is Result.FAIL else "")
            said.append(
                Said(check.name, ran, reason, action.label, self._origin(check, finding.result, action))
            )
        return said

    def alternatives(self) -> list[Alternative]:
        """What would change the decision, each taken alone."""
        now = self.outcome()
        found = []
        for change, other in self._others():
            then = other.outcome()
            if then != now:
                found.append(Alternative(change, then))
        return found

    def _origin(self, check: Check, result: Result, action: Action) -> str:
        wanted = self.settings.actions[check.name]
        place = str(self.effective.origin(f"{ACTIONS}{check.name}"))
        block = self.block
        if block is not None and _counts_for(block, check, wanted):
            wanted, place = block.action, f"block of {block.name or 'all domains'}"
        if action is wanted:
            return place
        by = f"{wanted.label} by {place}"
        if result is Result.TEMPERROR:
            return f"nobody could say; {by}"
        if self.facts.client.role is Role.RELAY:
            return f"the client is a relay of ours; {by}"
        if self.facts.in_grace and check.graced:
            return f"grace until {self.grace_until}; {by}"
        return f"this address is never refused; {by}"

    def _others(self) -> "Iterator[tuple[str, Case]]":
        facts, domain = self.facts, self.facts.mailbox.domain
        yield from self._proofs()
        if self.block is not None:
            target = self.block.name or "--all"
            yield f"the end of the block: backstop unblock {target}", replace(self, block=None)
        elif facts.is_bounce:
            block = Block(Action.JUNK, domain, by_person=True)
            yield f"a block: backstop block {domain} --as junk", replace(self, block=block)
        if facts.in_grace and self.grace_until:
            later = replace(facts, in_grace=False)
            yield f"the end of the grace on {self.grace_until}", replace(self, facts=later)
        yield from self._limits()
        yield from self._actions()

    def _proofs(self) -> "Iterator[tuple[str, Case]]":
        facts = self.facts
        if facts.is_bounce and facts.tag is not TagState.GOOD and Proof.TAG in self.settings.proof:
            tagged = replace(facts, tag=TagState.GOOD, proofs=facts.proofs | {Proof.TAG})
            yield f"a good tag on the recipient: backstop tag sign {facts.base}", replace(self, facts=tagged)
        if facts.sender_is_ours and facts.sender_tag is not TagState.GOOD:
            signed = replace(facts, sender_tag=TagState.GOOD)
            yield "a good tag on the reverse-path", replace(self, facts=signed)
        yield from self._proofs_in_message()
        if facts.existence in (Existence.MISSING, Existence.UNKNOWN):
            there = replace(facts, existence=Existence.EXISTS)
            asks_redis = any(one.kind is SourceKind.REDIS for one in self.settings.recipients)
            how = f": backstop recipient add {facts.base}" if asks_redis else ", by one of its sources"
            yield f"the recipient's existence{how}", replace(self, facts=there)

    def _proofs_in_message(self) -> "Iterator[tuple[str, Case]]":
        facts, settings, domain = self.facts, self.settings, self.facts.mailbox.domain
        report = facts.report
        if report is None:
            return
        for proof, change in _MISSING.items():
            if proof in settings.proof and proof not in facts.proofs:
                proved = replace(facts, proofs=facts.proofs | {proof})
                yield f"proof by {proof.value}: {change}", replace(self, facts=proved)
        if facts.unanswered:
            answered = replace(facts, unanswered=frozenset())
            change = f"an answer that nothing is found, by: {words(facts.unanswered)}"
            yield change, replace(self, facts=answered)
        if facts.proofs:
            none = replace(facts, proofs=frozenset(), unanswered=frozenset())
            yield f"the loss of its proof: {words(facts.proofs)}", replace(self, facts=none)
        if not report.returned and not report.mentioned:
            ignored = settings.nothing_returned is NothingReturned.IGNORED
            wanted = NothingReturned.UNPROVED if ignored else NothingReturned.IGNORED
            other = replace(self, settings=replace(settings, nothing_returned=wanted))
            yield f"its setting: backstop domain set {domain} nothing_returned {wanted.value}", other

    def _limits(self) -> "Iterator[tuple[str, Case]]":
        facts = self.facts
        if facts.harvests:
            fewer = replace(facts, harvests=False)
            yield "time: this client named too many unknown recipients", replace(self, facts=fewer)
        if facts.guesses_tags:
            fewer = replace(facts, guesses_tags=False)
            yield "time: this client brought too many bad tags", replace(self, facts=fewer)
        if facts.untagged_mail:
            none = replace(facts, untagged_mail=False)
            yield "time: mail of this recipient is under way without a tag", replace(self, facts=none)

    def _actions(self) -> "Iterator[tuple[str, Case]]":
        """The action of each check that fails, made as mild or as strict as it gets."""
        domain = self.facts.mailbox.domain
        for check in CHECKS:
            if check.judge(self.facts, self.settings).result is not Result.FAIL:
                continue
            strict = self.settings.actions[check.name] > Action.OBSERVE
            wanted = Action.OBSERVE if strict else Action.REJECT
            actions: Mapping[str, Action] = {**self.settings.actions, check.name: wanted}
            other = replace(self, settings=replace(self.settings, actions=actions))
            yield f"its setting: backstop domain set {domain} {check.name} {wanted.label}", other


def _counts_for(block: Block, check: Check, action: Action) -> bool:
    if check.under_block is UnderBlock.RAISES:
        return block.action > action
    return check.under_block is UnderBlock.REPLACES


def outcome_text(decision: Decision) -> str:
    """What a decision comes to for the client."""
    if decision.reply is not None:
        return str(decision.reply)
    return _ACCEPTED.get(decision.action, "accepted")


_MISSING: Final = {
    Proof.MEMORY: "an id that it returns or names, in our memory of sent mail",
    Proof.DKIM: "a signature of one of our domains on the returned header",
    Proof.CORRESPONDENT: "the recipient wrote lately to an address that it names or comes from",
}
"""What a message would have to prove."""

_ACCEPTED = {
    Action.JUNK: "accepted, marked as junk",
    Action.QUARANTINE: "accepted, held in quarantine",
    Action.DISCARD: "accepted and dropped",
}


def as_json(case: Case) -> dict[str, Any]:
    """For programs."""
    facts = case.facts
    return {
        "recipient": facts.recipient.path,
        "mailbox": facts.base,
        "tag": facts.tag.value,
        "proofs": sorted(proof.value for proof in facts.proofs),
        "sought": [one.as_json() for one in case.sought],
        "unread": case.unread or None,
        "existence": facts.existence.name.lower(),
        "block": None if case.block is None else {"name": case.block.name, "action": case.block.action.label},
        "grace_until": case.grace_until or None,
        "checks": [
            {
                "check": one.check,
                "finding": one.finding,
                "reason": one.reason,
                "action": one.action,
                "from": one.origin,
            }
            for one in case.checks()
        ],
        "decision": case.outcome(),
        "would_change": [{"change": one.change, "decision": one.decision} for one in case.alternatives()],
    }
