"""receive_only: bounces to addresses that never send."""

import pytest

from backstop.batv import TagState
from backstop.checks.receive_only import CHECK
from backstop.reply import Stage
from backstop.settings import Action, Addresses
from backstop.verdict import Result
from tests.harness.engine import ALICE, BOB, OURS, facts, settings

LISTED = settings({"receive_only": Addresses([ALICE, f"no-reply*@{OURS}"])})

TABLE = [
    ("<>", ALICE, TagState.NONE, Result.FAIL),
    ("<>", f"Alice@{OURS.upper()}", TagState.NONE, Result.FAIL),
    ("<>", f"no-reply-7@{OURS}", TagState.NONE, Result.FAIL),
    ("<>", BOB, TagState.NONE, Result.NONE),
    ("<>", f"alice+x@{OURS}", TagState.NONE, Result.NONE),
    ("<x@else.example>", ALICE, TagState.NONE, Result.NONE),
    ("<>", ALICE, TagState.FORGED, Result.FAIL),
    ("<>", ALICE, TagState.EXPIRED, Result.FAIL),
    ("<>", ALICE, TagState.GOOD, Result.PASS),
]


@pytest.mark.parametrize(("sender", "recipient", "tag", "result"), TABLE)
def test_the_table(sender, recipient, tag, result):
    assert CHECK.judge(facts(sender, recipient, tag=tag), LISTED).result is result


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default) == (Stage.RCPT, Action.REJECT)
    assert CHECK.stage_for(null_sender=True) is Stage.RCPT
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
