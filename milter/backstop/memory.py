"""The memory of sent mail: under what an id or a pair of correspondents is remembered, and for how long.

Only short keyed hashes leave this process. Their key is the ring's memory secret, which no rotation of tag
keys changes. Where hashes are kept is `adapters.redis_memory`'s business.
"""

import hmac
from base64 import b64encode
from typing import Final

DAYS: Final = 15
"""Today and the days before it that are asked about. Mail servers give up after five (RFC 5321, 4.5.4.1)."""

HASH_OCTETS: Final = 8
"""A chance hit among three million entries (15 days of 200,000) takes six million million bounces."""

MAX_RECIPIENTS: Final = 100
"""Of one message; a list with more is no correspondence."""


def of_id(secret: bytes, message_id: str) -> bytes:
    """What stands for a Message-ID, given without its brackets."""
    return _short(secret, "id", message_id)


def of_pair(secret: bytes, writer: str, reader: str) -> bytes:
    """What stands for the fact that one address wrote to another; both folded."""
    return _short(secret, "pair", f"{writer}\0{reader}")


def _short(secret: bytes, kind: str, text: str) -> bytes:
    octets = f"{kind}\0{text}".encode(errors="surrogatepass")
    return b64encode(hmac.digest(secret, octets, "sha256")[:HASH_OCTETS]).rstrip(b"=")
