"""The domain of the reverse-path is on a DNS list."""

from backstop.facts import Facts, Need
from backstop.reply import Reply, Stage
from backstop.settings import Action, DomainSettings
from backstop.verdict import NOTHING, Check, Cost, Finding, of_listing


def judge(facts: Facts, settings: DomainSettings) -> Finding:  # noqa: ARG001 - every judge takes both
    """Read what the lists say."""
    return (
        NOTHING if facts.sender_listing is None else of_listing(facts.sender_listing, "the sender's domain")
    )


CHECK = Check(
    name="sender_list",
    stage=Stage.RCPT,
    judge=judge,
    reject=Reply(550, "5.7.1", "The sender's domain is on a DNS list"),
    tempfail=Reply(450, "4.7.1", "The sender's domain is on a DNS list"),
    default=Action.OFF,
    cost=Cost.DNS,
    needs=frozenset({Need.SENDER_LISTS}),
    meaning="the sender's domain, on a DNS list",
)
