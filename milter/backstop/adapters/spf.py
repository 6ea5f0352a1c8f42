"""Whether a client may send for a domain: SPF of the reverse-path, or of the HELO name for the null sender.

The evaluation itself is `spf_query`'s; here it is decided whose policy is asked, and the answer is remembered
for a while: of a flood from one client for one domain, one message pays. RFC 7208.
"""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from backstop.adapters.resolver import ENOUGH, LIFETIME, Budget, Resolver
from backstop.address import NULL_SENDER, Address, fold_domain
from backstop.authentication import Spf, SpfIdentity, SpfResult
from backstop.value import value

KEPT_SECONDS: Final = 60.0
"""For how long a result is remembered: no longer than the shortest time for which a record is."""

TEMPERROR_SECONDS: Final = 5.0
"""The same for a temporary error."""

MAX_KEPT: Final = 2000
"""Results that are remembered. The ones not used for longest go."""


@value
class _Asked:
    """What a result holds for; `local` and `helo` are empty unless a macro of the record reads them."""

    address: str
    identity: SpfIdentity
    domain: str
    local: str = ""
    helo: str = ""


@value
class _Kept:
    spf: Spf | None  # None: it depends on local part and HELO name, and is kept under these too
    until: float


class SpfChecker:
    """Asks for one worker, from any of its threads. `clock` is for what is remembered alone."""

    def __init__(self, resolver: Resolver, *, clock: Callable[[], float] = time.monotonic) -> None:
        from backstop.adapters import spf_query  # noqa: PLC0415 - pyspf only in workers that check SPF

        self._query = spf_query
        self._resolver = resolver
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Asked, _Kept] = OrderedDict()

    def check(self, address: str, helo: str, reverse_path: Address, budget: Budget) -> Spf:
        """What the policy says of the client; `helo` as the client wrote it. Never raises.

        `budget` is the message's: SPF counts its own lookups, and shares the time.
        """
        if reverse_path is NULL_SENDER:
            identity, domain, local = SpfIdentity.HELO, fold_domain(helo) or "", ""
        else:
            identity, domain, local = SpfIdentity.MAILFROM, reverse_path.domain, reverse_path.local
        if not _is_name(domain):
            return Spf(SpfResult.NONE, identity, domain, "no domain name")
        asked = _Asked(address, identity, domain)
        kept = self._find(asked)
        if kept is not None:
            if kept.spf is not None:
                return kept.spf
            kept = self._find(_Asked(address, identity, domain, local, helo))
            if kept is not None and kept.spf is not None:
                return kept.spf
        return self._evaluated(asked, helo, local, budget)

    def _evaluated(self, asked: _Asked, helo: str, local: str, budget: Budget) -> Spf:
        folded = _folded(asked.address)
        if folded is None:
            return Spf(SpfResult.NONE, asked.identity, asked.domain, "the client has no IP address")
        had_time = budget.seconds_left >= LIFETIME * ENOUGH
        own = budget.apart(questions=self._query.MAX_QUESTIONS)
        client = self._query.Client(folded, helo, local, asked.domain)
        outcome = self._query.evaluate(client, self._resolver, own)
        spf = Spf(outcome.result, asked.identity, asked.domain, outcome.reason)
        seconds = KEPT_SECONDS
        if spf.result is SpfResult.TEMPERROR:
            # That this message had no time left says nothing about the next one's.
            seconds = TEMPERROR_SECONDS if had_time else 0.0
        if outcome.is_personal:
            self._keep(asked, None, seconds)
            asked = _Asked(asked.address, asked.identity, asked.domain, local, helo)
        self._keep(asked, spf, seconds)
        return spf

    def _find(self, asked: _Asked) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(asked)
            if kept is None or self._clock() >= kept.until:
                return None
            self._kept.move_to_end(asked)
            return kept

    def _keep(self, asked: _Asked, spf: Spf | None, seconds: float) -> None:
        with self._lock:
            self._kept[asked] = _Kept(spf, self._clock() + seconds)
            self._kept.move_to_end(asked)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


def _is_name(domain: str) -> bool:
    """Whether there can be a policy: RFC 7208, section 4.3."""
    return (
        "." in domain
        and "[" not in domain
        and len(domain) <= 253
        and all(0 < len(label) < 64 for label in domain.split("."))
    )


def _folded(address: str) -> str | None:
    """The client's address, a mapped IPv4 address as IPv4; None for what is none."""
    if "%" in address:
        return None
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    return str(ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip)
