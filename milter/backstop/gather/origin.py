"""Where messages come from: SPF, DNS lists, DKIM and DMARC, by one resolver, within one budget a message.

What asks is made at the first question: a worker that needs none of it does not pay for it.
"""

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from functools import cached_property
from typing import Final

from backstop.adapters.dkim_verifier import DkimVerifier
from backstop.adapters.dmarc_checker import DmarcChecker
from backstop.adapters.dns_lists import DnsLists
from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.adapters.resolver import Budget, Resolver
from backstop.adapters.spf import SpfChecker
from backstop.address import NULL_SENDER
from backstop.authentication import Authenticity, DkimResult, Dmarc, DmarcResult
from backstop.facts import Need
from backstop.session import Origin, Origins, Signed
from backstop.settings import DnsList


class Kind(Enum):
    """What is asked of DNS about a message."""

    LISTS = auto()
    SPF = auto()
    OWN_KEY = auto()
    """Of our own signature, in what a bounce returns."""
    KEYS = auto()
    DMARC = auto()


RESERVED: Final[Mapping[Kind, float]] = {
    Kind.LISTS: 0.3,
    Kind.SPF: 0.3,
    Kind.OWN_KEY: 0.3,
    Kind.KEYS: 0.3,
    Kind.DMARC: 0.5,
}
"""Seconds that the others leave to each."""


class Spending:
    """The time that one message has for DNS, and what of it is for the kinds that were not asked yet.

    Without that a name server that is slow on purpose would keep the next question from being answered.
    """

    def __init__(self, ahead: Iterable[Kind]) -> None:
        self._budget = Budget()
        self._ahead = set(ahead)

    def on(self, kind: Kind) -> Budget:
        """What one kind may spend."""
        self._ahead.discard(kind)
        return self._budget.apart(keep=sum(RESERVED[other] for other in self._ahead))


class OriginAsker:
    """Asks for one worker. `on_trouble` is told what an administrator should mend.

    `reads_signatures` says whether messages may be asked about at their end, too.
    """

    def __init__(
        self,
        resolver: Resolver,
        lists: tuple[DnsList, ...],
        on_trouble: Callable[[str], None],
        reads_signatures: Callable[[], bool],
    ) -> None:
        self._resolver = resolver
        self._reads_signatures = reads_signatures
        self._has_lists = bool(lists)
        self._lists = DnsLists(resolver, lists, on_trouble)
        self._on_trouble = on_trouble
        self._making = threading.Lock()

    def origin(self, question: Origin) -> Origins:
        """What SPF and the lists say."""
        spf = clients = senders = None
        sender = question.reverse_path
        spending = self.spending(question.spent, is_bounce=sender is NULL_SENDER)
        # The lists first, which the administrator chose: whom SPF asks a forger names, who may be slow.
        if Need.CLIENT_LISTS in question.needs:
            budget = spending.on(Kind.LISTS)
            clients = self._lists.client(question.client, null_sender=sender is NULL_SENDER, budget=budget)
        if Need.SENDER_LISTS in question.needs and sender.domain:
            senders = self._lists.sender(sender.domain, spending.on(Kind.LISTS))
        if Need.SPF in question.needs:
            spf = self._spf.check(question.client, question.helo, sender, spending.on(Kind.SPF))
        return Origins(spf, clients, senders, spending)

    def spending(self, spent: object, *, is_bounce: bool) -> Spending:
        """What earlier questions about the message left, or what it has at first."""
        if isinstance(spent, Spending):
            return spent
        ahead = [Kind.SPF]
        if self._has_lists:
            ahead.append(Kind.LISTS)
        if is_bounce:
            ahead.append(Kind.OWN_KEY)
        if self._reads_signatures():
            ahead += [Kind.KEYS, Kind.DMARC]
        return Spending(ahead)

    def authenticity(self, question: Signed, now: float) -> Authenticity:
        """What a message's signatures and DMARC say."""
        spending = self.spending(question.spent, is_bounce=question.reverse_path is NULL_SENDER)
        signatures = self._dkim.verify(question.header, question.bodies, spending.on(Kind.KEYS), now)
        try:
            checker = self._dmarc
        except LookupError as error:
            self._on_trouble(f"dmarc: {error}")
            return Authenticity(
                signatures, Dmarc(DmarcResult.TEMPERROR, reason="no public suffix list"), vouched=True
            )
        # Its owner may want only some of the mail judged: RFC 7489, section 6.6.4.
        sample = random.random()  # noqa: S311 - a sample, no secret
        dmarc = checker.check(question.authors, question.spf, signatures, spending.on(Kind.DMARC), sample)
        unknown = any(one.result is DkimResult.TEMPERROR for one in signatures)
        vouched = unknown or checker.vouches(question.reverse_path.domain, signatures)
        return Authenticity(signatures, dmarc, vouched)

    @cached_property
    def _spf(self) -> SpfChecker:
        with self._making:
            return SpfChecker(self._resolver)

    @cached_property
    def _dkim(self) -> DkimVerifier:
        return DkimVerifier(self._resolver)

    @cached_property
    def _dmarc(self) -> DmarcChecker:
        with self._making:
            suffixes = PublicSuffixes()
            suffixes.load()
            return DmarcChecker(self._resolver, suffixes)
