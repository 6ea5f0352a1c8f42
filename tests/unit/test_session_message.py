"""DATA and the end of the message: the seven actions, marks, the hold queue, several recipients."""

import pytest

from backstop.facts import Existence
from backstop.settings import Action, Addresses, Strip
from backstop.verdict import AddHeader, Hold, RemoveHeader, ReplaceRecipient, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    BOB,
    ELSEWHERE,
    OURS,
    STRANGER,
    Talk,
    bounce,
    code,
    counters,
    enforcing,
    forged,
    protecting,
    settings,
    tagged,
)

FLAG = AddHeader("X-Spam-Flag", "YES")


def mark(outcome):
    [value] = [
        one.value for one in outcome.changes if isinstance(one, AddHeader) and one.name == "X-Backstop"
    ]
    return value


# -- The seven actions ------------------------------------------------------------------------------------

CASES = {
    "unproved": ("<>", f"<{ALICE}>", "a bounce without proof that we wrote the original"),
    "tag": ("<>", forged(ALICE), "tag forged"),
    "forged_sender": (f"<{BOB}>", f"<{ALICE}>", "a reverse-path of ours from outside, without a good tag"),
}
BEFORE_DATA = {"tag", "forged_sender"}


@pytest.fixture(params=CASES)
def failing(request):
    """One check that fails alone, from its action to the talk, the RCPT outcome and the name."""

    def run(action):
        sender, recipient, _ = CASES[request.param]
        others = {} if request.param == "unproved" else {"unproved": Action.OFF}
        outside = protecting(settings(**{**others, request.param: action}))
        talk = Talk(outside).mail(sender)
        return talk, talk.rcpt(recipient)

    run.name = request.param
    run.reason = CASES[request.param][2]
    return run


@pytest.mark.parametrize(("action", "expected"), [(Action.REJECT, 550), (Action.TEMPFAIL, 450)])
def test_reject_and_tempfail_refuse_at_the_stage_of_the_check(failing, action, expected):
    talk, outcome = failing(action)
    if failing.name in BEFORE_DATA:
        assert code(outcome) == expected
    else:
        assert code(outcome) == 250
        outcome = talk.session.data("QID", talk.now)
        assert code(outcome) == expected
    assert outcome.verb is Verb.REFUSE
    [record] = outcome.records
    assert (record.check, record.action, record.reason) == (failing.name, action.label, failing.reason)
    assert record.reply == str(outcome.reply)
    assert f"{failing.name}.fail" in record.counters
    assert f"action.{action.label}" in record.counters


def test_discard_accepts_and_drops_at_data(failing):
    talk, outcome = failing(Action.DISCARD)
    assert outcome.verb is Verb.CONTINUE
    outcome = talk.session.data("QID", talk.now)
    assert (outcome.verb, outcome.reply) == (Verb.DISCARD, None)
    [record] = outcome.records
    assert record.notable
    assert (record.check, record.action) == (failing.name, "discard")
    assert "action.discard" in record.counters


def test_quarantine_holds_and_marks_at_the_end(failing):
    talk, outcome = failing(Action.QUARANTINE)
    assert outcome.verb is Verb.CONTINUE
    assert talk.session.data("QID", talk.now).verb is Verb.CONTINUE
    outcome = talk.rest("Subject")
    assert outcome.verb is Verb.ACCEPT
    value = f"quarantine; check={failing.name}; {failing.reason}"
    assert outcome.changes == (AddHeader("X-Backstop", value), Hold(f"backstop: {failing.name}"))
    assert [record.action for record in outcome.records] == ["quarantine"]
    assert "action.quarantine" in counters([outcome])


def test_junk_marks_at_the_end(failing):
    talk, outcome = failing(Action.JUNK)
    assert outcome.verb is Verb.CONTINUE
    outcome = talk.rest("Subject")
    assert outcome.verb is Verb.ACCEPT
    assert outcome.changes == (AddHeader("X-Backstop", f"junk; check={failing.name}; {failing.reason}"), FLAG)
    assert [record.action for record in outcome.records] == ["junk"]


def test_observe_changes_nothing_but_the_record(failing):
    talk, outcome = failing(Action.OBSERVE)
    assert outcome.verb is Verb.CONTINUE
    outcome = talk.session.data("QID", talk.now)
    assert (outcome.verb, outcome.reply, outcome.changes) == (Verb.ACCEPT, None, ())
    [record] = outcome.records
    assert record.notable
    assert (record.check, record.result, record.action) == (failing.name, "fail", "observe")
    assert {f"{failing.name}.fail", "action.observe"} <= set(record.counters)


def test_off_is_not_even_looked_at(failing):
    talk, outcome = failing(Action.OFF)
    outcome = talk.session.data("QID", talk.now)
    assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())
    assert not any(failing.name in name or "action" in name for name in counters([outcome]))


def test_no_answer_at_rcpt_is_the_last_word_on_the_message(failing):
    # ACCEPT and DISCARD there would end the whole message's judgement, for other recipients too.
    for action in Action:
        _, outcome = failing(action)
        assert outcome.verb in (Verb.CONTINUE, Verb.REFUSE)


# -- Several checks for one recipient ---------------------------------------------------------------------


def test_the_strictest_of_several_failed_checks_is_taken():
    outside = protecting(settings(tag=Action.JUNK, unproved=Action.REJECT))
    outcome = bounce(outside, forged(ALICE)).rest()
    assert code(outcome) == 550
    assert [record.check for record in outcome.records] == ["unproved"]


def test_among_equals_the_first_in_the_list_names_the_reply():
    outside = protecting(enforcing(receive_only=Addresses([ALICE])))
    outside.otherwise = Existence.MISSING
    outcome = Talk(outside).mail("<>").rcpt(forged(ALICE))
    assert str(outcome.reply).startswith("550 5.1.1")
    [record] = outcome.records
    assert record.check == "recipient"
    assert {"recipient.fail", "receive_only.fail", "tag.fail"} <= set(record.counters)
    outside.otherwise = Existence.EXISTS
    assert Talk(outside).mail("<>").rcpt(forged(ALICE)).records[0].check == "receive_only"


def test_observe_never_contributes():
    outside = protecting(settings(tag=Action.OBSERVE, unproved=Action.JUNK))
    outcome = bounce(outside, forged(ALICE)).rest()
    assert mark(outcome).startswith("junk; check=unproved; ")
    assert [record.check for record in outcome.records] == ["unproved"]


def test_a_question_not_asked_contributes_nothing():
    outcome = Talk(protecting(enforcing())).mail(f"<{STRANGER}>").accept(f"<{ALICE}>").rest()
    assert outcome.verb is Verb.ACCEPT
    [record] = outcome.records
    assert (record.counters, record.notable) == ((), False)


# -- Several recipients of ordinary mail ------------------------------------------------------------------


@pytest.mark.parametrize("first", [ALICE, f"x@{ALSO_OURS}"])
def test_the_mildest_of_several_recipients_wins_at_the_end(first):
    other = f"x@{ALSO_OURS}" if first == ALICE else ALICE
    outside = protecting(settings(forged_sender=Action.QUARANTINE), settings(forged_sender=Action.JUNK))
    outcome = Talk(outside).mail(f"<{BOB}>").accept(f"<{first}>", f"<{other}>").rest()
    assert mark(outcome).startswith("junk; ")
    assert [record.action for record in outcome.records] == ["junk", "junk"]


def test_a_recipient_that_asks_for_nothing_makes_the_message_pass():
    outside = protecting(settings(forged_sender=Action.JUNK), settings(forged_sender=Action.OBSERVE))
    for other in (f"<x@{ALSO_OURS}>", f"<x@{ELSEWHERE}>"):
        outcome = Talk(outside).mail(f"<{BOB}>").accept(f"<{ALICE}>", other).rest()
        assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())


def test_refused_recipients_do_not_make_the_others_milder():
    outside = protecting(settings(forged_sender=Action.JUNK), settings(forged_sender=Action.REJECT))
    talk = Talk(outside).mail(f"<{BOB}>").accept(f"<{ALICE}>")
    assert talk.code(f"<x@{ALSO_OURS}>") == 550
    assert mark(talk.rest()).startswith("junk; ")


# -- Marks ------------------------------------------------------------------------------------------------


def test_forged_marks_go_where_the_message_reaches_its_end_highest_index_first():
    outside = protecting(settings(unproved=Action.JUNK))
    outcome = bounce(outside, f"<{ALICE}>").rest("X-Backstop", "Received", "x-backstop", "X-BACKSTOP")
    removed = [RemoveHeader("X-Backstop", index) for index in (3, 2, 1)]
    assert list(outcome.changes[:3]) == removed
    assert [type(change) for change in outcome.changes[3:]] == [AddHeader, AddHeader]


def test_only_a_hundred_forged_marks_are_counted():
    outside = protecting(settings(unproved=Action.JUNK))
    outcome = bounce(outside, f"<{ALICE}>").rest(*["X-Backstop"] * 5000)
    assert len(outcome.changes) == 102


def test_marks_are_forgotten_with_the_transaction():
    outside = protecting(settings(unproved=Action.JUNK))
    talk = bounce(outside, f"<{ALICE}>")
    talk.rest("X-Backstop")
    outcome = talk.mail("<>").accept(f"<{ALICE}>").rest()
    assert not any(isinstance(change, RemoveHeader) for change in outcome.changes)


def test_a_message_that_only_has_its_tag_stripped_loses_forged_marks_too():
    outside = protecting(settings({"strip": Strip.MILTER}))
    outcome = bounce(outside, tagged(ALICE)).rest("X-Backstop", "X-Spam-Flag")
    assert outcome.changes == (RemoveHeader("X-Backstop", 1), ReplaceRecipient(tagged(ALICE), ALICE, ""))


# -- The hold queue ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "most", "expected"),
    [(0, 1, "quarantine"), (1, 1, "junk"), (499, 500, "quarantine"), (500, 500, "junk"), (0, 0, "junk")],
)
def test_a_full_hold_queue_makes_junk_of_quarantine(held, most, expected):
    outside = protecting(settings({"quarantine_max": most}, unproved=Action.QUARANTINE))
    outside.counted[OURS, "action.quarantine"] = held
    outcome = bounce(outside, f"<{ALICE}>").rest()
    assert outcome.verb is Verb.ACCEPT
    assert mark(outcome).startswith(f"{expected}; check=unproved; ")
    assert any(isinstance(change, Hold) for change in outcome.changes) is (expected == "quarantine")
    assert (FLAG in outcome.changes) is (expected == "junk")
    [record] = outcome.records
    assert (record.action, record.counters[-1]) == (expected, f"action.{expected}")


@pytest.mark.parametrize("full", [OURS, ALSO_OURS])
def test_the_hold_queue_is_full_when_it_is_for_one_of_the_domains(full):
    outside = protecting(settings(forged_sender=Action.QUARANTINE))
    outside.counted[full, "action.quarantine"] = 500
    outcome = Talk(outside).mail(f"<{BOB}>").accept(f"<{ALICE}>", f"<x@{ALSO_OURS}>").rest()
    assert mark(outcome).startswith("junk; ")


# -- Forgetting -------------------------------------------------------------------------------------------


def test_everything_is_forgotten_at_mail_with_or_without_rset():
    outside = protecting(settings({"strip": Strip.MILTER}, unproved=Action.JUNK, tag=Action.JUNK))
    for forget in (lambda _: None, lambda talk: talk.session.abort()):
        talk = bounce(outside, forged(ALICE))
        for name in ("X-Backstop", "Delivered-To"):
            talk.session.header(name, b"x")
        forget(talk)
        outcome = talk.mail(f"<{STRANGER}>").accept(f"<{BOB}>").rest()
        assert (outcome.verb, outcome.changes, outcome.reply) == (Verb.ACCEPT, (), None)
        assert [record.recipient for record in outcome.records] == [""]


def test_calls_before_mail_are_answered():
    talk = Talk(protecting(enforcing()))
    talk.session.header("X-Backstop", b"x")
    assert talk.rest().verb is Verb.ACCEPT
    assert talk.session.end_of_message("", talk.now).verb is Verb.ACCEPT
    assert talk.rcpt(f"<{ALICE}>").verb is Verb.CONTINUE


def test_what_must_be_refused_or_dropped_is_so_at_the_end_too():
    # Should DATA have brought no answer, the end of the message may not accept.
    for action, verb in (
        (Action.REJECT, Verb.REFUSE),
        (Action.TEMPFAIL, Verb.REFUSE),
        (Action.DISCARD, Verb.DISCARD),
    ):
        talk = bounce(protecting(settings(unproved=action)), f"<{ALICE}>")
        outcome = talk.session.end_of_message("QID", talk.now)
        assert (outcome.verb, outcome.changes) == (verb, ())
