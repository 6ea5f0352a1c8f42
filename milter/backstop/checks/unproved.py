"""A bounce with neither a good tag nor other proof that we wrote the original."""

from backstop.batv import can_be_tagged, is_tagged
from backstop.facts import Facts, Need
from backstop.reply import Reply, Stage
from backstop.settings import DomainSettings
from backstop.verdict import NOTHING, Check, Finding, Result, UnderBlock

_UNTAGGABLE = Finding(Result.NONE, "the address is never tagged")
_EXEMPT = Finding(Result.NONE, "the address is exempt")
_UNDER_WAY = Finding(Result.NONE, "mail of this address is under way without a tag")
_FAIL = Finding(Result.FAIL, "a bounce without proof that we wrote the original")


def judge(facts: Facts, settings: DomainSettings) -> Finding:
    """Fail a bounce only where a proof could have been expected.

    Addresses with another system's tag (SRS0=, btv1==) are never tagged: that system judges them.
    """
    if not facts.is_bounce:
        return NOTHING
    if facts.proofs:
        return Finding(Result.PASS, "proof: " + ", ".join(sorted(proof.value for proof in facts.proofs)))
    if facts.mailbox in settings.exempt_senders:
        return _EXEMPT
    if is_tagged(facts.mailbox) or not can_be_tagged(facts.mailbox):
        return _UNTAGGABLE
    return _UNDER_WAY if facts.untagged_mail else _FAIL


CHECK = Check(
    name="unproved",
    stage=Stage.DATA,
    judge=judge,
    reject=Reply(550, "5.7.1", "This is a bounce of a message that was not sent from here"),
    tempfail=Reply(450, "4.7.1", "This is a bounce of a message that was not sent from here"),
    needs=frozenset({Need.UNTAGGED_MAIL}),
    graced=True,
    under_block=UnderBlock.REPLACES,
    meaning="a bounce without proof",
)
