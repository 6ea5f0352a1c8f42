"""client_list and sender_list: DNS lists that name the client, or the sender's domain."""

import pytest

from backstop.authentication import Listing
from backstop.batv import TagState
from backstop.checks import client_list, sender_list
from backstop.proof import Proof
from backstop.reply import Stage
from backstop.settings import Action
from backstop.verdict import NOTHING, Cost, Result
from tests.harness.engine import facts, settings

CHECKS = {"client_listing": client_list.CHECK, "sender_listing": sender_list.CHECK}
STRANGER = "<x@else.example>"

TABLE = [
    (Listing(), Result.PASS),
    (Listing(("bl.example",)), Result.FAIL),
    (Listing(("bl.example", "other.example"), ("third.example",)), Result.FAIL),
    (Listing((), ("bl.example",)), Result.TEMPERROR),
]


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(("listing", "result"), TABLE)
def test_the_table(name, listing, result):
    found = CHECKS[name].judge(facts(STRANGER, **{name: listing}), settings())
    assert found.result is result
    assert all(zone in found.reason for zone in listing.zones or listing.unanswered)


@pytest.mark.parametrize("name", CHECKS)
def test_where_nobody_asked_it_says_nothing(name):
    assert CHECKS[name].judge(facts(STRANGER), settings()) is NOTHING


def test_proof_beats_a_list():
    listed = Listing(("bl.example",))
    proved = facts("<>", tag=TagState.GOOD, client_listing=listed)
    assert client_list.CHECK.judge(proved, settings()).result is Result.PASS
    reading = settings({"proof": (Proof.TAG, Proof.MEMORY)})
    assert client_list.CHECK.reads(facts("<>", client_listing=listed, readable=True), reading)
    assert not client_list.CHECK.reads(facts("<>", client_listing=Listing(), readable=True), reading)


def test_what_the_design_says_of_them():
    for check in CHECKS.values():
        assert (check.stage, check.default, check.cost) == (Stage.RCPT, Action.OFF, Cost.DNS)
        assert str(check.reject).startswith("550 5.7.1 ")
        assert str(check.tempfail).startswith("450 4.7.1 ")
    assert client_list.CHECK.stage_for(null_sender=True) is Stage.DATA
    assert sender_list.CHECK.stage_for(null_sender=True) is Stage.RCPT
