"""Why unknown users of a domain are accepted or put off: what each source says, and which one is missing."""

from collections.abc import Sequence
from typing import Final

from backstop.cli.examinations.finding import Finding, unknown, wrong
from backstop.cli.examinations.surroundings import Surroundings
from backstop.cli.output import CommandFailed
from backstop.cli.recipients import WORDS, SourceAnswer, ask
from backstop.facts import Existence
from backstop.settings import Action, DomainSettings, SourceDown, SourceKind

PAGE: Final = "docs/never-a-source.md"

_TELLING: Final = (Existence.EXISTS, Existence.MISSING, Existence.ANYBODY)
_EXAMPLES: Final = {
    "redis": '"redis"',
    "file": '"file:/path"',
    "callahead": '"callahead:[next.hop.example]:25"',
    "postfix": '"postfix:lmdb:/path"',
    "ldap": '"ldap:NAME"',
    "sql": '"sql:NAME"',
}


def missing_source(surroundings: Surroundings, domain: str, nobody: str, forms: str) -> Finding:
    """The finding about a domain that lets in `nobody`, a user who does not exist."""
    settings = surroundings.effective(domain).settings
    answers = _answers(surroundings, settings, nobody)
    said = "; ".join(_said(answer) for answer in answers) or "no recipient source is set"
    return wrong(
        domain,
        f"accepts mail for unknown users ({forms}): it will bounce it later to forged senders. Asked about"
        f" {nobody}: {said}",
        f"{_cure(domain, settings, answers)}. {PAGE} tells more",
    )


def silent_source(surroundings: Surroundings, domain: str, nobody: str, reply: str) -> Finding:
    """The finding about a domain whose mail the daemon puts off, as no source told it who exists."""
    answers = _answers(surroundings, surroundings.effective(domain).settings, nobody)
    said = "; ".join(_said(answer) for answer in answers) or "no recipient source is set"
    text = f"mail for unknown users is put off, as no recipient source answered: {reply}. Asked here: {said}"
    if any(answer.existence in _TELLING for answer in answers):
        # A daemon asks a next hop a few times a minute at most, and many domains may share one.
        return unknown(domain, text, f"the source answers: `backstop doctor {domain}` again in a minute")
    return wrong(domain, text, f"mend the source: `backstop recipient test {nobody}` asks it again")


def _answers(surroundings: Surroundings, settings: DomainSettings, nobody: str) -> list[SourceAnswer]:
    local, _, domain = nobody.rpartition("@")
    answers = []
    for source in settings.recipients:
        try:
            answers.append(ask(surroundings.toggles, source, domain, [local]))
        except CommandFailed as failure:
            answers.append(SourceAnswer(str(source), Existence.UNKNOWN, str(failure)))
    return answers


def _said(answer: SourceAnswer) -> str:
    word = WORDS.get(answer.existence.name, answer.existence.name.lower())
    return f"{answer.source} says: {word}" + (f" ({answer.trouble})" if answer.trouble else "")


def _cure(domain: str, settings: DomainSettings, answers: Sequence[SourceAnswer]) -> str:
    said = {answer.existence for answer in answers}
    action = settings.actions["recipient"]
    if Existence.EXISTS in said:
        return "a source that says of everybody that he exists is none: take its catch-all out"
    if Existence.MISSING in said:
        if action >= Action.TEMPFAIL:
            return "the source knows it; the daemon may not yet: `systemctl reload backstop`"
        return f"the source knows it, but the check only says {action.label}: {_enforce(domain)}"
    if Existence.ANYBODY in said:
        return "the next hop takes everybody: tell it to refuse unknown recipients itself, in the session"
    if Existence.UNKNOWN in said:
        if action < Action.TEMPFAIL:
            return f"mend the source, then {_enforce(domain)}"
        if settings.source_down is SourceDown.CONTINUE:
            return f"mend the source, or `backstop domain set {domain} source_down tempfail`"
        return "mend the source"
    return _another(domain)


def _enforce(domain: str) -> str:
    return f"`backstop domain set {domain} recipient reject`"


def _another(domain: str) -> str:
    there = {kind.value for kind in SourceKind}
    choices = ", ".join(example for kind, example in _EXAMPLES.items() if kind in there)
    return (
        "let the mail server know its users (`backstop setup postfix` names the table that is missing), or"
        f' give Backstop a source: in the configuration, below [domain."{domain}"], recipients = [...] with'
        f" one of {choices}"
    )
