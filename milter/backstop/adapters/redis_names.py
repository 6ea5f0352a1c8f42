"""Every Redis key, as octets. Nothing else builds one: names in keys come from the mail.

A domain is an A-label in lower case without a trailing dot, an address is in lower case without tag and
extension; both are folded before they come here (`address`, `batv`). Whatever comes in, a key comes out:
Redis takes any octet, no name can leave its place, and a key is at most `MAX_KEY_OCTETS` long. A longer one
is cut and ends in a hash instead of being refused, so that limits still tell such names apart and no caller
has a case more.
"""

import hashlib
from datetime import date, datetime
from typing import Final

MAX_KEY_OCTETS: Final = 512
"""No address a mail server lets through comes near it (RFC 5321, section 4.5.3.1.3: 256 octets)."""

BLOCK_ALL: Final = b"backstop:block"
"""The block of all protected domains."""

BLOCK_ALL_INFO: Final = b"backstop:block-info"
"""Who set the block of all protected domains, why, and until when."""

DOMAINS: Final = b"backstop:domains"
UNTAGGED: Final = b"backstop:untagged"
EVENTS: Final = b"backstop:events"

UNTAGGED_SWEEP: Final = b"backstop:untagged:sweep"
"""Held, for less than an hour, by the worker that takes dead fields out of `UNTAGGED`."""

SEEN: Final = b"backstop:seen"
"""What let bounces of each domain pass without a tag when somebody looked last, see `grace`."""

SEEN_TOLD: Final = b"backstop:seen:told"
"""Held, for a minute, by the worker that names the domains in grace."""

COUNTERS: Final = "-"
"""In the place of a domain: what the counters tell about themselves, see `write_behind`."""

_HASH_OCTETS: Final = 32


def block(name: str) -> bytes:
    """The block of a domain or of an address."""
    return _key(b"backstop:block:", name)


def block_info(name: str) -> bytes:
    """Who set the block of this domain or address, why, and until when."""
    return _key(b"backstop:block-info:", name)


def domain(name: str) -> bytes:
    """The settings of a domain that differ from the file."""
    return _key(b"backstop:domain:", name)


def elsewhere(name: str) -> bytes:
    """Senders of a domain whose mail left by another host, as their bounces show."""
    return _key(b"backstop:elsewhere:", name)


def recipients(name: str) -> bytes:
    """The local parts that exist in a domain."""
    return _key(b"backstop:recipients:", name)


def count(name: str) -> bytes:
    """The counters of a domain since ever."""
    return _count(name, "")


def count_day(name: str, day: date) -> bytes:
    """The counters of a domain for one day, UTC."""
    return _count(name, day.strftime(":%Y-%m-%d"))


def count_hour(name: str, hour: datetime) -> bytes:
    """The counters of a domain for one hour, UTC."""
    return _count(name, hour.strftime(":%Y-%m-%dT%H"))


def sent(day: date) -> bytes:
    """The ids of a day's outgoing mail, UTC, as keyed hashes."""
    return day.strftime("backstop:sent:%Y-%m-%d").encode()


def wrote(day: date) -> bytes:
    """Who wrote to whom on a day, UTC, as keyed hashes."""
    return day.strftime("backstop:wrote:%Y-%m-%d").encode()


def client(net: str, what: str) -> bytes:
    """The limit called `what` of a client's network, or of whatever else is limited."""
    return _key(b"backstop:client:", f"{net.replace(':', '_')}:{what}")


def alias(name: str) -> bytes:
    """What is known of a disposable address, by the whole address with its label."""
    return _key(b"backstop:alias:", name)


def octets(text: str) -> bytes:
    """A name or value as Redis gets it: UTF-8, octets from the wire as they came. Never raises."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no octet: the wire has none, a caller may
        return text.encode("utf-8", "surrogatepass")


def _count(name: str, when: str) -> bytes:
    # A colon in a name would make one domain's counters pass for another's of some day.
    return _key(b"backstop:count:", name.replace(":", "_") + when)


def _key(prefix: bytes, name: str) -> bytes:
    whole = prefix + octets(name)
    if len(whole) <= MAX_KEY_OCTETS:
        return whole
    digest = hashlib.sha256(whole).hexdigest()[:_HASH_OCTETS].encode()
    return whole[: MAX_KEY_OCTETS - len(digest) - 1] + b"~" + digest
