"""All checks, in the order in which they are judged: among equal actions the first names the reply.

Settings, counters, the command line and the manual read this list; nothing else knows a check by name.
"""

from typing import Final

from backstop.checks import (
    alias,
    client_list,
    dmarc,
    forged_sender,
    harvest,
    receive_only,
    recipient,
    report,
    sender_list,
    spf,
    tag,
    unproved,
)
from backstop.verdict import Check

CHECKS: Final[tuple[Check, ...]] = (
    recipient.CHECK,
    alias.CHECK,
    receive_only.CHECK,
    tag.CHECK,
    harvest.CHECK,
    forged_sender.CHECK,
    spf.CHECK,
    client_list.CHECK,
    sender_list.CHECK,
    unproved.CHECK,
    report.CHECK,
    dmarc.CHECK,
)
