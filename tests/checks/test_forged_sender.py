"""forged_sender: a reverse-path of ours, from outside, that we did not tag."""

import pytest

from backstop.batv import TagState
from backstop.checks.forged_sender import CHECK
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import Result
from tests.harness.engine import ALICE, BOB, facts, settings

TABLE = [
    ("<>", False, TagState.NONE, False, Result.NONE),
    ("<x@else.example>", False, TagState.NONE, False, Result.NONE),
    (BOB, True, TagState.NONE, False, Result.FAIL),
    (BOB, True, TagState.EXPIRED, False, Result.FAIL),
    (BOB, True, TagState.FORGED, False, Result.FAIL),
    (BOB, True, TagState.UNKNOWN_KEY, False, Result.FAIL),
    (BOB, True, TagState.GOOD, False, Result.PASS),
    (BOB, True, TagState.NONE, True, Result.NONE),
    (BOB, True, TagState.GOOD, True, Result.PASS),
]


@pytest.mark.parametrize(("sender", "ours", "tag", "exempt", "result"), TABLE)
def test_the_table(sender, ours, tag, exempt, result):
    known = facts(sender, ALICE, sender_is_ours=ours, sender_tag=tag, sender_is_exempt=exempt)
    assert CHECK.judge(known, settings()).result is result


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default) == (Stage.RCPT, Action.OBSERVE)
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
