"""Whether a returned header block carries a DKIM signature of one of our domains that verifies.

The body is gone, so only the header hash is checked; it covers the body's hash as the signer wrote it.
A pass proves that one of our domains wrote the original. A failure proves nothing: others break
signatures every day. RFC 6376, RFC 8301, RFC 8463.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Final

from backstop.adapters import dkim_keys, dkim_signature
from backstop.adapters.dkim_crypto import HAS_ED25519, is_signed_by
from backstop.adapters.dkim_keys import Fault, KeyDirectory, PublicKey
from backstop.adapters.dkim_signature import Algorithm, Field, Signature
from backstop.adapters.resolver import Budget, Outcome, Resolver
from backstop.value import value

MAX_SIGNATURES: Final = 5
"""Signatures of our domains in one block that are looked at, from the top."""

MAX_KEYS: Final = 4
"""TXT records of one selector that are tried; there should be one."""

MAX_LOOKUPS: Final = 10
"""Keys of one block that are asked for."""

MAX_VOIDS: Final = 2
"""Keys that are not there, after which no more are asked for."""

_UNUSABLE: Final = "it cannot count: its tags are damaged, or it has l=, rsa-sha1, or no signed From"


class SignatureResult(Enum):
    """What the block's signatures say together."""

    PASS = "pass"  # noqa: S105 - a result's name
    FAIL = "fail"
    """There is a signature of ours, and it proves nothing."""

    NONE = "none"
    TEMPERROR = "temperror"
    """It would take a key that could not be fetched now."""


@value
class Looked:
    """A signature that names one of our domains, what it is worth, and why."""

    domain: str
    selector: str
    result: SignatureResult
    why: str


class OwnSignature:
    """Verifies signatures of our domains, with keys from a directory first and from DNS after that.

    One for all threads of a worker. `on_trouble` is told of key files that are of no use.
    """

    def __init__(
        self, key_directory: Path | None, resolver: Resolver, on_trouble: Callable[[str], None]
    ) -> None:
        self._directory = KeyDirectory(key_directory, on_trouble) if key_directory else None
        self._resolver = resolver

    def verify(
        self, block: bytes, is_ours: Callable[[str], bool], now: float, budget: Budget | None = None
    ) -> SignatureResult:
        """Look at a block as it was cut out of a report; `is_ours` is asked about folded domains.

        `budget` is the message's; only its time is shared, and without one the block has time of its own.
        Never raises, whatever the block holds. Only keys of our own domains are looked up.
        """
        results: set[SignatureResult] = set()
        for looked in self.look(block, is_ours, now, budget):
            if looked.result is SignatureResult.PASS:
                return SignatureResult.PASS
            results.add(looked.result)
        for result in (SignatureResult.TEMPERROR, SignatureResult.FAIL):
            if result in results:
                return result
        return SignatureResult.NONE

    def look(
        self, block: bytes, is_ours: Callable[[str], bool], now: float, budget: Budget | None = None
    ) -> Iterator[Looked]:
        """Each signature of ours, from the top, and what it is worth; see `verify`."""
        fields = dkim_signature.fields(block)
        budget = (budget or Budget()).apart(lookups=MAX_LOOKUPS, voids=MAX_VOIDS)
        for field, tags in islice(_of_ours(fields, is_ours), MAX_SIGNATURES):
            signature = dkim_signature.read(tags, now)
            result, why = self._worth(signature, field, fields, budget, now)
            selector = tags.get(b"s", b"").decode("ascii", "replace")
            yield Looked(dkim_signature.domain_of(tags) or "", selector, result, why)

    def _worth(
        self, signature: Signature | None, field: Field, fields: list[Field], budget: Budget, now: float
    ) -> tuple[SignatureResult, str]:
        if signature is None:
            return SignatureResult.FAIL, _UNUSABLE
        if signature.algorithm is Algorithm.ED25519 and not HAS_ED25519:
            return SignatureResult.NONE, "PyNaCl, which Ed25519 needs, is not installed"
        keys = self._keys(signature, budget, now)
        if keys is None:
            return SignatureResult.TEMPERROR, "its key could not be asked for"
        if not keys:
            return SignatureResult.FAIL, "there is no usable key of this selector"
        if _verifies(signature, field, fields, keys):
            return SignatureResult.PASS, "it verifies"
        return SignatureResult.FAIL, "it does not verify with the key: forged, or changed on the way"

    def _keys(self, signature: Signature, budget: Budget, now: float) -> list[PublicKey] | None:
        """The keys that may have signed; None if nobody could say."""
        if self._directory:
            key = self._directory.key(signature.selector, signature.domain, now)
            if key is not None:
                return [] if isinstance(key, Fault) else [key]
        answer = self._resolver.txt(f"{signature.selector}._domainkey.{signature.domain}", budget)
        # Not so for SPENT: how many selectors a block names is its writer's doing, and must not buy it
        # the mercy that a failure of DNS gets.
        if answer.outcome is Outcome.TEMPORARY:
            return None
        keys = map(dkim_keys.parse, answer.records[:MAX_KEYS])
        return [key for key in keys if isinstance(key, PublicKey)]


def _of_ours(
    fields: list[Field], is_ours: Callable[[str], bool]
) -> Iterator[tuple[Field, dict[bytes, bytes]]]:
    for field in fields:
        if field.name == b"dkim-signature" and (tags := dkim_signature.tags(field)):
            domain = dkim_signature.domain_of(tags)
            if domain and is_ours(domain):
                yield field, tags


def _verifies(signature: Signature, field: Field, fields: list[Field], keys: list[PublicKey]) -> bool:
    fitting = [
        key
        for key in keys
        if key.algorithm is signature.algorithm and not (key.is_strict and signature.is_for_subdomain)
    ]
    if not fitting:
        return False
    total = dkim_signature.header_hash(signature, field, fields)
    return any(is_signed_by(key, total, signature.octets) for key in fitting)
