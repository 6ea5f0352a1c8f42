"""harvest: a client that looks for addresses."""

import pytest

from backstop.batv import TagState
from backstop.checks.harvest import CHECK
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import Result
from tests.harness.engine import facts, settings

TABLE = [
    ("<>", False, TagState.NONE, Result.NONE),
    ("<>", True, TagState.NONE, Result.FAIL),
    ("<>", True, TagState.FORGED, Result.FAIL),
    ("<>", True, TagState.GOOD, Result.PASS),
    ("<x@else.example>", False, TagState.NONE, Result.NONE),
    ("<x@else.example>", True, TagState.NONE, Result.FAIL),
    ("<x@else.example>", True, TagState.GOOD, Result.FAIL),
]


@pytest.mark.parametrize(("sender", "harvests", "tag", "result"), TABLE)
def test_the_table(sender, harvests, tag, result):
    assert CHECK.judge(facts(sender, harvests=harvests, tag=tag), settings()).result is result


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.about_client) == (Stage.RCPT, Action.OBSERVE, True)
    assert CHECK.stage_for(null_sender=True) is Stage.DATA
    assert CHECK.stage_for(null_sender=False) is Stage.RCPT
    assert str(CHECK.reject).startswith("421 4.7.0 ")
    assert CHECK.tempfail == CHECK.reject
