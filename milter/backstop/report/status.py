"""The recipients of a message/delivery-status part (RFC 3464, section 2.3; RFC 6533 for its other form)."""

import re
from itertools import islice
from typing import Final

from backstop.report.charsets import characters
from backstop.report.header import unfold
from backstop.report.model import ReportedRecipient

MAX_RECIPIENTS: Final = 1000

_MAX_LINES: Final = 6000
_MAX_OCTETS: Final = 256_000
_MAX_ADDRESS: Final = 1000

_FIELD = re.compile(
    rb"^(?:(final-recipient|original-recipient|action|status)"
    rb"[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)|(?:\r*\n)++)",
    re.IGNORECASE | re.MULTILINE,
)
_STATUS = re.compile(rb"([245])[. ]{1,3}(\d{1,3})[. ]{1,3}(\d{1,3})")
_WORD = re.compile(rb"[\w-]{1,40}")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


def status_recipients(octets: bytes) -> tuple[ReportedRecipient, ...]:
    """Read the recipients; the original address where both are given, as that one was written to."""
    found: list[ReportedRecipient] = []
    fields: dict[bytes, bytes] = {}
    for match in islice(_FIELD.finditer(octets[:_MAX_OCTETS]), _MAX_LINES):
        if match[1]:
            name = match[1].lower()
            if name in fields and name != b"status":
                _finish(fields, found)
            fields.setdefault(name, unfold(match[2]))
        else:
            _finish(fields, found)
        if len(found) >= MAX_RECIPIENTS:
            return tuple(found)
    _finish(fields, found)
    return tuple(found)


def _finish(fields: dict[bytes, bytes], found: list[ReportedRecipient]) -> None:
    """End one group of fields; one without a recipient stays open: some put a blank line within."""
    address = typed_address(fields.get(b"original-recipient", b""))
    if "@" not in address:
        address = typed_address(fields.get(b"final-recipient", b"")) or address
    if not address:
        return
    status = _STATUS.search(fields.get(b"status", b""))
    action = _WORD.match(fields.get(b"action", b""))
    found.append(
        ReportedRecipient(
            address,
            b".".join(status.groups()).decode("ascii") if status else "",
            action[0].decode("ascii", "replace").lower() if action else "",
        )
    )
    fields.clear()


def typed_address(value: bytes) -> str:
    """Take the address out of `rfc822; user@example.com`; unknown characters of RFC 6533 are put back."""
    kind, semicolon, address = value.partition(b";")
    text = characters((address if semicolon else kind).strip()[:_MAX_ADDRESS], b"")
    if kind.strip().lower() == b"utf-8":
        text = _EMBEDDED.sub(_character, text)
    start, end = text.find("<"), text.rfind(">")
    if 0 <= start < end:
        text = text[start + 1 : end]
    return text.strip()


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else match[0]
