"""Who is who: whose mail a client brings, and what follows from it."""

import pytest

from backstop.facts import Existence, Role
from backstop.settings import Action, Addresses
from backstop.verdict import CONTINUE, AddHeader, ChangeSender, Count, Record, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    BOB,
    ELSEWHERE,
    INTERNAL_CLIENT,
    OURS,
    RELAY_CLIENT,
    STRANGE_CLIENT,
    STRANGER,
    TODAY,
    Talk,
    bounce,
    code,
    enforcing,
    forged,
    protecting,
    settings,
    tagged,
)

NOT_BY_SMTP = ""

WHO = [
    (STRANGE_CLIENT, "smtpd", "", Role.INCOMING),
    (STRANGE_CLIENT, "smtpd", "alice", Role.OUTGOING),
    (STRANGE_CLIENT, "ORIGINATING", "", Role.OUTGOING),
    (STRANGE_CLIENT, "REINJECT", "", Role.REINJECTED),
    (STRANGE_CLIENT, "REINJECT", "alice", Role.REINJECTED),
    (INTERNAL_CLIENT, "smtpd", "", Role.OUTGOING),
    (INTERNAL_CLIENT, "REINJECT", "", Role.REINJECTED),
    ("::ffff:10.1.2.3", "smtpd", "", Role.OUTGOING),
    ("fd00::1", "smtpd", "", Role.OUTGOING),
    (RELAY_CLIENT, "smtpd", "", Role.RELAY),
    (RELAY_CLIENT, "smtpd", "alice", Role.OUTGOING),
    (RELAY_CLIENT, "ORIGINATING", "", Role.OUTGOING),
    (NOT_BY_SMTP, "", "", Role.OUTGOING),
    (NOT_BY_SMTP, "smtpd", "", Role.OUTGOING),
    ("2001:db8::1", "", "", Role.INCOMING),
    ("unknown", "smtpd", "", Role.INCOMING),
    ("10.1.2.3.4", "smtpd", "", Role.INCOMING),
    (STRANGE_CLIENT, "originating", "", Role.INCOMING),
]


@pytest.mark.parametrize(("client", "daemon", "login", "role"), WHO)
def test_the_table_of_who_is_who(client, daemon, login, role):
    talk = Talk(protecting(), client, daemon).mail(f"<{ALICE}>", login)
    assert talk.session.transaction.role is role


def test_a_login_counts_for_its_transaction_alone():
    talk = Talk(protecting()).mail(f"<{ALICE}>", "alice").mail("<>")
    assert talk.session.transaction.role is Role.INCOMING


def test_before_any_mail_the_client_is_who_it_is():
    assert Talk(protecting()).session.transaction.role is Role.INCOMING
    assert Talk(protecting(), INTERNAL_CLIENT).session.transaction.role is Role.OUTGOING


# -- Outgoing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("client", "daemon", "login"), [row[:3] for row in WHO if row[3] is Role.OUTGOING])
def test_outgoing_mail_is_tagged_and_never_judged(client, daemon, login):
    outside = protecting(enforcing()).block("")
    outside.otherwise = Existence.MISSING
    talk = Talk(outside, client, daemon).mail(f"<{ALICE}>", login).accept(f"<{STRANGER}>", f"<nobody@{OURS}>")
    [change] = talk.rest().changes
    assert isinstance(change, ChangeSender)
    talk.mail("<>", login).accept(f"<{BOB}>", forged(ALICE), f"<{STRANGER}>")
    assert talk.rest().verb is Verb.ACCEPT


def test_mail_that_did_not_come_by_smtp_is_never_refused():
    # The mail server's own bounces: a refusal would leave them in the queue for ever.
    outside = protecting(enforcing()).block("")
    for recipient in (ALICE, tagged(ALICE)[1:-1], f"nosuch@{OURS}", "root"):
        assert Talk(outside, NOT_BY_SMTP).mail("").accept(recipient).rest().verb is Verb.ACCEPT


# -- A second pass ----------------------------------------------------------------------------------------


def test_a_second_pass_is_let_through_untouched():
    outside = protecting(enforcing()).block("")
    outside.otherwise = Existence.MISSING
    for sender in ("<>", f"<{ALICE}>", tagged(ALICE), f"<{STRANGER}>"):
        talk = Talk(outside, INTERNAL_CLIENT, "REINJECT").mail(sender)
        assert talk.rcpt(f"<{BOB}>") is CONTINUE
        assert talk.rcpt(forged(BOB)) is CONTINUE
        talk.session.header("X-Backstop", b"x")
        at_data, at_end = talk.session.data("QID", talk.now), talk.session.end_of_message("QID", talk.now)
        for outcome in (at_data, at_end):
            assert (outcome.verb, outcome.changes, outcome.records) == (Verb.ACCEPT, (), ())
        assert talk.session.refused_rcpt(f"<x@{OURS}>", unknown=True) is CONTINUE
    assert outside.asked == []


# -- Relays of ours ---------------------------------------------------------------------------------------


def relayed(outside, recipient, sender="<>"):
    return Talk(outside, RELAY_CLIENT).mail(sender).accept(recipient).rest()


@pytest.mark.parametrize("recipient", [f"<{ALICE}>", forged(ALICE)])
def test_for_a_relay_reject_becomes_junk(recipient):
    # A 5xx would make the relay write a bounce: that is backscatter.
    outcome = relayed(protecting(enforcing()), recipient)
    assert outcome.verb is Verb.ACCEPT
    assert AddHeader("X-Spam-Flag", "YES") in outcome.changes
    assert {record.action for record in outcome.records} == {"junk"}


def test_for_a_relay_an_unknown_recipient_and_a_forged_sender_are_junk_too():
    outside = protecting(enforcing())
    outside.otherwise = Existence.MISSING
    assert [record.check for record in relayed(outside, f"<{ALICE}>", f"<{STRANGER}>").records] == [
        "recipient"
    ]
    outside = protecting(enforcing())
    assert [record.action for record in relayed(outside, f"<{ALICE}>", f"<{BOB}>").records] == ["junk"]


def test_for_a_relay_a_block_is_junk_at_most():
    outside = protecting().block(OURS, Action.REJECT)
    assert [record.action for record in relayed(outside, f"<{ALICE}>").records] == ["junk"]


@pytest.mark.parametrize("action", [a for a in Action if a is not Action.REJECT])
def test_for_a_relay_every_other_action_is_as_set(action):
    outside = protecting(settings(unproved=action))
    direct = bounce(outside, f"<{ALICE}>").rest()
    outcome = relayed(outside, f"<{ALICE}>")
    assert (outcome.verb, outcome.reply, outcome.changes) == (direct.verb, direct.reply, direct.changes)


def test_for_a_relay_checks_about_the_client_are_skipped():
    outside = protecting(settings(harvest=Action.TEMPFAIL))
    outside.harvesters.update((RELAY_CLIENT, STRANGE_CLIENT))
    assert Talk(outside).mail(f"<{STRANGER}>").code(f"<{ALICE}>") == 421
    outcome = relayed(outside, f"<{ALICE}>", f"<{STRANGER}>")
    assert outcome.verb is Verb.ACCEPT
    assert not any("harvest" in name for record in outcome.records for name in record.counters)


def test_for_a_relay_a_silent_source_means_later():
    outside = protecting(enforcing())
    outside.otherwise = Existence.UNKNOWN
    assert Talk(outside, RELAY_CLIENT).mail(f"<{STRANGER}>").code(f"<{ALICE}>") == 451


def test_a_relay_is_not_counted_for_what_others_sent():
    outside = protecting()
    outside.otherwise = Existence.MISSING
    talk = Talk(outside, RELAY_CLIENT).mail(f"<{STRANGER}>")
    assert talk.rcpt(f"<{ALICE}>").counts == ()
    refused = talk.session.refused_rcpt(f"<x@{OURS}>", unknown=True)
    assert (refused.counts, refused.records) == ((), (Record(OURS, ("recipient.fail",)),))


# -- Recipients that the mail server refused --------------------------------------------------------------


def test_a_recipient_the_mail_server_does_not_know_is_counted_and_goes_on():
    outside = protecting(enforcing())
    outside.otherwise = Existence.MISSING
    talk = Talk(outside).mail("<>")
    outcome = talk.session.refused_rcpt(f"<nosuch@{OURS}>", unknown=True)
    assert outcome.verb is Verb.CONTINUE
    assert outcome.reply is None
    assert outcome.counts == (Count(STRANGE_CLIENT, "unknown_recipients"),)
    assert outcome.records == (Record(OURS, ("recipient.fail",)),)
    assert outside.asked == []


@pytest.mark.parametrize("path", [f"<x@{ELSEWHERE}>", "<>", "", "<x>", "<\x00@our.example>", "<@>"])
def test_a_refused_recipient_that_is_not_ours_is_nothing(path):
    assert Talk(protecting()).mail("<>").session.refused_rcpt(path, unknown=True) is CONTINUE


def test_a_recipient_refused_by_policy_is_not_counted():
    assert Talk(protecting()).mail("<>").session.refused_rcpt(f"<x@{OURS}>", unknown=False) is CONTINUE


@pytest.mark.parametrize(
    ("client", "login"), [(INTERNAL_CLIENT, ""), (NOT_BY_SMTP, ""), (STRANGE_CLIENT, "a")]
)
def test_unknown_recipients_of_our_own_users_are_not_counted(client, login):
    talk = Talk(protecting(), client).mail(f"<{ALICE}>", login)
    assert talk.session.refused_rcpt(f"<nosuch@{OURS}>", unknown=True) is CONTINUE


def test_a_refused_recipient_is_never_touched_again():
    talk = Talk(protecting(enforcing())).mail("<>")
    talk.session.refused_rcpt(f"<nosuch@{OURS}>", unknown=True)
    outcome = talk.accept(f"<{ALICE}>").rest()
    assert code(outcome) == 550
    assert [record.recipient for record in outcome.records] == [ALICE]
    only_refused = Talk(protecting(enforcing())).mail("<>")
    only_refused.session.refused_rcpt(f"<nosuch@{OURS}>", unknown=True)
    assert only_refused.rest().records == ()


# -- Domains that are not protected -----------------------------------------------------------------------


def test_mail_for_domains_that_are_not_protected_is_not_judged():
    outside = protecting(enforcing()).block("")
    outside.otherwise = Existence.MISSING
    for sender in ("<>", f"<{ALICE}>", "<unreadable\x00>"):
        outcome = (
            Talk(outside).mail(sender).accept(f"<x@{ELSEWHERE}>", f"<x@sub.{OURS}>", "<x>").rest("X-Backstop")
        )
        assert (outcome.verb, outcome.changes, outcome.records) == (Verb.ACCEPT, (), ())


# -- Senders of ours from outside -------------------------------------------------------------------------


@pytest.mark.parametrize("recipient", [ALICE, f"x@{ALSO_OURS}"])
def test_an_exempt_sender_is_no_forged_one_in_mail_to_any_protected_domain(recipient):
    outside = protecting(enforcing(exempt_senders=Addresses([f"news@{OURS}"])), enforcing())
    assert Talk(outside).mail(f"<news@{OURS}>").code(f"<{recipient}>") == 250
    assert Talk(outside).mail(f"<{BOB}>").code(f"<{recipient}>") == 550
    assert Talk(outside).mail(f"<news@{ALSO_OURS}>").code(f"<{recipient}>") == 550


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (tagged(BOB), 250),
        (tagged(BOB, TODAY - 20), 550),
        (forged(BOB), 550),
        (f"<{BOB}>", 550),
        (f"<x@{ALSO_OURS}>", 550),
        (f"<{STRANGER}>", 250),
        (f"<x@sub.{OURS}>", 250),
        ("<>", 250),
    ],
)
def test_our_own_senders_come_back_from_outside_with_a_good_tag_only(sender, expected):
    outside = protecting(settings(forged_sender=Action.REJECT))
    assert Talk(outside).mail(sender).code(f"<{ALICE}>") == expected
