"""Proof by chance: whatever a message says and whatever cannot be asked, nothing genuine is lost."""

from hypothesis import given
from hypothesis import strategies as st

from backstop.batv import TagState
from backstop.checks import CHECKS
from backstop.proof import Proof
from backstop.session.content import Content
from backstop.session.proving import addresses_in
from backstop.settings import Action, NothingReturned, ReportScope
from backstop.verdict import Verb
from tests.harness.engine import ALICE, OURS, RELAY_CLIENT, STRANGE_CLIENT, Talk, protecting, settings

ACTIONS = st.sampled_from(Action)
KINDS = st.frozensets(st.sampled_from(Proof), min_size=1)
FIELDS = st.sampled_from(
    [
        b"From: <someone@else.example>",
        b"From: MAILER-DAEMON@else.example",
        b"Subject: Undelivered Mail Returned to Sender",
        b"Subject: Out of office",
        b"Auto-Submitted: auto-replied",
        b"In-Reply-To: <sent@our.example>",
        b"References: <a@b> <sent@our.example>",
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b",
        b"X-Backstop: junk",
        b"X-Failed-Recipients: someone@else.example",
    ]
)
RETURNED = (
    b"--b\n\nNo.\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <sent@our.example>\n"
    b"From: <alice@our.example>\nTo: <someone@else.example>\n\nHi.\n--b--\n"
)
IN_TEXT = (
    b"550 5.1.1 <someone@else.example>: no such user\n\nMessage-ID: <forged@our.example>\n"
    b"Received: from x by y\nFrom: x\nTo: y\nSubject: z\n"
)
BODIES = st.sampled_from([b"Sorry.\n", RETURNED, IN_TEXT])
MESSAGES = st.builds(
    lambda fields, body, noise: b"\n".join(fields) + b"\n\n" + body + noise,
    st.lists(FIELDS, max_size=6),
    BODIES,
    st.binary(max_size=60),
)


@st.composite
def outsides(draw):
    """A domain with any settings that matter here, and a world that knows and answers what it likes."""
    actions = {check.name: draw(ACTIONS) for check in CHECKS if check.name not in ("recipient", "tag")}
    fields = {
        "proof": tuple(draw(KINDS)),
        "nothing_returned": draw(st.sampled_from(NothingReturned)),
        "report_scope": draw(st.sampled_from(ReportScope)),
        "grace": draw(st.sampled_from([0, 10_000])),
    }
    outside = protecting(settings(fields, **actions))
    if draw(st.booleans()):
        outside.block(draw(st.sampled_from(["", OURS, ALICE])), draw(ACTIONS))
    if draw(st.booleans()):
        outside.sent.add("sent@our.example")
    if draw(st.booleans()):
        outside.wrote.add((ALICE, "someone@else.example"))
    outside.unanswered = draw(st.frozensets(st.sampled_from([Proof.MEMORY, Proof.DKIM, Proof.CORRESPONDENT])))
    return outside


SENDERS = st.sampled_from(["<>", "<mailer-daemon@else.example>", "<someone@else.example>"])


def judged(outside, sender, message, client=STRANGE_CLIENT):
    """The outcome, and the facts at the end, of one recipient."""
    talk = Talk(outside, client).mail(sender)
    outcome = talk.rcpt(f"<{ALICE}>")
    if outcome.verb is Verb.CONTINUE:
        outcome = talk.send(message)
    return outcome, [one.facts for one in talk.session.transaction.accepted]


@given(outsides(), SENDERS, MESSAGES)
def test_no_5xx_and_no_loss_follows_from_what_could_not_be_asked(outside, sender, message):
    outcome, known = judged(outside, sender, message)
    lost = outcome.verb is Verb.DISCARD or (outcome.reply is not None and outcome.reply.is_permanent)
    if lost and any(facts.report is not None and facts.unanswered for facts in known):
        [record] = [record for record in outcome.records if record.action]
        assert record.check not in ("unproved", "report")


@given(outsides(), SENDERS, MESSAGES)
def test_what_is_proved_is_never_refused_for_lack_of_proof(outside, sender, message):
    outcome, known = judged(outside, sender, message)
    if any(facts.proofs for facts in known):
        assert not any(record.check in ("unproved", "report", "harvest") for record in outcome.records)


@given(outsides(), SENDERS, MESSAGES)
def test_a_relay_of_ours_never_gets_a_5xx(outside, sender, message):
    outcome, _ = judged(outside, sender, message, RELAY_CLIENT)
    assert outcome.reply is None or not outcome.reply.is_permanent


@given(outsides(), MESSAGES)
def test_only_what_a_setting_calls_proof_is_proof(outside, message):
    _, known = judged(outside, "<>", message)
    kinds = outside.domains[OURS].proof
    for facts in known:
        assert facts.proofs <= frozenset(kinds)
        assert facts.tag is TagState.NONE
        assert Proof.MEMORY not in facts.proofs or outside.sent


@given(st.lists(st.text(max_size=300), max_size=5))
def test_addresses_are_found_or_not_but_nothing_raises(texts):
    for address in addresses_in(texts):
        assert "@" in address
        assert address == address.lower() or not address.isascii()


@given(
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=200))), st.lists(st.binary(max_size=200_000))
)
def test_content_stays_within_its_bounds(fields, chunks):
    content = Content()
    for name, value in fields:
        content.header(name, value)
    wanted = [content.body(chunk) for chunk in chunks]
    assert len(content.message()) <= 1_000_001
    assert wanted == sorted(wanted, reverse=True)
