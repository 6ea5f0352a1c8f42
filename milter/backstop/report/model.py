"""What the reader of reports says about a message."""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Kind(Enum):
    """What a message is."""

    BOUNCE = "bounce"
    AUTO_REPLY = "auto_reply"
    CHALLENGE = "challenge"
    RECEIPT = "receipt"
    FEEDBACK = "feedback"
    ORDINARY = "ordinary"


class Mark(StrEnum):
    """What was found in a message and speaks for or against a kind; the record shows them."""

    NULL_SENDER = "null_sender"
    REPORT_TYPE = "report_type"
    STATUS_PART = "status_part"
    FAILED_RECIPIENTS = "failed_recipients"
    FAILURE = "auto_submitted_failure"
    MAILER_FROM = "mailer_from"
    MAILER_NAME = "mailer_name"
    ROBOT_FROM = "robot_from"
    BOUNCE_SUBJECT = "bounce_subject"
    BOUNCE_WORDING = "bounce_wording"
    NAMES_CODE = "names_code"
    NAMES_ADDRESS = "names_address"
    RETURNED = "returned"
    RETURNED_TO_AUTHOR = "returned_to_author"
    AUTO_REPLIED = "auto_replied"
    AUTO_REPLY_FIELD = "auto_reply_field"
    AUTO_REPLY_SUBJECT = "auto_reply_subject"
    AUTO_REPLY_WORDING = "auto_reply_wording"
    ABSENCE = "absence"
    CHALLENGE_SUBJECT = "challenge_subject"
    CHALLENGE_WORDING = "challenge_wording"
    RECEIPT_PART = "receipt_part"
    RECEIPT_SUBJECT = "receipt_subject"
    RECEIPT_WORDING = "receipt_wording"
    FEEDBACK_PART = "feedback_part"
    FEEDBACK_FIELD = "feedback_field"
    FEEDBACK_WORDING = "feedback_wording"
    LIST_MAIL = "list_mail"
    ANSWER = "answer"
    PROGRAM_ATTACHED = "program_attached"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One recipient a report is about; `status` and `action` are empty where they cannot be read."""

    address: str
    status: str
    action: str


@dataclass(frozen=True, slots=True)
class Returned:
    """The header of the returned message.

    `block` holds its octets unchanged, as a DKIM signature needs them; the other values are read from it
    and empty where it has none. `message_id` and `return_path` stand without angle brackets.
    """

    block: bytes
    message_id: str
    from_: str
    to: str
    return_path: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a message is, why, and what it says of the message it answers."""

    kind: Kind
    marks: tuple[str, ...]
    recipients: tuple[ReportedRecipient, ...]
    mentioned: tuple[str, ...]
    returned: Returned | None
