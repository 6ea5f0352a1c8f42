"""The marks a message bears: in its envelope, its fields, its parts and its text."""

import re
from typing import Final

from backstop.report import wording
from backstop.report.charsets import readable
from backstop.report.header import Header
from backstop.report.model import Mark, Returned
from backstop.report.octets import Text
from backstop.report.parts import Part
from backstop.report.replies import reply_marks, reply_wording

STATUS_PARTS: Final = frozenset({b"message/delivery-status", b"message/global-delivery-status"})
_RECEIPT_PARTS: Final = frozenset(
    {b"message/disposition-notification", b"message/global-disposition-notification"}
)
_REPORT_TYPES: Final = {
    b"delivery-status": Mark.REPORT_TYPE,
    b"disposition-notification": Mark.RECEIPT_PART,
    b"feedback-report": Mark.FEEDBACK_PART,
}
_NULL_SENDERS: Final = frozenset({"", "<>", "mailer-daemon", "<mailer-daemon>"})
_NULL_PATH = re.compile(rb"<\s*(?:MAILER-DAEMON)?\s*>", re.IGNORECASE)
_NULL_ENVELOPE = re.compile(rb"envelope-from <>", re.IGNORECASE)
_NULL_MAILBOX_LINE = re.compile(rb"From (?:MAILER-DAEMON|<>)[@ ]", re.IGNORECASE)
_PROGRAM = re.compile(rb"\.(?:exe|scr|pif|com|bat|cmd|cpl|vbs|js|hta|zip|rar|7z|iso|img|html?|xlsm|docm)\Z")
_REPLY_CODE = re.compile(r"[45](?<![\d.].)(?:[0-5]\d[ -]|\.\d{1,3}\.\d{1,3}(?!\d|\.\d))")
_APART = re.compile(r"[\s<>()\[\],;:\"']+")
_MAX_ADDRESSES: Final = 100
_MAX_PART: Final = 250
_MAX_SEARCHED: Final = 8000
_MAX_WORDED: Final = 4000
"""A report says early what it is."""

_MAILER_FIELDS: Final = (b"x-ms-embedded-report", b"x-ms-exchange-message-is-ndr", b"x-mx-bounce")
_LIST_FIELDS: Final = (b"list-id", b"list-post", b"x-beenthere", b"x-mailing-list", b"mailing-list")
_TO_FIELDS: Final = (b"to", b"delivered-to", b"x-original-to", b"envelope-to", b"x-envelope-to")


def envelope_marks(message: Text, header: Header, reverse_path: str | None) -> set[Mark]:
    """Say whether the sender is the null sender; an unknown one is read from what delivery left behind."""
    path = header.first(b"return-path").decode("utf-8", "replace") if reverse_path is None else reverse_path
    if reverse_path is not None:
        is_null = reverse_path.strip().lower() in _NULL_SENDERS
    else:
        is_null = bool(
            _NULL_PATH.fullmatch(header.first(b"return-path"))
            or _NULL_PATH.fullmatch(header.first(b"x-envelope-from"))
            or _NULL_MAILBOX_LINE.match(message.lines)
            or (b"return-path" not in header and _NULL_ENVELOPE.search(header.first(b"received")))
        )
    if is_null:
        return {Mark.NULL_SENDER}
    return {Mark.MAILER_FROM} if wording.is_daemon(path.strip("<> ")) else set()


def part_marks(parts: list[Part]) -> set[Mark]:
    """Look at the parts the message itself has; what stands in an enclosed message is somebody else's."""
    marks: set[Mark] = set()
    for part in parts:
        if part.enclosed:
            continue
        if part.type == b"multipart/report" and part.report_type in _REPORT_TYPES:
            marks.add(_REPORT_TYPES[part.report_type])
        elif part.type in STATUS_PARTS:
            marks.add(Mark.STATUS_PART)
        elif part.type in _RECEIPT_PARTS:
            marks.add(Mark.RECEIPT_PART)
        elif part.type == b"message/feedback-report":
            marks.add(Mark.FEEDBACK_PART)
        elif part.depth and _PROGRAM.search(part.name):
            marks.add(Mark.PROGRAM_ATTACHED)
    return marks


def field_marks(header: Header) -> set[Mark]:
    """Look at the fields of the message."""
    submitted = header.first(b"auto-submitted").lower()
    subject = readable(header.first(b"subject"))
    address, name = author_of(header)
    precedence = header.first(b"precedence").lower()
    marks = reply_marks(header, f"{name} {address}", subject)
    if b"x-failed-recipients" in header:
        marks.add(Mark.FAILED_RECIPIENTS)
    if b"(failure)" in submitted:
        marks.add(Mark.FAILURE)
    is_robot, has_mailer_name = wording.is_robot(address), wording.is_mailer_name(name)
    is_mailer = wording.is_mailer(address) or (has_mailer_name and "@" not in address.strip("@"))
    if any(name in header for name in _MAILER_FIELDS) or (is_mailer and b"x-ms-journal-report" not in header):
        marks.add(Mark.MAILER_FROM)
    elif is_robot or has_mailer_name:
        marks.add(Mark.ROBOT_FROM)
    if is_robot and has_mailer_name:
        marks.add(Mark.MAILER_NAME)
    if wording.is_answer(subject) and not wording.is_daemon(address):
        marks.add(Mark.ANSWER)
    if wording.says_bounce_in_subject(subject):
        marks.add(Mark.BOUNCE_SUBJECT)
    if precedence == b"list" or any(field in header for field in _LIST_FIELDS):
        marks.add(Mark.LIST_MAIL)
    return marks


def text_marks(said: str, header: Header) -> set[Mark]:
    """Look at what the message says: its wording, and whether it names an address that failed, or how."""
    folded = " ".join(said.casefold().replace("\u2019", "'").split())
    marks = reply_wording(folded[:_MAX_WORDED])
    if wording.says_bounce(folded[:_MAX_WORDED]):
        marks.add(Mark.BOUNCE_WORDING)
    if _REPLY_CODE.search(folded):
        marks.add(Mark.NAMES_CODE)
    known = addresses_in(readable(header.first(b"to"))) + addresses_in(readable(header.first(b"from")))
    domains = {address.rpartition("@")[2] for address in known}
    named = addresses_in(folded[:_MAX_SEARCHED])
    if "http" not in folded and any(address.rpartition("@")[2] not in domains for address in named):
        marks.add(Mark.NAMES_ADDRESS)
    return marks


def author_of(header: Header) -> tuple[str, str]:
    """Give address and name of the first author, the address in lower case."""
    value = readable(header.first(b"from")) or readable(header.first(b"sender"))
    name, bracket, rest = value.partition("<")
    if bracket:
        return rest.partition(">")[0].strip().lower(), name.strip(' "')
    found = addresses_in(value)
    return (found[0] if found else value.partition("(")[0].strip().lower()), value


def is_returned_to_author(header: Header, returned: Returned) -> bool:
    """Claim that the message goes to the one who wrote what it returns."""
    authors = set(addresses_in(returned.from_)) | {returned.return_path.lower()}
    return any(
        address in authors for field in _TO_FIELDS for address in addresses_in(readable(header.first(field)))
    )


def addresses_in(value: str) -> list[str]:
    """Find addresses in a text, in lower case."""
    found: list[str] = []
    at = value.find("@")
    for _ in range(_MAX_ADDRESSES):
        if at < 0:
            break
        local = _APART.split(value[max(at - _MAX_PART, 0) : at])[-1]
        domain = _APART.split(value[at + 1 : at + _MAX_PART], maxsplit=1)[0].rstrip(".")
        if local and domain:
            found.append(f"{local}@{domain}".lower())
        at = value.find("@", at + 1)
    return found
