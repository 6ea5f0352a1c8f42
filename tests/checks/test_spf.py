"""spf: a client that may not send for its sender."""

import pytest

from backstop.authentication import Spf, SpfIdentity, SpfResult
from backstop.batv import TagState
from backstop.checks.spf import CHECK
from backstop.proof import Proof
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import NOTHING, Cost, Result
from tests.harness.engine import facts, settings

READING = settings({"proof": (Proof.TAG, Proof.MEMORY)})
STRANGER = "<x@else.example>"

RESULTS = {
    SpfResult.NONE: Result.NONE,
    SpfResult.NEUTRAL: Result.NONE,
    SpfResult.PASS: Result.PASS,
    SpfResult.FAIL: Result.FAIL,
    SpfResult.SOFTFAIL: Result.NONE,
    SpfResult.TEMPERROR: Result.TEMPERROR,
    SpfResult.PERMERROR: Result.NONE,
}


def spf(result):
    return Spf(result, SpfIdentity.MAILFROM, "else.example", "-all")


@pytest.mark.parametrize("sender", ["<>", STRANGER])
@pytest.mark.parametrize("result", SpfResult)
def test_the_table(sender, result):
    found = CHECK.judge(facts(sender, spf=spf(result)), settings())
    assert found.result is RESULTS[result]
    assert found.reason == f"SPF {result.value} of mailfrom else.example: -all"


def test_where_nobody_asked_it_says_nothing():
    assert CHECK.judge(facts(STRANGER), settings()) is NOTHING


def test_a_bounce_that_is_proved_may_come_from_anywhere():
    proved = facts("<>", tag=TagState.GOOD, spf=spf(SpfResult.FAIL))
    assert CHECK.judge(proved, settings()).result is Result.PASS
    tagged_mail = facts(STRANGER, tag=TagState.GOOD, spf=spf(SpfResult.FAIL))
    assert CHECK.judge(tagged_mail, settings()).result is Result.FAIL


@pytest.mark.parametrize(
    ("sender", "result", "readable", "reads"),
    [
        ("<>", SpfResult.FAIL, True, True),
        ("<>", SpfResult.FAIL, False, False),
        ("<>", SpfResult.SOFTFAIL, True, False),
        (STRANGER, SpfResult.FAIL, True, False),
    ],
)
def test_only_a_bounce_that_may_be_proved_is_read(sender, result, readable, reads):
    assert CHECK.reads(facts(sender, spf=spf(result), readable=readable), READING) is reads


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.cost, CHECK.about_client) == (
        Stage.RCPT,
        Action.OFF,
        Cost.DNS,
        True,
    )
    assert CHECK.stage_for(null_sender=True) is Stage.DATA
    assert str(CHECK.reject).startswith("550 5.7.23 ")
    assert str(CHECK.tempfail).startswith("450 4.7.23 ")
