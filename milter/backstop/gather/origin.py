"""Where messages come from: SPF, DNS lists, DKIM and DMARC, by one resolver, within one budget a message.

What asks is made at the first question: a worker that needs none of it does not pay for it.
"""

import random
import threading
from collections.abc import Callable
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

MIN_SECONDS: Final = 1.0
"""What is left for each kind of question however long others took."""


class OriginAsker:
    """Asks for one worker. `on_trouble` is told what an administrator should mend."""

    def __init__(
        self, resolver: Resolver, lists: tuple[DnsList, ...], on_trouble: Callable[[str], None]
    ) -> None:
        self._resolver = resolver
        self._lists = DnsLists(resolver, lists, on_trouble)
        self._on_trouble = on_trouble
        self._making = threading.Lock()

    def origin(self, question: Origin) -> Origins:
        """What SPF and the lists say."""
        budget = budget_of(question.spent)
        spf = clients = senders = None
        sender = question.reverse_path
        # The lists first, which the administrator chose: whom SPF asks a forger names, who may be slow.
        if Need.CLIENT_LISTS in question.needs:
            clients = self._lists.client(question.client, null_sender=sender is NULL_SENDER, budget=budget)
        if Need.SENDER_LISTS in question.needs and sender.domain:
            senders = self._lists.sender(sender.domain, budget)
        if Need.SPF in question.needs:
            spf = self._spf.check(question.client, question.helo, sender, budget_of(budget))
        return Origins(spf, clients, senders, budget)

    def authenticity(self, question: Signed, now: float) -> Authenticity:
        """What a message's signatures and DMARC say."""
        budget = budget_of(question.spent)
        signatures = self._dkim.verify(question.header, question.bodies, budget, now)
        try:
            checker = self._dmarc
        except LookupError as error:
            self._on_trouble(f"dmarc: {error}")
            return Authenticity(
                signatures, Dmarc(DmarcResult.TEMPERROR, reason="no public suffix list"), vouched=True
            )
        # Its owner may want only some of the mail judged: RFC 7489, section 6.6.4.
        sample = random.random()  # noqa: S311 - a sample, no secret
        dmarc = checker.check(question.authors, question.spf, signatures, budget, sample)
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


def budget_of(spent: object) -> Budget:
    """What is left to a message of what it may cost in DNS, and a second at least.

    Without that a name server that is slow on purpose would keep the next question from being answered.
    """
    if not isinstance(spent, Budget):
        return Budget()
    return spent if spent.seconds_left >= MIN_SECONDS else Budget(seconds=MIN_SECONDS)
