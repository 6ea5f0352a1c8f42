"""Whom a report is about: its status part, X-Failed-Recipients, or lines of its text."""

import re
from typing import Final

from backstop.report.charsets import readable
from backstop.report.evidence import STATUS_PARTS, addresses_in
from backstop.report.header import Header
from backstop.report.model import ReportedRecipient
from backstop.report.parts import Part
from backstop.report.status import status_recipients

_MAX_NAMED: Final = 100
_MAX_SAID: Final = 8000

_LINE = re.compile(
    r"^[ \t>*]{0,20}(?:(?:rfc822|smtp|to|recipient|address|e-?mail)[:;] ?)?<?"
    r"([^\s<>()\[\],;:\"'@]{1,200}@[A-Za-z0-9.-]{1,255}[A-Za-z0-9])>?(?=[\s:;,.)]|$)",
    re.MULTILINE | re.IGNORECASE,
)
_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")


def recipients_of(parts: list[Part], header: Header, said: str) -> tuple[ReportedRecipient, ...]:
    """Give the recipients a bounce reports."""
    for part in parts:
        if part.type in STATUS_PARTS and not part.enclosed:
            found = status_recipients(part.text.lines[part.start : part.end])
            if found:
                return found
    failed = [
        address
        for value in header.every(b"x-failed-recipients")
        for address in addresses_in(value.decode("utf-8", "replace"))
    ]
    if failed:
        return tuple(ReportedRecipient(address, "", "failed") for address in failed[:_MAX_NAMED])
    return _from_lines(said[:_MAX_SAID], header)


def _from_lines(said: str, header: Header) -> tuple[ReportedRecipient, ...]:
    own = set(addresses_in(readable(header.first(b"to"))))
    found: dict[str, ReportedRecipient] = {}
    for match in _LINE.finditer(said):
        address = match[1]
        if address.lower() in own or address.lower() in found:
            continue
        paragraph = said[match.end() : match.end() + 400].partition("\n\n")[0]
        status = _STATUS.search(paragraph)
        found[address.lower()] = ReportedRecipient(address, status[0] if status else "", "")
        if len(found) >= _MAX_NAMED:
            break
    if len(found) == 1:
        return tuple(_with_status(recipient, said) for recipient in found.values())
    return tuple(found.values())


def _with_status(recipient: ReportedRecipient, said: str) -> ReportedRecipient:
    """Where only one recipient is named, a status anywhere is its own."""
    status = None if recipient.status else _STATUS.search(said)
    return ReportedRecipient(recipient.address, status[0], "") if status else recipient
