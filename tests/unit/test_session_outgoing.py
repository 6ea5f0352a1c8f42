"""Outgoing mail: what is tagged, what never is, and what is then remembered."""

import pytest

from backstop import batv
from backstop.address import parse
from backstop.batv import DAY, Key, KeyRing, KeyState, TagCase, TagForm, TagState
from backstop.session import Untagged
from backstop.settings import Action, Addresses, Strip
from backstop.verdict import ChangeSender, ReplaceRecipient, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    BOB,
    ELSEWHERE,
    INTERNAL_CLIENT,
    KEY,
    NOW,
    OURS,
    RING,
    STRANGER,
    TODAY,
    Talk,
    enforcing,
    forged,
    letter,
    protecting,
    settings,
    tagged,
)


def sent(outside, sender=ALICE, *recipients, headers=(), login=""):
    return letter(outside, sender, *(recipients or (f"<{STRANGER}>",)), login=login).rest(*headers)


def new_sender(outcome):
    [change] = [one for one in outcome.changes if isinstance(one, ChangeSender)]
    return change.path


def verdict(path, today=TODAY):
    address = parse(path)
    return batv.verify(batv.parse(address), RING, today)


# -- What is tagged ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", TagForm)
@pytest.mark.parametrize(
    "sender", [ALICE, f"Alice.Smith@{OURS.upper()}", f"alice+shop@{OURS}", f"{'x' * 48}@{OURS}"]
)
def test_a_sender_of_ours_is_tagged_in_the_form_that_is_set(form, sender):
    outcome = sent(protecting(settings({"tag_form": form})), sender)
    assert outcome.verb is Verb.ACCEPT
    path = new_sender(outcome)
    assert verdict(path) is TagState.GOOD
    assert batv.parse(parse(path)).inner.path == sender
    assert ("+prvs=" in path) is (form is TagForm.SUBADDRESS)
    assert path.startswith("prvs=") is (form is TagForm.PRVS)
    [record] = outcome.records
    assert (record.domain, record.counters, record.action) == (OURS, ("outgoing.tagged",), "tagged")
    assert (record.reverse_path, record.client) == (path, INTERNAL_CLIENT)
    assert record.notable
    assert record.untagged is None


def test_the_tag_of_a_day_is_one_tag():
    # Greylisting peers and lists know a sender by it.
    morning, evening = (
        Talk(protecting(), INTERNAL_CLIENT, now=TODAY * DAY + seconds)
        .mail(ALICE)
        .accept(f"<{STRANGER}>")
        .rest()
        for seconds in (0, DAY - 1)
    )
    assert new_sender(morning) == new_sender(evening)


@pytest.mark.parametrize(("lifetime", "last"), [(11, 11), (3, 3), (1, 1)])
def test_a_tag_says_the_day_its_lifetime_ends(lifetime, last):
    path = new_sender(sent(protecting(settings({"lifetime": lifetime}))))
    assert batv.parse(parse(path)).day == (TODAY + last) % 1000


def test_a_tag_lives_no_longer_than_its_key_knows():
    # What ends later than that would come back as a forged one.
    path = new_sender(sent(protecting(settings({"lifetime": 60}))))
    assert batv.parse(parse(path)).day == (TODAY + KEY.max_lifetime) % 1000
    assert verdict(path) is TagState.GOOD
    assert verdict(path, TODAY + KEY.max_lifetime) is TagState.GOOD


def test_tag_case_says_over_what_the_hash_is_made():
    sender = f"Alice@{OURS}"
    digests = {
        new_sender(sent(protecting(settings({"tag_case": case})), sender)).partition("prvs=")[2]
        for case in TagCase
    }
    assert len(digests) == 2
    folded = new_sender(sent(protecting(settings({"tag_case": TagCase.FOLD})), sender))
    assert verdict(folded.lower()) is TagState.GOOD
    as_written = new_sender(sent(protecting(settings({"tag_case": TagCase.AS_WRITTEN})), sender))
    assert as_written != folded
    assert verdict(as_written) is TagState.GOOD
    assert verdict(as_written.lower()) is TagState.FORGED


def test_the_key_of_the_domain_signs():
    own = Key(7, b"the key of one domain", KeyState.SIGN, (ALSO_OURS,), TODAY - 200, 11)
    talk = Talk(protecting(), INTERNAL_CLIENT, ring=KeyRing([*RING.keys, own]))
    outcome = talk.mail(f"x@{ALSO_OURS}").accept(f"<{STRANGER}>").rest()
    assert batv.parse(parse(new_sender(outcome))).number == 7


def test_authenticated_mail_is_tagged_whatever_its_headers():
    outcome = sent(protecting(), headers=["Delivered-To", "X-Sieve"], login="alice")
    assert verdict(new_sender(outcome)) is TagState.GOOD


def test_mail_to_us_and_to_others_is_tagged():
    for recipients in ([f"<{BOB}>", f"<{STRANGER}>"], [f"<{STRANGER}>", f"<{BOB}>"]):
        assert new_sender(sent(protecting(), ALICE, *recipients))


@pytest.mark.parametrize("recipients", [[f"<{BOB}>"], [f"<{BOB}>", f"<x@{ALSO_OURS}>"]])
def test_tag_internal_tags_mail_among_ourselves(recipients):
    assert new_sender(sent(protecting(settings({"tag_internal": True})), ALICE, *recipients))


def test_settings_read_at_the_first_recipient_tag_the_sender():
    outside = protecting()
    talk = letter(outside, ALICE, f"<{STRANGER}>")
    outside.domains[OURS] = settings({"tag_form": TagForm.PRVS, "exempt_senders": Addresses([ALICE])})
    assert "+prvs=" in new_sender(talk.accept(f"<y@{ELSEWHERE}>").rest())


# -- What never is ----------------------------------------------------------------------------------------

LONG = f"{'x' * 49}@{OURS}"

NEVER = [
    (Untagged.EXEMPT_SENDER, BOB, [f"<{STRANGER}>"], False),
    (Untagged.EXEMPT_SENDER, f"bulk7@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.EXEMPT_DESTINATION, ALICE, ["<x@list.example>"], True),
    (Untagged.EXEMPT_DESTINATION, ALICE, [f"<{STRANGER}>", "<x@LIST.example>"], True),
    (Untagged.EXEMPT_DESTINATION, ALICE, ["<x@list.example>", f"<{STRANGER}>"], True),
    (Untagged.INTERNAL, ALICE, [f"<{BOB}>"], False),
    (Untagged.INTERNAL, ALICE, [f"<{BOB}>", f"<x@{ALSO_OURS}>"], False),
    (Untagged.UNTAGGABLE, LONG, [f"<{STRANGER}>"], False),
    (Untagged.UNTAGGABLE, f"{'x' * 64}@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.UNTAGGABLE, f'"a b"@{OURS}', [f"<{STRANGER}>"], False),
    (Untagged.UNTAGGABLE, f"\udcfcber@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, tagged(ALICE)[1:-1], [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, tagged(ALICE, TODAY - 300)[1:-1], [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, tagged(ALICE, form=TagForm.PRVS)[1:-1], [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, forged(ALICE)[1:-1], [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, f"PRVS=1234ABCDEF=alice@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, f"btv1==0123456789a==alice@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, f"msprvs1=20454abc=x@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, f"SRS0=HHH=TT=else.example=x@{OURS}", [f"<{STRANGER}>"], False),
    (Untagged.TAGGED_BEFORE, f"srs1+HHH=r.example==HHH=TT=x@{OURS}", [f"<{STRANGER}>"], False),
]

EXEMPTIONS = {
    "exempt_senders": Addresses([BOB, f"bulk*@{OURS}"]),
    "exempt_destinations": frozenset({"list.example"}),
}


@pytest.mark.parametrize(("reason", "sender", "recipients", "remembered"), NEVER)
def test_it_goes_out_untagged_and_is_remembered_where_its_bounces_may_come_back(
    reason, sender, recipients, remembered
):
    outside = protecting(settings(EXEMPTIONS))
    talk = letter(outside, sender, *recipients)
    outcome = talk.session.data("QID", NOW)
    assert outcome.verb is Verb.ACCEPT  # at DATA: it needs nothing more
    assert outcome.changes == ()
    [record] = outcome.records
    assert record.counters == ("outgoing.untagged", f"untagged.{reason.value}")
    assert (record.domain, record.action, record.reason) == (OURS, "untagged", reason.value)
    assert record.untagged == ((sender.lower(), NOW + 11 * DAY) if remembered else None)
    assert record.notable is remembered


@pytest.mark.parametrize("sender", ["", "<>", f"<{STRANGER}>", "<nobody>", "<@>", "<a\x00b@our.example>"])
def test_nothing_is_changed_or_noted_for_who_is_not_ours(sender):
    talk = Talk(protecting(), INTERNAL_CLIENT).mail(sender).accept(f"<{STRANGER}>")
    outcome = talk.rest()
    assert (outcome.verb, outcome.changes, outcome.records) == (Verb.ACCEPT, (), ())


def test_an_untagged_sender_is_remembered_without_extension_in_lower_case():
    outside = protecting(settings({**EXEMPTIONS, "lifetime": 5}))
    [record] = sent(outside, f"Alice+shop@{OURS.upper()}", "<x@list.example>").records
    assert record.untagged == (ALICE, NOW + 5 * DAY)


def test_what_has_no_key_is_remembered():
    talk = Talk(protecting(), INTERNAL_CLIENT, ring=KeyRing([RING.keys[0]]))
    [record] = talk.mail(ALICE).accept(f"<{STRANGER}>").rest().records
    assert (record.reason, record.untagged) == ("no-key", (ALICE, NOW + 11 * DAY))


@pytest.mark.parametrize("header", ["Delivered-To", "x-original-to", "X-SIEVE"])
@pytest.mark.parametrize("client", [INTERNAL_CLIENT, ""])
def test_a_forward_is_remembered_and_not_tagged(header, client):
    # The reverse-path may be a stranger's forgery: a tag would vouch for him.
    talk = Talk(protecting(), client).mail(ALICE).accept(f"<{STRANGER}>")
    outcome = talk.rest("Received", header, "Subject")
    assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())
    [record] = outcome.records
    assert record.counters == ("outgoing.untagged", "untagged.forward")
    assert record.untagged == (ALICE, NOW + 11 * DAY)


def test_the_marks_of_a_forward_are_forgotten_with_the_message():
    talk = Talk(protecting(), INTERNAL_CLIENT).mail(ALICE).accept(f"<{STRANGER}>")
    assert talk.rest("Delivered-To").changes == ()
    assert new_sender(talk.mail(ALICE).accept(f"<{STRANGER}>").rest("Subject"))


@pytest.mark.parametrize("reason", Untagged)
def test_every_reason_that_may_bring_untagged_bounces_is_remembered(reason):
    # Not remembered: strangers; what is always let through (exempt senders, often bulk mailers with a sender
    # for each message, long addresses, others' tags); and mail among ourselves, whose bounces are written on
    # this side of the milter, and which nearly everybody writes every day: nobody would be protected then.
    remembered = {Untagged.EXEMPT_DESTINATION, Untagged.NO_KEY, Untagged.FORWARD}
    assert reason.awaits_bounces is (reason in remembered)


# -- Second pass and transit ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", TagForm)
def test_a_second_pass_never_tags_twice(form):
    outside = protecting(settings({"tag_form": form}))
    once = new_sender(sent(outside))
    again = sent(outside, once)
    assert (again.verb, again.changes) == (Verb.ACCEPT, ())


FOREIGN = [
    f"prvs=1234abcdef=x@{ELSEWHERE}",
    f"x+prvs=1234abcdef@{ELSEWHERE}",
    f"prvs=x=1234abcdef@{ELSEWHERE}",
    f"btv1==0123456789a==x@{ELSEWHERE}",
    f"SRS0=HHH=TT=our.example=alice@{ELSEWHERE}",
    f"SRS1=HHH=r.example==HHH=TT=x@{ELSEWHERE}",
    f"bounce-alice=our.example@{ELSEWHERE}",
]


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("strip", Strip)
def test_foreign_tags_in_transit_are_never_touched(foreign, strip):
    outside = protecting(settings({"strip": strip}))
    as_recipient = sent(outside, ALICE, f"<{foreign}>")
    assert [type(change) for change in as_recipient.changes] == [ChangeSender]
    as_sender = sent(outside, foreign)
    assert (as_sender.verb, as_sender.changes, as_sender.records) == (Verb.ACCEPT, (), ())
    incoming = Talk(outside).mail(f"<{foreign}>").accept(f"<{ALICE}>").rest("Subject")
    assert (incoming.verb, incoming.changes) == (Verb.ACCEPT, ())
    bounced = Talk(outside).mail("<>").accept(f"<{foreign}>").rest()
    assert (bounced.verb, bounced.changes) == (Verb.ACCEPT, ())


# -- Stripping --------------------------------------------------------------------------------------------

PARAMETERS = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y"


@pytest.mark.parametrize("form", TagForm)
@pytest.mark.parametrize("sender", [f"<{STRANGER}>", "<>"])
def test_the_milter_strips_incoming_tags_where_that_is_its_task_and_keeps_the_parameters(form, sender):
    outside = protecting(settings({"strip": Strip.MILTER}))
    path = tagged(f"Alice+x@{OURS}", form=form)
    talk = Talk(outside).mail(sender)
    talk.rcpt(path, PARAMETERS)
    outcome = talk.accept(f"<{BOB}>").rest("Subject")
    assert outcome.verb is Verb.ACCEPT
    assert outcome.changes == (ReplaceRecipient(path, f"Alice+x@{OURS}", PARAMETERS),)


def test_the_mail_server_strips_otherwise():
    outcome = Talk(protecting()).mail("<>").accept(tagged(ALICE)).rest()
    assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())


def test_what_could_not_have_been_tagged_here_is_not_rewritten():
    outside = protecting(settings({"strip": Strip.MILTER}))
    outcome = Talk(outside).mail("<>").accept(f'<"a b+prvs=1234abcdef"@{OURS}>').rest()
    assert outcome.changes == ()


def test_a_recipient_that_was_refused_is_never_stripped():
    # addrcpt would bring it back to life.
    outside = protecting(settings({"strip": Strip.MILTER}, tag=Action.REJECT))
    talk = Talk(outside).mail("<>")
    assert talk.code(forged(BOB)) == 550
    talk.session.refused_rcpt(tagged(f"nosuch@{OURS}"), unknown=True)
    outcome = talk.accept(tagged(ALICE)).rest()
    assert [change.new for change in outcome.changes] == [ALICE]


def test_a_tag_of_ours_is_stripped_in_mail_among_ourselves():
    outside = protecting(settings({"strip": Strip.MILTER}))
    path = tagged(BOB)
    talk = letter(outside, ALICE)
    talk.rcpt(path, PARAMETERS)
    outcome = talk.rest()
    assert outcome.changes == (ReplaceRecipient(path, BOB, PARAMETERS),)
    assert [record.reason for record in outcome.records] == ["internal"]
    both = letter(outside, ALICE, path, f"<{STRANGER}>").rest()
    assert [type(change) for change in both.changes] == [ChangeSender, ReplaceRecipient]


def test_a_bounce_written_here_reaches_its_tagged_address():
    outside = protecting(settings({"strip": Strip.MILTER}))
    outcome = Talk(outside, "").mail("").accept(tagged(ALICE)[1:-1]).rest()
    assert outcome.changes == (ReplaceRecipient(tagged(ALICE)[1:-1], ALICE, ""),)
    assert outcome.records == ()


# -- Nothing is judged ------------------------------------------------------------------------------------


def test_outgoing_mail_is_never_refused():
    outside = protecting(enforcing())
    for client, login in ((INTERNAL_CLIENT, ""), ("", ""), ("203.0.113.7", "alice")):
        for sender in ("<>", f"<{ALICE}>", f"<{STRANGER}>"):
            for recipient in (f"<{BOB}>", forged(BOB), f"<{STRANGER}>", "<\x00>", ""):
                talk = Talk(outside, client).mail(sender, login)
                assert talk.accept(recipient).rest().verb is Verb.ACCEPT


def test_what_is_asked_once_is_not_asked_again():
    outside = protecting()
    letter(outside, ALICE, f"<{STRANGER}>", f"<y@{ELSEWHERE}>")
    assert [question.sender_domain for question in outside.asked] == [OURS, ""]
