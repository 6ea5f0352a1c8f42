"""All checks, in the order in which they are judged: among equal actions the first names the reply.

Settings, counters, the command line and the manual read this list; nothing else knows a check by name.
"""

from typing import Final

from backstop.checks import forged_sender, harvest, receive_only, recipient, report, tag, unproved
from backstop.verdict import Check

CHECKS: Final[tuple[Check, ...]] = (
    recipient.CHECK,
    receive_only.CHECK,
    tag.CHECK,
    harvest.CHECK,
    forged_sender.CHECK,
    unproved.CHECK,
    report.CHECK,
)
