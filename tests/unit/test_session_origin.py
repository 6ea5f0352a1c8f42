"""Where a message comes from: when it is asked, what follows, what is written, and whom reports reach."""

import pytest

from backstop.address import NULL_SENDER
from backstop.authentication import (
    Authenticity,
    Disposition,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcResult,
    Listing,
    Spf,
    SpfIdentity,
    SpfResult,
)
from backstop.facts import Existence, Need
from backstop.proof import Proof
from backstop.session import Origin, Signed
from backstop.settings import Action, Quiet, Strip
from backstop.verdict import InsertHeader, RemoveHeader, ReplaceRecipient, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    BOB,
    NOW,
    OURS,
    RELAY_CLIENT,
    STRANGER,
    Talk,
    code,
    counters,
    enforcing,
    forged,
    protecting,
    settings,
    tagged,
)

UNKNOWN = f"nobody@{OURS}"
LETTER = b"From: Someone <someone@else.example>\nSubject: hello\n\nbody\n"
QUIET = {"quiet": Quiet.UNVOUCHED}
REJECTED = Dmarc(DmarcResult.FAIL, "else.example", Disposition.REJECT)


def spf(result, identity=SpfIdentity.MAILFROM):
    return Spf(result, identity, "else.example")


def checking(check, action=Action.REJECT, /, **fields):
    return protecting(settings(fields, **{check: action}))


def asked(outside, kind=Origin):
    return [one for one in outside.asked if isinstance(one, kind)]


def stranger(outside, **others):
    return Talk(outside, **others).mail(f"<{STRANGER}>")


# -- When it is asked -------------------------------------------------------------------------------------


def test_by_default_nobody_is_asked():
    outside = protecting(settings())
    stranger(outside).accept(ALICE, BOB)
    assert not asked(outside)


def test_once_for_all_recipients_of_a_message():
    outside = checking("spf")
    stranger(outside).accept(ALICE, BOB)
    [question] = asked(outside)
    assert (question.client, question.helo) == ("203.0.113.7", "helo.example")
    assert question.reverse_path.folded == STRANGER
    assert question.needs == {Need.SPF}
    assert question.spent is None


def test_a_second_domain_asks_what_the_first_did_not_and_brings_what_was_spent():
    outside = protecting(settings(spf=Action.REJECT), settings(spf=Action.REJECT, sender_list=Action.REJECT))
    stranger(outside).accept(ALICE, f"carol@{ALSO_OURS}")
    first, second = asked(outside)
    assert (first.needs, second.needs) == ({Need.SPF}, {Need.SENDER_LISTS})
    assert second.spent == "spent"


def test_again_for_the_next_message():
    outside = checking("spf")
    talk = stranger(outside).accept(ALICE)
    talk.mail(f"<{STRANGER}>").accept(ALICE)
    assert len(asked(outside)) == 2


def test_nobody_about_a_recipient_who_is_refused_anyway():
    outside = checking("spf")
    outside.existence[UNKNOWN] = Existence.MISSING
    assert stranger(outside).code(UNKNOWN) == 550
    assert not asked(outside)


def test_nobody_about_a_bounce_that_is_proved():
    outside = checking("spf")
    Talk(outside).mail("<>").accept(tagged(ALICE))
    assert not asked(outside)


def test_about_a_bounce_the_lists_of_senders_are_not_asked():
    outside = protecting(enforcing(Action.OBSERVE))
    Talk(outside).mail("<>").accept(ALICE)
    [question] = asked(outside)
    assert question.reverse_path is NULL_SENDER
    assert question.needs == {Need.SPF, Need.CLIENT_LISTS}


def test_of_a_relay_only_the_sender_is_asked_about():
    outside = protecting(enforcing(Action.OBSERVE))
    stranger(outside, client=RELAY_CLIENT).accept(ALICE)
    [question] = asked(outside)
    assert question.needs == {Need.SENDER_LISTS}


def test_of_a_reverse_path_that_is_no_address_only_the_client_is():
    outside = protecting(enforcing(Action.OBSERVE))
    Talk(outside).mail("<a@b@c d>").accept(ALICE)
    [question] = asked(outside)
    assert question.needs == {Need.CLIENT_LISTS}


def test_nor_does_it_keep_the_author_from_being_judged():
    outside = checking("dmarc")
    outside.authentic = Authenticity(dmarc=REJECTED)
    assert code(Talk(outside).mail("<a@b@c d>").accept(ALICE).send(LETTER)) == 550
    [question] = asked(outside, Signed)
    assert question.spf.result is SpfResult.NONE


# -- What follows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", SpfResult)
def test_only_a_fail_is_refused(result):
    outside = checking("spf")
    outside.spf = spf(result)
    outcome = stranger(outside).rcpt(ALICE)
    assert str(outcome.reply or "").startswith("550 5.7.23") is (result is SpfResult.FAIL)


@pytest.mark.parametrize("check", ["spf", "client_list", "sender_list"])
def test_a_listed_or_forged_letter_is_refused_at_rcpt(check):
    outside = checking(check)
    outside.spf = spf(SpfResult.FAIL)
    outside.listed_clients = outside.listed_senders = Listing(("bl.example",))
    outcome = stranger(outside).rcpt(ALICE)
    assert code(outcome) == 550
    [record] = outcome.records
    assert (record.check, record.result, record.action) == (check, "fail", "reject")


@pytest.mark.parametrize("check", ["client_list", "sender_list"])
def test_a_list_that_does_not_answer_refuses_nobody(check):
    outside = checking(check)
    outside.listed_clients = outside.listed_senders = Listing((), ("bl.example",))
    outcome = stranger(outside).accept(ALICE).rest()
    assert outcome.verb is Verb.ACCEPT
    assert counters([outcome]) == [f"{check}.temperror", "action.observe"]


@pytest.mark.parametrize("check", ["spf", "client_list"])
def test_a_bounce_is_refused_for_its_client_at_data_and_not_before(check):
    outside = checking(check)
    outside.spf = spf(SpfResult.FAIL, SpfIdentity.HELO)
    outside.listed_clients = Listing(("bl.example",))
    talk = Talk(outside).mail("<>")
    assert talk.code(ALICE) == 250
    assert code(talk.session.data("QID", NOW)) == 550


@pytest.mark.parametrize("check", ["spf", "client_list"])
def test_a_bounce_that_its_content_proves_is_taken_from_anybody(check):
    outside = checking(check, proof=(Proof.TAG, Proof.MEMORY))
    outside.spf = spf(SpfResult.FAIL, SpfIdentity.HELO)
    outside.listed_clients = Listing(("bl.example",))
    outside.sent.add("original@our.example")
    report = b"From: mailer-daemon@else.example\nIn-Reply-To: <original@our.example>\n\nx\n"
    assert Talk(outside).mail("<>").accept(ALICE).send(report).verb is Verb.ACCEPT
    assert code(Talk(outside).mail("<>").accept(ALICE).send(report.replace(b"original", b"guess"))) == 550


def test_a_relay_of_ours_never_gets_a_5xx_for_a_listed_sender():
    outside = checking("sender_list")
    outside.listed_senders = Listing(("bl.example",))
    outcome = stranger(outside, client=RELAY_CLIENT).accept(ALICE).rest()
    assert outcome.verb is Verb.ACCEPT
    assert "action.junk" in counters([outcome])


@pytest.mark.parametrize(
    ("dmarc", "expected"),
    [
        (REJECTED, 550),
        (Dmarc(DmarcResult.FAIL, "else.example", Disposition.QUARANTINE), 550),
        (Dmarc(DmarcResult.FAIL, "else.example"), 250),
        (Dmarc(DmarcResult.PASS, "else.example"), 250),
        (Dmarc(DmarcResult.TEMPERROR, "else.example"), 250),
        (Dmarc(DmarcResult.NONE), 250),
        (Dmarc(DmarcResult.PERMERROR), 250),
        (None, 250),
    ],
)
def test_a_letter_whose_author_is_forged_is_refused_at_its_end(dmarc, expected):
    outside = checking("dmarc")
    outside.spf = spf(SpfResult.SOFTFAIL)
    outside.authentic = Authenticity(dmarc=dmarc)
    assert code(stranger(outside).accept(ALICE).send(LETTER)) == expected
    [question] = asked(outside, Signed)
    assert question.header == b"From: Someone <someone@else.example>\nSubject: hello\n"
    assert question.authors == (b"Someone <someone@else.example>",)
    assert (question.spf, question.spent) == (outside.spf, "spent")


def test_the_space_before_a_value_is_kept_for_signatures():
    outside = checking("dmarc")
    talk = stranger(outside).accept(ALICE)
    talk.session.data("QID", NOW)
    talk.session.header("Subject", b"one", b"")
    talk.session.header("To", b"two", b"\t")
    talk.session.end_of_message("QID", NOW)
    [question] = asked(outside, Signed)
    assert question.header == b"Subject:one\nTo:\ttwo\n"


def test_a_header_cannot_be_made_too_long_to_be_judged():
    outside = checking("dmarc")
    outside.authentic = Authenticity(dmarc=REJECTED)
    letter = LETTER.replace(b"\n\n", b"\n" + b"X: y\n" * 30_000 + b"\n", 1)
    assert code(stranger(outside).accept(ALICE).send(letter)) == 550
    [question] = asked(outside, Signed)
    assert question.header.count(b"\n") == 20_000


def test_an_author_who_stands_behind_a_header_too_long_is_shown_all_the_same():
    outside = checking("dmarc")
    stranger(outside).accept(ALICE).send(b"X: y\n" * 30_000 + LETTER)
    [question] = asked(outside, Signed)
    assert question.authors == (b"Someone <someone@else.example>",)


def test_of_many_authors_the_last_is_kept_too():
    outside = checking("dmarc")
    authors = [b"<a@d%d.example>" % number for number in range(15)]
    stranger(outside).accept(ALICE).send(b"".join(b"From: %b\n" % author for author in authors) + LETTER)
    [question] = asked(outside, Signed)
    assert question.authors == (*authors[:9], b"Someone <someone@else.example>")


def test_without_a_body_nothing_is_judged_by_dmarc():
    outside = checking("dmarc")
    outside.authentic = Authenticity(dmarc=REJECTED)
    assert stranger(outside, reads=False).accept(ALICE).send(LETTER).verb is Verb.ACCEPT


def test_a_connection_that_does_not_show_all_that_proves_the_author_is_not_judged_by_dmarc():
    outside = checking("dmarc", proof=(Proof.TAG, Proof.MEMORY))
    outside.authentic = Authenticity(dmarc=REJECTED)
    assert stranger(outside, verifies=False).accept(ALICE).send(LETTER).verb is Verb.ACCEPT
    assert Talk(outside, verifies=False).mail().accept(ALICE).send(LETTER).verb is Verb.ACCEPT
    assert not asked(outside, Signed)


def test_nor_is_anybody_hushed_there_for_want_of_a_signature():
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.SOFTFAIL)
    assert not stranger(outside, verifies=False).accept(ALICE).send(LETTER).changes


def test_a_body_is_taken_to_its_end_for_its_signature_alone():
    outside = checking("dmarc")
    talk = stranger(outside).accept(ALICE)
    talk.session.data("QID", NOW)
    assert talk.session.transaction.content is not None
    talk.session.header("DKIM-Signature", b"v=1; c=relaxed/relaxed; d=else.example; s=a; bh=x; b=y")
    assert all(talk.session.body(b"x" * 65536) for _ in range(100))
    talk.session.end_of_message("QID", NOW)
    [question] = asked(outside, Signed)
    assert len(question.bodies) == 1


def test_a_body_without_a_signature_is_not_read():
    outside = checking("dmarc")
    talk = stranger(outside).accept(ALICE)
    talk.session.data("QID", NOW)
    assert not talk.session.body(b"x")


def test_a_bounce_that_waits_for_dmarc_is_taken_alone():
    outside = checking("dmarc")
    talk = Talk(outside).mail("<>").accept(ALICE)
    assert talk.code(BOB) == 452


def test_what_is_to_be_dropped_is_read_first_where_it_may_be_refused():
    """Whose mail is refused learns of it."""
    outside = protecting(settings(sender_list=Action.DISCARD, dmarc=Action.REJECT))
    outside.listed_senders = Listing(("bl.example",))
    outside.authentic = Authenticity(dmarc=REJECTED)
    assert code(stranger(outside).accept(ALICE).send(LETTER)) == 550
    outside.authentic = Authenticity(dmarc=None)
    assert stranger(outside).accept(ALICE).send(LETTER).verb is Verb.DISCARD


def test_several_recipients_of_whom_one_only_observes():
    outside = protecting(settings(dmarc=Action.REJECT), settings(dmarc=Action.OBSERVE))
    outside.authentic = Authenticity(dmarc=REJECTED)
    assert stranger(outside).accept(ALICE, f"carol@{ALSO_OURS}").send(LETTER).verb is Verb.ACCEPT


# -- Reports that nobody asked for --------------------------------------------------------------------------


def quiet_changes(outcome):
    return [change for change in outcome.changes if isinstance(change, ReplaceRecipient)]


@pytest.mark.parametrize("result", SpfResult)
@pytest.mark.parametrize("existence", Existence)
def test_a_failure_is_kept_from_a_forged_sender_of_mail_to_somebody_not_known(result, existence):
    outside = protecting(settings({**QUIET}, recipient=Action.OBSERVE))
    outside.spf = spf(result)
    outside.existence[ALICE] = existence
    outcome = stranger(outside).accept(f"<{ALICE}>").send(LETTER)
    hushed = result in (SpfResult.FAIL, SpfResult.SOFTFAIL) and existence is not Existence.EXISTS
    assert quiet_changes(outcome) == (
        [ReplaceRecipient(f"<{ALICE}>", ALICE, "NOTIFY=NEVER")] if hushed else []
    )
    assert ("quiet.set" in counters([outcome])) is hushed


def test_by_default_nothing_is_hushed():
    outside = protecting(settings())
    outside.spf = spf(SpfResult.FAIL)
    assert not stranger(outside).accept(ALICE).send(LETTER).changes


@pytest.mark.parametrize("vouched", [False, True])
def test_a_signature_vouches_for_a_sender_in_doubt(vouched):
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.SOFTFAIL)
    outside.authentic = Authenticity(vouched=vouched)
    outcome = stranger(outside).accept(ALICE).send(LETTER)
    assert bool(quiet_changes(outcome)) is not vouched


def test_but_not_for_one_that_fails():
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.FAIL)
    outside.authentic = Authenticity(vouched=True)
    outcome = stranger(outside).accept(ALICE).send(LETTER)
    assert quiet_changes(outcome)
    assert not asked(outside, Signed)


def test_a_sender_in_doubt_whose_message_cannot_be_read_is_told():
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.SOFTFAIL)
    assert not stranger(outside, reads=False).accept(ALICE).send(LETTER).changes


def test_the_other_parameters_stay():
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.FAIL)
    talk = stranger(outside)
    talk.rcpt(f"<{ALICE}>", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y.example")
    assert quiet_changes(talk.send(LETTER)) == [
        ReplaceRecipient(f"<{ALICE}>", ALICE, "ORCPT=rfc822;x@y.example NOTIFY=NEVER")
    ]


def test_a_tag_comes_off_in_the_same_change():
    outside = protecting(settings({**QUIET, "strip": Strip.MILTER}))
    outside.spf = spf(SpfResult.FAIL)
    path = tagged(ALICE)
    assert quiet_changes(stranger(outside).accept(path).send(LETTER)) == [
        ReplaceRecipient(path, ALICE, "NOTIFY=NEVER")
    ]


def test_a_bounce_is_never_hushed():
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.FAIL)
    assert not Talk(outside).mail("<>").accept(ALICE).send(LETTER).changes
    assert not asked(outside)


def test_nor_what_comes_through_a_relay_of_ours():
    outside = protecting(settings(QUIET))
    outside.spf = spf(SpfResult.FAIL)
    assert not stranger(outside, client=RELAY_CLIENT).accept(ALICE).send(LETTER).changes


def test_only_the_recipients_of_domains_that_want_it():
    outside = protecting(settings(QUIET), settings())
    outside.spf = spf(SpfResult.FAIL)
    outcome = stranger(outside).accept(ALICE, f"carol@{ALSO_OURS}").send(LETTER)
    assert [change.new for change in quiet_changes(outcome)] == [ALICE]


# -- Authentication-Results ------------------------------------------------------------------------------


def results(outcome):
    return [change for change in outcome.changes if getattr(change, "name", "") == "Authentication-Results"]


def test_what_was_found_is_written_and_what_pretends_to_be_ours_goes():
    outside = checking("spf")
    outside.spf = spf(SpfResult.PASS)
    forgery = b"Authentication-Results: mx.our.example; spf=pass\n"
    foreign = b"Authentication-Results: mx.else.example; spf=fail\n"
    letter = forgery + foreign + forgery + LETTER
    outcome = stranger(outside, authserv_id="mx.our.example").accept(ALICE).send(letter)
    third, first, ours = results(outcome)
    assert (third, first) == (
        RemoveHeader("Authentication-Results", 3),
        RemoveHeader("Authentication-Results", 1),
    )
    assert isinstance(ours, InsertHeader)
    assert ours.value.startswith("mx.our.example;")
    assert "spf=pass" in ours.value
    assert "else.example" in ours.value


def test_what_dmarc_says_stands_there_too():
    outside = checking("dmarc", Action.OBSERVE)
    outside.spf = spf(SpfResult.NEUTRAL)
    outside.authentic = Authenticity(
        (Dkim(DkimResult.PASS, "else.example", "a"),), Dmarc(DmarcResult.PASS, "else.example")
    )
    [ours] = results(stranger(outside, authserv_id="mx.our.example").accept(ALICE).send(LETTER))
    for words in (
        "spf=neutral",
        "dkim=pass",
        "header.d=else.example",
        "dmarc=pass",
        "header.from=else.example",
    ):
        assert words in ours.value


def test_where_nothing_was_asked_nothing_is_written_but_forged_results_go_all_the_same():
    outside = protecting(settings())
    letter = b"Authentication-Results: mx.our.example; spf=pass\n" + LETTER
    outcome = stranger(outside, authserv_id="mx.our.example").accept(ALICE).send(letter)
    assert results(outcome) == [RemoveHeader("Authentication-Results", 1)]


def test_forged_results_go_also_where_no_recipient_is_in_a_protected_domain():
    outside = protecting(settings())
    letter = b"Authentication-Results: mx.our.example; spf=pass\n" + LETTER
    talk = stranger(outside, authserv_id="mx.our.example").accept("carol@elsewhere.example", "postmaster")
    outcome = talk.send(letter)
    assert (outcome.verb, outcome.records) == (Verb.ACCEPT, ())
    assert outcome.changes == (RemoveHeader("Authentication-Results", 1),)


@pytest.mark.parametrize("client", [RELAY_CLIENT, "10.1.2.3"])
def test_what_our_own_hosts_wrote_stays(client):
    outside = protecting(settings())
    letter = b"Authentication-Results: mx.our.example; spf=pass\n" + LETTER
    outcome = stranger(outside, client=client, authserv_id="mx.our.example").accept(ALICE).send(letter)
    assert not results(outcome)


def test_without_a_name_nothing_is_written_or_removed():
    outside = checking("spf")
    outside.spf = spf(SpfResult.PASS)
    letter = b"Authentication-Results: mx.our.example; spf=pass\n" + LETTER
    assert not stranger(outside).accept(ALICE).send(letter).changes


def test_a_forged_tag_is_refused_before_anybody_is_asked():
    outside = protecting(settings(tag=Action.REJECT, spf=Action.REJECT))
    assert Talk(outside).mail("<>").code(forged(ALICE)) == 550
    assert not asked(outside)
