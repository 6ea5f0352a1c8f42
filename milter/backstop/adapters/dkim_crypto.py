"""Whether a hash was signed with a key: RSA by dkimpy, Ed25519 by PyNaCl where it is installed.

RFC 6376, section 3.3; RFC 8463.
"""

from typing import Any

import dkim.crypto

from backstop.adapters.dkim_keys import PublicKey
from backstop.adapters.dkim_signature import Algorithm

try:
    import nacl.exceptions
    import nacl.signing
except ImportError:
    HAS_ED25519 = False
else:
    HAS_ED25519 = True


def is_signed_by(key: PublicKey, total: Any, octets: bytes) -> bool:
    """Whether `octets` are the signature of the SHA-256 object `total`; for Ed25519 see HAS_ED25519."""
    if key.algorithm is Algorithm.RSA:
        numbers = {"modulus": key.modulus, "publicExponent": key.exponent}
        return bool(dkim.crypto.RSASSA_PKCS1_v1_5_verify(total, octets, numbers))
    try:
        nacl.signing.VerifyKey(key.octets).verify(total.digest(), octets)
    except (nacl.exceptions.CryptoError, ValueError, TypeError):
        return False
    return True
