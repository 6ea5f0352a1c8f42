"""A reverse-path in one of our own domains, from outside, that we did not tag."""

from backstop.batv import TagState
from backstop.facts import Facts, Need
from backstop.reply import Reply, Stage
from backstop.settings import DomainSettings
from backstop.verdict import NOTHING, Check, Finding, Result

_PASS = Finding(Result.PASS, "the reverse-path carries a good tag")
_FAIL = Finding(Result.FAIL, "a reverse-path of ours from outside, without a good tag")


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Let pass what we tagged and who need not be tagged; forwards bring our own mail back."""
    if not facts.sender_is_ours:
        return NOTHING
    if facts.sender_tag is TagState.GOOD:
        return _PASS
    return NOTHING if facts.sender_is_exempt else _FAIL


CHECK = Check(
    name="forged_sender",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.7.1", "Mail from this sender does not come from there"),
    tempfail=Reply(450, "4.7.1", "Mail from this sender does not come from there"),
    needs=frozenset({Need.SENDER_DOMAIN}),
    meaning="a sender of ours, forged",
)
