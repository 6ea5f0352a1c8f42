"""The list of checks: order, and what holds for every check there is."""

import pytest

from backstop.checks import CHECKS
from backstop.reply import Stage
from backstop.settings import PARSERS, Action
from backstop.verdict import Cost, defaults


def test_the_order_is_the_designs():
    assert [check.name for check in CHECKS] == [
        "recipient",
        "alias",
        "receive_only",
        "tag",
        "harvest",
        "forged_sender",
        "spf",
        "client_list",
        "sender_list",
        "unproved",
        "report",
        "dmarc",
    ]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_its_replies_refuse_and_fit_their_actions(check):
    assert check.reply(Action.REJECT) is check.reject
    assert check.reply(Action.TEMPFAIL) is check.tempfail
    assert not check.tempfail.is_permanent
    assert check.reject.is_permanent or check.reject.code == 421
    for action in Action:
        if action < Action.TEMPFAIL:
            assert check.reply(action) is None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_what_is_new_observes_and_what_is_dear_starts_off(check):
    # Of these nothing is looked at until a source, a label or an address is set.
    decisive = {"recipient", "alias", "receive_only"}
    if check.name not in decisive:
        assert check.default is (Action.OBSERVE if check.cost is Cost.ENVELOPE else Action.OFF)
    assert defaults(CHECKS)[check.name] is check.default


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_its_name_is_no_setting_and_it_says_what_it_means(check):
    # `receive_only` is both: its list and its action are told apart by the value.
    assert check.name not in PARSERS or check.name == "receive_only"
    assert check.meaning


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_what_is_about_the_client_waits_for_data_with_the_null_sender(check):
    stage = check.stage_for(null_sender=True)
    assert stage >= (Stage.DATA if check.about_client else check.stage)
    assert check.stage_for(null_sender=False) is check.stage
