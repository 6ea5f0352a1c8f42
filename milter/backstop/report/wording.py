"""How bounces word themselves: who they come from, what their subjects and their texts say.

All of it is weak evidence and taken in pairs only: a sender that looks like a mail server, and wording of a
bounce.
"""

import re
from typing import Final

from backstop.report.phrases import BOUNCE_SUBJECTS, BOUNCE_TEXTS

MAX_ADDRESS: Final = 500

_DAEMON_LOCAL = re.compile(
    r"""(?: mail(?:er)?[-_. ]?d(?:ae|e|ea)mon | mail[-_. ]?deliver[-_. ]?\w* | mdaemon | mmdf
          | mail[-_. ]?(?:router | administrator) | \w{1,30}-daemon
          | double-bounce | non-?deliver(?:y | able) | undeliver(?:ed | able)\w*
          | ndr(?:agent)? | microsoftexchange[0-9a-f]{16,40}
        ) [-_.\d]{0,20}""",
    re.IGNORECASE | re.VERBOSE,
)
_POSTMASTER_LOCAL = re.compile(r"(?:electronic[-_. ])?post[-_. ]?master[-_.\d]{0,20}", re.IGNORECASE)
_MAILER_NAME = re.compile(
    r"""mail(?:er)?[- ]?(?:deliver\w* | daemon | administrator | system | router | transport | subsystem)
      | delivery[ ](?:status[ ]notif\w* | agent | subsystem)
      | system[ ](?:administrator | attendant) | microsoft[ ](?:outlook | exchange) | courier[ ]mail[ ]server
      | postmaster | non[- ]?delivery | ndr[ ]agent | undeliver | returned[ ]mail | memo[ ]service
      | interscan | mailmarshal""",
    re.IGNORECASE | re.VERBOSE,
)
_ROBOT_LOCAL = re.compile(
    r"""root | daemon | uucp | system | sysadmin | admin | administrator | support | helpdesk
      | mail | mailer | smtp | smtpd | dsn | postoffice | delivery | exchange | gateway
      | mail[-_.]?(?:system | server | gate | gateway | admin | sweeper | marshal) | imss | interscan\w*
      | antivirus | virus | notify | notifications? | no[-_.]?reply | do[-_.]?not[-_.]?reply
      | listserv | lsmtp | majordomo | owner-[\w.-]{1,40}
      | [\w.-]{1,40}-(?:admin | owner | bounces? | request)
      | bounces? | bounces?[-+=][^@]{1,100}""",
    re.IGNORECASE | re.VERBOSE,
)
_ANSWER = re.compile(
    r"\s*(?:re|aw|antw|sv|vs|fwd?|wg|rv|tr|rif|odp|res|enc|i|r)\s*(?:\[\d+\])?\s*:", re.IGNORECASE
)


def is_daemon(address: str) -> bool:
    """Claim that no person writes from an address."""
    return bool(_DAEMON_LOCAL.fullmatch(_local(address)))


def is_mailer(address: str) -> bool:
    """Claim that a mail server, or the person who keeps it, writes from an address."""
    local = _local(address)
    return bool(_DAEMON_LOCAL.fullmatch(local) or _POSTMASTER_LOCAL.fullmatch(local))


def is_mailer_name(name: str) -> bool:
    """Claim that a name is that of a mail server."""
    return bool(_MAILER_NAME.search(name))


def is_robot(address: str) -> bool:
    """Claim that a program may write from an address, or from none at all."""
    local = _local(address)
    return not local or bool(_ROBOT_LOCAL.fullmatch(local))


def is_answer(subject: str) -> bool:
    """Claim that somebody answered or forwarded a message."""
    return bool(_ANSWER.match(subject))


def says_bounce_in_subject(subject: str) -> bool:
    """Claim that a subject is that of a bounce."""
    folded = " ".join(subject.casefold().replace("_", " ").split())
    return any(phrase in folded for phrase in BOUNCE_SUBJECTS)


def says_bounce(folded: str) -> bool:
    """Claim that a text, in folded case and with single spaces, tells of a message that was not delivered."""
    return any(phrase in folded for phrase in BOUNCE_TEXTS)


def _local(address: str) -> str:
    """Take the local part, out of the path of a UUCP address if it is one."""
    return address[:MAX_ADDRESS].partition("@")[0].rpartition("!")[2].partition("%")[0]
