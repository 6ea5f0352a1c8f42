"""recipient: one row for each thing that the sources may say."""

import pytest

from backstop.checks.recipient import CHECK
from backstop.facts import Existence
from backstop.reply import Stage
from backstop.settings import Action, SourceDown
from backstop.verdict import Cost, Result
from tests.harness.engine import facts, settings

TABLE = [
    (Existence.NOT_ASKED, Result.NONE, ""),
    (Existence.EXISTS, Result.PASS, ""),
    (Existence.MISSING, Result.FAIL, "no such recipient"),
    (Existence.UNKNOWN, Result.TEMPERROR, "no source could say whether the recipient exists"),
]


@pytest.mark.parametrize("sender", ["<>", "<x@else.example>"])
@pytest.mark.parametrize(("existence", "result", "reason"), TABLE)
def test_the_table(sender, existence, result, reason):
    finding = CHECK.judge(facts(sender, existence=existence), settings())
    assert (finding.result, finding.reason) == (result, reason)


@pytest.mark.parametrize("action", [a for a in Action if a > Action.OBSERVE])
def test_what_a_silent_source_does_is_set_and_only_where_a_missing_recipient_is_refused(action):
    waits = Action.TEMPFAIL if action >= Action.TEMPFAIL else Action.OBSERVE
    assert CHECK.on_temperror(settings({"source_down": SourceDown.TEMPFAIL}), action) is waits
    assert CHECK.on_temperror(settings({"source_down": SourceDown.CONTINUE}), action) is Action.OBSERVE


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.cost, CHECK.default) == (Stage.RCPT, Cost.ENVELOPE, Action.REJECT)
    assert str(CHECK.reject) == "550 5.1.1 No such user here"
    assert str(CHECK.tempfail) == "451 4.1.1 Recipient cannot be verified now, try again later"
    assert CHECK.stage_for(null_sender=True) is Stage.RCPT
