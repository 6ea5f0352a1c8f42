"""tag: a bounce to a tag that we never made."""

import pytest

from backstop.batv import TagState
from backstop.checks.tag import CHECK
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import Result, UnderBlock
from tests.harness.engine import facts, settings

TABLE = [
    (TagState.NONE, Result.NONE, ""),
    (TagState.GOOD, Result.PASS, ""),
    (TagState.EXPIRED, Result.NONE, "tag expired"),
    (TagState.FORGED, Result.FAIL, "tag forged"),
    (TagState.UNKNOWN_KEY, Result.FAIL, "tag names an unknown key"),
]


@pytest.mark.parametrize(("tag", "result", "reason"), TABLE)
def test_the_table(tag, result, reason):
    finding = CHECK.judge(facts("<>", tag=tag), settings())
    assert (finding.result, finding.reason) == (result, reason)


@pytest.mark.parametrize("tag", TagState)
def test_it_judges_bounces_only(tag):
    assert CHECK.judge(facts("<x@else.example>", tag=tag), settings()).result is Result.NONE


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.under_block) == (Stage.RCPT, Action.OBSERVE, UnderBlock.RAISES)
    assert not CHECK.graced
    assert CHECK.stage_for(null_sender=True) is Stage.RCPT
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
