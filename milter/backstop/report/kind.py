"""From the marks of a message to its kind.

The order is that of certainty: parts made for programs, then fields only mail servers and responders set,
then wording. Wording counts in pairs only: it must come from a mail server, or with the null sender, or
return to its author what he wrote.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from backstop.report.model import Kind, Mark

_HARD: Final = frozenset({Mark.REPORT_TYPE, Mark.STATUS_PART, Mark.FAILED_RECIPIENTS, Mark.FAILURE})
_WORDED: Final = frozenset({Mark.BOUNCE_SUBJECT, Mark.BOUNCE_WORDING})
_AUTOMATIC: Final = frozenset({Mark.AUTO_REPLIED, Mark.AUTO_REPLY_FIELD, Mark.AUTO_REPLY_SUBJECT})


def kind_of(marks: AbstractSet[Mark]) -> Kind:
    """Decide what a message with these marks is."""
    if marks & {Mark.FEEDBACK_PART, Mark.FEEDBACK_FIELD}:
        return Kind.FEEDBACK
    if Mark.RECEIPT_PART in marks and not marks & _HARD:
        return Kind.RECEIPT
    if _is_hard_bounce(marks):
        return Kind.BOUNCE
    if Mark.CHALLENGE_FIELD in marks or (Mark.CHALLENGE_WORDING in marks and not _is_worded_bounce(marks)):
        return Kind.CHALLENGE
    if _is_worded_bounce(marks):
        return Kind.BOUNCE
    if Mark.RECEIPT_WORDING in marks:
        return Kind.RECEIPT
    if marks & _AUTOMATIC:
        return Kind.AUTO_REPLY
    if Mark.NULL_SENDER in marks and Mark.AUTO_REPLY_WORDING in marks:
        return Kind.AUTO_REPLY
    if Mark.NULL_SENDER in marks and marks & {Mark.MAILER_FROM, Mark.RETURNED}:
        return Kind.BOUNCE
    if Mark.AUTO_REPLY_WORDING in marks and Mark.LIST_MAIL not in marks:
        return Kind.AUTO_REPLY
    return Kind.ORDINARY


def _is_hard_bounce(marks: AbstractSet[Mark]) -> bool:
    """A report that a list distributed, or that a person passed on, is none."""
    if not marks & _HARD:
        return False
    return Mark.LIST_MAIL not in marks or bool(marks & {Mark.NULL_SENDER, Mark.MAILER_FROM})


def _is_worded_bounce(marks: AbstractSet[Mark]) -> bool:
    worded = marks & _WORDED
    if not worded or (marks & {Mark.ANSWER, Mark.LIST_MAIL} and Mark.NULL_SENDER not in marks):
        return False
    if Mark.PROGRAM_ATTACHED in marks and Mark.RETURNED not in marks:
        return False
    if Mark.MAILER_FROM in marks:
        return True
    if Mark.NULL_SENDER in marks:
        return not marks & {Mark.AUTO_REPLY_SUBJECT, Mark.AUTO_REPLY_FIELD}
    return worded == _WORDED and (
        Mark.RETURNED_TO_AUTHOR in marks or {Mark.ROBOT_FROM, Mark.RETURNED} <= marks
    )
