"""Outgoing mail: its reverse-path gets a tag, or it is remembered that it has none.

What leaves us is also remembered itself, tagged or not: by its id, and by who wrote to whom.
"""

from enum import Enum
from typing import Final

from backstop import batv
from backstop.address import NULL_SENDER, parse
from backstop.batv import KeyRing
from backstop.memory import MAX_RECIPIENTS
from backstop.proof import Proof
from backstop.report import id_of
from backstop.session.proving import addresses_in
from backstop.session.questions import Gather, Outgoing, base_of
from backstop.session.transaction import Transaction, envelope
from backstop.verdict import CONTINUE, ChangeSender, Outcome, Record, ReplaceRecipient, Sent, Verb

KEPT: Final = frozenset({"message-id", "from"})
"""Header fields whose values are looked at, in lower case."""

_MAX_FIELD: Final = 2000


class Untagged(Enum):
    """Why an outgoing message goes out without a tag."""

    NULL_SENDER = "null-sender"
    NOT_OURS = "not-ours"
    TAGGED_BEFORE = "tagged-before"
    EXEMPT_SENDER = "exempt-sender"
    EXEMPT_DESTINATION = "exempt-destination"
    INTERNAL = "internal"
    UNTAGGABLE = "untaggable"
    NO_KEY = "no-key"
    FORWARD = "forward"

    @property
    def awaits_bounces(self) -> bool:
        """Whether untagged bounces may come back to an address that is otherwise tagged.

        Mail among our own recipients does not count: its bounces are written on this side of the milter.
        """
        return self in (Untagged.EXEMPT_DESTINATION, Untagged.NO_KEY, Untagged.FORWARD)

    @property
    def is_ours(self) -> bool:
        """Whether the message is mail of a protected domain at all."""
        return self not in (Untagged.NULL_SENDER, Untagged.NOT_OURS)


def rcpt(
    transaction: Transaction, ring: KeyRing, gather: Gather, path: str, parameters: str, now: float
) -> Outcome:
    """Find out whose mail it is and whether it leaves; our own recipients are not judged."""
    recipient = parse(path)
    recipient_domain = recipient.domain if recipient else ""
    sender_domain = "" if transaction.sender_is_known else transaction.sender_domain
    sending = gather.outgoing(Outgoing(sender_domain, recipient_domain), now)
    if sender_domain:
        transaction.sender_settings = sending.settings
        transaction.sender_is_known = True
        remembers = sending.settings is not None and sending.settings.remembers
        transaction.remembers = remembers and bool(ring.memory_secret)
    settings = transaction.sender_settings
    if settings is not None and recipient_domain in settings.exempt_destinations:
        transaction.exempt_destination = True
    if not sending.recipient_is_ours:
        transaction.goes_outside = True
        if transaction.remembers and recipient is not None and len(transaction.readers) < MAX_RECIPIENTS:
            transaction.readers.append(recipient.folded)
    elif recipient is not None:
        expected = gather.expected(recipient_domain)
        tag = batv.parse(recipient, expected.recipient_delimiter)
        if tag is not None:
            given = envelope(path, tag.inner, parameters, expected)
            if given.is_stripped:
                transaction.replaced.append(ReplaceRecipient(path, given.delivered, parameters))
    return CONTINUE


def data(transaction: Transaction, ring: KeyRing, queue_id: str, now: float) -> Outcome:
    """Let go what will stay untagged and is not remembered; the rest waits for its headers."""
    reason = _why_untagged(transaction, ring)
    if not transaction.goes_outside:
        transaction.remembers = False
    if reason is None or transaction.replaced or transaction.remembers:
        return CONTINUE
    return Outcome(Verb.ACCEPT, records=_untagged(transaction, reason, queue_id, now))


def header(transaction: Transaction, folded: str, value: bytes) -> None:
    """Keep the first field of a name that tells who wrote, or under what id."""
    if folded == "message-id":
        transaction.message_id = transaction.message_id or value[:_MAX_FIELD]
    elif folded == "from":
        transaction.author = transaction.author or value[:_MAX_FIELD]


def end_of_message(
    transaction: Transaction, ring: KeyRing, gather: Gather, queue_id: str, now: float
) -> Outcome:
    """Tag the reverse-path, unless the headers show a forward: a tag would vouch for a stranger."""
    strips = tuple(transaction.replaced)
    sent = _sent(transaction, gather) if transaction.remembers else None
    reason = _why_untagged(transaction, ring)
    if reason is None and transaction.forwarded and not transaction.login:
        reason = Untagged.FORWARD
    if reason is not None:
        records = _untagged(transaction, reason, queue_id, now)
        return Outcome(Verb.ACCEPT, changes=strips, records=records, sent=sent)
    sender, settings = transaction.reverse_path, transaction.sender_settings
    assert sender is not None  # else there was a reason
    assert settings is not None
    key = ring.signer(sender.domain)
    assert key is not None
    # A tag that ends later than its key knows would verify as forged.
    lifetime = min(settings.lifetime, key.max_lifetime)
    path = batv.sign(sender, key, batv.day_of(now), lifetime, settings.tag_form, settings.tag_case)
    record = Record(
        sender.domain,
        ("outgoing.tagged",),
        notable=True,
        queue_id=queue_id,
        client=transaction.client.address,
        reverse_path=path,
        action="tagged",
    )
    return Outcome(Verb.ACCEPT, changes=(ChangeSender(path), *strips), records=(record,), sent=sent)


def _sent(transaction: Transaction, gather: Gather) -> Sent:
    sender, settings = transaction.reverse_path, transaction.sender_settings
    assert sender is not None  # else nothing is remembered
    assert settings is not None
    message_id = id_of(transaction.message_id.strip()) if Proof.MEMORY in settings.proof else ""
    if Proof.CORRESPONDENT not in settings.proof:
        return Sent(message_id, ())
    tag = batv.parse(sender, settings.recipient_delimiter)
    writer = base_of(tag.inner if tag else sender, settings.recipient_delimiter)
    # Automatic answers go to the header From as well (RFC 3834, section 4).
    author = _author(transaction, gather)
    writers = (writer,) if author in ("", writer) else (writer, author)
    return Sent(message_id, tuple((one, reader) for one in writers for reader in transaction.readers))


def _author(transaction: Transaction, gather: Gather) -> str:
    """The base of the address in the header From, where it is ours; else empty."""
    text = transaction.author.decode(errors="replace").rpartition("<")[2]
    address = parse(next(addresses_in((text,)), ""))
    if address is None or not address.domain or not gather.is_protected(address.domain):
        return ""
    return base_of(address, gather.expected(address.domain).recipient_delimiter)


def _why_untagged(transaction: Transaction, ring: KeyRing) -> Untagged | None:
    sender, settings = transaction.reverse_path, transaction.sender_settings
    if sender is NULL_SENDER:
        return Untagged.NULL_SENDER
    if sender is None or settings is None:
        return Untagged.NOT_OURS
    if batv.is_tagged(sender):
        return Untagged.TAGGED_BEFORE
    if sender in settings.exempt_senders:
        return Untagged.EXEMPT_SENDER
    if transaction.exempt_destination:
        return Untagged.EXEMPT_DESTINATION
    if not transaction.goes_outside and not settings.tag_internal:
        return Untagged.INTERNAL
    if not batv.can_be_tagged(sender):
        return Untagged.UNTAGGABLE
    return Untagged.NO_KEY if ring.signer(sender.domain) is None else None


def _untagged(transaction: Transaction, reason: Untagged, queue_id: str, now: float) -> tuple[Record, ...]:
    sender, settings = transaction.reverse_path, transaction.sender_settings
    if sender is None or settings is None or not reason.is_ours:
        return ()
    base = base_of(sender, settings.recipient_delimiter)
    until = now + settings.lifetime * batv.DAY
    return (
        Record(
            sender.domain,
            ("outgoing.untagged", f"untagged.{reason.value}"),
            notable=reason.awaits_bounces,
            queue_id=queue_id,
            client=transaction.client.address,
            reverse_path=sender.path,
            action="untagged",
            reason=reason.value,
            untagged=(base, until) if reason.awaits_bounces else None,
        ),
    )
