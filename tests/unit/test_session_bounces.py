"""Bounces at RCPT and DATA: what the null sender may be refused for, when, and with whom."""

import pytest

from backstop.batv import Key, KeyRing, KeyState, TagForm
from backstop.facts import Existence
from backstop.reply import Reply
from backstop.session import ONE_AT_A_TIME, Incoming
from backstop.settings import Action, Addresses, SourceDown
from backstop.verdict import Count, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    BOB,
    ELSEWHERE,
    KEY,
    OURS,
    RELAY_CLIENT,
    RING,
    STRANGE_CLIENT,
    STRANGE_KEY,
    TODAY,
    Outside,
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

UNPROVED = Reply(550, "5.7.1", "This is a bounce of a message that was not sent from here")


def strict(**fields):
    return protecting(enforcing(**fields))


# -- The law of the null sender ---------------------------------------------------------------------------


def test_a_callback_probe_is_never_refused_for_a_missing_tag():
    talk = Talk(strict())
    assert talk.mail("<>").rcpt(f"<{ALICE}>").verb is Verb.CONTINUE
    talk.session.abort()
    assert talk.mail("<>").rcpt(f"<{BOB}>").verb is Verb.CONTINUE


def test_a_callback_probe_is_never_refused_because_its_domain_is_blocked():
    for name in ("", OURS, ALICE):
        assert Talk(strict().block(name)).mail("<>").code(f"<{ALICE}>") == 250


def test_a_callback_probe_is_never_refused_because_its_client_harvests():
    outside = strict()
    outside.harvesters.add(STRANGE_CLIENT)
    assert Talk(outside).mail("<>").code(f"<{ALICE}>") == 250


def test_a_harvester_is_sent_away_at_data_when_the_sender_is_null():
    outside = protecting(settings(harvest=Action.REJECT))
    outside.harvesters.add(STRANGE_CLIENT)
    outcome = bounce(outside, f"<{ALICE}>").rest()
    assert (outcome.verb, outcome.reply) == (
        Verb.REFUSE,
        Reply(421, "4.7.0", "Too many unknown recipients, try again later"),
    )


def test_a_harvester_is_sent_away_at_rcpt_when_the_sender_is_not_null():
    outside = protecting(settings(harvest=Action.REJECT))
    outside.harvesters.add(STRANGE_CLIENT)
    assert Talk(outside).mail("<someone@else.example>").code(f"<{ALICE}>") == 421


@pytest.mark.parametrize(
    ("recipient", "existence", "fields", "expected"),
    [
        (f"<{ALICE}>", Existence.MISSING, {}, "550 5.1.1"),
        (tagged(ALICE), Existence.MISSING, {}, "550 5.1.1"),
        (f"<{ALICE}>", Existence.UNKNOWN, {}, "451 4.1.1"),
        (forged(ALICE), Existence.EXISTS, {}, "550 5.7.1"),
        (f"<{ALICE}>", Existence.EXISTS, {"receive_only": Addresses([ALICE])}, "550 5.7.1"),
    ],
)
def test_the_null_sender_is_refused_at_rcpt_for_what_is_wrong_with_the_recipient(
    recipient, existence, fields, expected
):
    outside = strict(**fields)
    outside.otherwise = existence
    outcome = Talk(outside).mail("<>").rcpt(recipient)
    assert outcome.verb is Verb.REFUSE
    assert str(outcome.reply).startswith(expected)


def test_an_untagged_bounce_is_refused_at_data():
    outcome = bounce(strict(), f"<{ALICE}>").rest()
    assert (outcome.verb, outcome.reply) == (Verb.REFUSE, UNPROVED)
    [record] = outcome.records
    assert (record.domain, record.check, record.result, record.action) == (OURS, "unproved", "fail", "reject")
    assert record.counters == ("unproved.fail", "bounce.seen", "action.reject")
    assert record.notable
    assert record.reply == "550 5.7.1 This is a bounce of a message that was not sent from here"


def test_a_forged_tag_and_a_missing_one_get_the_same_reply():
    # Threat T4: the reply says nothing about how near a guess was.
    at_rcpt = Talk(strict()).mail("<>").rcpt(forged(ALICE)).reply
    unknown_key = tagged(ALICE, key=Key(7, b"sixteen octets..", KeyState.SIGN, ("*",), TODAY, 11))
    assert Talk(strict()).mail("<>").rcpt(unknown_key).reply == at_rcpt
    assert bounce(strict(), f"<{ALICE}>").rest().reply == at_rcpt
    assert bounce(strict(), tagged(ALICE, TODAY - 20)).rest().reply == at_rcpt


@pytest.mark.parametrize("null", ["<>", "", '<"">'])
def test_every_way_to_write_the_null_sender_makes_a_bounce(null):
    talk = Talk(strict()).mail(null).accept(f"<{ALICE}>")
    assert talk.session.transaction.is_bounce
    assert code(talk.rest()) == 550


def test_an_unreadable_reverse_path_is_no_bounce():
    talk = Talk(strict()).mail("<a\x00b@x>").accept(f"<{ALICE}>")
    assert not talk.session.transaction.is_bounce
    assert talk.rest().verb is Verb.ACCEPT


# -- Proof ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", TagForm)
def test_a_bounce_with_a_good_tag_passes_under_block_flood_and_every_check(form):
    outside = strict().block("").block(OURS).block(ALICE)
    outside.harvesters.add(STRANGE_CLIENT)
    outcome = bounce(outside, tagged(ALICE, form=form)).rest()
    assert outcome.verb is Verb.ACCEPT
    [record] = outcome.records
    assert "proof.tag" in record.counters
    assert record.action == "accept"
    assert record.reason == "proof: tag"


def test_a_good_tag_proves_that_an_address_sends_after_all():
    outside = strict(receive_only=Addresses([ALICE]))
    assert bounce(outside, tagged(ALICE)).rest().verb is Verb.ACCEPT


def test_a_good_tag_saves_no_ordinary_mail():
    # It grants and costs nothing there: harvested addresses carry tags too.
    outside = protecting(settings(harvest=Action.REJECT))
    outside.harvesters.add(STRANGE_CLIENT)
    assert Talk(outside).mail("<someone@else.example>").code(tagged(ALICE)) == 421


def test_a_tag_is_no_proof_where_proof_does_not_name_it():
    assert code(bounce(strict(proof=()), tagged(ALICE)).rest()) == 550


def test_a_tag_of_the_key_before_still_proves():
    old = RING.keys[0]
    assert bounce(strict(), tagged(ALICE, key=old)).rest().verb is Verb.ACCEPT


def test_an_expired_tag_is_judged_as_a_missing_one():
    outcome = bounce(strict(), tagged(ALICE, TODAY - 20)).rest()
    assert (outcome.verb, outcome.reply) == (Verb.REFUSE, UNPROVED)
    assert "tag.fail" not in counters([outcome])


def test_an_expired_tag_is_saved_by_untagged_mail_under_way():
    outside = strict()
    outside.untagged.add(ALICE)
    assert bounce(outside, tagged(ALICE, TODAY - 20)).rest().verb is Verb.ACCEPT


@pytest.mark.parametrize("sender", [f"<someone@{ELSEWHERE}>", f"<{BOB}>"])
@pytest.mark.parametrize("recipient", [tagged(ALICE), tagged(ALICE, TODAY - 300), forged(ALICE)])
def test_mail_that_is_no_bounce_is_delivered_to_any_tag_of_a_user_that_exists(sender, recipient):
    outside = protecting(settings(tag=Action.REJECT, unproved=Action.REJECT, recipient=Action.REJECT))
    outside.existence[ALICE] = Existence.EXISTS
    outside.otherwise = Existence.MISSING
    assert Talk(outside).mail(sender).accept(recipient).rest().verb is Verb.ACCEPT


@pytest.mark.parametrize("sender", ["<>", f"<someone@{ELSEWHERE}>"])
@pytest.mark.parametrize("make", [tagged, forged])
@pytest.mark.parametrize("form", TagForm)
def test_the_tagged_form_of_an_unknown_user_is_refused_at_rcpt(sender, make, form):
    outside = strict()
    outside.otherwise = Existence.MISSING
    nobody = tagged(f"nosuch@{OURS}", key=KEY if make is tagged else STRANGE_KEY, form=form)
    assert str(Talk(outside).mail(sender).rcpt(nobody).reply) == "550 5.1.1 No such user here"


@pytest.mark.parametrize(
    "tag", ["btv1==0123456789a==", "SRS0=HHH=TT=x.example=", "SRS1=a=b==HHH=TT=c=", "msprvs1=2=a="]
)
def test_what_carries_another_systems_tag_is_never_tagged_and_so_not_required_to_be(tag):
    # Forwards of ours go out under SRS0=...: their bounces come back so, and are for the rewriter to judge.
    assert bounce(strict(), f"<{tag}x@{OURS}>").rest().verb is Verb.ACCEPT


@pytest.mark.parametrize("local", ["x" * 49, "x" * 64, '"a b"'])
def test_a_bounce_to_what_cannot_be_tagged_is_not_unproved(local):
    assert bounce(strict(), f"<{local}@{OURS}>").rest().verb is Verb.ACCEPT


def test_a_bounce_to_48_octets_is_unproved():
    assert code(bounce(strict(), f"<{'x' * 48}@{OURS}>").rest()) == 550


def test_exempt_senders_are_not_required_to_be_tagged():
    outside = strict(exempt_senders=Addresses([ALICE]))
    assert bounce(outside, f"<{ALICE}>").rest().verb is Verb.ACCEPT
    assert code(bounce(outside, f"<{BOB}>").rest()) == 550


def test_a_bounce_is_not_unproved_while_untagged_mail_is_under_way():
    outside = strict()
    outside.untagged.add(ALICE)
    assert bounce(outside, f"<Alice+shop@{OURS}>").rest().verb is Verb.ACCEPT
    assert code(bounce(outside, f"<{BOB}>").rest()) == 550


# -- The block --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", OURS, ALICE])
def test_the_action_of_a_block_replaces_that_of_unproved(name):
    milder = strict().block(name, Action.TEMPFAIL)
    assert code(bounce(milder, f"<{ALICE}>").rest()) == 450
    stricter = protecting(settings(unproved=Action.OFF)).block(name, Action.REJECT)
    assert code(bounce(stricter, f"<{ALICE}>").rest()) == 550


def test_a_block_never_makes_a_forged_tag_milder():
    assert Talk(strict().block(OURS, Action.JUNK)).mail("<>").code(forged(ALICE)) == 550
    raised = protecting(settings(tag=Action.OBSERVE)).block(OURS, Action.REJECT)
    assert Talk(raised).mail("<>").code(forged(ALICE)) == 550
    raised = protecting(settings(tag=Action.OFF)).block(OURS, Action.TEMPFAIL)
    assert Talk(raised).mail("<>").code(forged(ALICE)) == 450


def test_a_block_touches_nothing_but_bounces():
    outside = protecting().block("", Action.REJECT)
    assert Talk(outside).mail("<someone@else.example>").accept(f"<{ALICE}>").rest().verb is Verb.ACCEPT


def test_the_block_of_an_address_covers_its_tags_and_extensions():
    outside = protecting().block(ALICE, Action.REJECT)
    assert code(bounce(outside, f"<ALICE+list@{OURS.upper()}>").rest()) == 550
    assert bounce(outside, f"<{BOB}>").rest().verb is Verb.ACCEPT


def test_settings_and_block_read_at_the_first_recipient_hold_for_the_transaction():
    outside = protecting(settings(tag=Action.OBSERVE))
    talk = Talk(outside).mail("<>").accept(f"<{ALICE}>")
    outside.block(OURS, Action.REJECT)
    outside.domains[OURS] = enforcing(Action.REJECT)
    talk.accept(f"<{BOB}>", forged(BOB))
    assert talk.rest().verb is Verb.ACCEPT
    assert code(bounce(outside, f"<{ALICE}>").rest()) == 550


def test_a_transaction_forgets_what_the_one_before_read():
    outside = protecting()
    talk = Talk(outside).mail("<>").accept(f"<{ALICE}>")
    outside.block(OURS, Action.REJECT)
    assert code(talk.mail("<>").accept(f"<{ALICE}>").rest()) == 550


# -- Grace ------------------------------------------------------------------------------------------------


def young(days):
    return KeyRing([Key(2, KEY.secret, KeyState.SIGN, ("*",), TODAY - days, 11)])


def in_grace(outside: Outside, days: int, recipient: str = f"<{ALICE}>"):
    return Talk(outside, ring=young(days)).mail("<>").accept(recipient).rest()


@pytest.mark.parametrize(("days", "expected"), [(0, 250), (15, 250), (16, 550)])
def test_grace_lasts_for_the_lifetime_and_five_days(days, expected):
    assert code(in_grace(strict(), days)) == expected


def test_grace_follows_lifetime_and_setting():
    assert code(in_grace(strict(lifetime=20), 24)) == 250
    assert code(in_grace(strict(grace=3), 3)) == 550
    assert code(in_grace(strict(grace=0), 0)) == 550


def test_in_grace_a_missing_tag_is_observed_and_counted():
    outcome = in_grace(strict(), 0)
    assert outcome.verb is Verb.ACCEPT
    [record] = outcome.records
    assert record.counters == ("unproved.fail", "bounce.seen", "action.observe")
    assert (record.action, record.check) == ("observe", "unproved")


def test_in_grace_an_expired_tag_is_observed_like_a_missing_one():
    assert in_grace(strict(), 0, tagged(ALICE, TODAY - 20)).verb is Verb.ACCEPT


def test_in_grace_a_forged_tag_is_not_spared():
    assert Talk(strict(), ring=young(0)).mail("<>").code(forged(ALICE)) == 550
    late = protecting(settings(tag=Action.OBSERVE, unproved=Action.REJECT))
    assert code(in_grace(late, 0, forged(ALICE))) == 550


def test_in_grace_a_block_set_by_a_person_counts_at_once():
    assert code(in_grace(strict().block(OURS), 0)) == 550


def test_in_grace_an_automatic_block_does_not_count():
    assert in_grace(strict().block(OURS, by_person=False), 0).verb is Verb.ACCEPT
    assert code(in_grace(strict().block(OURS, by_person=False), 16)) == 550


def test_grace_starts_with_the_oldest_key_and_not_with_a_rotation():
    ring = KeyRing([RING.keys[0], Key(3, KEY.secret, KeyState.SIGN, ("*",), TODAY, 11)])
    assert code(Talk(strict(), ring=ring).mail("<>").accept(f"<{ALICE}>").rest()) == 550


def test_a_domain_without_a_key_stays_in_grace():
    ring = KeyRing([Key(3, KEY.secret, KeyState.SIGN, (ALSO_OURS,), TODAY - 400, 11)])
    assert Talk(strict(), ring=ring).mail("<>").accept(f"<{ALICE}>").rest().verb is Verb.ACCEPT
    assert code(Talk(strict(), ring=ring).mail("<>").accept(f"<x@{ALSO_OURS}>").rest()) == 550


# -- One recipient per bounce -----------------------------------------------------------------------------

OTHERS = [f"<{BOB}>", f"<x@{ALSO_OURS}>", f"<x@{ELSEWHERE}>", tagged(BOB), "<postmaster>", "<@>"]


@pytest.mark.parametrize("other", OTHERS)
def test_after_a_recipient_in_doubt_no_other_is_taken(other):
    talk = bounce(strict(), f"<{ALICE}>")
    outcome = talk.rcpt(other)
    assert (outcome.verb, outcome.reply) == (Verb.REFUSE, ONE_AT_A_TIME)
    assert str(outcome.reply).startswith("452 4.5.3 One recipient at a time for the null sender")
    assert code(talk.rest()) == 550


@pytest.mark.parametrize(
    "other", [tagged(BOB), f"<x@{ALSO_OURS}>", f"<x@{ELSEWHERE}>", "<postmaster>", "<@>"]
)
def test_a_recipient_in_doubt_is_not_taken_after_another(other):
    outside = protecting(enforcing(), settings())
    talk = bounce(outside, other)
    assert talk.rcpt(f"<{ALICE}>").reply == ONE_AT_A_TIME
    assert talk.rest().verb is Verb.ACCEPT


def test_a_refused_recipient_is_not_another():
    outside = strict()
    outside.existence[BOB] = Existence.MISSING
    talk = Talk(outside).mail("<>")
    assert talk.code(f"<{BOB}>") == 550
    assert talk.code(forged(ALICE)) == 550
    assert talk.code(f"<{ALICE}>") == 250
    assert talk.code(f"<{BOB}>") == 452


def test_recipients_with_good_tags_are_not_in_doubt():
    talk = bounce(strict(), tagged(ALICE), tagged(BOB), f"<x@{ELSEWHERE}>", tagged(f"x@{ALSO_OURS}"))
    assert talk.rest().verb is Verb.ACCEPT


def test_recipients_that_are_only_observed_are_not_in_doubt():
    talk = bounce(protecting(enforcing(Action.OBSERVE)), f"<{ALICE}>", f"<{BOB}>", forged(ALICE))
    assert talk.rest().verb is Verb.ACCEPT


@pytest.mark.parametrize("action", [a for a in Action if a > Action.OBSERVE])
def test_every_action_above_observe_makes_doubt(action):
    outside = protecting(settings(unproved=action))
    talk = bounce(outside, f"<{ALICE}>")
    assert talk.code(f"<{BOB}>") == 452


def test_nobody_is_in_doubt_when_the_sender_is_not_null():
    outside = protecting(settings(forged_sender=Action.JUNK))
    talk = Talk(outside).mail(f"<{ALICE}>").accept(f"<{BOB}>", f"<x@{ALSO_OURS}>", f"<x@{ELSEWHERE}>")
    assert talk.rest().verb is Verb.ACCEPT  # the mildest wins


def test_the_doubt_is_over_with_the_transaction():
    talk = bounce(strict(), f"<{ALICE}>")
    assert talk.code(f"<{BOB}>") == 452
    assert talk.mail("<>").code(f"<{BOB}>") == 250
    talk.session.abort()
    assert talk.mail("<x@else.example>").code(f"<{BOB}>") == 250


def test_a_recipient_put_off_is_logged_and_counted():
    outside = protecting(enforcing(), settings())
    first = bounce(outside, f"<{ALICE}>").rcpt(f"<x@{ELSEWHERE}>")
    second = bounce(outside, f"<x@{ELSEWHERE}>").rcpt(f"<{ALICE}>")
    for outcome, recipient in ((first, f"x@{ELSEWHERE}"), (second, ALICE)):
        [record] = outcome.records
        assert record.domain == OURS  # never one that a stranger names
        assert record.counters == ("action.tempfail",)
        assert (record.recipient, record.action, record.reply) == (recipient, "tempfail", str(ONE_AT_A_TIME))
        assert record.notable


# -- Guessing ---------------------------------------------------------------------------------------------


def guesses(**fields):
    outside = strict(**fields)
    outside.guessers.add(STRANGE_CLIENT)
    return outside


@pytest.mark.parametrize("recipient", [tagged(ALICE), forged(ALICE), tagged(ALICE, TODAY - 20)])
def test_over_the_limit_of_bad_tags_every_tag_of_a_bounce_is_put_off(recipient):
    outcome = Talk(guesses()).mail("<>").rcpt(recipient)
    assert str(outcome.reply).startswith("450 4.7.1")


def test_over_the_limit_of_bad_tags_nothing_else_of_that_client_is_touched():
    assert Talk(guesses()).mail("<>").code(f"<{ALICE}>") == 250
    assert Talk(guesses()).mail("<x@else.example>").code(tagged(ALICE)) == 250
    assert Talk(guesses()).mail("<>").code(tagged(f"postmaster@{OURS}")) == 250
    assert Talk(guesses(), client="203.0.113.8").mail("<>").code(tagged(ALICE)) == 250


def test_the_limit_of_bad_tags_only_observes_where_a_hit_would_gain_nothing():
    outside = protecting(enforcing(Action.OBSERVE))
    outside.guessers.add(STRANGE_CLIENT)
    assert Talk(outside).mail("<>").code(forged(ALICE)) == 250


def test_a_bad_tag_of_a_bounce_counts_for_client_and_address():
    counts = counted_with_the_question(forged(f"Alice+x@{OURS}"))
    assert counts == (Count(ALICE, "bad_tags_address"), Count(STRANGE_CLIENT, "bad_tags"))
    ipv6 = counted_with_the_question(forged(ALICE), client="2001:db8:1:2:3::4")
    assert ipv6 == (Count(ALICE, "bad_tags_address"), Count("2001:db8:1:2::", "bad_tags"))


def counted_with_the_question(recipient, sender="<>", client=STRANGE_CLIENT):
    outside = protecting()
    outcome = Talk(outside, client=client).mail(sender).rcpt(recipient)
    assert outcome.counts == ()
    [question] = outside.asked
    return question.counts


@pytest.mark.parametrize("recipient", [tagged(ALICE), tagged(ALICE, TODAY - 20), f"<{ALICE}>"])
def test_good_expired_and_missing_tags_are_no_guess(recipient):
    assert counted_with_the_question(recipient) == ()


def test_a_bad_tag_in_ordinary_mail_is_no_guess():
    assert counted_with_the_question(forged(ALICE), sender="<x@else.example>") == ()


def test_a_relay_is_not_the_client_that_guesses():
    outside = strict()
    outside.guessers.add(RELAY_CLIENT)
    talk = Talk(outside, client=RELAY_CLIENT)
    assert talk.mail("<>").code(tagged(ALICE)) == 250
    assert counted_with_the_question(forged(ALICE), client=RELAY_CLIENT) == (
        Count(ALICE, "bad_tags_address"),
    )


def test_a_client_without_a_network_is_not_counted():
    assert counted_with_the_question(forged(ALICE), client="unknown") == (Count(ALICE, "bad_tags_address"),)


# -- Unknown recipients -----------------------------------------------------------------------------------


def test_an_unknown_recipient_counts_for_its_client():
    outside = protecting(settings())
    outside.otherwise = Existence.MISSING
    for sender in ("<>", "<x@else.example>"):
        outcome = Talk(outside).mail(sender).rcpt(f"<{ALICE}>")
        assert (code(outcome), outcome.counts) == (550, (Count(STRANGE_CLIENT, "unknown_recipients"),))
        [record] = outcome.records
        assert (record.check, record.result, record.action) == ("recipient", "fail", "reject")


def test_a_source_that_says_nothing_refuses_nobody_for_good():
    # A source that is missing, empty or shrunk is unknown to `gather`; here unknown is never "no such user".
    outside = strict()
    outside.otherwise = Existence.UNKNOWN
    outcome = Talk(outside).mail("<x@else.example>").rcpt(f"<{ALICE}>")
    assert str(outcome.reply) == "451 4.1.1 Recipient cannot be verified now, try again later"
    assert outcome.counts == ()
    outside = strict(source_down=SourceDown.CONTINUE)
    outside.otherwise = Existence.UNKNOWN
    assert Talk(outside).mail("<x@else.example>").code(f"<{ALICE}>") == 250


# -- Postmaster and abuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("local", ["postmaster", "Postmaster", "ABUSE", "abuse+x", "postmaster+x"])
@pytest.mark.parametrize("make", [lambda a: f"<{a}>", tagged, forged, lambda a: tagged(a, form=TagForm.PRVS)])
@pytest.mark.parametrize("sender", ["<>", "<x@else.example>", f"<{BOB}>"])
def test_postmaster_and_abuse_are_never_refused(local, make, sender):
    address = f"{local}@{OURS}"
    outside = strict(receive_only=Addresses([f"postmaster@{OURS}", f"abuse@{OURS}"]), grace=0).block("")
    outside.otherwise = Existence.MISSING
    outside.harvesters.add(STRANGE_CLIENT)
    outside.guessers.add(STRANGE_CLIENT)
    talk = Talk(outside).mail(sender)
    assert talk.accept(make(address)).rest().verb is Verb.ACCEPT


def test_postmaster_is_not_put_off_while_a_source_is_down():
    outside = strict()
    outside.otherwise = Existence.UNKNOWN
    assert Talk(outside).mail("<x@else.example>").code(f"<postmaster@{OURS}>") == 250


def test_an_address_that_only_looks_like_postmaster_is_refused():
    outside = strict()
    outside.otherwise = Existence.MISSING
    assert Talk(outside).mail("<>").code(f'<"postmaster@x"@{OURS}>') == 550


def test_an_address_is_one_address_however_its_letters_are_composed():
    outside = strict()
    outside.untagged.add(f"m\u00fcller@{OURS}")
    assert bounce(outside, f"<mu\u0308ller@{OURS}>").rest().verb is Verb.ACCEPT


def test_what_is_asked_about_a_recipient():
    outside = strict()
    bounce(outside, tagged(f"Alice+shop@{OURS}"))
    [question] = outside.asked
    assert question.bounce
    assert question.known is None
    assert (question.base, question.mailbox.folded) == (ALICE, f"alice+shop@{OURS}")
    assert (question.network, question.sender_domain) == (STRANGE_CLIENT, "")


def test_a_delimiter_that_was_just_changed_counts_at_once():
    outside = protecting(enforcing(recipient_delimiter="-"))
    outside.existence[ALICE] = Existence.EXISTS
    outside.otherwise = Existence.MISSING
    talk = Talk(Forgetful(outside)).mail("<>")
    assert talk.code(f"<alice-x@{OURS}>") == 250
    asked = [one for one in talk.outside.asked if isinstance(one, Incoming)]
    assert asked[-1].known is not None


class Forgetful:
    """An outside whose settings were changed a moment ago: what it expects is what was before."""

    def __init__(self, outside):
        self._outside = outside

    def __getattr__(self, name):
        return getattr(self._outside, name)

    def expected(self, domain):  # noqa: ARG002 - as in `Gather`
        return settings()
