"""unproved: a bounce without proof that we wrote the original."""

import pytest

from backstop.batv import TagState
from backstop.checks.unproved import CHECK
from backstop.reply import Stage
from backstop.settings import Action, Addresses
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


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.graced) == (Stage.DATA, Action.OBSERVE, True)
    assert CHECK.under_block is UnderBlock.REPLACES
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
