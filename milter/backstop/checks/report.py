"""A report or automatic answer with a real sender, about mail that we cannot be proved to have sent.

Old and odd systems send these in place of bounces with the null sender (RFC 5321, section 4.5.5).
"""

from backstop.facts import Facts, excuse
from backstop.proof import words
from backstop.reply import Reply, Stage
from backstop.report import Kind
from backstop.settings import Action, DomainSettings, ReportScope
from backstop.verdict import NOTHING, Check, Cost, Finding, Result, lose_nothing

_ANSWERS = {
    Kind.BOUNCE: "a non-delivery report",
    Kind.AUTO_REPLY: "an automatic answer",
    Kind.CHALLENGE: "a challenge",
    Kind.RECEIPT: "a receipt",
}


def judge(facts: Facts, settings: DomainSettings) -> Finding:
    """Judge what the message was found to be, once it was read."""
    if facts.report is None or facts.is_bounce or facts.report.kind not in _ANSWERS:
        return NOTHING
    what = f"{_ANSWERS[facts.report.kind]} with a real sender"
    if facts.proofs:
        return Finding(Result.PASS, f"{what}, proof: {words(facts.proofs)}")
    if reason := excuse(facts, settings):
        return Finding(Result.NONE, reason)
    if facts.unanswered:
        return Finding(Result.TEMPERROR, f"proof could not be looked for: {words(facts.unanswered)}")
    return Finding(Result.FAIL, f"{what}, without proof that we wrote the original")


def reads(facts: Facts, settings: DomainSettings) -> bool:
    """Read mail of those who are known to be robots, or of everybody."""
    if not facts.readable or facts.is_bounce:
        return False
    if settings.report_scope is ReportScope.ALL:
        return True
    return facts.reverse_path.local.lower() in settings.robot_senders


CHECK = Check(
    name="report",
    stage=Stage.EOM,
    judge=judge,
    reject=Reply(550, "5.7.1", "This is a report about a message that was not sent from here"),
    tempfail=Reply(450, "4.7.1", "This is a report about a message that was not sent from here"),
    unanswered=Reply(451, "4.7.1", "This report cannot be verified now, try again later"),
    default=Action.OFF,
    cost=Cost.BODY,
    graced=True,
    reads=reads,
    on_temperror=lose_nothing,
    meaning="a report with a real sender, without proof",
)
