"""dmarc: a header From that is forged, by the policy of its domain."""

import pytest

from backstop.authentication import Disposition, Dmarc, DmarcResult
from backstop.batv import TagState
from backstop.checks.dmarc import CHECK
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import NOTHING, Cost, Result
from tests.harness.engine import facts, settings

STRANGER = "<x@else.example>"
FORGED = Dmarc(DmarcResult.FAIL, "bank.example", Disposition.REJECT, "p=reject")

TABLE = [
    (None, Result.NONE),
    (FORGED, Result.FAIL),
    (Dmarc(DmarcResult.FAIL, "bank.example", Disposition.QUARANTINE), Result.FAIL),
    (Dmarc(DmarcResult.FAIL, "bank.example", Disposition.NONE), Result.NONE),
    (Dmarc(DmarcResult.PASS, "bank.example"), Result.PASS),
    (Dmarc(DmarcResult.NONE), Result.NONE),
    (Dmarc(DmarcResult.TEMPERROR, "bank.example"), Result.TEMPERROR),
    (Dmarc(DmarcResult.PERMERROR, "bank.example"), Result.NONE),
]


@pytest.mark.parametrize(("dmarc", "result"), TABLE)
@pytest.mark.parametrize("sender", ["<>", STRANGER])
def test_the_table(sender, dmarc, result):
    assert CHECK.judge(facts(sender, dmarc=dmarc), settings()).result is result


def test_its_reason_names_the_domain_and_what_its_owner_wants():
    reason = CHECK.judge(facts(STRANGER, dmarc=FORGED), settings()).reason
    assert reason == "DMARC fail of bank.example: p=reject; its owner wants reject"
    assert CHECK.judge(facts(STRANGER), settings()) is NOTHING


def test_a_bounce_that_is_proved_may_show_any_author():
    assert CHECK.judge(facts("<>", tag=TagState.GOOD, dmarc=FORGED), settings()).result is Result.PASS
    assert not CHECK.reads(facts("<>", tag=TagState.GOOD, readable=True, verifiable=True), settings())


@pytest.mark.parametrize("sender", ["<>", STRANGER])
@pytest.mark.parametrize("verifiable", [True, False])
def test_all_other_mail_is_read_where_its_signatures_can_be_verified(sender, verifiable):
    assert CHECK.reads(facts(sender, readable=True, verifiable=verifiable), settings()) is verifiable


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.cost) == (Stage.EOM, Action.OFF, Cost.BODY)
    assert CHECK.about_client, "of a relay SPF says nothing"
    assert CHECK.stage_for(null_sender=True) is Stage.EOM
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
