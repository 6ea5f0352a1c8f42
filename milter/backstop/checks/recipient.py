"""The recipient, its tag and extension taken off, does not exist: refused now, so no bounce is due later."""

from backstop.facts import Existence, Facts, Need
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings, SourceDown
from backstop.verdict import NOTHING, Check, Finding, Result

_FINDINGS = {
    Existence.NOT_ASKED: NOTHING,
    Existence.EXISTS: Finding(Result.PASS),
    Existence.MISSING: Finding(Result.FAIL, "no such recipient"),
    Existence.UNKNOWN: Finding(Result.TEMPERROR, "no source could say whether the recipient exists"),
    Existence.ANYBODY: Finding(Result.NONE, "the next hop takes every recipient"),
}


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Read what the sources said."""
    return _FINDINGS[facts.existence]


def on_temperror(settings: DomainSettings, action: Action) -> Action:
    """Accepting what may not exist would make a bounce later; a retry costs nothing."""
    waits = action >= Action.TEMPFAIL and settings.source_down is SourceDown.TEMPFAIL
    return Action.TEMPFAIL if waits else Action.OBSERVE


CHECK = Check(
    name="recipient",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.1.1", "No such user here"),
    tempfail=Reply(451, "4.1.1", "Recipient cannot be verified now, try again later"),
    default=Action.REJECT,
    needs=frozenset({Need.EXISTENCE}),
    on_temperror=on_temperror,
    meaning="the recipient does not exist",
)
