"""Questions out: everything the session must know from outside, in one round trip a decision."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from backstop.adapters import limits, redis_names
from backstop.adapters.asker_client import NOBODY, Asking
from backstop.adapters.own_signature import OwnSignature, SignatureResult
from backstop.adapters.redis_store import Store, StoreUnavailable, pack
from backstop.adapters.resolver import Resolver
from backstop.authentication import Authenticity
from backstop.config import Config
from backstop.gather.knowledge import Knowledge, member_command, whole
from backstop.gather.origin import Kind, OriginAsker
from backstop.gather.reading import AskAgain, Reading
from backstop.gather.remembered import Remembered
from backstop.proof import Proof
from backstop.session import Answer, Evidence, Incoming, Origin, Origins, Outgoing, Proofs, Sending, Signed
from backstop.settings import DomainSettings


class Gather:
    """Asks Redis and the recipient sources for one worker. No method raises; see `session.Gather`.

    `on_trouble` is told what is wrong with a key or a file; how often it says so is its own business.
    `asking` is asked for the sources that take their time.
    """

    def __init__(
        self, config: Config, store: Store, on_trouble: Callable[[str], None], asking: Asking = NOBODY
    ) -> None:
        self._store = store
        self._knowledge = Knowledge(config, on_trouble, asking)
        self._secret = config.ring.memory_secret
        resolver = Resolver(config.resolver, on_trouble=on_trouble)
        self._signature = OwnSignature(config.dkim_keys, resolver, on_trouble)
        self._origin = OriginAsker(resolver, config.lists, on_trouble, lambda: self.reads_signatures)

    @property
    def reads(self) -> bool:
        """Whether the settings of any domain, as far as they were read, may want messages read."""
        return self._knowledge.reads

    @property
    def reads_signatures(self) -> bool:
        """The same for their signatures."""
        return self._knowledge.reads_signatures

    @property
    def asks_helo(self) -> bool:
        """Whether they may want to know what clients call themselves."""
        return self._knowledge.asks_helo

    def expected(self, domain: str) -> DomainSettings:
        """The settings a domain had when last read, or has by the file."""
        return self._knowledge.expected(domain)

    def is_protected(self, domain: str) -> bool:
        """Whether the file names a domain, or Redis was seen to."""
        return self._knowledge.is_ours(domain)

    def has_blocks(self, now: float) -> bool:
        """Whether any block was on when last read."""
        return self._knowledge.has_blocks(now)

    def incoming(self, question: Incoming, now: float) -> Answer | None:
        """Everything about a recipient; None if its domain is not protected."""
        knowledge, store = self._knowledge, self._store
        reading = Reading(knowledge, question, now)
        commands = reading.commands()
        counts = limits.count_commands(question.counts, knowledge.limits) if question.counts else []
        # What is counted rides along: a second sending costs as much as the first. But not for strangers.
        ours = knowledge.is_ours(question.mailbox.domain)
        try:
            replies = store.ask(commands, counts if ours else ()) if commands else []
        except StoreUnavailable:
            return reading.without_store()
        answer = reading.answer(iter(replies))
        if counts and answer is not None and not (ours and commands):
            store.tell(counts)
        return self.incoming(answer.question, now) if isinstance(answer, AskAgain) else answer

    def outgoing(self, question: Outgoing, now: float) -> Sending:  # noqa: ARG002 - see session.Gather
        """The settings that tag a sender, and whether a recipient's domain is protected."""
        knowledge = self._knowledge
        sender, recipient = question.sender_domain, question.recipient_domain
        domain = knowledge.domain(sender) if sender else None
        asks_recipient = bool(recipient) and recipient != sender and not knowledge.is_in_file(recipient)
        commands = []
        if domain is not None:
            commands.append(domain.hash)
            if not domain.in_file:
                commands.append(domain.is_member)
        if asks_recipient:
            commands.append(member_command(recipient))
        try:
            replies = iter(self._store.ask(commands) if commands else ())
        except StoreUnavailable:
            settings = domain.settings if domain and knowledge.is_ours(sender) else None
            return Sending(settings, knowledge.is_ours(recipient))
        settings = None
        if domain is not None:
            read = knowledge.settings(domain, next(replies))
            settings = read if domain.in_file or knowledge.is_member(sender, next(replies)) else None
        if asks_recipient:
            return Sending(settings, knowledge.is_member(recipient, next(replies)))
        is_ours = settings is not None if recipient == sender else knowledge.is_in_file(recipient)
        return Sending(settings, bool(recipient) and is_ours)

    def origin(self, question: Origin, now: float) -> Origins:  # noqa: ARG002 - see session.Gather
        """What SPF and the lists say, within what one message may cost."""
        return self._origin.origin(question)

    def authenticity(self, question: Signed, now: float) -> Authenticity:
        """What its signatures and DMARC say of a message."""
        return self._origin.authenticity(question, now)

    def proofs(self, evidence: Evidence, now: float) -> Proofs:
        """What a message's evidence is worth."""
        proofs = self._remembered(evidence, now)
        if evidence.block:
            budget = self._origin.spending(evidence.spent, is_bounce=True).on(Kind.OWN_KEY)
            result = self._signature.verify(evidence.block, self._knowledge.is_ours, now, budget)
            if result is SignatureResult.PASS:
                return replace(proofs, found=proofs.found | {Proof.DKIM})
            if result is SignatureResult.TEMPERROR:
                return replace(proofs, unanswered=proofs.unanswered | {Proof.DKIM})
        return proofs

    def _remembered(self, evidence: Evidence, now: float) -> Proofs:
        asked = Remembered(self._secret, evidence, now)
        commands = asked.commands()
        if not commands:
            return Proofs()
        try:
            replies = self._store.ask(commands)
        except StoreUnavailable:
            return asked.unanswered()
        return asked.proofs(replies)

    def counted_today(self, domain: str, name: str, now: float) -> int | None:
        """A counter of a domain for today; None where nobody can say."""
        key = redis_names.count_day(domain, datetime.fromtimestamp(now, UTC).date())
        try:
            (reply,) = self._store.ask([pack("HGET", key, name)])
        except StoreUnavailable:
            return None
        return whole(reply)
