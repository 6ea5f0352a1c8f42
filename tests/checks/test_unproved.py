"""unproved: a bounce without proof that we wrote the original."""

import pytest

from backstop.batv import TagState
from backstop.checks.unproved import CHECK
from backstop.proof import Proof
from backstop.reply import Stage
from backstop.report import Kind, Report
from backstop.settings import Action, Addresses, NothingReturned
from backstop.verdict import Result, UnderBlock
from tests.harness.engine import ALICE, BOB, OURS, facts, settings

SETTINGS = settings({"exempt_senders": Addresses([BOB, "@bulk.example"])})

TABLE = [
    ("<>", ALICE, TagState.NONE, False, Result.FAIL),
    ("<>", ALICE, TagState.EXPIRED, False, Result.FAIL),
    ("<>", ALICE, TagState.FORGED, False, Result.FAIL),
    ("<>", ALICE, TagState.UNKNOWN_KEY, False, Result.FAIL),
    ("<>", ALICE, TagState.GOOD, False, Result.PASS),
    ("<>", ALICE, TagState.NONE, True, Result.NONE),
    ("<>", ALICE, TagState.GOOD, True, Result.PASS),
    ("<>", BOB, TagState.NONE, False, Result.NONE),
    ("<>", BOB, TagState.GOOD, False, Result.PASS),
    ("<>", "anyone@bulk.example", TagState.NONE, False, Result.NONE),
    ("<>", f"{'x' * 48}@{OURS}", TagState.NONE, False, Result.FAIL),
    ("<>", f"{'x' * 49}@{OURS}", TagState.NONE, False, Result.NONE),
    ("<>", f'"a b"@{OURS}', TagState.NONE, False, Result.NONE),
    ("<>", f"SRS0=HHH=TT=else.example=x@{OURS}", TagState.NONE, False, Result.NONE),
    ("<>", f"btv1==0123456789a==x@{OURS}", TagState.NONE, False, Result.NONE),
    ("<x@else.example>", ALICE, TagState.NONE, False, Result.NONE),
    ("<x@else.example>", ALICE, TagState.GOOD, False, Result.NONE),
]


@pytest.mark.parametrize(("sender", "recipient", "tag", "untagged", "result"), TABLE)
def test_the_table(sender, recipient, tag, untagged, result):
    known = facts(sender, recipient, tag=tag, untagged_mail=untagged)
    assert CHECK.judge(known, SETTINGS).result is result


def test_the_proofs_are_named():
    assert CHECK.judge(facts(tag=TagState.GOOD), SETTINGS).reason == "proof: tag"


READ = Report(Kind.BOUNCE, (), (), ("an@id",), None)
EMPTY = Report(Kind.BOUNCE, (), (), (), None)
EVERY = settings({"proof": tuple(Proof), "exempt_senders": Addresses([BOB])})
LENIENT = settings({"proof": tuple(Proof), "nothing_returned": NothingReturned.IGNORED})


@pytest.mark.parametrize(
    ("settings", "recipient", "known", "result", "reason"),
    [
        (
            EVERY,
            ALICE,
            {"report": READ},
            Result.FAIL,
            "; sought: memory, dkim, correspondent",
        ),
        (EVERY, ALICE, {"report": READ, "proofs": {Proof.DKIM}}, Result.PASS, "proof: dkim"),
        (
            EVERY,
            ALICE,
            {"report": EMPTY},
            Result.FAIL,
            "nothing of the original, without proof; sought: ",
        ),
        (LENIENT, ALICE, {"report": EMPTY}, Result.NONE, "a bounce that returns nothing of the original"),
        (LENIENT, ALICE, {"report": READ}, Result.FAIL, "a bounce without proof that we wrote the original"),
        (
            EVERY,
            ALICE,
            {"report": READ, "unanswered": {Proof.MEMORY}},
            Result.TEMPERROR,
            "for: memory",
        ),
        (
            LENIENT,
            ALICE,
            {"report": EMPTY, "unanswered": {Proof.CORRESPONDENT}},
            Result.TEMPERROR,
            "for: ",
        ),
        (EVERY, BOB, {"report": READ}, Result.NONE, "the address is exempt"),
        (EVERY, ALICE, {"report": READ, "untagged_mail": True}, Result.NONE, "under way without a tag"),
    ],
)
def test_the_table_of_what_was_read(settings, recipient, known, result, reason):
    known = {name: frozenset(one) if isinstance(one, set) else one for name, one in known.items()}
    finding = CHECK.judge(facts(recipient=recipient, **known), settings)
    assert finding.result is result
    assert reason in finding.reason


@pytest.mark.parametrize(
    ("proof", "known", "reads"),
    [
        ((Proof.TAG,), {}, False),
        ((Proof.TAG, Proof.MEMORY), {}, True),
        ((Proof.DKIM,), {}, True),
        ((Proof.CORRESPONDENT,), {"readable": False}, False),
        (tuple(Proof), {"tag": TagState.GOOD}, False),
        (tuple(Proof), {"tag": TagState.EXPIRED}, True),
        (tuple(Proof), {"tag": TagState.FORGED}, True),
        (tuple(Proof), {"untagged_mail": True}, False),
        (tuple(Proof), {"sender": "<x@else.example>"}, False),
    ],
)
def test_which_bounces_are_read(proof, known, reads):
    assert CHECK.reads(facts(**{"readable": True, **known}), settings({"proof": proof})) is reads


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.graced) == (Stage.DATA, Action.OBSERVE, True)
    assert CHECK.under_block is UnderBlock.REPLACES
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
    assert str(CHECK.unanswered).startswith("451 4.7.1 ")
