"""From findings and settings to decisions: each rule by itself, on checks made for it."""

import pytest

from backstop import policy
from backstop.batv import TagState
from backstop.checks import CHECKS
from backstop.facts import Role
from backstop.proof import Proof
from backstop.reply import Reply, Stage
from backstop.settings import Action, Block
from backstop.verdict import (
    ACCEPTED,
    Check,
    Decision,
    Finding,
    Judgement,
    Result,
    UnderBlock,
    lose_nothing,
)
from tests.harness.engine import OURS, facts, settings

NO = Reply(550, "5.7.1", "no")
LATER = Reply(450, "4.7.1", "later")
ABOVE_OBSERVE = [action for action in Action if action > Action.OBSERVE]


def made(name="made", result=Result.FAIL, **fields):
    finding = Finding(result, f"{name} says so")
    return Check(name, Stage.RCPT, lambda _facts, _settings: finding, NO, LATER, **fields)


def decided(*pairs):
    """Checks that failed, by name and action."""
    judgements = [Judgement(made(name), Finding(Result.FAIL, name), action) for name, action in pairs]
    return policy.decide(judgements)


def effective(action=Action.REJECT, block=None, known=None, **fields):
    return policy.effective_action(made(**fields), known or facts(), settings(made=action), block)


def judged(known, action, result=Result.FAIL, **fields):
    [judgement] = policy.judge([made(result=result, **fields)], known, settings(made=action), None)
    return judgement.action


# -- Actions are ordered, mildest first -------------------------------------------------------------------


def test_the_actions_stand_in_the_order_of_the_design():
    assert [action.label for action in sorted(Action)] == [
        "off",
        "observe",
        "junk",
        "quarantine",
        "discard",
        "tempfail",
        "reject",
    ]


# -- One decision from several judgements -----------------------------------------------------------------


@pytest.mark.parametrize("first", ABOVE_OBSERVE)
@pytest.mark.parametrize("second", ABOVE_OBSERVE)
def test_the_strictest_wins_and_among_equals_the_first(first, second):
    decision = decided(("one", first), ("two", second))
    assert decision.action is max(first, second)
    assert decision.judgement.check.name == ("two" if second > first else "one")
    assert decision.reason == decision.judgement.check.name
    assert decision.reply == {Action.REJECT: NO, Action.TEMPFAIL: LATER}.get(decision.action)


@pytest.mark.parametrize("action", [Action.OFF, Action.OBSERVE])
def test_what_is_only_observed_decides_nothing(action):
    assert decided(("one", action)) is ACCEPTED
    assert decided(("one", action), ("two", Action.JUNK)).judgement.check.name == "two"


@pytest.mark.parametrize("result", [Result.NONE, Result.PASS])
def test_what_did_not_fail_decides_nothing(result):
    assert policy.decide([Judgement(made(), Finding(result), Action.REJECT)]) is ACCEPTED


def test_nothing_at_all_is_accepted():
    assert policy.decide([]) is ACCEPTED
    assert policy.mildest([]) is ACCEPTED


@pytest.mark.parametrize("first", Action)
@pytest.mark.parametrize("second", Action)
def test_the_mildest_of_several_recipients_and_among_equals_the_first(first, second):
    one, two = Decision(first, reason="one"), Decision(second, reason="two")
    assert policy.mildest([one, two]) is (two if second < first else one)


# -- Unanswered questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.OFF])
@pytest.mark.parametrize("role", [Role.INCOMING, Role.RELAY])
def test_a_temporary_error_contributes_nothing(action, role):
    assert judged(facts(role=role), action, Result.TEMPERROR) is Action.OBSERVE


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.OFF])
@pytest.mark.parametrize("role", [Role.INCOMING, Role.RELAY])
def test_where_mail_may_be_genuine_an_unanswered_question_marks_or_holds_it_or_lets_it_wait(action, role):
    taken = judged(facts(role=role), action, Result.TEMPERROR, on_temperror=lose_nothing)
    assert taken is (action if action < Action.DISCARD else Action.TEMPFAIL)


def test_no_5xx_follows_from_a_temporary_error():
    check = made(result=Result.TEMPERROR, on_temperror=lambda _settings, action: action)
    decision = policy.decide(policy.judge([check], facts(), settings(made=Action.REJECT), None))
    assert (decision.action, decision.reply) == (Action.TEMPFAIL, LATER)


@pytest.mark.parametrize("action", ABOVE_OBSERVE)
def test_a_bounce_is_not_lost_for_its_client_while_nobody_could_say_whether_it_is_proved(action):
    bounce = facts("<>", unanswered=frozenset({Proof.DKIM}))
    waits = action if action < Action.DISCARD else Action.TEMPFAIL
    assert judged(bounce, action, about_client=True) is waits
    assert judged(bounce, action) is action
    assert judged(facts("<>"), action, about_client=True) is action


# -- Off --------------------------------------------------------------------------------------------------


def test_a_check_that_is_off_is_not_run():
    def judge(_facts, _settings):
        raise AssertionError

    check = Check("made", Stage.RCPT, judge, NO, LATER)
    assert policy.judge([check], facts(), settings(made=Action.OFF), None) == ()


# -- The block --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("blocked", Action)
def test_what_a_block_does_to_an_action(action, blocked):
    block = Block(blocked, OURS, by_person=True)
    assert effective(action, block, under_block=UnderBlock.NOTHING) is action
    assert effective(action, block, under_block=UnderBlock.RAISES) is max(action, blocked)
    assert effective(action, block, under_block=UnderBlock.REPLACES) is blocked


def test_the_checks_that_a_block_concerns():
    concerned = {
        check.name: check.under_block for check in CHECKS if check.under_block is not UnderBlock.NOTHING
    }
    assert concerned == {"unproved": UnderBlock.REPLACES, "tag": UnderBlock.RAISES}


# -- Grace ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", Action)
def test_in_grace_a_graced_check_observes_at_most(action):
    known = facts(in_grace=True)
    assert effective(action, known=known, graced=True) is min(action, Action.OBSERVE)
    assert effective(action, known=known) is action
    assert effective(action, known=facts(), graced=True) is action


@pytest.mark.parametrize("blocked", ABOVE_OBSERVE)
def test_in_grace_only_a_persons_block_counts(blocked):
    fields = {"known": facts(in_grace=True), "graced": True, "under_block": UnderBlock.REPLACES}
    assert effective(Action.OBSERVE, Block(blocked, OURS, by_person=True), **fields) is blocked
    assert effective(Action.OBSERVE, Block(blocked, OURS, by_person=False), **fields) is Action.OBSERVE


# -- Relays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.OFF])
def test_for_a_relay_reject_becomes_junk_and_nothing_else_changes(action):
    assert judged(facts(role=Role.RELAY), action) is (Action.JUNK if action is Action.REJECT else action)
    assert judged(facts(), action) is action


@pytest.mark.parametrize("action", Action)
def test_for_a_relay_a_check_about_the_client_is_off(action):
    assert effective(action, known=facts(role=Role.RELAY), about_client=True) is Action.OFF
    assert effective(action, about_client=True) is action


# -- Postmaster and abuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("local", ["postmaster", "abuse", "Abuse", "POSTMASTER+x"])
@pytest.mark.parametrize("action", Action)
def test_nothing_is_done_about_postmaster_and_abuse(local, action):
    known = facts(recipient=f"{local}@{OURS}")
    assert effective(action, known=known) is min(action, Action.OBSERVE)
    block = Block(Action.REJECT, "", by_person=True)
    assert effective(action, block, known, under_block=UnderBlock.REPLACES) is Action.OBSERVE


@pytest.mark.parametrize(
    "local", ["postmaster1", "x-abuse", "postmaste", '"postmaster@x"', '"abuse@our.example"']
)
def test_others_are_not_spared(local):
    assert effective(known=facts(recipient=f"{local}@{OURS}")) is Action.REJECT


# -- Guessing ---------------------------------------------------------------------------------------------


def put_off(known, block=None, **actions):
    return policy.too_many_guesses(known, settings(**actions), block, CHECKS)


@pytest.mark.parametrize("tag", [state for state in TagState if state is not TagState.NONE])
@pytest.mark.parametrize("enforced", [{"tag": Action.JUNK}, {"unproved": Action.REJECT}])
def test_over_the_limit_a_bounce_to_any_tag_is_put_off(tag, enforced):
    decision = put_off(facts(tag=tag, guesses_tags=True), **enforced)
    assert decision == Decision(
        Action.TEMPFAIL, policy.TOO_MANY_GUESSES, reason="too many bad tags from this client"
    )
    assert str(decision.reply).startswith("450 4.7.1 ")


@pytest.mark.parametrize(
    "known",
    [
        facts(tag=TagState.GOOD),
        facts(tag=TagState.NONE, guesses_tags=True),
        facts("<x@else.example>", tag=TagState.FORGED, guesses_tags=True),
        facts(recipient=f"abuse@{OURS}", tag=TagState.FORGED, guesses_tags=True),
        facts(role=Role.RELAY, tag=TagState.FORGED, guesses_tags=True),
    ],
)
def test_nothing_else_is_put_off(known):
    assert put_off(known, tag=Action.REJECT, unproved=Action.REJECT) is None


def test_nobody_is_put_off_where_nothing_is_enforced():
    known = facts(tag=TagState.FORGED, guesses_tags=True)
    assert put_off(known) is None
    assert put_off(known, block=Block(Action.JUNK, "", by_person=True)) is not None
