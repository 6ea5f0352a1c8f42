"""The header From is forged, and its domain's owner wants such mail quarantined or rejected: RFC 7489."""

from backstop.authentication import Disposition, DmarcResult
from backstop.facts import Facts, Need
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.verdict import NOTHING, Check, Cost, Finding, Result, unless_proved


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Translate what DMARC says, once the message was read."""
    dmarc = facts.dmarc
    if dmarc is None:
        return NOTHING
    reason = f"DMARC {dmarc.result.value}"
    if dmarc.domain:
        reason += f" of {dmarc.domain}"
    if dmarc.reason:
        reason += f": {dmarc.reason}"
    if dmarc.result is DmarcResult.PASS:
        return Finding(Result.PASS, reason)
    if dmarc.result is DmarcResult.TEMPERROR:
        return Finding(Result.TEMPERROR, reason)
    if dmarc.result is not DmarcResult.FAIL or dmarc.disposition is Disposition.NONE:
        return Finding(Result.NONE, reason)
    reason += f"; its owner wants {dmarc.disposition.label}"
    return unless_proved(facts, Finding(Result.FAIL, reason))


def reads(facts: Facts, settings: DomainSettings) -> bool:  # noqa: ARG001 - every check's takes both
    """Read all mail but bounces that are proved already."""
    return facts.verifiable and not facts.is_proved


# About the client, because of a relay of ours SPF says nothing: without it half of DMARC is missing.
CHECK = Check(
    name="dmarc",
    stage=Stage.EOM,
    judge=judge,
    reject=Reply(550, "5.7.1", "The policy of the domain in the header From refuses this message"),
    tempfail=Reply(450, "4.7.1", "The policy of the domain in the header From refuses this message"),
    default=Action.OFF,
    cost=Cost.BODY,
    needs=frozenset({Need.DMARC, Need.SPF}),
    about_client=True,
    reads=reads,
    meaning="the header From, forged by DMARC",
)
