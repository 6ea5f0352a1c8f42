"""One SMTP conversation without the wire: from envelope and headers to outcomes.

A `Session` lives as long as a milter connection; a transaction begins at MAIL and whatever was known
before is forgotten there. Time, and everything that has to be asked outside, is handed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from backstop import batv, policy
from backstop.address import (
    NULL_SENDER,
    Address,
    Network,
    client_network,
    is_in,
    parse,
    without_extension,
)
from backstop.batv import KeyRing, Tag, TagState
from backstop.checks import CHECKS
from backstop.facts import Client, Existence, Facts, Role
from backstop.proof import Proof
from backstop.reply import Reply, Stage, header_value
from backstop.settings import Action, Block, DomainSettings, Strip
from backstop.verdict import (
    ACCEPT,
    ACCEPTED,
    CONTINUE,
    AddHeader,
    Change,
    ChangeSender,
    Count,
    Decision,
    Hold,
    Judgement,
    Outcome,
    Record,
    RemoveHeader,
    ReplaceRecipient,
    Result,
    Verb,
)

MARK: Final = "X-Backstop"
"""The header of junked and quarantined mail. Its value begins with the action."""

MAX_MARKS: Final = 100
"""Forged marks that are removed from one message."""

ONE_AT_A_TIME: Final = Reply(452, "4.5.3", "One recipient at a time for the null sender")

FORWARD_MARKS: Final = frozenset({"delivered-to", "x-original-to", "x-sieve"})
"""Headers that only a delivered message has: what carries them is sent on, not written here."""

UNREADABLE: Final = Address("", "unreadable", "unreadable")
"""Stands for a reverse-path that is no address."""

NOT_BY_SMTP: Final = ""
"""The client address of mail that came by pickup or from the server itself."""


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


@dataclass(frozen=True, slots=True)
class Site:
    """What holds for every domain of this server."""

    ring: KeyRing
    internal_networks: tuple[Network, ...]
    relays: tuple[Network, ...]
    originating_daemons: frozenset[str]
    reinjecting_daemons: frozenset[str]


@dataclass(frozen=True, slots=True)
class Known:
    """What was read at the first recipient of a domain, and holds for the transaction."""

    settings: DomainSettings
    block: Block | None
    """The block of the domain or of all domains; an address may have one of its own."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What must be known about a recipient; `known` is what this transaction has read before."""

    recipient: Address
    mailbox: Address
    base: str
    tag: Tag | None
    bounce: bool
    network: str
    sender_domain: str
    known: Known | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the outside says about a recipient in a protected domain.

    `harvests`: the client is over its limit of unknown recipients; `guesses_tags`: it, or the address
    together with it, is over the limit of bad tags.
    """

    known: Known
    block: Block | None = None
    existence: Existence = Existence.NOT_ASKED
    sender_is_ours: bool = False
    untagged_mail: bool = False
    harvests: bool = False
    guesses_tags: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What must be known about outgoing mail; an empty domain is not asked about."""

    sender_domain: str
    recipient_domain: str


@dataclass(frozen=True, slots=True)
class Sending:
    """What the outside says of outgoing mail: the sender's settings, None for a domain that is not ours."""

    settings: DomainSettings | None
    recipient_is_ours: bool


class Gather(Protocol):
    """Whatever must be asked outside. No method raises; what stays unanswered is said in the answer."""

    def expected(self, domain: str) -> DomainSettings:
        """The settings a domain had when last read, or has by the file: no question is asked."""

    def incoming(self, question: Incoming, now: float) -> Answer | None:
        """Everything about a recipient; None if its domain is not protected."""

    def outgoing(self, question: Outgoing, now: float) -> Sending:
        """The settings that tag a sender, and whether a recipient's domain is protected."""

    def is_protected(self, domain: str) -> bool:
        """Whether a domain is ours to protect; not, where nobody knows."""

    def quarantined_today(self, domain: str, now: float) -> int:
        """How many messages of a domain were quarantined today."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient in a protected domain that was not refused at RCPT."""

    facts: Facts
    settings: DomainSettings
    judgements: tuple[Judgement, ...]
    decision: Decision


class Transaction:
    """What is known between MAIL and the end of the message."""

    __slots__ = (
        "accepted",
        "exempt_destination",
        "forwarded",
        "goes_outside",
        "in_doubt",
        "known",
        "login",
        "marks",
        "others",
        "reverse_path",
        "sender_is_known",
        "sender_settings",
        "strips",
    )

    def __init__(self, reverse_path: Address | None, login: str) -> None:
        self.reverse_path = reverse_path
        self.login = login
        self.accepted: list[Accepted] = []
        self.known: dict[str, Known] = {}
        self.others = 0
        self.in_doubt = False
        self.marks = 0
        self.sender_settings: DomainSettings | None = None
        self.sender_is_known = False
        self.goes_outside = False
        self.exempt_destination = False
        self.forwarded = False
        self.strips: list[ReplaceRecipient] = []


class Session:
    """One milter connection: a client, and one transaction after another."""

    def __init__(self, site: Site, gather: Gather) -> None:
        self._site = site
        self._gather = gather
        self._client = Client("", NOT_BY_SMTP, "", Role.OUTGOING)
        self._transaction = Transaction(None, "")

    @property
    def client(self) -> Client:
        """Who brings the mail; its role holds for the transaction under way."""
        return self._client

    @property
    def is_bounce(self) -> bool:
        """Whether the transaction under way has the null sender."""
        return self._transaction.reverse_path is NULL_SENDER

    @property
    def is_outgoing(self) -> bool:
        """Whether the transaction under way is our own mail."""
        return self._role is Role.OUTGOING

    def connect(self, name: str, address: str, daemon: str) -> None:
        """A client has connected; `address` is NOT_BY_SMTP for mail from the server's own side."""
        site = self._site
        network = client_network(address)
        if daemon in site.reinjecting_daemons:
            role = Role.REINJECTED
        elif daemon in site.originating_daemons or address == NOT_BY_SMTP:
            role = Role.OUTGOING
        elif is_in(address, site.relays):
            role = Role.RELAY
        elif is_in(address, site.internal_networks):
            role = Role.OUTGOING
        else:
            role = Role.INCOMING
        self._client = Client(name, address, network, role)

    def mail(self, path: str, login: str) -> None:
        """MAIL: a new transaction; `login` is the authenticated name, empty without one."""
        self._transaction = Transaction(parse(path), login)

    def abort(self) -> None:
        """RSET, or the end of a transaction that came no further."""
        self._transaction = Transaction(None, "")

    @property
    def _role(self) -> Role:
        role = self._client.role
        return Role.OUTGOING if self._transaction.login and role is not Role.REINJECTED else role

    def rcpt(self, path: str, parameters: str, now: float, queue_id: str = "") -> Outcome:
        """RCPT of a recipient that the mail server takes."""
        role = self._role
        if role is Role.REINJECTED:
            return CONTINUE
        recipient = parse(path)
        if role is Role.OUTGOING:
            return self._outgoing_rcpt(recipient, path, parameters, now)
        if self._transaction.in_doubt:
            return Outcome(Verb.REFUSE, ONE_AT_A_TIME)
        if recipient is None or not recipient.domain:
            self._transaction.others += 1
            return CONTINUE
        return self._incoming_rcpt(recipient, path, parameters, now, queue_id)

    def refused_rcpt(self, path: str, *, unknown: bool) -> Outcome:
        """RCPT of a recipient that the mail server refused itself: counted, and never touched again."""
        if self._role not in (Role.INCOMING, Role.RELAY) or not unknown:
            return CONTINUE
        recipient = parse(path)
        if recipient is None or not recipient.domain or not self._gather.is_protected(recipient.domain):
            return CONTINUE
        counts = self._unknown_recipient()
        return Outcome(Verb.CONTINUE, counts=counts, records=(Record(recipient.domain, ("recipient.fail",)),))

    def data(self, queue_id: str, now: float) -> Outcome:
        """DATA: the last word on everything that needs neither a change nor more reading."""
        role = self._role
        transaction = self._transaction
        if role is Role.REINJECTED:
            return ACCEPT
        if role is Role.OUTGOING:
            return self._outgoing_data(queue_id, now)
        if not transaction.accepted:
            return ACCEPT
        decision = self._message_decision()
        if decision.action in (Action.REJECT, Action.TEMPFAIL):
            return Outcome(Verb.REFUSE, decision.reply, records=self._records(decision, queue_id))
        if decision.action is Action.DISCARD:
            return Outcome(Verb.DISCARD, records=self._records(decision, queue_id))
        if decision.action > Action.OBSERVE or transaction.strips:
            return CONTINUE
        return Outcome(Verb.ACCEPT, records=self._records(decision, queue_id))

    def header(self, name: str) -> None:
        """A header of the message; what it says does not matter, only that it is there."""
        folded = name.lower()
        if folded == "x-backstop":
            self._transaction.marks += 1
        elif folded in FORWARD_MARKS:
            self._transaction.forwarded = True

    def end_of_message(self, queue_id: str, now: float) -> Outcome:
        """The end of a message that was not answered at DATA: its changes."""
        transaction = self._transaction
        if self._role is Role.OUTGOING:
            return self._outgoing_end(queue_id, now)
        changes: list[Change] = [
            RemoveHeader(MARK, index) for index in range(min(transaction.marks, MAX_MARKS), 0, -1)
        ]
        decision = self._message_decision()
        if decision.action is Action.QUARANTINE and self._hold_is_full(now):
            decision = Decision(Action.JUNK, None, decision.judgement, decision.reason)
        if decision.action in (Action.JUNK, Action.QUARANTINE):
            changes += _marks(decision)
        changes += transaction.strips
        return Outcome(Verb.ACCEPT, changes=tuple(changes), records=self._records(decision, queue_id))

    # -- incoming ---------------------------------------------------------------------------------------

    def _incoming_rcpt(
        self, recipient: Address, path: str, parameters: str, now: float, queue_id: str
    ) -> Outcome:
        transaction = self._transaction
        asked = self._ask(recipient, now)
        if asked is None:
            transaction.others += 1
            return CONTINUE
        facts, answer = asked
        settings, block = answer.known.settings, answer.block
        judgements = policy.judge(CHECKS, facts, settings, block)
        counts = self._counts(facts)
        at_once = tuple(
            judgement
            for judgement in judgements
            if judgement.check.stage_for(null_sender=facts.is_bounce) is Stage.RCPT
        )
        decision = policy.too_many_guesses(facts, settings, block, CHECKS) or policy.decide(at_once)
        if decision.action >= Action.TEMPFAIL:
            record = self._record(facts, at_once, decision, queue_id)
            return Outcome(Verb.REFUSE, decision.reply, counts=counts, records=(record,))
        decision = policy.decide(judgements)
        if facts.is_bounce and decision.action > Action.OBSERVE:
            if transaction.accepted or transaction.others:
                return Outcome(Verb.REFUSE, ONE_AT_A_TIME, counts=counts)
            transaction.in_doubt = True
        transaction.accepted.append(Accepted(facts, settings, judgements, decision))
        if facts.mailbox is not recipient:
            self._strip(path, facts.mailbox, parameters, settings)
        return Outcome(Verb.CONTINUE, counts=counts) if counts else CONTINUE

    def _ask(self, recipient: Address, now: float) -> tuple[Facts, Answer] | None:
        transaction = self._transaction
        known = transaction.known.get(recipient.domain)
        settings = known.settings if known else self._gather.expected(recipient.domain)
        question = self._question(recipient, settings.recipient_delimiter, known)
        answer = self._gather.incoming(question, now)
        if (
            answer and answer.known.settings.recipient_delimiter != settings.recipient_delimiter
        ):  # just changed
            question = self._question(recipient, answer.known.settings.recipient_delimiter, answer.known)
            answer = self._gather.incoming(question, now)
        if answer is None:
            return None
        transaction.known[recipient.domain] = answer.known
        return self._facts(question, answer, batv.day_of(now)), answer

    def _question(self, recipient: Address, delimiter: str, known: Known | None) -> Incoming:
        tag = batv.parse(recipient, delimiter)
        mailbox = tag.inner if tag else recipient
        base = without_extension(mailbox.local, delimiter).lower()
        sender = self._transaction.reverse_path
        return Incoming(
            recipient=recipient,
            mailbox=mailbox,
            base=f"{base}@{mailbox.domain}",
            tag=tag,
            bounce=sender is NULL_SENDER,
            network=self._client.network,
            sender_domain=sender.domain if sender else "",
            known=known,
        )

    def _facts(self, question: Incoming, answer: Answer, today: int) -> Facts:
        ring, settings = self._site.ring, answer.known.settings
        state = batv.verify(question.tag, ring, today) if question.tag else TagState.NONE
        sender = self._transaction.reverse_path
        sender_tag = TagState.NONE
        if answer.sender_is_ours and sender and (tag := batv.parse(sender)):
            sender_tag = batv.verify(tag, ring, today)
        return Facts(
            client=self._client,
            reverse_path=sender or UNREADABLE,
            recipient=question.recipient,
            mailbox=question.mailbox,
            base=question.base,
            tag=state,
            existence=answer.existence,
            sender_is_ours=answer.sender_is_ours,
            sender_tag=sender_tag,
            untagged_mail=answer.untagged_mail,
            in_grace=self._in_grace(question.mailbox.domain, settings, state, today),
            harvests=answer.harvests,
            guesses_tags=answer.guesses_tags,
            proofs=_TAG_PROOF if state is TagState.GOOD and Proof.TAG in settings.proof else _NO_PROOF,
        )

    def _in_grace(self, domain: str, settings: DomainSettings, tag: TagState, today: int) -> bool:
        if tag.is_bad:  # somebody guessed: not the bounce of older mail
            return False
        since = self._site.ring.oldest_day(domain)
        return since is None or today - since < settings.grace_days

    def _counts(self, facts: Facts) -> tuple[Count, ...]:
        counts: tuple[Count, ...] = ()
        if facts.existence is Existence.MISSING:
            counts = self._unknown_recipient()
        if facts.is_bounce and facts.tag.is_bad:
            counts += (Count(self._client.network, "bad_tags"), Count(facts.base, "bad_tags_address"))
        return counts

    def _unknown_recipient(self) -> tuple[Count, ...]:
        if not self._client.network or self._client.role is Role.RELAY:
            return ()
        return (Count(self._client.network, "unknown_recipients"),)

    def _message_decision(self) -> Decision:
        transaction = self._transaction
        decisions = [one.decision for one in transaction.accepted]
        if transaction.others:
            decisions.append(ACCEPTED)
        return policy.mildest(decisions)

    def _hold_is_full(self, now: float) -> bool:
        one = self._transaction.accepted[0]
        return self._gather.quarantined_today(one.facts.mailbox.domain, now) >= one.settings.quarantine_max

    def _strip(self, path: str, mailbox: Address, parameters: str, settings: DomainSettings) -> None:
        if settings.strip is Strip.MILTER and mailbox.is_plain:
            self._transaction.strips.append(ReplaceRecipient(path, mailbox.path, parameters))

    # -- outgoing ---------------------------------------------------------------------------------------

    def _outgoing_rcpt(self, recipient: Address | None, path: str, parameters: str, now: float) -> Outcome:
        transaction = self._transaction
        sender = transaction.reverse_path
        sender_domain = sender.domain if sender and not transaction.sender_is_known else ""
        recipient_domain = recipient.domain if recipient else ""
        sending = self._gather.outgoing(Outgoing(sender_domain, recipient_domain), now)
        if sender_domain:
            transaction.sender_settings = sending.settings
            transaction.sender_is_known = True
        settings = transaction.sender_settings
        if settings is not None and recipient_domain in settings.exempt_destinations:
            transaction.exempt_destination = True
        if not sending.recipient_is_ours:
            transaction.goes_outside = True
        elif recipient is not None:
            expected = self._gather.expected(recipient_domain)
            tag = batv.parse(recipient, expected.recipient_delimiter)
            if tag is not None:
                self._strip(path, tag.inner, parameters, expected)
        return CONTINUE

    def _outgoing_data(self, queue_id: str, now: float) -> Outcome:
        transaction = self._transaction
        reason = self._why_untagged()
        if reason is None or transaction.strips:
            return CONTINUE
        return Outcome(Verb.ACCEPT, records=self._untagged(reason, queue_id, now))

    def _outgoing_end(self, queue_id: str, now: float) -> Outcome:
        transaction = self._transaction
        strips = tuple(transaction.strips)
        reason = self._why_untagged()
        if reason is None and transaction.forwarded and not transaction.login:
            reason = Untagged.FORWARD
        if reason is not None:
            return Outcome(Verb.ACCEPT, changes=strips, records=self._untagged(reason, queue_id, now))
        sender, settings = transaction.reverse_path, transaction.sender_settings
        assert sender is not None and settings is not None  # noqa: PT018 - else there was a reason
        key = self._site.ring.signer(sender.domain)
        assert key is not None
        path = batv.sign(
            sender, key, batv.day_of(now), settings.lifetime, settings.tag_form, settings.tag_case
        )
        record = Record(
            sender.domain,
            ("outgoing.tagged",),
            notable=True,
            queue_id=queue_id,
            client=self._client.address,
            reverse_path=path,
            action="tagged",
        )
        return Outcome(Verb.ACCEPT, changes=(ChangeSender(path), *strips), records=(record,))

    def _why_untagged(self) -> Untagged | None:
        transaction = self._transaction
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
        return Untagged.NO_KEY if self._site.ring.signer(sender.domain) is None else None

    def _untagged(self, reason: Untagged, queue_id: str, now: float) -> tuple[Record, ...]:
        transaction = self._transaction
        sender, settings = transaction.reverse_path, transaction.sender_settings
        if sender is None or settings is None or not reason.is_ours:
            return ()
        base = without_extension(sender.local, settings.recipient_delimiter).lower()
        until = now + settings.lifetime * batv.DAY
        return (
            Record(
                sender.domain,
                ("outgoing.untagged", f"untagged.{reason.value}"),
                notable=reason.awaits_bounces,
                queue_id=queue_id,
                client=self._client.address,
                reverse_path=sender.path,
                action="untagged",
                reason=reason.value,
                untagged=(f"{base}@{sender.domain}", until) if reason.awaits_bounces else None,
            ),
        )

    # -- the journal ------------------------------------------------------------------------------------

    def _records(self, message: Decision, queue_id: str) -> tuple[Record, ...]:
        return tuple(
            self._record(one.facts, one.judgements, _carried_out(one.decision, message), queue_id)
            for one in self._transaction.accepted
        )

    def _record(
        self, facts: Facts, judgements: Iterable[Judgement], decision: Decision, queue_id: str
    ) -> Record:
        counters = [f"{one.check.name}.{one.finding.result.value}" for one in judgements if _says(one)]
        failed = [one for one in judgements if one.finding.result in (Result.FAIL, Result.TEMPERROR)]
        action = decision.action or (Action.OBSERVE if failed else Action.OFF)
        named = decision.judgement or (failed[0] if failed else None)
        if facts.is_bounce:
            counters.append("bounce.seen")
            counters += [f"proof.{proof.value}" for proof in facts.proofs]
        if action is not Action.OFF:
            counters.append(f"action.{action.label}")
        return Record(
            facts.mailbox.domain,
            tuple(counters),
            notable=bool(failed) or facts.is_bounce or decision.action > Action.OBSERVE,
            queue_id=queue_id,
            client=facts.client.address,
            reverse_path=facts.reverse_path.path,
            recipient=facts.recipient.path,
            check=named.check.name if named else "",
            result=named.finding.result.value if named else "",
            action=action.label if action is not Action.OFF else "accept",
            reply=str(decision.reply) if decision.reply else "",
            reason=decision.reason or (named.finding.reason if named else _why_accepted(judgements)),
        )


_NO_PROOF: Final[frozenset[Proof]] = frozenset()
_TAG_PROOF: Final = frozenset({Proof.TAG})


def _says(judgement: Judgement) -> bool:
    return judgement.finding.result is not Result.NONE


def _why_accepted(judgements: Iterable[Judgement]) -> str:
    return next((one.finding.reason for one in reversed(tuple(judgements)) if one.finding.reason), "")


def _carried_out(own: Decision, message: Decision) -> Decision:
    """A recipient's decision as the message's: milder where another recipient asked for less."""
    if own.action <= message.action:
        return own
    return Decision(message.action, message.reply, own.judgement, own.reason)


def _marks(decision: Decision) -> list[Change]:
    check = decision.judgement.check.name if decision.judgement else "policy"
    value = header_value(decision.action.label, f"check={check}", decision.reason)
    if decision.action is Action.QUARANTINE:
        return [AddHeader(MARK, value), Hold(f"backstop: {check}")]
    return [AddHeader(MARK, value), AddHeader("X-Spam-Flag", "YES")]
