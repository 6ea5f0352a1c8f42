"""From findings and settings to one decision for a recipient, and one for a message."""

from collections.abc import Iterable, Sequence
from typing import Final

from backstop.batv import TagState
from backstop.facts import Facts, Role
from backstop.reply import Reply
from backstop.settings import Action, Block, DomainSettings
from backstop.verdict import (
    ACCEPTED,
    NOTHING,
    Check,
    Decision,
    Judgement,
    Result,
    UnderBlock,
    lose_nothing,
)

NEVER_REFUSED: Final = frozenset({"postmaster", "abuse"})
"""Local parts that stay reachable whatever happens: RFC 5321, section 4.5.1, and RFC 2142."""

TOO_MANY_GUESSES: Final = Reply(
    450, "4.7.1", "Too many bad bounce addresses from this client, try again later"
)


def effective_action(check: Check, facts: Facts, settings: DomainSettings, block: Block | None) -> Action:
    """The action of a check for this recipient, after block, grace and who is who are considered."""
    action = settings.actions[check.name]
    counts_at_once = False
    if block is not None and check.under_block is not UnderBlock.NOTHING:
        replaces = check.under_block is UnderBlock.REPLACES
        action = block.action if replaces else max(action, block.action)
        counts_at_once = block.by_person
    if check.graced and facts.in_grace and not counts_at_once:
        action = min(action, Action.OBSERVE)
    if check.about_client and facts.client.role is Role.RELAY:
        return Action.OFF
    if action > Action.OBSERVE and _is_never_refused(facts):
        return Action.OBSERVE
    return action


def judge(
    checks: Iterable[Check], facts: Facts, settings: DomainSettings, block: Block | None
) -> tuple[Judgement, ...]:
    """What every check that is not off has to say; nothing of those that do not apply."""
    judgements = []
    actions = settings.actions
    for check in checks:
        if actions[check.name] is Action.OFF and (block is None or check.under_block is UnderBlock.NOTHING):
            continue
        finding = check.judge(facts, settings)
        if finding is NOTHING:  # what it is worth need not be found out
            continue
        action = effective_action(check, facts, settings, block)
        if action is Action.OFF:
            continue
        if finding.result is Result.TEMPERROR:
            if action > Action.OBSERVE:  # only ever as strict as the check says, and never a 5xx
                action = min(check.on_temperror(settings, action), Action.TEMPFAIL)
        elif action is Action.REJECT and facts.client.role is Role.RELAY:
            action = Action.JUNK  # to a relay of ours a 5xx is backscatter: it would write the bounce
        elif check.about_client and _may_be_proved(facts):
            action = lose_nothing(settings, action)
        judgements.append(Judgement(check, finding, action))
    return tuple(judgements)


def _may_be_proved(facts: Facts) -> bool:
    """Whether it is a bounce that proof would have taken from anybody, had somebody been there to say so."""
    return facts.is_bounce and bool(facts.unanswered) and not facts.proofs


def waiting(
    checks: Iterable[Check], facts: Facts, settings: DomainSettings, block: Block | None
) -> tuple[Check, ...]:
    """The checks that have their last word on this recipient only once the message was read."""
    if not facts.readable:
        return ()
    actions = settings.actions
    return tuple(
        check
        for check in checks
        if (actions[check.name] is not Action.OFF or block is not None)
        and check.reads(facts, settings)
        and effective_action(check, facts, settings, block) is not Action.OFF
    )


def is_outstanding(
    waiting: Iterable[Check], facts: Facts, settings: DomainSettings, block: Block | None
) -> bool:
    """Whether a check that still waits for the message may do more than observe."""
    return any(effective_action(check, facts, settings, block) > Action.OBSERVE for check in waiting)


def decide(judgements: Sequence[Judgement]) -> Decision:
    """The strictest action of what failed; among equals the first. What is only observed decides nothing."""
    worst = None
    for judgement in judgements:
        if judgement.finding.result not in (Result.FAIL, Result.TEMPERROR):
            continue
        if judgement.action > Action.OBSERVE and (worst is None or judgement.action > worst.action):
            worst = judgement
    if worst is None:
        return ACCEPTED
    finding = worst.finding
    return Decision(worst.action, worst.check.reply(worst.action, finding.result), worst, finding.reason)


def too_many_guesses(
    facts: Facts, settings: DomainSettings, block: Block | None, checks: Iterable[Check]
) -> Decision | None:
    """Put a bounce to any tag off while its client guesses tags, wherever a hit would gain something.

    A relay of ours is not the client that guesses.
    """
    if not facts.guesses_tags or not facts.is_bounce or facts.tag is TagState.NONE:
        return None
    if facts.client.role is Role.RELAY:
        return None
    enforced = any(
        effective_action(check, facts, settings, block) > Action.OBSERVE
        for check in checks
        if check.under_block is not UnderBlock.NOTHING
    )
    if not enforced:
        return None
    return Decision(Action.TEMPFAIL, TOO_MANY_GUESSES, reason="too many bad tags from this client")


def mildest(decisions: Sequence[Decision]) -> Decision:
    """One decision for a message whose recipients differ: nobody loses mail for another's settings."""
    return min(decisions, key=lambda decision: decision.action, default=ACCEPTED)


def _is_never_refused(facts: Facts) -> bool:
    return facts.base.rpartition("@")[0] in NEVER_REFUSED
