"""The DKIM keys of a domain: whether the selectors known here are good in DNS. RFC 6376, section 3.6."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from backstop.adapters import dkim_keys
from backstop.adapters.dkim_keys import Fault, PublicKey
from backstop.adapters.dkim_signature import Algorithm
from backstop.adapters.resolver import Outcome, Resolver
from backstop.cli.examinations.finding import Finding, fine, note, unknown, wrong

GOOD_BITS: Final = 2048
"""Of an RSA key: RFC 8301, section 3.2, wants them of signers."""

MAX_SELECTORS: Final = 50


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector: its key in DNS, and the one in the file of this server; None where there is none."""

    name: str
    published: PublicKey | Fault | None
    local: PublicKey | Fault | None


@dataclass(slots=True)
class Published:
    """The selectors that were looked at."""

    selectors: list[Selector] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_signed(self) -> bool:
        """Whether a good key is in DNS."""
        return any(isinstance(selector.published, PublicKey) for selector in self.selectors)


def look(
    domain: str, named: tuple[str, ...], local: Mapping[str, PublicKey | Fault], resolver: Resolver
) -> Published:
    """Look at the selectors of a folded domain: those `named`, and those of which there are files here."""
    found = Published()
    for name in list(dict.fromkeys((*named, *local)))[:MAX_SELECTORS]:
        selector = _selector(domain, name, local.get(name), resolver, found)
        if selector is not None:
            found.selectors.append(selector)
            found.findings.append(_finding(selector, is_named=name in named))
    if not named and not local:
        found.findings.append(
            note(
                "DKIM",
                "no selector is known here, and DNS names none, so nothing could be looked at",
                "name it with --selector: it stands as s= in the DKIM-Signature of a message you sent",
            )
        )
    elif local and found.selectors and not found.is_signed:
        found.findings.append(
            wrong(
                "DKIM", "none of these keys is good in DNS: no signature verifies", "publish one, see below"
            )
        )
    return found


def _selector(
    domain: str, name: str, local: PublicKey | Fault | None, resolver: Resolver, found: Published
) -> Selector | None:
    place = f"{name}._domainkey.{domain}"
    answer = resolver.txt(place)
    if answer.outcome is Outcome.TEMPORARY:
        found.findings.append(unknown(f"DKIM {name}", f"DNS did not answer for {place}", "try again later"))
        return None
    if len(answer.records) > 1:
        found.findings.append(
            wrong(
                f"DKIM {name}",
                f"{place} has {len(answer.records)} records, and which one counts is chance",
                "leave one, and give each key a selector of its own",
            )
        )
    return Selector(name, dkim_keys.parse(answer.records[0]) if answer.records else None, local)


def _finding(selector: Selector, *, is_named: bool) -> Finding:
    subject, key, local = f"DKIM {selector.name}", selector.published, selector.local
    if key is None:
        if is_named or isinstance(local, PublicKey):
            level = wrong if is_named else note
            return level(subject, "is not in DNS", "publish it, or sign with it no more")
        return fine(subject, "is neither in DNS nor in use")
    if key is Fault.REVOKED:
        return note(subject, "is revoked: its p= is empty", "sign with it no more")
    if isinstance(key, Fault):
        return wrong(subject, key.value, "publish the record anew, on one line, as the signer wrote it")
    if isinstance(local, PublicKey) and not is_same(key, local):
        return wrong(
            subject,
            "the key in DNS is not the one in the file of this server, so one of the two is wrong",
            "publish the key of the file, if the signer uses that one; else renew the file",
        )
    if key.is_testing:
        return note(subject, f"{bits(key)}, marked as a test (t=y)", "take t=y out when it works")
    if key.algorithm is Algorithm.RSA and key.modulus.bit_length() < GOOD_BITS:
        return note(subject, f"is good with {bits(key)}", f"make a new selector with {GOOD_BITS}")
    known = ", the same as in the file here" if isinstance(local, PublicKey) else ""
    return fine(subject, f"is good: {bits(key)}{known}")


def is_same(one: PublicKey, other: PublicKey) -> bool:
    """Whether it is one key, however it is marked."""
    return (one.algorithm, one.modulus, one.exponent, one.octets) == (
        other.algorithm,
        other.modulus,
        other.exponent,
        other.octets,
    )


def bits(key: PublicKey) -> str:
    """How strong a key is, in words."""
    return f"RSA, {key.modulus.bit_length()} bits" if key.algorithm is Algorithm.RSA else "Ed25519"


def record(key: PublicKey) -> bytes:
    """The TXT record for a key."""
    if key.algorithm is Algorithm.ED25519:
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(key.octets)
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(_subject_public_key(key))


def _subject_public_key(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER: RFC 5280, section 4.1, with the key of RFC 8017, appendix A.1.1."""
    pair = _der(0x30, _integer(key.modulus) + _integer(key.exponent))
    algorithm = _der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    return _der(0x30, algorithm + _der(0x03, b"\0" + pair))


def _integer(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(kind: int, octets: bytes) -> bytes:
    size = len(octets)
    if size < 0x80:
        return bytes((kind, size)) + octets
    written = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((kind, 0x80 | len(written))) + written + octets
