"""From the marks of a message to its kind.

The order is that of certainty: parts made for programs, then fields only mail servers and responders set,
then wording. Wording counts in pairs only: it must come from a mail server, or with the null sender, or
return to its author what he wrote.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from backstop.report.model import Kind, Mark

_HARD: Final = frozenset({Mark.REPORT_TYPE, Mark.STATUS_PART, Mark.FAILED_RECIPIENTS, Mark.FAILURE})
_BEARING: Final = frozenset(
    {
        Mark.NULL_SENDER,
        Mark.MAILER_FROM,
        Mark.MAILER_NAME,
        Mark.STATUS_PART,
        Mark.BOUNCE_SUBJECT,
        Mark.BOUNCE_WORDING,
        Mark.RETURNED_TO_AUTHOR,
    }
)
_WORDED: Final = frozenset({Mark.BOUNCE_SUBJECT, Mark.BOUNCE_WORDING})
_SPECIFIC: Final = frozenset({Mark.RETURNED, Mark.NAMES_CODE, Mark.NAMES_ADDRESS})
_DETAILED: Final = frozenset({Mark.RETURNED, Mark.NAMES_CODE})
_PROGRAMS: Final = frozenset({Mark.MAILER_FROM, Mark.ROBOT_FROM})
_RESPONDER: Final = frozenset({Mark.AUTO_REPLY_FIELD, Mark.AUTO_REPLY_SUBJECT})
_AUTOMATIC: Final = _RESPONDER | {Mark.AUTO_REPLIED}


def kind_of(marks: AbstractSet[Mark]) -> Kind:
    """Decide what a message with these marks is."""
    if marks & {Mark.FEEDBACK_PART, Mark.FEEDBACK_FIELD}:
        return Kind.FEEDBACK
    if Mark.RECEIPT_PART in marks and Mark.STATUS_PART not in marks:
        return Kind.RECEIPT
    if _is_hard_bounce(marks):
        return Kind.BOUNCE
    if _is_challenge(marks):
        return Kind.CHALLENGE
    if _is_worded_bounce(marks) or _is_returned_mail(marks):
        return Kind.BOUNCE
    if {Mark.RECEIPT_SUBJECT, Mark.RECEIPT_WORDING} <= marks:
        return Kind.RECEIPT
    if _is_auto_reply(marks):
        return Kind.AUTO_REPLY
    return Kind.ORDINARY


def _is_hard_bounce(marks: AbstractSet[Mark]) -> bool:
    """A report that a list distributed, or that a person passed on, is none."""
    if not marks & _HARD or not marks & _BEARING:
        return False
    return Mark.LIST_MAIL not in marks or bool(marks & {Mark.NULL_SENDER, Mark.MAILER_FROM})


def _is_challenge(marks: AbstractSet[Mark]) -> bool:
    """Two of three: it says so before the text, it says so in the text, a program sent it."""
    if Mark.LIST_MAIL in marks and Mark.NULL_SENDER not in marks:
        return False
    is_sent_by_program = bool(marks & (_AUTOMATIC | {Mark.NULL_SENDER})) and Mark.BOUNCE_SUBJECT not in marks
    return [Mark.CHALLENGE_SUBJECT in marks, Mark.CHALLENGE_WORDING in marks, is_sent_by_program].count(
        True
    ) > 1


def _is_worded_bounce(marks: AbstractSet[Mark]) -> bool:
    """Wording of a bounce, and beside it what a person who quotes one, or a forger, would not have."""
    worded = marks & _WORDED
    if not worded or (marks & _RESPONDER and Mark.RETURNED not in marks):
        return False
    if Mark.PROGRAM_ATTACHED in marks and Mark.RETURNED not in marks:
        return False
    if Mark.FEEDBACK_WORDING in marks and Mark.MAILER_FROM not in marks:
        return False
    if Mark.NULL_SENDER in marks:
        return Mark.MAILER_FROM in marks or _is_told_to_null_sender(marks)
    if Mark.ANSWER in marks:
        return False
    if Mark.LIST_MAIL in marks:
        return worded == _WORDED and Mark.RETURNED_TO_AUTHOR in marks and bool(marks & _PROGRAMS)
    return _is_told_by_mailer(marks)


def _is_told_to_null_sender(marks: AbstractSet[Mark]) -> bool:
    """The null sender alone is no mail server: responders use it too."""
    worded = marks & _WORDED
    if Mark.AUTO_REPLY_WORDING in marks and worded != _WORDED:
        return False
    return worded == _WORDED or bool(marks & _SPECIFIC) or Mark.ROBOT_FROM in marks


def _is_told_by_mailer(marks: AbstractSet[Mark]) -> bool:
    """With a sender that is real or unknown, the less the author is a mail server, the more must be there."""
    is_both = marks >= _WORDED
    if Mark.RETURNED_TO_AUTHOR in marks:
        return is_both or bool(marks & _PROGRAMS)
    if Mark.MAILER_FROM in marks:
        return bool(marks & _DETAILED) or marks >= {Mark.BOUNCE_SUBJECT, Mark.NAMES_ADDRESS}
    if Mark.MAILER_NAME in marks:
        return is_both and bool(marks & _DETAILED)
    return is_both and marks >= {Mark.ROBOT_FROM, Mark.RETURNED}


def _is_returned_mail(marks: AbstractSet[Mark]) -> bool:
    """No wording known here, but a mail server or the null sender gives a message back."""
    if marks & (_AUTOMATIC | {Mark.ANSWER, Mark.LIST_MAIL, Mark.AUTO_REPLY_WORDING, Mark.RECEIPT_SUBJECT}):
        return False
    if Mark.MAILER_FROM in marks:
        return bool(marks & {Mark.NULL_SENDER, Mark.RETURNED_TO_AUTHOR})
    return marks >= {Mark.NULL_SENDER, Mark.RETURNED_TO_AUTHOR}


def _is_auto_reply(marks: AbstractSet[Mark]) -> bool:
    if marks & _AUTOMATIC:
        return Mark.LIST_MAIL not in marks or bool(marks & {Mark.NULL_SENDER, Mark.AUTO_REPLIED})
    if Mark.LIST_MAIL in marks:
        return False
    if Mark.ABSENCE in marks:
        return True
    return Mark.AUTO_REPLY_WORDING in marks and bool(
        marks & {Mark.NULL_SENDER, Mark.MAILER_FROM, Mark.ANSWER}
    )
