"""A client that named too many unknown recipients lately is looking for addresses."""

from backstop.facts import Facts, Need, awaits_proof
from backstop.reply import Reply, Stage
from backstop.settings import DomainSettings
from backstop.verdict import NOTHING, Check, Finding, Result

_PASS = Finding(Result.PASS, "the client named too many unknown recipients, but this bounce is proved")
_FAIL = Finding(Result.FAIL, "the client named too many unknown recipients")
_CLOSE = Reply(421, "4.7.0", "Too many unknown recipients, try again later")


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Read the client's count. A bounce that we can be proved to have caused is no part of a flood."""
    if not facts.harvests:
        return NOTHING
    return _PASS if facts.is_bounce and facts.proofs else _FAIL


def reads(facts: Facts, settings: DomainSettings) -> bool:
    """Read a bounce that may yet be proved: proof beats a flood."""
    return facts.harvests and awaits_proof(facts, settings)


CHECK = Check(
    name="harvest",
    stage=Stage.RCPT,
    judge=judge,
    reject=_CLOSE,
    tempfail=_CLOSE,
    needs=frozenset({Need.UNKNOWN_RECIPIENTS}),
    about_client=True,
    reads=reads,
    meaning="the client looks for addresses",
)
