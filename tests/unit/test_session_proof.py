"""Proof at the end of message: what is read, what is asked, and what comes of the answer."""

import pytest

from backstop.address import parse
from backstop.authentication import Spf, SpfIdentity, SpfResult
from backstop.batv import KeyRing
from backstop.proof import Proof
from backstop.report import Kind
from backstop.session import Evidence
from backstop.session.content import MAX_HEADER_LINES, MAX_OCTETS, Content
from backstop.settings import Action, Addresses, NothingReturned, ReportScope
from backstop.verdict import AddHeader, AddRecipient, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    BOB,
    INTERNAL_CLIENT,
    KEY,
    OURS,
    RELAY_CLIENT,
    STRANGER,
    Talk,
    bounce,
    code,
    counters,
    forged,
    letter,
    protecting,
    settings,
    tagged,
)

ALL = tuple(Proof)
AUTHOR = f"Alice <{ALICE}>"


def proving(action=Action.REJECT, proof=ALL, **others):
    """An outside whose first domain asks for every kind of proof."""
    fields = {"proof": proof, **others}
    return protecting(settings(fields, unproved=action))


def report(message_id="sent@our.example", failed=STRANGER, more="", signature=""):
    """A report as a mail server writes it."""
    return (
        f"From: MAILER-DAEMON@mx.example\nTo: {ALICE}\nSubject: Undelivered Mail\n{more}"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        "--b\n\nNo.\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        f"Final-Recipient: rfc822; {failed}\nAction: failed\nStatus: 5.1.1\n\n"
        f"--b\nContent-Type: text/rfc822-headers\n\nReturn-Path: <{ALICE}>\n{signature}"
        f"From: {ALICE}\nTo: {failed}\nSubject: hello\nMessage-ID: <{message_id}>\n\n--b--\n"
    ).encode()


def answer(more="", sender=STRANGER):
    """An automatic answer."""
    return (
        f"From: <{sender}>\nTo: {ALICE}\nSubject: Out of office\nAuto-Submitted: auto-replied\n{more}\n"
        "I am away.\n"
    ).encode()


def asked(outside):
    """Every question about evidence."""
    return [one for one in outside.asked if isinstance(one, Evidence)]


class TestWhatIsRead:
    def test_an_untagged_bounce_waits_for_its_end(self):
        talk = bounce(proving(), f"<{ALICE}>")
        assert talk.session.data("QID", talk.now).verb is Verb.CONTINUE
        assert talk.session.transaction.content is not None

    @pytest.mark.parametrize("action", [a for a in Action if a > Action.OFF])
    def test_under_every_action_but_off(self, action):
        assert bounce(proving(action), f"<{ALICE}>").session.data("QID", 0.0).verb is Verb.CONTINUE

    def test_not_where_the_check_is_off(self):
        assert bounce(proving(Action.OFF), f"<{ALICE}>").session.data("QID", 0.0).verb is Verb.ACCEPT

    def test_but_where_a_block_raises_it(self):
        outside = proving(Action.OFF).block(OURS)
        assert bounce(outside, f"<{ALICE}>").session.data("QID", 0.0).verb is Verb.CONTINUE

    def test_a_good_tag_ends_at_data(self):
        assert bounce(proving(), tagged(ALICE)).session.data("QID", 0.0).verb is Verb.ACCEPT

    def test_tags_alone_end_at_data(self):
        outcome = bounce(proving(proof=(Proof.TAG,)), f"<{ALICE}>").session.data("QID", 0.0)
        assert code(outcome) == 550

    def test_a_connection_without_bodies_ends_at_data(self):
        """What its settings want since cannot be had: they count from the next connection."""
        talk = Talk(proving(), reads=False).mail("<>").accept(f"<{ALICE}>")
        assert code(talk.session.data("QID", talk.now)) == 550

    @pytest.mark.parametrize("name", ["mailer-daemon", "someone"])
    def test_ordinary_mail_ends_at_data(self, name):
        talk = Talk(proving()).mail(f"<{name}@else.example>").accept(f"<{ALICE}>")
        assert talk.session.data("QID", talk.now).verb is Verb.ACCEPT

    def test_an_exempt_address_ends_at_data(self):
        outside = proving(exempt_senders=Addresses([ALICE]))
        assert bounce(outside, f"<{ALICE}>").session.data("QID", 0.0).verb is Verb.ACCEPT

    def test_a_refusal_that_no_proof_could_change_is_not_put_off(self):
        outside = protecting(settings({"proof": ALL}, unproved=Action.TEMPFAIL, forged_sender=Action.REJECT))
        outside.domains[OURS] = settings({"proof": ALL}, tag=Action.DISCARD, unproved=Action.DISCARD)
        outcome = bounce(outside, forged(ALICE)).session.data("QID", 0.0)
        assert outcome.verb is Verb.DISCARD
        [record] = outcome.records
        assert record.check == "tag"
        assert "unproved.fail" not in record.counters

    def test_one_that_could_become_stricter_is(self):
        outside = protecting(settings({"proof": ALL}, tag=Action.DISCARD, unproved=Action.REJECT))
        assert bounce(outside, forged(ALICE)).send(report()).verb is Verb.REFUSE
        outside.sent.add("sent@our.example")
        assert bounce(outside, forged(ALICE)).send(report()).verb is Verb.DISCARD

    def test_the_content_is_given_back(self):
        talk = bounce(proving(), f"<{ALICE}>")
        talk.send(report())
        assert talk.session.transaction.content is None


class TestMemory:
    def test_a_returned_id_that_was_sent(self):
        outside = proving()
        outside.sent.add("sent@our.example")
        outcome = bounce(outside, f"<{ALICE}>").send(report())
        assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())
        [record] = outcome.records
        assert (record.action, record.reason) == ("accept", "proof: memory")
        assert set(record.counters) == {
            "unproved.pass",
            "bounce.seen",
            "bounce.proved",
            "bounce.untagged",
            "proof.memory",
            "report.bounce",
        }

    def test_one_that_was_not(self):
        outcome = bounce(proving(), f"<{ALICE}>").send(report())
        assert code(outcome) == 550
        [record] = outcome.records
        assert record.reason == (
            "a bounce without proof that we wrote the original; sought: memory, dkim, correspondent"
        )
        assert {"unproved.fail", "bounce.seen", "report.bounce", "action.reject"} == set(record.counters)

    @pytest.mark.parametrize("field", ["In-Reply-To", "References"])
    def test_a_mentioned_id_counts_whatever_kind_of_message_it_is(self, field):
        outside = proving()
        outside.sent.add("sent@our.example")
        for message in (
            answer(f"{field}: <x@y>\n <sent@our.example>\n"),
            b"%s: <sent@our.example>\n\n" % field.encode(),
        ):
            assert bounce(outside, f"<{ALICE}>").send(message).verb is Verb.ACCEPT

    def test_at_most_six_ids_are_asked_about_and_the_returned_one_first(self):
        outside = proving()
        more = "".join(f" <{number}@x>\n" for number in range(20))
        bounce(outside, f"<{ALICE}>").send(report(more=f"References:\n{more}"))
        [evidence] = asked(outside)
        assert evidence.ids == ("sent@our.example", "0@x", "1@x", "2@x", "3@x", "4@x")

    def test_a_forged_tag_is_not_outweighed(self):
        outside = protecting(settings({"proof": ALL}, tag=Action.JUNK, unproved=Action.REJECT))
        outside.sent.add("sent@our.example")
        outcome = bounce(outside, forged(ALICE)).send(report())
        assert outcome.verb is Verb.ACCEPT
        assert AddHeader("X-Spam-Flag", "YES") in outcome.changes
        assert outcome.records[0].check == "tag"

    def test_what_is_no_proof_in_the_domain_is_not_asked_about(self):
        outside = proving(proof=(Proof.TAG, Proof.DKIM))
        outside.sent.add("sent@our.example")
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 550
        [evidence] = asked(outside)
        assert (evidence.ids, evidence.pairs) == ((), ())
        assert evidence.block.startswith(b"Return-Path:")

    def test_proof_beats_a_flood(self):
        outside = protecting(settings({"proof": ALL}, harvest=Action.REJECT))
        outside.harvesters.add("203.0.113.7")
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 421
        outside.sent.add("sent@our.example")
        assert bounce(outside, f"<{ALICE}>").send(report()).verb is Verb.ACCEPT

    def test_several_recipients_are_each_judged(self):
        """Where nothing is in doubt a bounce may have several: each counts with its own proof."""
        outside = proving(Action.OBSERVE, proof=(Proof.TAG, Proof.CORRESPONDENT))
        outside.wrote.add((BOB, STRANGER))
        outcome = bounce(outside, f"<{ALICE}>", f"<{BOB}>", tagged("carol@our.example")).send(report())
        assert outcome.verb is Verb.ACCEPT
        found = {record.recipient.partition("+")[0]: set(record.counters) for record in outcome.records}
        assert "unproved.fail" in found[ALICE]
        assert {"unproved.pass", "proof.correspondent"} <= found[BOB]
        assert "report.bounce" not in found["carol"]


class TestOurSignature:
    def test_the_returned_block_goes_out_as_it_came(self):
        outside = proving()
        signature = "DKIM-Signature: v=1; d=our.example;\n\tb=abc\n"
        message = report(signature=signature)
        block = message.partition(b"rfc822-headers\n\n")[2].partition(b"\n--b--")[0]
        outside.signed.add(block)
        outcome = bounce(outside, f"<{ALICE}>").send(message)
        assert outcome.verb is Verb.ACCEPT
        assert outcome.records[0].reason == "proof: dkim"

    @pytest.mark.parametrize(
        ("remembered", "proof", "elsewhere"),
        [
            (False, ALL, ALICE),
            (True, ALL, ""),
            (False, (Proof.TAG, Proof.DKIM), ""),  # nobody could remember it
        ],
    )
    def test_what_it_alone_proves_left_by_another_host(self, remembered, proof, elsewhere):
        outside = proving(proof=proof)
        message = report(signature="DKIM-Signature: v=1; d=our.example; b=abc\n")
        outside.signed.add(message.partition(b"rfc822-headers\n\n")[2].partition(b"\n--b--")[0])
        if remembered:
            outside.sent.add("sent@our.example")
        [record] = bounce(outside, "<Alice+list@our.example>").send(message).records
        assert record.elsewhere == elsewhere
        assert "bounce.untagged" in record.counters


def test_in_grace_nobody_knows_who_sends_elsewhere():
    """The memory begins with the keys: what it does not know may be older."""
    outside = proving(grace=10_000)
    message = report(signature="DKIM-Signature: v=1; d=our.example; b=abc\n")
    outside.signed.add(message.partition(b"rfc822-headers\n\n")[2].partition(b"\n--b--")[0])
    [record] = bounce(outside, f"<{ALICE}>").send(message).records
    assert record.elsewhere == ""


def test_an_answer_to_the_header_from_is_no_bounce_that_should_have_carried_a_tag():
    """It never does: by these nobody would ever be ready to enforce."""
    outside = proving()
    outside.sent.add("sent@our.example")
    [record] = bounce(outside, f"<{ALICE}>").send(answer("In-Reply-To: <sent@our.example>\n")).records
    assert "proof.memory" in record.counters
    assert "bounce.untagged" not in record.counters
    assert record.elsewhere == ""


class TestCorrespondents:
    @pytest.mark.parametrize(
        "message",
        [
            answer(),
            answer(sender="SomeOne@Else.Example"),
            report(failed=STRANGER),
            b"Subject: no more\nFrom: Some One (away) <someone@else.example>\n\n",
        ],
    )
    def test_whom_the_message_names_or_comes_from(self, message):
        outside = proving()
        outside.wrote.add((ALICE, STRANGER))
        outcome = bounce(outside, "<Alice+list@our.example>").send(message)
        assert (outcome.verb, outcome.records[0].reason) == (Verb.ACCEPT, "proof: correspondent")
        assert "bounce.untagged" not in outcome.records[0].counters

    def test_somebody_elses_correspondent_proves_nothing(self):
        outside = proving()
        outside.wrote.add((BOB, STRANGER))
        assert code(bounce(outside, f"<{ALICE}>").send(answer())) == 550

    def test_at_most_ten_addresses_are_asked_about(self):
        outside = proving()
        many = ", ".join(f"x{number}@else.example" for number in range(100))
        bounce(outside, f"<{ALICE}>").send(b"From: %s\n\n" % many.encode())
        [evidence] = asked(outside)
        assert len(evidence.pairs) == 10

    def test_hostile_fields_are_read_in_no_time(self):
        for text in ("a" * 10**6, "@" * 10**6, "a@" * 10**5, "<" * 10**6, "a@b," * 10**5):
            outside = proving()
            bounce(outside, f"<{ALICE}>").send(f"From: {text}\n\n".encode())


class TestUnanswered:
    @pytest.mark.parametrize(
        ("action", "expected"),
        [(Action.TEMPFAIL, 451), (Action.REJECT, 451), (Action.DISCARD, 451)],
    )
    def test_what_would_lose_a_genuine_bounce_waits(self, action, expected):
        outside = proving(action)
        outside.unanswered = frozenset({Proof.MEMORY})
        outcome = bounce(outside, f"<{ALICE}>").send(report())
        assert code(outcome) == expected
        [record] = outcome.records
        assert (record.result, record.reason) == ("temperror", "proof could not be looked for: memory")

    @pytest.mark.parametrize("action", [Action.JUNK, Action.QUARANTINE])
    def test_what_loses_nothing_is_done(self, action):
        outside = proving(action)
        outside.unanswered = frozenset({Proof.MEMORY})
        outcome = bounce(outside, f"<{ALICE}>").send(report())
        assert outcome.verb is Verb.ACCEPT
        assert any(isinstance(one, AddHeader) for one in outcome.changes)

    def test_another_proof_is_enough(self):
        outside = proving()
        outside.unanswered = frozenset({Proof.MEMORY})
        outside.wrote.add((ALICE, STRANGER))
        assert bounce(outside, f"<{ALICE}>").send(report()).verb is Verb.ACCEPT

    def test_a_block_waits_as_well(self):
        outside = proving(Action.OBSERVE).block(OURS)
        outside.unanswered = frozenset({Proof.MEMORY})
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 451

    def test_what_speaks_against_its_client_waits_as_well(self):
        outside = protecting(settings({"proof": ALL}, spf=Action.REJECT))
        outside.spf = Spf(SpfResult.FAIL, SpfIdentity.HELO, "else.example")
        outside.unanswered = frozenset({Proof.MEMORY})
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 450
        outside.unanswered = frozenset()
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 550

    def test_what_is_no_proof_in_the_domain_does_not_matter(self):
        outside = proving(proof=(Proof.TAG, Proof.MEMORY))
        outside.unanswered = frozenset({Proof.DKIM})
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 550


class TestNothingReturned:
    MESSAGE = b"From: postmaster@else.example\nSubject: failure notice\n\nSorry.\n"

    def test_it_is_unproved(self):
        outcome = bounce(proving(), f"<{ALICE}>").send(self.MESSAGE)
        assert code(outcome) == 550
        assert outcome.records[0].reason.startswith(
            "a bounce that returns nothing of the original, without proof"
        )
        assert "report.nothing_returned" in outcome.records[0].counters

    def test_or_ignored(self):
        outside = proving(nothing_returned=NothingReturned.IGNORED)
        outcome = bounce(outside, f"<{ALICE}>").send(self.MESSAGE)
        assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())
        assert outcome.records[0].reason == "a bounce that returns nothing of the original"
        assert code(bounce(outside, f"<{ALICE}>").send(report())) == 550

    def test_a_correspondent_counts_here_too(self):
        outside = proving()
        outside.wrote.add((ALICE, "postmaster@else.example"))
        assert bounce(outside, f"<{ALICE}>").send(self.MESSAGE).verb is Verb.ACCEPT


class TestWhoIsWho:
    def test_the_block_waits_for_proof_exactly_as_the_check_does(self):
        outside = proving(Action.OBSERVE).block(OURS, Action.JUNK)
        outcome = bounce(outside, f"<{ALICE}>").send(report())
        assert outcome.changes[0].value.startswith("junk; check=unproved; a bounce without proof")
        outside.sent.add("sent@our.example")
        assert bounce(outside, f"<{ALICE}>").send(report()).changes == ()

    def test_one_in_doubt_is_never_mixed_with_another(self):
        talk = bounce(proving(), f"<{ALICE}>")
        assert talk.code(f"<{BOB}>") == 452
        assert code(talk.send(report())) == 550

    def test_a_relay_is_never_given_a_5xx(self):
        outcome = bounce(proving(), f"<{ALICE}>", client=RELAY_CLIENT).send(report())
        assert outcome.verb is Verb.ACCEPT
        assert outcome.changes[0].value.startswith("junk")

    def test_postmaster_is_never_refused(self):
        assert bounce(proving(), f"<postmaster@{OURS}>").send(report()).verb is Verb.ACCEPT

    def test_in_grace_it_only_observes_and_counts(self):
        outside = proving(grace=10_000)
        outcome = bounce(outside, f"<{ALICE}>").send(report())
        assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())
        assert "unproved.fail" in outcome.records[0].counters


class TestReportsWithARealSender:
    def outside(self, action=Action.REJECT, **fields):
        return protecting(settings({"proof": ALL, **fields}, report=action))

    def send(self, outside, message, sender="<MAILER-DAEMON@else.example>", *recipients):
        return Talk(outside).mail(sender).accept(*(recipients or (f"<{ALICE}>",))).send(message)

    def test_a_report_without_proof_is_refused(self):
        outcome = self.send(self.outside(), report())
        assert str(outcome.reply).startswith("550 5.7.1 ")
        [record] = outcome.records
        assert (record.check, record.reason) == (
            "report",
            "a non-delivery report with a real sender, without proof that we wrote the original",
        )
        assert "bounce.seen" not in record.counters

    def test_with_proof_it_passes(self):
        outside = self.outside()
        outside.sent.add("sent@our.example")
        outcome = self.send(outside, report())
        assert (outcome.verb, outcome.changes) == (Verb.ACCEPT, ())
        assert outcome.records[0].counters[:1] == ("report.pass",)

    def test_a_good_tag_is_proof(self):
        assert (
            self.send(self.outside(), report(), "<postmaster@x.example>", tagged(ALICE)).verb is Verb.ACCEPT
        )

    def test_ordinary_mail_of_a_robot_passes(self):
        message = b"From: postmaster@else.example\nSubject: maintenance on Sunday\n\nHello.\n"
        assert self.send(self.outside(), message).verb is Verb.ACCEPT

    def test_mail_of_people_is_not_read(self):
        talk = Talk(self.outside()).mail(f"<{STRANGER}>").accept(f"<{ALICE}>")
        assert talk.session.data("QID", talk.now).verb is Verb.ACCEPT

    def test_unless_the_scope_is_all(self):
        outside = self.outside(report_scope=ReportScope.ALL)
        assert code(self.send(outside, answer(), f"<{STRANGER}>")) == 550
        outside.wrote.add((ALICE, STRANGER))
        assert self.send(outside, answer(), f"<{STRANGER}>").verb is Verb.ACCEPT

    def test_the_robots_can_be_named(self):
        outside = self.outside(robot_senders=frozenset({"bounce"}))
        assert code(self.send(outside, report(), "<Bounce@else.example>")) == 550
        assert self.send(outside, report()).verb is Verb.ACCEPT

    def test_off_reads_nothing(self):
        talk = Talk(self.outside(Action.OFF)).mail("<mailer-daemon@x.example>").accept(f"<{ALICE}>")
        assert talk.session.data("QID", talk.now).verb is Verb.ACCEPT

    def test_several_recipients_get_the_mildest(self):
        outside = self.outside()
        outside.wrote.add((BOB, STRANGER))
        outcome = self.send(outside, report(), "<postmaster@x.example>", f"<{ALICE}>", f"<{BOB}>")
        assert outcome.verb is Verb.ACCEPT
        assert {"report.fail", "report.pass"} <= set(counters([outcome]))

    def test_while_nobody_can_be_asked_it_waits(self):
        outside = self.outside()
        outside.unanswered = frozenset({Proof.MEMORY})
        assert code(self.send(outside, report())) == 451


class TestCopies:
    ADMIN = "admin@our.example"

    def outside(self, action=Action.JUNK, copy_to=ADMIN):
        return proving(action, copy_to=parse(copy_to))

    @pytest.mark.parametrize("action", [Action.JUNK, Action.QUARANTINE])
    def test_a_marked_bounce_goes_there_as_well(self, action):
        outcome = bounce(self.outside(action), f"<{ALICE}>").send(report())
        assert AddRecipient(self.ADMIN) in outcome.changes
        assert counters([outcome]).count("copies.sent") == 1
        assert outcome.records[-1].domain == OURS

    @pytest.mark.parametrize("action", [Action.OBSERVE, Action.DISCARD, Action.REJECT])
    def test_no_other_does(self, action):
        assert not bounce(self.outside(action), f"<{ALICE}>").send(report()).changes

    @pytest.mark.parametrize(("sent", "copied"), [(0, True), (99, True), (100, False), (None, False)])
    def test_a_hundred_a_day_and_none_where_nobody_counts(self, sent, copied):
        outside = self.outside()
        outside.counted[OURS, "copies.sent"] = sent
        outcome = bounce(outside, f"<{ALICE}>").send(report())
        assert (AddRecipient(self.ADMIN) in outcome.changes) is copied

    def test_never_to_the_recipient_itself(self):
        outcome = bounce(self.outside(), "<Admin+x@our.example>").send(report())
        assert AddRecipient(self.ADMIN) not in outcome.changes

    def test_never_of_what_was_here_before(self):
        outcome = bounce(self.outside(), f"<{ALICE}>").send(b"X-Backstop: junk; check=unproved\n" + report())
        assert AddRecipient(self.ADMIN) not in outcome.changes

    def test_never_to_a_domain_that_is_not_ours(self):
        """Redis may say anything; the file was checked."""
        outcome = bounce(self.outside(copy_to="x@else.example"), f"<{ALICE}>").send(report())
        assert not any(isinstance(one, AddRecipient) for one in outcome.changes)

    def test_never_of_ordinary_mail(self):
        outside = protecting(settings({"copy_to": parse(self.ADMIN)}, forged_sender=Action.JUNK))
        outcome = Talk(outside).mail(f"<{BOB}>").accept(f"<{ALICE}>").rest()
        assert not any(isinstance(one, AddRecipient) for one in outcome.changes)


class TestOutgoing:
    def send(self, outside, sender=ALICE, *recipients, header=None, login="", ring=None):
        header = header or f"Message-ID: <sent@our.example>\nFrom: {AUTHOR}\n".encode()
        client = INTERNAL_CLIENT
        talk = Talk(outside, client, **({"ring": ring} if ring is not None else {}))
        talk.mail(f"<{sender}>", login).accept(*(recipients or (f"<{STRANGER}>",)))
        return talk.send(header + b"\n")

    def test_id_and_pairs_are_remembered(self):
        outcome = self.send(proving(), ALICE, f"<{STRANGER}>", "<Other@Else.Example>")
        assert outcome.sent.message_id == "sent@our.example"
        assert outcome.sent.pairs == ((ALICE, STRANGER), (ALICE, "other@else.example"))

    def test_their_bounces_and_answers_pass(self):
        outside = proving()
        self.send(outside)
        assert (
            bounce(outside, f"<{ALICE}>").send(report()).records[0].reason == "proof: memory, correspondent"
        )

    @pytest.mark.parametrize(
        ("fields", "sender"),
        [
            ({"exempt_senders": Addresses([ALICE])}, ALICE),
            ({"exempt_destinations": frozenset({"else.example"})}, ALICE),
            ({}, f"{'x' * 49}@our.example"),
            ({}, f"prvs=2011abcdef={ALICE}"),
        ],
    )
    def test_also_where_no_tag_is_made(self, fields, sender):
        outcome = self.send(proving(**fields), sender)
        assert outcome.changes == ()
        assert outcome.sent.message_id == "sent@our.example"

    def test_the_pair_is_that_of_the_mailbox(self):
        assert self.send(proving(), f"prvs=2011abcdef={ALICE}").sent.pairs == ((ALICE, STRANGER),)
        assert self.send(proving(), "alice+list@our.example").sent.pairs == ((ALICE, STRANGER),)

    def test_the_author_wrote_too(self):
        outcome = self.send(proving(), "bounces@our.example")
        assert outcome.sent.pairs == (("bounces@our.example", STRANGER), (ALICE, STRANGER))

    def test_a_strange_author_did_not(self):
        outcome = self.send(proving(), header=b"From: someone@else.example\nMessage-ID: <a@b>\n")
        assert outcome.sent.pairs == ((ALICE, STRANGER),)

    def test_without_a_key_and_with_a_forward(self):
        ring = KeyRing((), b"the memory of the tests")
        assert self.send(proving(), ring=ring).sent is not None
        forwarded = self.send(proving(), header=b"Delivered-To: x\nMessage-ID: <sent@our.example>\n")
        assert (forwarded.changes, forwarded.sent.message_id) == ((), "sent@our.example")

    def test_mail_that_stays_here_is_not_remembered(self):
        talk = letter(proving(), ALICE, f"<{BOB}>")
        outcome = talk.session.data("QID", talk.now)
        assert (outcome.verb, outcome.sent) == (Verb.ACCEPT, None)

    def test_only_who_is_outside_counts_as_written_to(self):
        outcome = self.send(proving(), ALICE, f"<{STRANGER}>", f"<{BOB}>")
        assert outcome.sent.pairs == ((ALICE, STRANGER),)

    def test_strangers_and_the_null_sender_are_not_remembered(self):
        for sender in ("x@else.example", ""):
            talk = Talk(proving(), INTERNAL_CLIENT).mail(f"<{sender}>").accept(f"<{STRANGER}>")
            assert talk.session.data("QID", talk.now).verb is Verb.ACCEPT

    def test_a_list_is_no_correspondence(self):
        many = [f"<x{number}@else.example>" for number in range(150)]
        assert len(self.send(proving(), ALICE, *many).sent.pairs) == 100

    def test_only_what_is_proof_is_remembered(self):
        assert self.send(proving(proof=(Proof.TAG,))).sent is None
        assert self.send(proving(proof=(Proof.TAG, Proof.DKIM))).sent is None
        assert self.send(proving(proof=(Proof.MEMORY,))).sent.pairs == ()
        assert self.send(proving(proof=(Proof.CORRESPONDENT,))).sent.message_id == ""

    def test_without_a_secret_nothing_is(self):
        assert self.send(proving(), ring=KeyRing((KEY,))).sent is None

    @pytest.mark.parametrize(
        ("header", "message_id"),
        [
            (b"From: x\n", ""),
            (b"message-id:<a@b>\n", "a@b"),
            (b"Message-ID:\n <folded@b>\n", "folded@b"),
            (b"Message-ID: <first@b>\nMessage-ID: <second@b>\n", "first@b"),
            (b"Message-ID: <%s@b>\n" % (b"x" * 5000), ""),
        ],
    )
    def test_the_id_as_it_is_written(self, header, message_id):
        assert self.send(proving(), header=header).sent.message_id == message_id

    def test_the_other_domain_has_its_own_settings(self):
        outside = proving()
        outside.domains[ALSO_OURS] = settings()
        assert self.send(outside, f"x@{ALSO_OURS}").sent is None


class TestContent:
    def test_a_message_comes_out_as_it_came(self):
        content = Content()
        content.header("Subject", b"a\n\tb")
        content.header("From", b"x@y")
        assert content.body(b"one\r\n")
        assert content.body(b"two\r\n")
        assert content.message() == b"Subject: a\n\tb\nFrom: x@y\n\none\r\ntwo\r\n"
        assert content.author == b"x@y"

    def test_too_many_lines_and_too_long_headers_are_left_out(self):
        content = Content()
        for _ in range(10 * MAX_HEADER_LINES):
            content.header("X", b"y")
        assert content.message().count(b"\n") == MAX_HEADER_LINES + 1
        content = Content()
        for _ in range(300):
            content.header("X", b"y" * 1000)
        assert len(content.message()) < 256_000

    def test_a_body_is_cut(self):
        content = Content()
        content.header("X", b"y")
        chunks = 0
        while content.body(b"z" * 65535):
            chunks += 1
        assert chunks == MAX_OCTETS // 65535
        assert len(content.message()) == MAX_OCTETS + 1
        assert not content.body(b"more")
        assert len(content.message()) == MAX_OCTETS + 1


def test_every_kind_of_message_is_counted_by_its_name():
    outside = proving()
    outcomes = [
        bounce(outside, f"<{ALICE}>").send(message)
        for message in (report(), answer(), b"Subject: hello\n\nHi.\n")
    ]
    seen = {name for name in counters(outcomes) if name.startswith("report.")}
    assert seen <= {f"report.{kind.value}" for kind in Kind} | {"report.nothing_returned"}
    assert {"report.bounce", "report.auto_reply"} <= seen
