"""Characters of text parts and of encoded words (RFC 2047).

Only the character sets named here are decoded: Python knows codecs that are slow on hostile text
(punycode, idna) or no character sets at all.
"""

import binascii
import re
from typing import Final

_CODECS: Final = {
    b"utf-8": "utf-8",
    b"utf8": "utf-8",
    b"utf-16": "utf-16",
    b"utf-16le": "utf-16-le",
    b"utf-16be": "utf-16-be",
    b"iso-8859-2": "iso8859-2",
    b"iso-8859-5": "iso8859-5",
    b"iso-8859-9": "iso8859-9",
    b"windows-1250": "cp1250",
    b"windows-1251": "cp1251",
    b"windows-1254": "cp1254",
    b"koi8-r": "koi8-r",
    b"koi8-u": "koi8-u",
    b"iso-2022-jp": "iso2022-jp",
    b"shift_jis": "shift_jis",
    b"shift-jis": "shift_jis",
    b"sjis": "shift_jis",
    b"euc-jp": "euc-jp",
    b"gb2312": "gb18030",
    b"gbk": "gb18030",
    b"gb18030": "gb18030",
    b"big5": "big5",
    b"euc-kr": "cp949",
    b"ks_c_5601-1987": "cp949",
}

_ENCODED_WORD = re.compile(
    rb"=\?([\w.:-]{1,40})(?:\*[\w-]{1,20})?\?([bBqQ])\?([^?\s]{0,4000})\?=(?:\s+(?==\?))?"
)
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OUTSIDE_BASE64: Final = bytes(octet for octet in range(256) if octet not in _BASE64)


def characters(octets: bytes, charset: bytes) -> str:
    """Decode text; what is of no character set known here is taken as UTF-8, then as Windows-1252.

    Old Japanese systems switch to ISO-2022-JP by escape sequences without saying so.
    """
    codec = "iso2022-jp" if b"\x1b$" in octets else _CODECS.get(charset)
    if codec and codec != "utf-8":
        return octets.decode(codec, "replace")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def from_base64(octets: bytes) -> bytes:
    """Decode what is base64 in it; padding may be wrong or missing."""
    letters = octets.translate(None, _OUTSIDE_BASE64)
    whole = len(letters) - len(letters) % 4
    rest = letters[whole:]
    padded = letters[:whole] + (rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b"")
    return binascii.a2b_base64(padded)


def from_quoted_printable(octets: bytes) -> bytes:
    """Decode quoted-printable; what is none stays as it is."""
    return binascii.a2b_qp(octets)


def readable(value: bytes) -> str:
    """Decode the encoded words of an unfolded header value."""
    if b"=?" not in value:
        return characters(value, b"")
    pieces: list[str] = []
    last = 0
    for match in _ENCODED_WORD.finditer(value):
        pieces.append(characters(value[last : match.start()], b""))
        is_base64 = match[2] in b"bB"
        octets = from_base64(match[3]) if is_base64 else binascii.a2b_qp(match[3], header=True)
        pieces.append(characters(octets, match[1].lower()))
        last = match.end()
    pieces.append(characters(value[last:], b""))
    return "".join(pieces)
