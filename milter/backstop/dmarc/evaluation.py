"""Whether what was proved speaks for the domain of the header From. RFC 7489, sections 3.1 and 6.6."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from backstop.authentication import Disposition, Dkim, DkimResult, Dmarc, DmarcResult, Spf, SpfResult
from backstop.dmarc.record import Alignment, Policy

_MILDER: Final = {
    Disposition.REJECT: Disposition.QUARANTINE,
    Disposition.QUARANTINE: Disposition.NONE,
    Disposition.NONE: Disposition.NONE,
}


class Scope(Enum):
    """Where the domain of the header From stands to the record that speaks for it."""

    OWN = "own"
    """It has the record itself."""

    SUBDOMAIN = "subdomain"
    NONEXISTENT = "nonexistent"
    """A subdomain that is not there: it has no address and takes no mail."""


def evaluate(
    policy: Policy,
    scope: Scope,
    domain: str,
    spf: Spf | None,
    dkim: tuple[Dkim, ...],
    *,
    organizational: Callable[[str], str | None],
    sample: float,
) -> Dmarc:
    """What DMARC says of a message that shows an address in `domain`, folded.

    `spf` is None when SPF was not asked: then nothing can fail. A signature that could not be looked at is
    given as a temperror. `organizational` gives the organisational domain, None for a public suffix.
    `sample`, from 0 to 1 without 1, is drawn anew for each message: RFC 7489, section 6.6.4.
    """

    def aligned(other: str, alignment: Alignment) -> bool:
        return is_aligned(domain, other, alignment, organizational)

    for proof in _passed(spf, dkim, policy, aligned):
        return Dmarc(DmarcResult.PASS, domain, reason=proof)
    for doubt in _open(spf, dkim, policy, aligned):
        return Dmarc(DmarcResult.TEMPERROR, domain, reason=doubt)
    wanted = _wanted(policy, scope)
    if sample * 100 < policy.per_cent:
        return Dmarc(DmarcResult.FAIL, domain, wanted, f"p={wanted.label}")
    milder = _MILDER[wanted]
    reason = f"p={wanted.label}, not among its {policy.per_cent} %"
    return Dmarc(DmarcResult.FAIL, domain, milder, reason)


def is_aligned(
    domain: str, other: str, alignment: Alignment, organizational: Callable[[str], str | None]
) -> bool:
    """Whether two folded domains are the same or, if that is enough, below the same organisational domain.

    A public suffix is below none: what `com` proves says nothing of `example.com`.
    """
    if not domain or not other:
        return False
    if domain == other:
        return True
    if alignment is Alignment.STRICT:
        return False
    owner = organizational(domain)
    return owner is not None and owner == organizational(other)


def _passed(
    spf: Spf | None, dkim: tuple[Dkim, ...], policy: Policy, aligned: Callable[[str, Alignment], bool]
) -> Iterator[str]:
    # The HELO name is asked for the null sender only, and stands for the reverse-path then: section 3.1.2.
    if spf and spf.result is SpfResult.PASS and aligned(spf.domain, policy.spf):
        yield f"spf {spf.domain}"
    for signature in dkim:
        if signature.result is DkimResult.PASS and aligned(signature.domain, policy.dkim):
            yield f"dkim {signature.domain}"


def _open(
    spf: Spf | None, dkim: tuple[Dkim, ...], policy: Policy, aligned: Callable[[str, Alignment], bool]
) -> Iterator[str]:
    """What might have spoken for the domain and could not be found out.

    A temperror of another domain is no reason to wait: the forger chooses it.
    """
    if spf is None:
        yield "SPF was not asked"
    elif spf.result is SpfResult.TEMPERROR and (not spf.domain or aligned(spf.domain, policy.spf)):
        yield f"spf {spf.domain} could not be found out"
    for signature in dkim:
        if signature.result is DkimResult.TEMPERROR and (
            not signature.domain or aligned(signature.domain, policy.dkim)
        ):
            yield f"dkim {signature.domain} could not be found out"


def _wanted(policy: Policy, scope: Scope) -> Disposition:
    match scope:
        case Scope.OWN:
            return policy.own
        case Scope.SUBDOMAIN:
            return policy.subdomain
        case Scope.NONEXISTENT:
            return policy.nonexistent
