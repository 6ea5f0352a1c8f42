"""Incoming mail: each recipient is judged at RCPT, the message at DATA or at its end."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from backstop import batv, grace, policy
from backstop.address import Address, parse
from backstop.authentication import SpfIdentity
from backstop.authserv import header_value as header_value_of_results
from backstop.batv import KeyRing, TagState
from backstop.checks import CHECKS
from backstop.facts import Client, Existence, Facts, Role
from backstop.proof import Proof
from backstop.reply import Reply, Stage, header_value
from backstop.report import Kind, Report
from backstop.session import origin
from backstop.session.content import Content
from backstop.session.proving import judge_read, wants_report
from backstop.session.questions import Answer, Gather, Incoming, Known, base_of
from backstop.session.transaction import Accepted, Transaction, envelope
from backstop.settings import Action, DomainSettings
from backstop.verdict import (
    ACCEPT,
    ACCEPTED,
    CONTINUE,
    AddHeader,
    AddRecipient,
    Change,
    Count,
    Decision,
    Hold,
    Judgement,
    Outcome,
    Record,
    RemoveHeader,
    Result,
    Verb,
)

MARK: Final = "X-Backstop"
"""The header of junked and quarantined mail. Its value begins with the action."""

MAX_COPIES: Final = 100
"""Copies to `copy_to` in a day, for each domain."""

MAX_MARKS: Final = 100
"""Forged marks that are removed from one message."""

ONE_AT_A_TIME: Final = Reply(452, "4.5.3", "One recipient at a time for the null sender")

UNREADABLE: Final = Address("", "unreadable", "unreadable")
"""Stands for a reverse-path that is no address."""

_READERS: Final = tuple(check for check in CHECKS if check.may_read)
_NO_PROOF: Final[frozenset[Proof]] = frozenset()
_SENT_BY_US: Final = frozenset({Proof.MEMORY, Proof.DKIM})
_TAG_PROOF: Final = frozenset({Proof.TAG})


def rcpt(
    transaction: Transaction,
    ring: KeyRing,
    gather: Gather,
    path: str,
    parameters: str,
    now: float,
    queue_id: str,
) -> Outcome:
    """Judge a recipient as far as it can be judged now."""
    if transaction.in_doubt:
        return _put_off(transaction, transaction.accepted[0].facts.mailbox.domain, path, (), queue_id)
    recipient = parse(path)
    asked = ask(transaction, ring, gather, recipient, now) if recipient and recipient.domain else None
    if asked is None:
        transaction.others += 1
        return CONTINUE
    question, answer = asked
    facts = facts_of(transaction, ring, gather, question, answer, batv.day_of(now))
    settings, block = answer.known.settings, answer.block
    counts = _of_unknown(facts)
    judgements = policy.judge(CHECKS, facts, settings, block)
    at_once = tuple(one for one in judgements if _stage(one, facts) is Stage.RCPT)
    decision = policy.too_many_guesses(facts, settings, block, CHECKS) or policy.decide(at_once)
    if decision.action < Action.TEMPFAIL and (needs := origin.wanted(facts, settings)):
        facts = origin.ask(transaction, gather, facts, needs, now)
        judgements = policy.judge(CHECKS, facts, settings, block)
        at_once = tuple(one for one in judgements if _stage(one, facts) is Stage.RCPT)
        decision = policy.decide(at_once)
    if decision.action >= Action.TEMPFAIL:
        record = _record(facts, at_once, decision, queue_id)
        return Outcome(Verb.REFUSE, decision.reply, counts=counts, records=(record,))
    decision = policy.decide(judgements)
    waiting = policy.waiting(_READERS, facts, settings, block) if facts.readable else ()
    if facts.is_bounce and (
        decision.action > Action.OBSERVE or policy.is_outstanding(waiting, facts, settings, block)
    ):
        if transaction.accepted or transaction.others:
            return _put_off(transaction, facts.mailbox.domain, path, counts, queue_id)
        transaction.in_doubt = True
    if waiting:
        transaction.to_be_read = True
    sent_to = envelope(path, question.mailbox if question.tag else None, parameters, settings)
    alias = (question.alias, _end_of_alias(question, now)) if facts.alias is TagState.GOOD else None
    transaction.accepted.append(
        Accepted(facts, settings, block, judgements, decision, sent_to, waiting, alias)
    )
    return Outcome(Verb.CONTINUE, counts=counts) if counts else CONTINUE


def refused_rcpt(transaction: Transaction, gather: Gather, path: str) -> Outcome:
    """Count a recipient that the mail server does not know."""
    recipient = parse(path)
    if recipient is None or not gather.is_protected(recipient.domain):
        return CONTINUE
    record = Record(recipient.domain, ("recipient.fail",))
    counts = _of_client(transaction.client, "unknown_recipients")
    return Outcome(Verb.CONTINUE, counts=counts, records=(record,))


def data(transaction: Transaction, queue_id: str) -> Outcome:
    """Refuse, drop or accept what needs no change and no reading; the mildest of several recipients wins."""
    if not transaction.accepted and not transaction.shows_results:
        return ACCEPT
    signatures = origin.wants_signatures(transaction)
    if (transaction.to_be_read or signatures) and not _is_settled(transaction):
        transaction.content = Content(keeps=wants_report(transaction), signatures=signatures)
        return CONTINUE
    decision = _message_decision(transaction)
    if decision.action < Action.DISCARD and (
        decision.action > Action.OBSERVE
        or any(one.envelope.is_stripped for one in transaction.accepted)
        or transaction.shows_results
        or origin.quieted(transaction)
    ):
        return CONTINUE
    return _last_word(transaction, decision, (), queue_id)


def end_of_message(
    transaction: Transaction, gather: Gather, authserv_id: str, queue_id: str, now: float
) -> Outcome:
    """Mark, hold, untag and hush; a mark that somebody else wrote goes."""
    content = transaction.content
    if content is not None:
        transaction.content = None
        judge_read(transaction, content, gather, now)
    decision = _message_decision(transaction)
    if decision.action is Action.QUARANTINE and _hold_is_full(transaction, gather, now):
        decision = Decision(Action.JUNK, None, decision.judgement, decision.reason)
    changes: list[Change] = [
        RemoveHeader(MARK, index) for index in range(min(transaction.marks, MAX_MARKS), 0, -1)
    ]
    copied: tuple[Record, ...] = ()
    if decision.action in (Action.JUNK, Action.QUARANTINE):
        changes += _marks(decision)
        copies = _copies(transaction, gather, now)
        changes += copies.values()
        copied = tuple(Record(domain, ("copies.sent",)) for domain in copies)
    quiet = origin.quieted(transaction)
    changes += origin.recipient_changes(transaction, quiet)
    if transaction.shows_results:
        changes += origin.results_changes(transaction, _results(transaction, authserv_id))
    hushed = origin.quiet_records(transaction, quiet, queue_id)
    return _last_word(transaction, decision, tuple(changes), queue_id, (*copied, *hushed))


def _results(transaction: Transaction, authserv_id: str) -> str:
    """What was found of a message's origin, as other filters read it; empty where nothing was looked for."""
    spf, authenticity = transaction.origin.spf, transaction.authenticity
    if spf is None and authenticity is None:
        return ""
    is_helo = spf is not None and spf.identity is SpfIdentity.HELO
    asked = transaction.helo if is_helo else transaction.sender_domain
    return header_value_of_results(authserv_id, spf, asked, authenticity)


def _is_settled(transaction: Transaction) -> bool:
    """Whether nothing in the message could change a refusal at DATA; what is not judged then is left out."""
    settled = [_without_waiting(one) for one in transaction.accepted]
    now = policy.mildest([one.decision for one in settled]).action
    if transaction.others or now < max(_message_decision(transaction).action, Action.DISCARD):
        return False
    if now is Action.DISCARD and any(_may_refuse(one) for one in transaction.accepted):
        return False
    transaction.accepted = settled
    return True


def _may_refuse(one: Accepted) -> bool:
    """Whether a check that waits for the message could refuse it, so that its sender learns of it."""
    actions = (policy.effective_action(check, one.facts, one.settings, one.block) for check in one.waiting)
    return any(action > Action.DISCARD for action in actions)


def _without_waiting(one: Accepted) -> Accepted:
    judgements = tuple(judgement for judgement in one.judgements if judgement.check not in one.waiting)
    return replace(one, judgements=judgements, decision=policy.decide(judgements), waiting=())


def _last_word(
    transaction: Transaction,
    decision: Decision,
    changes: tuple[Change, ...],
    queue_id: str,
    more: tuple[Record, ...] = (),
) -> Outcome:
    is_taken = decision.action < Action.TEMPFAIL
    records = (*_records(transaction, decision, queue_id), *(more if is_taken else ()))
    if not is_taken:
        return Outcome(Verb.REFUSE, decision.reply, records=records)
    if decision.action is Action.DISCARD:
        return Outcome(Verb.DISCARD, records=records)
    return Outcome(Verb.ACCEPT, changes=changes, records=records)


def _put_off(
    transaction: Transaction, domain: str, path: str, counts: tuple[Count, ...], queue_id: str
) -> Outcome:
    """Ask for the recipient alone. `domain` is a protected one: nothing is counted for strange names."""
    recipient = parse(path)
    record = Record(
        domain,
        (f"action.{Action.TEMPFAIL.label}",),
        notable=True,
        queue_id=queue_id,
        client=transaction.client.address,
        recipient=recipient.path if recipient else "",
        action=Action.TEMPFAIL.label,
        reply=str(ONE_AT_A_TIME),
        reason="one recipient at a time for the null sender",
    )
    return Outcome(Verb.REFUSE, ONE_AT_A_TIME, counts=counts, records=(record,))


def ask(
    transaction: Transaction, ring: KeyRing, gather: Gather, recipient: Address, now: float
) -> tuple[Incoming, Answer] | None:
    """What is asked about a recipient, and the answer; None if its domain is not protected."""
    known = transaction.known.get(recipient.domain)
    settings = known.settings if known else gather.expected(recipient.domain)
    today = batv.day_of(now)
    question = _question(transaction, ring, recipient, settings.recipient_delimiter, known, today)
    answer = gather.incoming(question, now)
    if answer and answer.known.settings.recipient_delimiter != settings.recipient_delimiter:  # just changed
        delimiter = answer.known.settings.recipient_delimiter
        question = _question(transaction, ring, recipient, delimiter, answer.known, today)
        answer = gather.incoming(question, now)
    if answer is None:
        return None
    transaction.known[recipient.domain] = answer.known
    return question, answer


def _question(
    transaction: Transaction,
    ring: KeyRing,
    recipient: Address,
    delimiter: str,
    known: Known | None,
    today: int,
) -> Incoming:
    tag = batv.parse(recipient, delimiter)
    mailbox = tag.inner if tag else recipient
    base = base_of(mailbox, delimiter)
    state = batv.verify(tag, ring, today) if tag else TagState.NONE
    alias, alias_state = _alias(mailbox, delimiter, ring, today)
    return Incoming(
        recipient=recipient,
        mailbox=mailbox,
        base=base,
        tag=tag,
        bounce=transaction.is_bounce,
        network=transaction.client.network,
        sender_domain=transaction.sender_domain,
        known=known,
        tag_state=state,
        counts=_of_guess(transaction.client, base) if state.is_bad and transaction.is_bounce else (),
        alias=alias,
        alias_state=alias_state,
    )


def _alias(mailbox: Address, delimiter: str, ring: KeyRing, today: int) -> tuple[str, TagState]:
    """A disposable address that we made, folded, and what it is worth: not what only looks alike."""
    if "d-" not in mailbox.folded:
        return "", TagState.NONE
    alias = batv.parse_alias(mailbox, delimiter)
    state = batv.verify_alias(alias, ring, today) if alias else TagState.NONE
    return (mailbox.folded, state) if state in (TagState.GOOD, TagState.EXPIRED) else ("", TagState.NONE)


def _end_of_alias(question: Incoming, now: float) -> float:
    """When a good disposable address ends, in seconds since 1970."""
    today = batv.day_of(now)
    day = int(question.alias.rpartition("@")[0][-9:-6])
    return (today + (day - today) % 1000 + 1) * float(batv.DAY)


def facts_of(
    transaction: Transaction, ring: KeyRing, gather: Gather, question: Incoming, answer: Answer, today: int
) -> Facts:
    """Everything known about a recipient, as checks read it."""
    settings, sender_is_ours = answer.known.settings, answer.sender_is_ours
    sender = transaction.reverse_path or UNREADABLE
    tag = question.tag_state
    return Facts(
        client=transaction.client,
        reverse_path=sender,
        recipient=question.recipient,
        mailbox=question.mailbox,
        base=question.base,
        tag=tag,
        existence=answer.existence,
        sender_is_ours=sender_is_ours,
        sender_tag=_sender_tag(sender, ring, today) if sender_is_ours else TagState.NONE,
        sender_is_exempt=sender_is_ours and sender in gather.expected(sender.domain).exempt_senders,
        untagged_mail=answer.untagged_mail,
        in_grace=_in_grace(ring, question.mailbox.domain, settings, tag, today),
        harvests=answer.harvests,
        guesses_tags=answer.guesses_tags,
        alias=question.alias_state,
        alias_is_off=answer.alias_is_off,
        readable=transaction.readable,
        verifiable=transaction.verifiable,
        proofs=_TAG_PROOF if tag is TagState.GOOD and Proof.TAG in settings.proof else _NO_PROOF,
    )


def _sender_tag(sender: Address, ring: KeyRing, today: int) -> TagState:
    tag = batv.parse(sender)
    return batv.verify(tag, ring, today) if tag else TagState.NONE


def _in_grace(ring: KeyRing, domain: str, settings: DomainSettings, tag: TagState, today: int) -> bool:
    if tag.is_bad:  # somebody guessed: not the bounce of older mail
        return False
    return grace.holds(ring, domain, settings, today)


def _of_unknown(facts: Facts) -> tuple[Count, ...]:
    missing = facts.existence is Existence.MISSING
    return _of_client(facts.client, "unknown_recipients") if missing else ()


def _of_guess(client: Client, base: str) -> tuple[Count, ...]:
    return (Count(base, "bad_tags_address"), *_of_client(client, "bad_tags"))


def _of_client(client: Client, what: str) -> tuple[Count, ...]:
    """Relays of ours only bring what others did."""
    return (Count(client.network, what),) if client.network and client.role is not Role.RELAY else ()


def _stage(judgement: Judgement, facts: Facts) -> Stage:
    return judgement.check.stage_for(null_sender=facts.is_bounce)


def _message_decision(transaction: Transaction) -> Decision:
    decisions = [one.decision for one in transaction.accepted]
    if transaction.others:
        decisions.append(ACCEPTED)
    return policy.mildest(decisions)


def _hold_is_full(transaction: Transaction, gather: Gather, now: float) -> bool:
    limits = {one.facts.mailbox.domain: one.settings.quarantine_max for one in transaction.accepted}
    return any(
        (gather.counted_today(domain, "action.quarantine", now) or 0) >= limit
        for domain, limit in limits.items()
    )


def _copies(transaction: Transaction, gather: Gather, now: float) -> dict[str, AddRecipient]:
    """Copies of a bounce for who wants to see them, by domain.

    What bears our mark has been here before, and may be a copy that somebody's forward brings back.
    """
    if not transaction.is_bounce or transaction.marks:
        return {}
    reached = {one.facts.base for one in transaction.accepted}
    copies = {}
    for one in transaction.accepted:
        wanted = one.settings.copy_to
        if wanted is None or not gather.is_protected(wanted.domain):
            continue
        domain, base = one.facts.mailbox.domain, base_of(wanted, one.settings.recipient_delimiter)
        sent = gather.counted_today(domain, "copies.sent", now)
        if base not in reached and sent is not None and sent < MAX_COPIES:
            reached.add(base)
            copies[domain] = AddRecipient(wanted.path)
    return copies


def _marks(decision: Decision) -> list[Change]:
    check = decision.judgement.check.name if decision.judgement else "policy"
    value = header_value(decision.action.label, f"check={check}", decision.reason)
    if decision.action is Action.QUARANTINE:
        return [AddHeader(MARK, value), Hold(f"backstop: {check}")]
    return [AddHeader(MARK, value), AddHeader("X-Spam-Flag", "YES")]


def _records(transaction: Transaction, message: Decision, queue_id: str) -> tuple[Record, ...]:
    records = []
    used: set[tuple[str, float]] = set()
    for one in transaction.accepted:
        record = _record(one.facts, one.judgements, _carried_out(one.decision, message), queue_id)
        if one.alias is not None and one.alias not in used and message.action < Action.TEMPFAIL:
            used.add(one.alias)
            record = replace(record, alias=one.alias)
        left_elsewhere = one.facts.report is not None and _left_elsewhere(one.facts, one.settings)
        records.append(replace(record, elsewhere=one.facts.base) if left_elsewhere else record)
    return tuple(records)


def _left_elsewhere(facts: Facts, settings: DomainSettings) -> bool:
    """Whether a bounce is of a letter that we signed, but that no host remembers which shares our memory."""
    if not _is_our_bounce(facts) or Proof.MEMORY not in settings.proof:
        return False
    if facts.in_grace:  # the memory may be younger than the letter
        return False
    return Proof.MEMORY not in facts.proofs and Proof.MEMORY not in facts.unanswered


def _is_our_bounce(facts: Facts) -> bool:
    """Whether a bounce was read, and is one of a letter of ours.

    Automatic answers are none: they go to the header From, which carries no tag anyway.
    """
    is_report = facts.report is not None and facts.report.kind is Kind.BOUNCE
    return is_report and facts.is_bounce and not _SENT_BY_US.isdisjoint(facts.proofs)


def _carried_out(own: Decision, message: Decision) -> Decision:
    """A recipient's decision as the message's: milder where another recipient asked for less."""
    if own.action <= message.action:
        return own
    return Decision(message.action, message.reply, own.judgement, own.reason)


def _record(facts: Facts, judgements: Iterable[Judgement], decision: Decision, queue_id: str) -> Record:
    counters = [f"{one.check.name}.{one.finding.result.value}" for one in judgements if _says(one)]
    failed = [one for one in judgements if one.finding.result in (Result.FAIL, Result.TEMPERROR)]
    action = decision.action or (Action.OBSERVE if failed else Action.OFF)
    if facts.is_bounce:
        counters.append("bounce.seen")
        if facts.proofs:
            counters += ("bounce.proved", *(f"proof.{proof.value}" for proof in facts.proofs))
    if facts.report is not None:
        counters += _of_report(facts, facts.report)
    if action is not Action.OFF:
        counters.append(f"action.{action.label}")
    domain = facts.mailbox.domain
    if not failed and not facts.is_bounce and decision.action is Action.OFF:
        return Record(domain, tuple(counters))
    named = decision.judgement or (failed[0] if failed else None)
    return Record(
        domain,
        tuple(counters),
        notable=True,
        queue_id=queue_id,
        client=facts.client.address,
        reverse_path=facts.reverse_path.path,
        recipient=facts.recipient.path,
        check=named.check.name if named else "",
        result=named.finding.result.value if named else "",
        action=action.label if action is not Action.OFF else "accept",
        reply=str(decision.reply) if decision.reply else "",
        reason=decision.reason or (named.finding.reason if named else _why_accepted(judgements)),
    )


def _of_report(facts: Facts, report: Report) -> list[str]:
    """What a message was found to be; and a bounce of ours without a tag, as any genuine one should have."""
    counters = [f"report.{report.kind.value}"]
    if report.returned is None and not report.mentioned:
        counters.append("report.nothing_returned")
    if _is_our_bounce(facts):
        counters.append("bounce.untagged")
    return counters


def _says(judgement: Judgement) -> bool:
    return judgement.finding.result is not Result.NONE


def _why_accepted(judgements: Iterable[Judgement]) -> str:
    return next((one.finding.reason for one in reversed(tuple(judgements)) if one.finding.reason), "")
