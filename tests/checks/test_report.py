"""report: a report or an automatic answer with a real sender, without proof that we wrote the original."""

import pytest

from backstop.batv import TagState
from backstop.checks.report import CHECK
from backstop.proof import Proof
from backstop.reply import Stage
from backstop.report import Kind, Report
from backstop.settings import Action, Addresses, ReportScope
from backstop.verdict import Cost, Result, UnderBlock
from tests.harness.engine import ALICE, BOB, facts, settings

SETTINGS = settings({"proof": tuple(Proof), "exempt_senders": Addresses([BOB])})
ROBOT = "<Mailer-Daemon@else.example>"
PERSON = "<someone@else.example>"


def said(kind):
    return Report(kind, (), (), ("an@id",), None)


TABLE = [
    (ROBOT, ALICE, Kind.BOUNCE, (), Result.FAIL),
    (ROBOT, ALICE, Kind.AUTO_REPLY, (), Result.FAIL),
    (ROBOT, ALICE, Kind.CHALLENGE, (), Result.FAIL),
    (ROBOT, ALICE, Kind.RECEIPT, (), Result.FAIL),
    (ROBOT, ALICE, Kind.FEEDBACK, (), Result.NONE),
    (ROBOT, ALICE, Kind.ORDINARY, (), Result.NONE),
    (ROBOT, ALICE, None, (), Result.NONE),
    (ROBOT, ALICE, Kind.BOUNCE, (Proof.MEMORY,), Result.PASS),
    (ROBOT, BOB, Kind.BOUNCE, (), Result.NONE),
    (ROBOT, BOB, Kind.BOUNCE, (Proof.DKIM,), Result.PASS),
    ("<>", ALICE, Kind.BOUNCE, (), Result.NONE),
]


@pytest.mark.parametrize(("sender", "recipient", "kind", "proofs", "result"), TABLE)
def test_the_table(sender, recipient, kind, proofs, result):
    known = facts(sender, recipient, report=kind and said(kind), proofs=frozenset(proofs))
    assert CHECK.judge(known, SETTINGS).result is result


def test_what_could_not_be_asked_is_no_failure():
    known = facts(ROBOT, report=said(Kind.BOUNCE), unanswered=frozenset({Proof.DKIM}))
    finding = CHECK.judge(known, SETTINGS)
    assert (finding.result, finding.reason) == (Result.TEMPERROR, "proof could not be looked for: dkim")


@pytest.mark.parametrize(
    ("sender", "scope", "readable", "reads"),
    [
        (ROBOT, ReportScope.ROBOTS, True, True),
        ("<POSTMASTER@else.example>", ReportScope.ROBOTS, True, True),
        (PERSON, ReportScope.ROBOTS, True, False),
        (PERSON, ReportScope.ALL, True, True),
        (PERSON, ReportScope.ALL, False, False),
        (ROBOT, ReportScope.ROBOTS, False, False),
        ("<>", ReportScope.ALL, True, False),
    ],
)
def test_whose_mail_is_read(sender, scope, readable, reads):
    known = facts(sender, readable=readable, tag=TagState.NONE)
    assert CHECK.reads(known, settings({"report_scope": scope})) is reads


def test_what_the_design_says_of_it():
    assert (CHECK.stage, CHECK.default, CHECK.cost) == (Stage.EOM, Action.OFF, Cost.BODY)
    assert (CHECK.graced, CHECK.under_block) == (True, UnderBlock.NOTHING)
    assert str(CHECK.reject).startswith("550 5.7.1 ")
    assert str(CHECK.tempfail).startswith("450 4.7.1 ")
    assert str(CHECK.unanswered).startswith("451 4.7.1 ")
