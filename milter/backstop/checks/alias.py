"""A disposable address that is past its date, or was switched off."""

from backstop.batv import TagState
from backstop.facts import Facts
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.verdict import NOTHING, Check, Finding, Result

_PASS = Finding(Result.PASS, "a disposable address")
_OFF = Finding(Result.FAIL, "a disposable address that was switched off")
_ENDED = Finding(Result.FAIL, "a disposable address past its date")


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Leave alone what only looks like one: the extension is the user's own."""
    if facts.alias is TagState.EXPIRED:
        return _ENDED
    if facts.alias is not TagState.GOOD:
        return NOTHING
    return _OFF if facts.alias_is_off else _PASS


CHECK = Check(
    name="alias",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.1.1", "No such user here"),
    tempfail=Reply(450, "4.1.1", "No such user here"),
    default=Action.REJECT,
    meaning="a disposable address at its end",
)
