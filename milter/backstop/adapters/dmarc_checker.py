"""DMARC of a message: the records of the header From's domain are asked for, and judged by `dmarc`.

RFC 7489, section 6.6. Nothing follows from what could not be asked.
"""

from collections.abc import Sequence
from typing import Final

from backstop import dmarc
from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.adapters.resolver import Budget, Outcome, Resolver
from backstop.authentication import Disposition, Dkim, DkimResult, Dmarc, DmarcResult, Spf
from backstop.dmarc import Alignment, NoAuthor, Policy, Scope
from backstop.value import value

LOOKUPS: Final = 5
"""Questions for one author, apart from SPF's: two records, and three that tell whether a domain is there."""

MAX_AUTHORS: Final = 5
"""Domains of From that are judged: of more the first three and the last two, as programs show one end or the
other."""


@value
class Found:
    """The record that speaks for a domain: `at` is the name without `_dmarc`."""

    policy: Policy
    at: str
    record: bytes


@value
class NotFound:
    """Why no policy is applied: the result, and the reason for the log."""

    result: DmarcResult
    reason: str


class DmarcChecker:
    """Judges messages; one for all threads of a worker."""

    def __init__(self, resolver: Resolver, suffixes: PublicSuffixes) -> None:
        self._resolver = resolver
        self._suffixes = suffixes

    def check(
        self,
        from_values: Sequence[bytes],
        spf: Spf | None,
        dkim: tuple[Dkim, ...],
        budget: Budget,
        sample: float,
    ) -> Dmarc:
        """What DMARC says of a message; never raises on what the message or DNS holds.

        `from_values` are the values of all its From fields, raw. `spf` and `dkim` are as `dmarc.evaluate`
        takes them, `sample` too. Of several authors the strictest answer holds (section 6.6.1). Of `budget`
        only the time is used. Raises LookupError without a list of public suffixes; `PublicSuffixes.load` at
        the start finds that out.
        """
        authors = dmarc.authors(from_values)
        if isinstance(authors, NoAuthor):
            return Dmarc(DmarcResult.NONE, reason=authors.value)
        judged = authors if len(authors) <= MAX_AUTHORS else (*authors[:3], *authors[-2:])
        # Each has a time of his own: one who is silent must not be why another, who is forged, passes.
        seconds = max(budget.seconds_left, 0) / len(judged)
        return max(
            (self._judged(author, spf, dkim, Budget(LOOKUPS, LOOKUPS, seconds), sample) for author in judged),
            key=_strictness,
        )

    def _judged(
        self, author: str, spf: Spf | None, dkim: tuple[Dkim, ...], own: Budget, sample: float
    ) -> Dmarc:
        found = self.find(author, own)
        if isinstance(found, NotFound):
            return Dmarc(found.result, author, reason=found.reason)
        return dmarc.evaluate(
            found.policy,
            self._scope(author, found, own),
            author,
            spf,
            dkim,
            organizational=self._suffixes.organizational,
            sample=sample,
        )

    def find(self, domain: str, budget: Budget) -> Found | NotFound:
        """The policy for a folded domain: its own, else that of its organisational domain (section 6.6.3)."""
        organizational = self._suffixes.organizational(domain)
        for name in dict.fromkeys((domain, organizational)):
            if name is None:
                continue
            answer = self._resolver.txt(f"_dmarc.{name}", budget)
            if answer.outcome in (Outcome.TEMPORARY, Outcome.SPENT):
                return NotFound(DmarcResult.TEMPERROR, f"DNS did not answer for _dmarc.{name}")
            records = [record for record in answer.records if dmarc.is_record(record)]
            if len(records) > 1:
                return NotFound(DmarcResult.NONE, f"_dmarc.{name} has {len(records)} records")
            if records:
                policy = dmarc.parse(records[0])
                if policy is None:
                    return NotFound(DmarcResult.PERMERROR, f"the record of _dmarc.{name} is damaged")
                return Found(policy, name, records[0])
        return NotFound(DmarcResult.NONE, "there is no record")

    def vouches(self, reverse_path_domain: str, dkim: tuple[Dkim, ...]) -> bool:
        """Whether a good signature is aligned, relaxed, with the domain of the reverse-path, folded."""
        return any(
            signature.result is DkimResult.PASS
            and dmarc.is_aligned(
                reverse_path_domain, signature.domain, Alignment.RELAXED, self._suffixes.organizational
            )
            for signature in dkim
        )

    def _scope(self, domain: str, found: Found, budget: Budget) -> Scope:
        if domain == found.at:
            return Scope.OWN
        missing, there = found.policy.nonexistent, found.policy.subdomain
        if missing is there or self._is_there(domain, budget, if_unknown=missing > there):
            return Scope.SUBDOMAIN
        return Scope.NONEXISTENT

    def _is_there(self, domain: str, budget: Budget, *, if_unknown: bool) -> bool:
        """Whether it has an address or takes mail (RFC 9091, section 2.7)."""
        for ask in (self._resolver.a, self._resolver.mx, self._resolver.aaaa):
            outcome = ask(domain, budget).outcome
            if outcome is Outcome.FOUND or (if_unknown and outcome is not Outcome.ABSENT):
                return True
        return False


def _strictness(dmarc: Dmarc) -> tuple[bool, Disposition, bool]:
    """What could be found out is more than what could not, and a failure more than all else."""
    return dmarc.result is DmarcResult.FAIL, dmarc.disposition, dmarc.result is DmarcResult.TEMPERROR
