"""DKIM keys and signatures for tests: made by OpenSSL and dkimpy, also such as nobody should make."""

import base64
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import dkim
import dkim.crypto

NOW = time.time()
"""When the signatures are made, in seconds since 1970: tests judge them by it, however late they run."""

MESSAGE = b"""\
Return-Path: <user@example.com>
Received: from host.example.com (host.example.com [192.0.2.1])\r
\tby mx.example.net with ESMTPS id ABC; Fri, 20 Nov 2026 10:00:00 +0000\r
From: "A User" <user@example.com>\r
To: =?utf-8?q?K=C3=B6nig?= <king@example.net>,\r
 "Second, the" <second@example.net>\r
Subject: A  letter\t of some\r
   length\r
Date: Fri, 20 Nov 2026 10:00:00 +0000\r
Message-ID: <20261120100000.1234@example.com>\r
MIME-Version: 1.0\r
Content-Type: text/plain; charset=utf-8\r
X-Octets: \xc3\xbc\xff\r
\r
Hello.\r
""".replace(b"com>\nReceived", b"com>\r\nReceived")

SIGNED = ("from", "to", "subject", "date", "message-id", "mime-version", "content-type")


@dataclass(frozen=True)
class RsaKey:
    """A pair of keys, `pem` the private one."""

    pem: bytes
    public_pem: bytes

    @property
    def record(self) -> bytes:
        """The TXT record."""
        return b"v=DKIM1; k=rsa; p=" + base64.b64encode(self.der)

    @property
    def der(self) -> bytes:
        """The public half as OpenSSL writes it."""
        inner = re.sub(rb"-----[^-]+-----|\s", b"", self.public_pem)
        return base64.b64decode(inner)


@cache
def rsa_key(bits: int, name: str = "") -> RsaKey:
    """A key of that size; the same for the same name."""
    del name
    pem = _openssl("genrsa", "-traditional", str(bits))
    return RsaKey(pem, _openssl("rsa", "-pubout", text=pem))


def sign(
    key: RsaKey,
    message: bytes = MESSAGE,
    *,
    domain: str = "example.com",
    selector: str = "s1",
    canon: str = "relaxed/simple",
    algorithm: str = "rsa-sha256",
    headers: Sequence[str] = SIGNED,
    tags: Sequence[tuple[str, str | None]] = (),
) -> bytes:
    """The message with a signature on top. `tags` are added or replace others; None leaves one out."""
    signer = dkim.DKIM(message, signature_algorithm=algorithm.encode())
    policy = dkim.CanonicalizationPolicy.from_c_value(canon.encode())
    signer.hasher = dkim.HASH_ALGORITHMS[algorithm.encode()]
    body_hash = signer.hasher(policy.canonicalize_body(signer.body)).digest()
    wanted: dict[str, str | None] = {
        "v": "1",
        "a": algorithm,
        "c": canon,
        "d": domain,
        "s": selector,
        "t": str(int(NOW)),
        "h": " : ".join(headers),
        "bh": base64.b64encode(body_hash).decode(),
        **dict(tags),
        "b": "0" * 60,
    }
    written = [(tag.encode(), text.encode()) for tag, text in wanted.items() if text is not None]
    names = tuple(name.lower().encode() for name in headers)
    private = dkim.crypto.parse_pem_private_key(key.pem)
    field: bytes = signer.gen_header(written, names, policy, b"DKIM-Signature", private)
    return b"DKIM-Signature: " + field + message


def header(message: bytes) -> bytes:
    """What a report returns of it: the header block, ended by its own last line."""
    return message.partition(b"\r\n\r\n")[0] + b"\r\n"


def _openssl(*words: str, text: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], input=text, capture_output=True, check=True).stdout
