"""alias: a disposable address at its end."""

import pytest

from backstop.batv import TagState
from backstop.checks.alias import CHECK
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import Cost, Result
from tests.harness.engine import facts, settings

TABLE = [
    (TagState.NONE, False, Result.NONE),
    (TagState.NONE, True, Result.NONE),
    (TagState.GOOD, False, Result.PASS),
    (TagState.GOOD, True, Result.FAIL),
    (TagState.EXPIRED, False, Result.FAIL),
    (TagState.EXPIRED, True, Result.FAIL),
    (TagState.FORGED, True, Result.NONE),
    (TagState.UNKNOWN_KEY, True, Result.NONE),
]


@pytest.mark.parametrize("sender", ["<>", "<x@else.example>"])
@pytest.mark.parametrize(("alias", "is_off", "result"), TABLE)
def test_the_table(sender, alias, is_off, result):
    found = CHECK.judge(facts(sender, alias=alias, alias_is_off=is_off), settings())
    assert found.result is result


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.cost) == (Stage.RCPT, Action.REJECT, Cost.ENVELOPE)
    assert CHECK.stage_for(null_sender=True) is Stage.RCPT
    assert str(CHECK.reject).startswith("550 5.1.1 ")
    assert str(CHECK.tempfail).startswith("450 4.1.1 ")
