"""The client is on a DNS list."""

from backstop.facts import Facts, Need, awaits_proof
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.verdict import NOTHING, Check, Cost, Finding, of_listing, unless_proved


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Read what the lists say. Proof beats a list."""
    if facts.client_listing is None:
        return NOTHING
    return unless_proved(facts, of_listing(facts.client_listing, "the client"))


def reads(facts: Facts, settings: DomainSettings) -> bool:
    """Read a bounce that may yet be proved."""
    listing = facts.client_listing
    return listing is not None and bool(listing.zones) and awaits_proof(facts, settings)


CHECK = Check(
    name="client_list",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.7.1", "This client is on a DNS list"),
    tempfail=Reply(450, "4.7.1", "This client is on a DNS list"),
    default=Action.OFF,
    cost=Cost.DNS,
    needs=frozenset({Need.CLIENT_LISTS}),
    about_client=True,
    reads=reads,
    meaning="the client, on a DNS list",
)
