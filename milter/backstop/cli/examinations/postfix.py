"""Whether Postfix, where this host runs one, is set up as `backstop setup postfix` would set it up."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from backstop.cli.examinations.finding import Examination, Finding, fine, note, unknown, wrong
from backstop.cli.examinations.surroundings import Surroundings
from backstop.config import Config
from backstop.setup.postfix.command import validates, wanted
from backstop.setup.postfix.plan import Level, LookupFailed, Plan, SetParameter, Wanted
from backstop.setup.postfix.planning import changes, plan
from backstop.setup.postfix.reading import PostfixUnavailable

_LISTS: Final = ("smtpd_milters", "non_smtpd_milters")
_SHOWS: Final = "`backstop setup postfix` shows it, --write writes it with a backup; then `postfix reload`"


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Plan a setup and write nothing: what would be changed is what is missing."""
    postfix = surroundings.postfix
    if postfix is None:
        return
    try:
        asked = _wanted(surroundings)
        view = postfix.view(asked.forms)
        chosen = plan(view, asked)
        folder = postfix.folder()
        present = {
            each.name: (folder / each.name).read_text("utf-8", "surrogateescape")
            for each in chosen.maps
            if (folder / each.name).exists()
        }
        todo = changes(view, chosen, folder, present)
    except (PostfixUnavailable, LookupFailed, OSError) as error:
        yield unknown("Postfix", f"its configuration cannot be read: {error}", "give the command as root")
        return
    found = list(_milters(surroundings.config, chosen))
    if todo and not found:
        names = ", ".join(change.path.name for change in todo)
        found.append(note("Postfix", f"`setup` would change {names}", _SHOWS))
    found += _remarks(chosen)
    yield from found or [fine("Postfix", "is set up for Backstop")]


def _wanted(surroundings: Surroundings) -> Wanted:
    """What the configuration asks of Postfix, with the recipient sources that Redis names."""
    asked = wanted(surroundings.config.path, None)
    validated = (each for each in asked.forms if validates(surroundings.effective(each).settings))
    return replace(asked, validated=frozenset(validated))


def _milters(config: Config, chosen: Plan) -> Iterator[Finding]:
    for step in chosen.steps:
        if isinstance(step, SetParameter) and step.name in _LISTS:
            which = (
                "mail that comes by SMTP" if step.name == _LISTS[0] else "mail of this host's own programs"
            )
            yield wrong(
                "Postfix",
                f"{step.name} does not name {config.socket} with default_action=tempfail: {which} passes"
                " Backstop by, always or while it is away",
                _SHOWS,
            )


def _remarks(chosen: Plan) -> Iterator[Finding]:
    """A refusal is sure; a warning may be as somebody wants it."""
    for remark in chosen.remarks:
        if remark.level is Level.REFUSAL:
            yield wrong("Postfix", remark.text, "then `backstop setup postfix`")
        elif remark.level is Level.WARNING:
            yield note("Postfix", remark.text)


EXAMINATION = Examination("Postfix", examine)
