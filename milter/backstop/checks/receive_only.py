"""A bounce to an address that never sends can only be backscatter."""

from backstop.facts import Facts
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.verdict import NOTHING, Check, Finding, Result

_PASS = Finding(Result.PASS, "a proved bounce to an address that is said never to send")
_FAIL = Finding(Result.FAIL, "a bounce to an address that never sends")


def judge(facts: Facts, settings: DomainSettings) -> Finding:
    """Compare the mailbox with the listed addresses; a proof shows that this one does send."""
    if not facts.is_bounce or facts.mailbox not in settings.receive_only:
        return NOTHING
    return _PASS if facts.proofs else _FAIL


CHECK = Check(
    name="receive_only",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.7.1", "This address sends no mail, so it takes no bounces"),
    tempfail=Reply(450, "4.7.1", "This address sends no mail, so it takes no bounces"),
    default=Action.REJECT,
    meaning="a bounce to an address that never sends",
)
