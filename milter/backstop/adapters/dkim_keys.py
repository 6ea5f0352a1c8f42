"""The public halves of DKIM keys: how DNS and files have them, and a directory of such files of our own.

A key is its TXT record (RFC 6376, section 3.6.1; RFC 8463): as text, as a zone file has it, or as PEM.
A directory holds `SELECTOR._domainkey.DOMAIN`, or `DOMAIN/SELECTOR`, with or without `.txt` or `.pem`.
Old selectors stay there as long as bounces of what they signed may come. Secrets do not belong there,
and none is used.
"""

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Final

import dkim.crypto
import dns.exception
import dns.tokenizer

from backstop.adapters.dkim_signature import Algorithm, from_base64, tag_list
from backstop.address import fold_domain
from backstop.value import value

MIN_BITS: Final = 1024
"""Of an RSA key: RFC 8301, section 3.2."""

MAX_BITS: Final = 8192

MAX_FILES: Final = 1000
MAX_FILE_OCTETS: Final = 16 * 1024
MAX_COMPLAINTS: Final = 20
"""Files that are complained of after one reading."""

RECHECK_SECONDS: Final = 1.0
"""How often the directory is looked at for changes, at most."""

_PEM: Final = re.compile(
    rb"-----BEGIN (RSA )?PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+)-----END (?:RSA )?PUBLIC KEY-----"
)
_ED25519_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 10.1
_PRIVATE: Final = b"PRIVATE KEY-----"
_ENDINGS: Final = (".txt", ".pem")


class Fault(Enum):
    """Why a record is no key that could prove anything."""

    REVOKED = "is revoked: its p= is empty"
    NO_RECORD = "is no DKIM key record"
    VERSION = "is of another version than DKIM1"
    KIND = "is of an unknown kind: k= is neither rsa nor ed25519"
    HASH = "is not for SHA-256: h= does not name it"
    SERVICE = "is not for mail: s= does not name it"
    MALFORMED = "is damaged: its p= cannot be read"
    SMALL = f"is too small: RSA needs {MIN_BITS} bits"
    LARGE = f"is too large: RSA has {MAX_BITS} bits at most"


@value
class PublicKey:
    """A key. Of RSA `modulus` and `exponent` are set, of Ed25519 `octets`."""

    algorithm: Algorithm
    modulus: int
    exponent: int
    octets: bytes
    is_strict: bool
    """Not for users of subdomains (`t=s`)."""
    is_testing: bool
    """Its owner is only trying it out (`t=y`): RFC 6376, section 3.6.1."""


@lru_cache(maxsize=256)  # a flood brings the same few again and again; parsing takes 0.2 ms
def parse(record: bytes) -> PublicKey | Fault:
    """The key that a TXT record holds, its strings joined."""
    if len(record) > MAX_FILE_OCTETS:
        return Fault.NO_RECORD
    tags = tag_list(record)
    if tags is None or b"p" not in tags:
        return Fault.NO_RECORD
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        return Fault.VERSION
    if not tags[b"p"]:
        return Fault.REVOKED
    if b"sha256" not in _listed(tags.get(b"h", b"sha256")):
        return Fault.HASH
    if _listed(tags.get(b"s", b"*")).isdisjoint((b"*", b"email")):
        return Fault.SERVICE
    kind, octets, flags = tags.get(b"k", b"rsa"), from_base64(tags[b"p"]), _listed(tags.get(b"t", b""))
    if kind == b"rsa":
        return _rsa(octets, flags)
    if kind != b"ed25519":
        return Fault.KIND
    return _ed25519(octets, flags)


def parse_file(octets: bytes) -> PublicKey | Fault:
    """The key that a file holds, in any of the three forms."""
    if b"-----BEGIN " in octets:
        return _pem(octets)
    if b'"' in octets:
        return _zone(octets.decode("latin-1"))
    return parse(octets.strip())


class KeyDirectory:
    """The directory of selector files; read again when it changes, at most once a second.

    `on_trouble` is told of each file that is of no use, when it is read. A file that is suddenly damaged,
    as one that is being written is, keeps the key it had.
    """

    def __init__(self, path: Path, on_trouble: Callable[[str], None]) -> None:
        self._path = path
        self._on_trouble = on_trouble
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._seen: tuple[frozenset[tuple[str, int, int, int]], tuple[str, ...]] | None = None
        self._keys: dict[tuple[str, str], PublicKey | Fault] = {}

    def key(self, selector: str, domain: str, now: float) -> PublicKey | Fault | None:
        """The key of a selector, both folded; None if no file speaks of it. A revoked one is REVOKED."""
        with self._lock:
            if not 0 <= now - self._looked < RECHECK_SECONDS:
                self._looked = now
                self._reread()
            return self._keys.get((selector, domain))

    def selectors(self, domain: str, now: float) -> dict[str, PublicKey | Fault]:
        """The keys of a folded domain by selector, as `key` gives them."""
        self.key("", domain, now)
        with self._lock:
            return {name[0]: key for name, key in self._keys.items() if name[1] == domain}

    def _reread(self) -> None:
        try:
            files, faults = _files(self._path)
        except FileNotFoundError:  # the default place, and nobody put anything there
            files, faults = [], []
        except OSError as error:
            kept = f"the last {len(self._keys)} keys are kept"
            self._on_trouble(f"DKIM keys {self._path}: {error.strerror}; {kept}")
            return
        marks = ((name, status.st_mtime_ns, status.st_ino, status.st_size) for name, status in files)
        seen = (frozenset(marks), tuple(faults))
        if seen == self._seen:
            return
        self._seen = seen
        keys: dict[tuple[str, str], PublicKey | Fault] = {}
        for name, status in files:
            place, key, fault = _read(self._path / name, name, status.st_size)
            if place and (key or place in self._keys):
                keys[place] = key or self._keys[place]
            if fault:
                faults.append(f"{name}: {fault}")
        self._keys = keys
        for fault in faults[:MAX_COMPLAINTS]:
            self._on_trouble(f"DKIM keys {self._path}: {fault}")


def _files(path: Path) -> tuple[list[tuple[str, os.stat_result]], list[str]]:
    """The files of the directory and of those in it, names relative, and what could not be read of it.

    Raises OSError for the directory itself.
    """
    files: list[tuple[str, os.stat_result]] = []
    faults: list[str] = []
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    folders = [entry.name for entry in entries if _is_wanted(entry.name) and entry.is_dir()]
    for folder in folders:
        try:
            entries += sorted(os.scandir(path / folder), key=lambda entry: entry.name)
        except OSError as error:
            faults.append(f"{folder}: {error.strerror}")
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:  # it is gone, or a link to what is
            continue
        if stat.S_ISREG(status.st_mode) and _is_wanted(entry.name):
            files.append((str(Path(entry.path).relative_to(path)), status))
    if len(files) > MAX_FILES:
        faults.append(f"more than {MAX_FILES} files; the rest is not read")
    return files[:MAX_FILES], faults


def _is_wanted(name: str) -> bool:
    """Not those of editors and for readers."""
    return not name.startswith((".", "README")) and not name.endswith("~")


def _place(name: str) -> tuple[str, str] | None:
    """The selector and the domain that a file is named after."""
    name = next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)
    domain, slash, selector = name.rpartition("/")
    if not slash or "._domainkey" in selector.lower():
        selector, _, named = selector.lower().partition("._domainkey")
        domain = named.removeprefix(".") or domain
    folded = fold_domain(domain) if domain else None
    return (selector.lower(), folded) if selector and folded else None


def _read(path: Path, name: str, size: int) -> tuple[tuple[str, str] | None, PublicKey | Fault | None, str]:
    """Whose key the file holds, the key, and what is wrong with it."""
    place = _place(name)
    if size > MAX_FILE_OCTETS:
        return place, None, f"is larger than {MAX_FILE_OCTETS} octets; it is not used"
    try:
        octets = path.read_bytes()
    except OSError as error:
        return place, None, f"{error.strerror}; it is not used"
    if _PRIVATE in octets:
        return None, None, "is a private key, which has no place here; it is not used. Move it away"
    if place is None:
        return (
            None,
            None,
            "is named neither SELECTOR._domainkey.DOMAIN nor DOMAIN/SELECTOR.txt; it is not used",
        )
    key = parse_file(octets)
    if isinstance(key, PublicKey) or key is Fault.REVOKED:
        return place, key, ""
    return place, None, f"{key.value}; it is not used"


def _ed25519(octets: bytes, flags: AbstractSet[bytes]) -> PublicKey | Fault:
    if len(octets) != 32:
        return Fault.MALFORMED
    return PublicKey(Algorithm.ED25519, 0, 0, octets, is_strict=b"s" in flags, is_testing=b"y" in flags)


def _rsa(octets: bytes, flags: AbstractSet[bytes]) -> PublicKey | Fault:
    if len(octets) > MAX_BITS // 4:
        return Fault.LARGE
    try:
        numbers = dkim.crypto.parse_public_key(octets)
    except (dkim.crypto.UnparsableKeyError, AssertionError, IndexError, TypeError, ValueError):
        return Fault.MALFORMED
    modulus, exponent = numbers["modulus"], numbers["publicExponent"]
    if not modulus & 1 or not exponent & 1 or not 3 <= exponent < 1 << 32:
        return Fault.MALFORMED
    if modulus.bit_length() < MIN_BITS:
        return Fault.SMALL
    if modulus.bit_length() > MAX_BITS:
        return Fault.LARGE
    return PublicKey(Algorithm.RSA, modulus, exponent, b"", is_strict=b"s" in flags, is_testing=b"y" in flags)


def _pem(octets: bytes) -> PublicKey | Fault:
    match = _PEM.search(octets)
    der = from_base64(match[2]) if match else b""
    if der.startswith(_ED25519_PREFIX) and len(der) == len(_ED25519_PREFIX) + 32:
        return _ed25519(der[len(_ED25519_PREFIX) :], frozenset())
    return _rsa(der, frozenset()) if der else Fault.MALFORMED


def _zone(text: str) -> PublicKey | Fault:
    """The first key among the records of a zone file, or the fault of the last."""
    result: PublicKey | Fault = Fault.NO_RECORD
    for record in _records(text):
        result = parse(record)
        if isinstance(result, PublicKey):
            return result
    return result


def _records(text: str) -> Iterator[bytes]:
    """The quoted strings of each record joined; comments and parentheses by RFC 1035, section 5.1."""
    tokens = dns.tokenizer.Tokenizer(text)
    strings: list[bytes] = []
    try:
        while True:
            token = tokens.get()
            if token.is_quoted_string():
                strings.append(token.unescape_to_bytes().value)
            elif token.is_eol_or_eof():
                if strings:
                    yield b"".join(strings)
                strings = []
                if token.is_eof():
                    return
    except (dns.exception.DNSException, ValueError):
        return


def _listed(text: bytes) -> set[bytes]:
    return {word.strip() for word in text.split(b":")}
