"""Whether the checks that judge by lists have them: DNS lists, and that of public suffixes."""

from collections.abc import Iterator
from typing import Final

from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.checks import CHECKS
from backstop.cli.examinations.finding import Examination, Finding, fine, wrong
from backstop.cli.examinations.surroundings import Surroundings
from backstop.config import Config
from backstop.facts import Need
from backstop.settings import Action, ListOf

_OF: Final = {Need.CLIENT_LISTS: ListOf.CLIENT, Need.SENDER_LISTS: ListOf.SENDER}


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Look for checks that are on and can find nothing; the daemon says so of DMARC alone, in its log."""
    actions = [surroundings.effective(domain).settings.actions for domain in surroundings.domains]
    for check in CHECKS:
        wanted = check.needs & {*_OF, Need.DMARC}
        if not wanted or all(each[check.name] is Action.OFF for each in actions):
            continue
        if cure := "; ".join(filter(None, (_missing(need, surroundings.config) for need in wanted))):
            yield wrong(check.name, "is on, and never fails: it has nothing to judge by", cure)
        else:
            yield fine(check.name, "has the lists that it judges by")


def _missing(need: Need, config: Config) -> str:
    """The cure, empty where nothing is missing."""
    if need is Need.DMARC:
        try:
            PublicSuffixes().load()
        except LookupError as error:
            return str(error)
    elif all(each.of is not _OF[need] for each in config.lists):
        return f'name one below [lists] in {config.path}: "ZONE" = {{ of = "{_OF[need].value}" }}'
    return ""


EXAMINATION = Examination("lists", examine)
