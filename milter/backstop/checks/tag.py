"""A bounce to a tag that we never made: forged, or naming a key that we do not have."""

from backstop.batv import TagState
from backstop.facts import Facts
from backstop.reply import Reply, Stage
from backstop.settings import DomainSettings
from backstop.verdict import NOTHING, Check, Finding, Result, UnderBlock

_FINDINGS = {
    TagState.NONE: NOTHING,
    TagState.GOOD: Finding(Result.PASS),
    TagState.EXPIRED: Finding(Result.NONE, "tag expired"),
    TagState.FORGED: Finding(Result.FAIL, "tag forged"),
    TagState.UNKNOWN_KEY: Finding(Result.FAIL, "tag names an unknown key"),
}


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Judge tags of bounces only: elsewhere a tag grants nothing and costs nothing."""
    return _FINDINGS[facts.tag] if facts.is_bounce else NOTHING


CHECK = Check(
    name="tag",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.7.1", "This is a bounce of a message that was not sent from here"),
    tempfail=Reply(450, "4.7.1", "This is a bounce of a message that was not sent from here"),
    under_block=UnderBlock.RAISES,
    meaning="a bounce to a forged tag",
)
