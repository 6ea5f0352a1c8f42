"""Where a message comes from: asked as late as possible, once for all its recipients, and what follows.

Nobody is asked about a recipient who is refused anyway, nor about a bounce of mail that was sent here.
"""

from dataclasses import replace
from typing import Final

from backstop.authentication import Spf, SpfIdentity, SpfResult
from backstop.checks import CHECKS
from backstop.facts import Existence, Facts, Need, Role
from backstop.session.content import Content
from backstop.session.questions import Gather, Origin, Origins, Signed
from backstop.session.transaction import Accepted, Transaction
from backstop.settings import Action, DomainSettings, Quiet
from backstop.verdict import InsertHeader, Record, RemoveHeader, ReplaceRecipient

AUTHENTICATION_RESULTS: Final = "Authentication-Results"

MAX_RESULTS: Final = 10_000
"""Fields of that name that are looked at, RFC 8601, section 5: more than mail servers let through by their
limits on the header's octets, as a forged one hides below those of others."""

NEVER: Final = "NOTIFY=NEVER"
"""RFC 3461, section 4.1."""

_OF_ORIGIN: Final = frozenset({Need.SPF, Need.CLIENT_LISTS, Need.SENDER_LISTS})
_NO_DOMAIN: Final = Spf(SpfResult.NONE, SpfIdentity.MAILFROM, "", "the reverse-path is no address")
_ASKING: Final = tuple(check for check in CHECKS if not check.needs.isdisjoint(_OF_ORIGIN))
_NOBODY_NEEDS: Final[frozenset[Need]] = frozenset()
_OF_CLIENT: Final = frozenset({Need.CLIENT_LISTS})
_NO_SENDER: Final = frozenset({Need.SENDER_LISTS})


def wanted(facts: Facts, settings: DomainSettings) -> frozenset[Need]:
    """What must be asked about the origin of this recipient's message."""
    actions = settings.actions
    needs = _NOBODY_NEEDS
    for check in _ASKING:
        if actions[check.name] is Action.OFF:
            continue
        if not (check.about_client and facts.client.role is Role.RELAY):
            needs |= check.needs & _OF_ORIGIN
    if settings.quiet is Quiet.UNVOUCHED and _may_be_quiet(facts):
        needs |= {Need.SPF}
    if not needs or facts.is_proved:
        return _NOBODY_NEEDS
    return needs - _NO_SENDER if facts.is_bounce else needs


def ask(transaction: Transaction, gather: Gather, facts: Facts, needs: frozenset[Need], now: float) -> Facts:
    """The facts with what is known of the origin; only what no recipient before wanted is asked."""
    missing = needs - transaction.asked
    if transaction.reverse_path is None:  # no address, so of its domain nothing can be asked
        missing &= _OF_CLIENT
        transaction.origin = replace(transaction.origin, spf=_NO_DOMAIN)
    if missing:
        question = Origin(
            transaction.client.address,
            transaction.helo,
            facts.reverse_path,
            missing,
            transaction.origin.spent,
        )
        transaction.asked |= missing
        transaction.origin = _joined(transaction.origin, gather.origin(question, now))
    origin = transaction.origin
    return replace(
        facts,
        spf=origin.spf if Need.SPF in needs else None,
        client_listing=origin.client_listing if Need.CLIENT_LISTS in needs else None,
        sender_listing=origin.sender_listing if Need.SENDER_LISTS in needs else None,
    )


def _joined(before: Origins, after: Origins) -> Origins:
    return Origins(
        spf=after.spf or before.spf,
        client_listing=after.client_listing or before.client_listing,
        sender_listing=after.sender_listing or before.sender_listing,
        spent=after.spent or before.spent,
    )


def wants_signatures(transaction: Transaction) -> bool:
    """Whether the message must be read for its signatures."""
    if not transaction.verifiable or not (transaction.to_be_read or transaction.asked):
        return False
    return any(
        any(Need.DMARC in check.needs for check in one.waiting)
        or (_is_softfail(one.facts) and _would_be_quiet(one))
        for one in transaction.accepted
    )


def read_signatures(transaction: Transaction, content: Content, gather: Gather, now: float) -> None:
    """Ask what the message's signatures say."""
    origin = transaction.origin
    sender = transaction.accepted[0].facts.reverse_path
    question = Signed(
        content.header_block(),
        tuple(content.authors),
        content.body_hashes(),
        sender,
        origin.spf,
        origin.spent,
    )
    transaction.authenticity = gather.authenticity(question, now)


def quieted(transaction: Transaction) -> list[Accepted]:
    """The recipients whose later failure is not to be reported to whom the message names as its sender.

    RFC 3461 lets a server say so; the sender fails SPF, or is in doubt by it and vouched for by no signature.
    """
    if not transaction.asked:
        return []
    return [one for one in transaction.accepted if _would_be_quiet(one) and _is_unvouched(transaction, one)]


def recipient_changes(transaction: Transaction, quiet: list[Accepted]) -> list[ReplaceRecipient]:
    """Recipients without their tag, and those without reports: in one change where it is both."""
    changes = []
    for one in transaction.accepted:
        envelope = one.envelope
        if any(one is other for other in quiet):
            delivered = envelope.delivered if envelope.is_stripped else one.facts.recipient.path
            changes.append(ReplaceRecipient(envelope.path, delivered, _without_reports(envelope.parameters)))
        elif envelope.is_stripped:
            changes.append(ReplaceRecipient(envelope.path, envelope.delivered, envelope.parameters))
    return changes


def quiet_records(transaction: Transaction, quiet: list[Accepted], queue_id: str) -> list[Record]:
    """One for each, so that somebody who asks why he was told nothing gets an answer."""
    return [
        Record(
            one.facts.mailbox.domain,
            ("quiet.set",),
            notable=True,
            queue_id=queue_id,
            client=transaction.client.address,
            reverse_path=one.facts.reverse_path.path,
            recipient=one.facts.recipient.path,
            action="accept",
            reason=f"{NEVER}: nobody vouches for the sender, and the recipient is not known to exist",
        )
        for one in quiet
    ]


def note_results(transaction: Transaction, *, is_ours: bool) -> None:
    """One more field Authentication-Results went by."""
    if len(transaction.results) < MAX_RESULTS:
        transaction.results.append(is_ours)


def results_changes(transaction: Transaction, value: str) -> list[InsertHeader | RemoveHeader]:
    """Forged results out, highest index first, and ours on top: RFC 8601, sections 4 and 5."""
    numbers = range(len(transaction.results), 0, -1)
    changes: list[InsertHeader | RemoveHeader] = [
        RemoveHeader(AUTHENTICATION_RESULTS, number) for number in numbers if transaction.results[number - 1]
    ]
    if value:
        changes.append(InsertHeader(AUTHENTICATION_RESULTS, value))
    return changes


def _may_be_quiet(facts: Facts) -> bool:
    """Whether a failure might be reported to somebody, and may happen at all."""
    return (
        not facts.is_bounce and facts.existence is not Existence.EXISTS and facts.client.role is Role.INCOMING
    )


def _would_be_quiet(one: Accepted) -> bool:
    return one.settings.quiet is Quiet.UNVOUCHED and _may_be_quiet(one.facts) and one.facts.recipient.is_plain


def _is_softfail(facts: Facts) -> bool:
    return facts.spf is not None and facts.spf.result is SpfResult.SOFTFAIL


def _is_unvouched(transaction: Transaction, one: Accepted) -> bool:
    spf = one.facts.spf
    if spf is None:
        return False
    if spf.result is SpfResult.FAIL:
        return True
    authenticity = transaction.authenticity
    return spf.result is SpfResult.SOFTFAIL and authenticity is not None and not authenticity.vouched


def _without_reports(parameters: str) -> str:
    kept = [word for word in parameters.split() if not word.upper().startswith("NOTIFY=")]
    return " ".join((*kept, NEVER))
