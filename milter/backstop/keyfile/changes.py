"""What `backstop key` does to a ring: pure, but for the chance that secrets are made of.

Bad wishes raise ValueError with words for a person.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Final

from backstop.batv import MIN_SECRET_OCTETS, SKEW_DAYS, Key, KeyRing, KeyState
from backstop.keyfile.reader import overlap

SECRET_OCTETS: Final = 32
_NUMBERS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)


class TagsUnderWay(ValueError):
    """The key cannot be retired yet: its tags may still come back."""


def new_key(
    ring: KeyRing, domains: Sequence[str], today: int, lifetime: int, number: int | None = None
) -> KeyRing:
    """The ring with a new key that signs for these domains, and with a secret for the memory if it had none.

    `today` is in days since 1970, `lifetime` in days.
    """
    return import_key(ring, secrets.token_bytes(SECRET_OCTETS), domains, today, lifetime, number)


def import_key(
    ring: KeyRing,
    secret: bytes,
    domains: Sequence[str],
    today: int,
    lifetime: int,
    number: int | None = None,
    state: KeyState = KeyState.SIGN,
) -> KeyRing:
    """The same with a secret that another system has too."""
    if state is KeyState.SIGN:
        for domain in domains:
            signer = next((k for k in ring.keys if k.state is KeyState.SIGN and domain in k.domains), None)
            if signer is not None:
                raise ValueError(
                    f"key {signer.number} signs for {domain}; rotate it with `backstop key rotate`"
                )
    if len(secret) < MIN_SECRET_OCTETS:
        raise ValueError(f"the secret has {len(secret)} octets; at least {MIN_SECRET_OCTETS} are wanted")
    if any(key.secret == secret for key in ring.keys):
        raise ValueError("a key has this secret already")
    if number is None:
        number = _free_number(ring, domains)
    elif number in _taken(ring, domains):
        raise ValueError(f"a key has the number {number} already; retire it first, or take another number")
    key = Key(number, secret, state, tuple(domains), today, lifetime)
    return _ring(ring, (*ring.keys, key))


def rotate(ring: KeyRing, today: int, domain: str | None = None) -> KeyRing:
    """The ring with a new key in place of the one that signs for the domain, or of the only one that signs.

    The old one goes on verifying.
    """
    old = _signer(ring, domain)
    resting = replace(old, state=KeyState.VERIFY, verify_since=today)
    number = _free_number(ring, old.domains)
    new = Key(number, secrets.token_bytes(SECRET_OCTETS), KeyState.SIGN, old.domains, today, old.max_lifetime)
    return _ring(ring, (*(resting if key is old else key for key in ring.keys), new))


def retire(ring: KeyRing, number: int, today: int, domain: str | None = None) -> KeyRing:
    """The ring with a key that verifies no more. Raises `TagsUnderWay` while tags of it can come back."""
    key = _resting(ring, number, domain)
    if key.verify_since is None:
        raise TagsUnderWay(
            f"it is not written since when key {number} no longer signs, so its tags may still come back;"
            " add verify_since = DAY to it, or retire it with --force"
        )
    # Its youngest tag was made on the day it ceased to sign.
    last = key.verify_since + key.max_lifetime + SKEW_DAYS
    if today <= last:
        raise TagsUnderWay(
            f"tags of key {number} can come back up to {date(1970, 1, 1) + timedelta(days=last)};"
            " retire it later, or now with --force"
        )
    return _retired(ring, key)


def retire_at_once(ring: KeyRing, number: int, domain: str | None = None) -> KeyRing:
    """The same without regard to its tags: bounces that carry them are refused from then on."""
    return _retired(ring, _resting(ring, number, domain))


def raise_lifetime(ring: KeyRing, lifetime: int) -> KeyRing:
    """The ring with keys that may sign for `lifetime` days.

    The longest lifetime a key has known never shrinks: what it signed stays good when the setting is lowered.
    """
    return _ring(
        ring,
        (
            replace(key, max_lifetime=max(lifetime, key.max_lifetime)) if key.state is KeyState.SIGN else key
            for key in ring.keys
        ),
    )


def _ring(old: KeyRing, keys: Iterable[Key]) -> KeyRing:
    return KeyRing(keys, old.memory_secret or secrets.token_bytes(SECRET_OCTETS))


def _taken(ring: KeyRing, domains: Sequence[str]) -> set[int]:
    live = (key for key in ring.keys if key.state is not KeyState.RETIRED)
    return {key.number for key in live if overlap(key.domains, domains)}


def _free_number(ring: KeyRing, domains: Sequence[str]) -> int:
    """The number that was in use longest ago, so that an old tag meets no new key."""
    taken = _taken(ring, domains)
    free = [number for number in _NUMBERS if number not in taken]
    if not free:
        raise ValueError("all ten numbers are in use; retire a key first")
    used = {key.number: key.created for key in sorted(ring.keys, key=lambda key: key.created)}
    return min(free, key=lambda number: used.get(number, -1))


def _signer(ring: KeyRing, domain: str | None) -> Key:
    if domain is not None:
        key = ring.signer(domain)
        if key is None:
            raise ValueError(f"no key signs for {domain}; make one with `backstop key new`")
        return key
    signing = [key for key in ring.keys if key.state is KeyState.SIGN]
    if len(signing) != 1:
        raise ValueError(
            "several keys sign; name a domain"
            if signing
            else "no key signs; make one with `backstop key new`"
        )
    return signing[0]


def _resting(ring: KeyRing, number: int, domain: str | None) -> Key:
    keys = [
        key
        for key in ring.keys
        if key.number == number
        and key.state is not KeyState.RETIRED
        and (domain is None or overlap(key.domains, (domain,)))
    ]
    if not keys:
        raise ValueError(f"there is no key {number} in use")
    if len(keys) > 1:
        raise ValueError(f"several keys have the number {number}; name a domain")
    if keys[0].state is KeyState.SIGN:
        raise ValueError(f"key {number} signs; let another take its place with `backstop key rotate`")
    return keys[0]


def _retired(ring: KeyRing, gone: Key) -> KeyRing:
    return _ring(ring, (replace(key, state=KeyState.RETIRED) if key is gone else key for key in ring.keys))
