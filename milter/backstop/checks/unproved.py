"""A bounce with neither a good tag nor other proof that we wrote the original."""

from backstop.facts import Facts, Need, awaits_proof, excuse
from backstop.proof import IN_THE_MESSAGE, words
from backstop.reply import Reply, Stage
from backstop.settings import DomainSettings, NothingReturned
from backstop.verdict import NOTHING, Check, Finding, Result, UnderBlock, lose_nothing

_FAIL = "a bounce without proof that we wrote the original"
_NOTHING_RETURNED = "a bounce that returns nothing of the original"


def judge(facts: Facts, settings: DomainSettings) -> Finding:
    """Fail a bounce only where a proof could have been expected."""
    if not facts.is_bounce:
        return NOTHING
    if facts.proofs:
        return Finding(Result.PASS, f"proof: {words(facts.proofs)}")
    if reason := excuse(facts, settings):
        return Finding(Result.NONE, reason)
    if facts.report is None:
        return Finding(Result.FAIL, _FAIL)
    if facts.unanswered:
        return Finding(Result.TEMPERROR, f"proof could not be looked for: {words(facts.unanswered)}")
    sought = words(IN_THE_MESSAGE.intersection(settings.proof))
    if not facts.report.returned and not facts.report.mentioned:
        if settings.nothing_returned is NothingReturned.IGNORED:
            return Finding(Result.NONE, _NOTHING_RETURNED)
        return Finding(Result.FAIL, f"{_NOTHING_RETURNED}, without proof; sought: {sought}")
    return Finding(Result.FAIL, f"{_FAIL}; sought: {sought}")


def reads(facts: Facts, settings: DomainSettings) -> bool:
    """Read a bounce that fails as yet."""
    return awaits_proof(facts, settings) and not excuse(facts, settings)


CHECK = Check(
    name="unproved",
    stage=Stage.DATA,
    judge=judge,
    reject=Reply(550, "5.7.1", "This is a bounce of a message that was not sent from here"),
    tempfail=Reply(450, "4.7.1", "This is a bounce of a message that was not sent from here"),
    unanswered=Reply(451, "4.7.1", "This bounce cannot be verified now, try again later"),
    needs=frozenset({Need.UNTAGGED_MAIL}),
    graced=True,
    under_block=UnderBlock.REPLACES,
    reads=reads,
    on_temperror=lose_nothing,
    meaning="a bounce without proof",
)
