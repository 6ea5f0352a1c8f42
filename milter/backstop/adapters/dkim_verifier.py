"""What the DKIM signatures of an incoming message are worth: RFC 6376, section 6, in the words of RFC 8601.

The header is hashed here; the body was hashed while it came in, by `dkim_body`. A signature is a pass only
where it covers the whole body, with an algorithm and a key that are still good: RFC 8301.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from backstop.adapters import dkim_keys, dkim_signature
from backstop.adapters.dkim_crypto import HAS_ED25519, is_signed_by
from backstop.adapters.dkim_keys import Fault, PublicKey
from backstop.adapters.dkim_signature import Algorithm, Field, Flaw, Signature
from backstop.adapters.resolver import Budget, Outcome, Resolver
from backstop.authentication import Dkim, DkimResult
from backstop.dkim_body import MAX_FIELDS, MAX_SIGNATURES, BodyCanonicalization

MAX_KEYS: Final = 4
"""TXT records of one selector that are tried; there should be one."""

MAX_SKEW: Final = 300
"""By how many seconds a signature may be younger than now, or past its end: clocks differ."""

_HOST: Final = re.compile(rb"@([A-Za-z0-9_.-]{1,255})")
_MAX_AUTHOR: Final = 64 * 1024  # octets of From that are searched for the author's domain

_FLAWS: Final = {
    Flaw.MALFORMED: DkimResult.NEUTRAL,
    Flaw.VERSION: DkimResult.NEUTRAL,
    Flaw.ALGORITHM: DkimResult.NEUTRAL,
    Flaw.SHA1: DkimResult.POLICY,
    Flaw.STRANGER: DkimResult.PERMERROR,
    Flaw.NO_FROM: DkimResult.PERMERROR,
}
_FAULTS: Final = {Fault.SMALL: DkimResult.POLICY, Fault.LARGE: DkimResult.POLICY}


class DkimVerifier:
    """Verifies the signatures of messages with keys from DNS. One for all threads of a worker."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def verify(
        self, header: bytes, bodies: Mapping[BodyCanonicalization, bytes], budget: Budget, now: float
    ) -> tuple[Dkim, ...]:
        """Signatures of a message, from the top, and what each is worth; never raises.

        `header` is the whole block as it came, `bodies` the body's hashes: one that is missing makes the
        signatures that need it a temperror, as does a key nobody could ask for. Of `budget` only the time is
        used: there is one question for each signature.
        """
        # Lookups of its own: those of SPF and the lists are chosen by whoever writes the envelope. Did they
        # count here, he could use them up before the question that shows his signature to be none.
        own = budget.apart(lookups=MAX_SIGNATURES)
        block = dkim_signature.fields(header, dkim_signature.OF_MESSAGE)
        signatures = (field for field in block if field.name == b"dkim-signature")
        chosen = [(field, dkim_signature.tags(field) or {}) for field in islice(signatures, MAX_FIELDS)]
        domains = [dkim_signature.domain_of(tags) for _, tags in chosen]
        authors = _authors(block)
        found: dict[int, Dkim] = {}
        # Nearest to From first: what strangers' signatures take, of the time and of the number, must not be
        # missing where one could speak for the author.
        nearest = sorted(range(len(chosen)), key=lambda number: -_kinship(domains[number], authors))
        for number in nearest[:MAX_SIGNATURES]:
            field, tags = chosen[number]
            result, reason = self._worth(field, tags, block, bodies, own, now)
            selector = dkim_signature.selector_of(tags)
            found[number] = Dkim(result, domains[number] or "", selector or "", reason)
        return tuple(found[number] for number in sorted(found))

    def _worth(
        self,
        field: Field,
        tags: Mapping[bytes, bytes],
        block: Sequence[Field],
        bodies: Mapping[BodyCanonicalization, bytes],
        budget: Budget,
        now: float,
    ) -> tuple[DkimResult, str]:
        signature = dkim_signature.parse(tags)
        if isinstance(signature, Flaw):
            return _FLAWS[signature], signature.value
        if signature.made is not None and signature.made > now + MAX_SKEW:
            return DkimResult.POLICY, "it was made in the future"
        if signature.expires is not None and signature.expires < now - MAX_SKEW:
            return DkimResult.FAIL, "it has expired"
        keys = self._keys(signature, budget)
        if isinstance(keys, tuple):
            return keys
        result, reason = _compared(signature, keys, field, block, bodies)
        if not all(key.is_testing for key in keys):
            return result, reason
        # RFC 6376, section 3.6.1: the failure of a signer who is testing is as no signature at all.
        result = DkimResult.NEUTRAL if result is DkimResult.FAIL else result
        return result, f"{reason}; its signer is testing"

    def _keys(self, signature: Signature, budget: Budget) -> list[PublicKey] | tuple[DkimResult, str]:
        """The keys that may have signed, or what their absence makes of the signature."""
        answer = self._resolver.txt(f"{signature.selector}._domainkey.{signature.domain}", budget)
        if answer.outcome in (Outcome.TEMPORARY, Outcome.SPENT):
            return DkimResult.TEMPERROR, "its key could not be asked for"
        keys = [_fitting(dkim_keys.parse(record), signature) for record in answer.records[:MAX_KEYS]]
        good = [key for key in keys if isinstance(key, PublicKey)]
        refusals = [key for key in keys if isinstance(key, tuple)]
        return good or next(iter(refusals), (DkimResult.PERMERROR, "there is no key of its selector"))


def _fitting(key: PublicKey | Fault, signature: Signature) -> PublicKey | tuple[DkimResult, str]:
    if isinstance(key, Fault):
        return _FAULTS.get(key, DkimResult.PERMERROR), f"its key {key.value}"
    if key.algorithm is not signature.algorithm:
        return DkimResult.PERMERROR, "its key is for another algorithm"
    if key.is_strict and signature.is_for_subdomain:
        return DkimResult.PERMERROR, "its key is not for users of subdomains"
    return key


def _compared(
    signature: Signature,
    keys: Sequence[PublicKey],
    field: Field,
    block: Sequence[Field],
    bodies: Mapping[BodyCanonicalization, bytes],
) -> tuple[DkimResult, str]:
    if signature.algorithm is Algorithm.ED25519 and not HAS_ED25519:
        return DkimResult.TEMPERROR, "PyNaCl, which Ed25519 needs, is not installed"
    # The header first: whoever is not the signer must not get as far as the mercy of a body not read.
    total = dkim_signature.header_hash(signature, field, block)
    if not any(is_signed_by(key, total, signature.octets) for key in keys):
        return DkimResult.FAIL, "its headers do not verify: forged, or changed on the way"
    body_hash = bodies.get(signature.body)
    if body_hash is None:
        return DkimResult.TEMPERROR, "the body was not read to its end"
    if body_hash != signature.body_hash and signature.has_length:
        return DkimResult.POLICY, "it lets anybody add to the body, and not all of it is signed: it has l="
    if body_hash != signature.body_hash:
        return DkimResult.FAIL, "the body does not verify: forged, or changed on the way"
    return DkimResult.PASS, "it verifies"


def _authors(block: Sequence[Field]) -> list[list[str]]:
    """The labels, last first, of what may be the domains of From: only for the order of questions."""
    text = b" ".join(field.octets for field in block if field.name == b"from")[:_MAX_AUTHOR]
    hosts = {host.lower().decode("ascii") for host in islice(_HOST.findall(text), 100)}
    return [host.strip(".").split(".")[::-1] for host in hosts]


def _kinship(domain: str | None, authors: Sequence[Sequence[str]]) -> int:
    """How many labels, from the last, a domain has in common with an author's."""
    labels = (domain or "").split(".")[::-1]
    return max((_shared(labels, author) for author in authors), default=0)


def _shared(labels: Sequence[str], others: Sequence[str]) -> int:
    for number, (label, other) in enumerate(zip(labels, others, strict=False)):
        if label != other:
            return number
    return min(len(labels), len(others))
