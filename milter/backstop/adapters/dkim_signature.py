"""A DKIM-Signature in a header block: its tags, and the hash of the headers it signs.

Written after RFC 6376, sections 3.4, 3.5 and 3.7, and RFC 8616, section 5, for names in U-labels. dkimpy is
the model and, in the tests, the judge, but it is not given the block: its patterns for `b=`, `h=` and base64
take time by the square of a run of blanks, its parser by the square of a folded field, and it refuses
signatures that have expired. Here each octet is looked at a fixed number of times. Keys are `dkim_keys`'s
business, whose signature it is `own_signature`'s, and what it says of a whole message `dkim_verifier`'s.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from backstop.address import fold_domain
from backstop.dkim_body import BodyCanonicalization
from backstop.value import value

MAX_BLOCK: Final = 256 * 1024
"""Octets of a returned header block that are read; what comes after them is not there."""

MAX_LINES: Final = 2000
"""Lines of it."""

MAX_LINE: Final = 16 * 1024
"""Octets of a line."""


@value
class Bounds:
    """How much of a header block is read: octets, lines, and octets of a line; the rest is not there."""

    octets: int
    lines: int
    line: int


OF_RETURNED: Final = Bounds(MAX_BLOCK, MAX_LINES, MAX_LINE)
OF_MESSAGE: Final = Bounds(1_000_000, 20_000, 128 * 1024)
"""Of a message itself: thousands of recipients stand there, one a line or all on one, and are signed."""

MAX_AHEAD: Final = 86_400
"""By how many seconds a signature may be younger than now: our own hosts' clocks."""

_MAX_SIGNATURE: Final = 1024  # octets; that of RSA with 8,192 bits
_NAME: Final = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_TAG: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_SELECTOR: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")
_BLANKS: Final = re.compile(rb"[ \t]+")
_WHITE: Final = b" \t\r\n"


class Algorithm(Enum):
    """How it is signed. rsa-sha1 is not here: nobody's proof since RFC 8301."""

    RSA = b"rsa-sha256"
    ED25519 = b"ed25519-sha256"


@value
class Field:
    """A header field as it stands: `octets` with its name, folds written CR LF, without the last CR LF."""

    name: bytes
    octets: bytes


class Flaw(Enum):
    """Why a signature proves nothing, whatever its key and its hashes. The value is said to a reader."""

    MALFORMED = "its tags are damaged, or one is missing"
    VERSION = "its version is unknown: v= is not 1"
    SHA1 = "it is made with rsa-sha1, which nobody may trust any more"
    ALGORITHM = "its algorithm is unknown: a= is neither rsa-sha256 nor ed25519-sha256"
    NO_FROM = "it does not sign From"
    STRANGER = "its user is of another domain: i= is not within d="


@value
class Signature:
    """What a signature says, if it can prove anything; domain and selector folded, times in seconds."""

    domain: str
    selector: str
    algorithm: Algorithm
    signed: tuple[bytes, ...]
    octets: bytes
    body: BodyCanonicalization
    body_hash: bytes
    made: int | None
    expires: int | None
    is_relaxed: bool
    """Its headers are; `body` says what of the body is."""
    has_length: bool
    """It has `l=`: others may have added to the body."""
    is_for_subdomain: bool
    """The user of `i=` is in a subdomain of `d=`, which the key may forbid (`t=s`)."""


def fields(block: bytes, bounds: Bounds = OF_RETURNED) -> list[Field]:
    """The fields of a block that ends where it ends or at its first empty line.

    Empty lines before the first field, mbox's `From ` lines and lines that are no field are passed over, with
    what continues them. Lines may end in LF.
    """
    found: list[tuple[bytes, list[bytes]]] = []
    lines: list[bytes] | None = None
    for line in block[: bounds.octets].split(b"\n", bounds.lines)[: bounds.lines]:
        line = line[: bounds.line].rstrip(b"\r")  # noqa: PLW2901 - the same line; some systems end it CR CR LF
        if not line:
            if found:
                break
        elif line[0] in b" \t":
            if lines is not None:
                lines.append(line)
        elif match := _NAME.match(line):
            lines = [line]
            found.append((match[1].lower(), lines))
        else:
            lines = None
    return [Field(name, b"\r\n".join(lines)) for name, lines in found]


def tags(field: Field) -> dict[bytes, bytes] | None:
    """The tags of a signature, without what surrounds them; None for what is no list of tags."""
    return tag_list(field.octets.partition(b":")[2])


def tag_list(text: bytes) -> dict[bytes, bytes] | None:
    """A list of tags, RFC 6376, section 3.2, which signatures and keys are written in."""
    found: dict[bytes, bytes] = {}
    specs = text.split(b";")
    if not specs[-1].strip(_WHITE):
        specs.pop()
    for spec in specs:
        name, equals, text = (part.strip(_WHITE) for part in spec.partition(b"="))
        if not equals or not _TAG.fullmatch(name) or name in found:
            return None
        found[name] = text
    return found


def domain_of(tags: Mapping[bytes, bytes]) -> str | None:
    """Whose signature it says it is, folded."""
    return fold_domain(tags.get(b"d", b"").decode("utf-8", "replace")) or None


def selector_of(tags: Mapping[bytes, bytes]) -> str | None:
    """The name of its key, folded."""
    selector = tags.get(b"s", b"").decode("utf-8", "replace").lower()
    if not selector.isascii():
        selector = fold_domain(selector) or ""
    return selector if len(selector) <= 253 and _SELECTOR.fullmatch(selector) else None


def parse(tags: Mapping[bytes, bytes]) -> Signature | Flaw:
    """The signature that the tags say. RFC 6376, sections 3.5 and 6.1.1; RFC 8301 for the algorithms."""
    if tags.get(b"v") != b"1":
        return Flaw.VERSION if tags.get(b"v") else Flaw.MALFORMED
    domain, selector, user_domain = domain_of(tags), selector_of(tags), _user_domain(tags)
    octets, body_hash = from_base64(tags.get(b"b", b"")), from_base64(tags.get(b"bh", b""))
    canonicalizations = _canonicalizations(tags)
    times = _times(tags)
    is_by_dns = b"dns/txt" in map(bytes.strip, tags.get(b"q", b"dns/txt").lower().split(b":"))
    if (
        not (domain and selector and user_domain and octets and body_hash and canonicalizations and is_by_dns)
        or len(octets) > _MAX_SIGNATURE
        or times is None
    ):
        return Flaw.MALFORMED
    algorithm = _ALGORITHMS.get(tags.get(b"a", b"").lower())
    if algorithm is None:
        return Flaw.SHA1 if tags.get(b"a", b"").lower() == b"rsa-sha1" else Flaw.ALGORITHM
    if not f".{user_domain}".endswith(f".{domain}"):
        return Flaw.STRANGER
    signed = tuple(name.strip(_WHITE).lower() for name in tags.get(b"h", b"").split(b":"))
    if b"from" not in signed:
        return Flaw.NO_FROM
    header, body = canonicalizations
    return Signature(
        domain,
        selector,
        algorithm,
        signed,
        octets,
        body,
        body_hash,
        *times,
        is_relaxed=header is BodyCanonicalization.RELAXED,
        has_length=b"l" in tags,
        is_for_subdomain=user_domain != domain,
    )


def read(tags: Mapping[bytes, bytes], now: float) -> Signature | None:
    """The signature, if it can prove anything without the body and is not of the future.

    When it expired is not asked: bounces come days later.
    """
    signature = parse(tags)
    if isinstance(signature, Flaw) or signature.has_length or (signature.made or 0) > now + MAX_AHEAD:
        return None
    return signature


def header_hash(signature: Signature, field: Field, block: Sequence[Field]) -> "hashlib._Hash":
    """SHA-256 over the fields that are signed and the signature's own, RFC 6376, section 3.7.

    `field`, one of the block, is never among the former, whatever `h=` says. A second From, signed or not, is
    part of it, as in dkimpy: there should be none.
    """
    canonical = _relaxed if signature.is_relaxed else _simple
    total = hashlib.sha256()
    for chosen in _chosen((*signature.signed, b"from"), [one for one in block if one is not field]):
        total.update(canonical(chosen) + b"\r\n")
    total.update(canonical(Field(field.name, _without_b(field.octets))))
    return total


def from_base64(text: bytes) -> bytes:
    """What base64 stands for, blanks left out; empty for what is none."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError:
        return b""


_ALGORITHMS: Final = {algorithm.value: algorithm for algorithm in Algorithm}


def _user_domain(tags: Mapping[bytes, bytes]) -> str | None:
    user = tags.get(b"i", b"@" + tags.get(b"d", b""))
    return fold_domain(user.rpartition(b"@")[2].decode("utf-8", "replace"))


def _canonicalizations(
    tags: Mapping[bytes, bytes],
) -> tuple[BodyCanonicalization, BodyCanonicalization] | None:
    """Those of header and body, which have the same names."""
    header, _, body = tags.get(b"c", b"simple").lower().partition(b"/")
    try:
        return BodyCanonicalization(header), BodyCanonicalization(body or b"simple")
    except ValueError:
        return None


def _times(tags: Mapping[bytes, bytes]) -> tuple[int | None, int | None] | None:
    """When it was made and when it expires, None for what is not said; None for what are no times."""
    texts = tags.get(b"t"), tags.get(b"x")
    if any(text is not None and not (text.isdigit() and len(text) <= 12) for text in texts):
        return None
    made, expires = (None if text is None else int(text) for text in texts)
    return None if made is not None and expires is not None and expires < made else (made, expires)


def _chosen(names: Sequence[bytes], block: Sequence[Field]) -> Iterator[Field]:
    """For each name the last field not taken yet; a name without one signs that there is none."""
    left: dict[bytes, list[Field]] = {}
    for field in block:
        left.setdefault(field.name, []).append(field)
    for name in names:
        if of_name := left.get(name):
            yield of_name.pop()


def _simple(field: Field) -> bytes:
    return field.octets


def _relaxed(field: Field) -> bytes:
    text = field.octets.partition(b":")[2].replace(b"\r\n", b"")
    return field.name + b":" + _BLANKS.sub(b" ", text).strip()


def _without_b(octets: bytes) -> bytes:
    name, colon, text = octets.partition(b":")
    specs = text.split(b";")
    for number, spec in enumerate(specs):
        tag, equals, _ = spec.partition(b"=")
        if tag.strip(_WHITE) == b"b":
            specs[number] = tag + equals
    return name + colon + b";".join(specs)
