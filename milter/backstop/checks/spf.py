"""The client may not send for the domain of the reverse-path, or under its HELO name: SPF, RFC 7208.

For the null sender the HELO name is judged, at DATA: others call back to see whether our users exist.
"""

from typing import Final

from backstop.authentication import SpfResult
from backstop.facts import Facts, Need, awaits_proof
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.verdict import NOTHING, Check, Cost, Finding, Result, unless_proved

_RESULTS: Final = {
    SpfResult.PASS: Result.PASS,
    SpfResult.FAIL: Result.FAIL,
    SpfResult.TEMPERROR: Result.TEMPERROR,
}
"""All else says neither yes nor no: RFC 7208, section 8."""


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Translate what SPF says. A bounce that we can be proved to have caused may come from anywhere."""
    spf = facts.spf
    if spf is None:
        return NOTHING
    reason = f"SPF {spf.result.value} of {spf.identity.value} {spf.domain}"
    if spf.reason:
        reason += f": {spf.reason}"
    return unless_proved(facts, Finding(_RESULTS.get(spf.result, Result.NONE), reason))


def reads(facts: Facts, settings: DomainSettings) -> bool:
    """Read a bounce that may yet be proved."""
    return facts.spf is not None and facts.spf.result is SpfResult.FAIL and awaits_proof(facts, settings)


CHECK = Check(
    name="spf",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.7.23", "SPF does not allow this client to send for its sender"),
    tempfail=Reply(450, "4.7.23", "SPF does not allow this client to send for its sender"),
    default=Action.OFF,
    cost=Cost.DNS,
    needs=frozenset({Need.SPF}),
    about_client=True,
    reads=reads,
    meaning="the sender, forged by SPF",
)
