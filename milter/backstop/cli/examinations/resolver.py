"""Whether DNS answers, where anything asks it."""

from collections.abc import Iterator

from backstop.adapters.resolver import Outcome, Resolver
from backstop.checks import CHECKS
from backstop.cli.examinations.finding import Examination, Finding, fine, wrong
from backstop.cli.examinations.surroundings import PATIENCE, Surroundings
from backstop.proof import Proof
from backstop.settings import Action, DomainSettings
from backstop.verdict import Cost


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Ask for a name under .test, which nobody has (RFC 6761): to be told so is an answer."""
    asking = [domain for domain in surroundings.domains if _asks_dns(surroundings.effective(domain).settings)]
    if not asking:
        return
    servers = ", ".join(surroundings.config.resolver) or "those of /etc/resolv.conf"
    answer = Resolver(surroundings.config.resolver, lifetime=PATIENCE / 2).a("doctor.test")
    if answer.outcome is Outcome.TEMPORARY:
        yield wrong(
            "resolver",
            f"no name server answers ({servers}); nothing that asks DNS can find anything until one does",
            f"mend /etc/resolv.conf, or name servers in `resolver` in {surroundings.config.path}",
        )
    else:
        yield fine("resolver", f"name servers answer ({servers})")


def _asks_dns(settings: DomainSettings) -> bool:
    """Our own DKIM keys may be in files; whether all of them are, only a signature shows."""
    return Proof.DKIM in settings.proof or any(
        check.cost is Cost.DNS and settings.actions[check.name] is not Action.OFF for check in CHECKS
    )


EXAMINATION = Examination("resolver", examine)
