"""How bounces word themselves: who they come from, what their subjects and their texts say.

All of it is weak evidence and taken in pairs only: a sender that looks like a mail server, and wording of a
bounce.
"""

import re

from backstop.report.phrases import BOUNCE_SUBJECTS, BOUNCE_TEXTS

_MAILER_LOCAL = re.compile(
    r"""(?: mailer[-_. ]?d(?:ae|e|ea)mon | mail[-_. ]?d(?:ae|e|ea)mon | post[-_. ]?(?:master|office)
      | mail[-_. ]?deliver[-_. ]?\w* | mailer | mdaemon | mmdf | smtp-?d(?:aemon)? | ndr(?:agent)? | dsn
      | electronic[-_. ]postmaster | double-bounce | bounce-?daemon | microsoftexchange[0-9a-f]{16,40}
      | non-?deliver(?:y|able) | undeliver(?:ed|able)\w* ) [-_.\d]{0,20}""",
    re.IGNORECASE | re.VERBOSE,
)
_MAILER_NAME = re.compile(
    r"""mail(?:er)?[- ]?(?:deliver\w* | daemon | administrator | system | router | transport | subsystem)
      | delivery[ ](?:status | failure | report | service | agent | subsystem | system | notification)
      | postmaster | system[ ](?:administrator | attendant) | microsoft[ ](?:outlook | exchange)
      | non[- ]?delivery | ndr[ ]agent | undeliver | returned[ ]mail | interscan | mailmarshal
      | memo[ ]service | courier[ ]mail[ ]server""",
    re.IGNORECASE | re.VERBOSE,
)
_ROBOT_LOCAL = re.compile(
    r"""root | administrator | sysadmin | admin | system | mail | smtp | mailsystem | bounces? | uucp | daemon
      | no[-_.]?reply | do[-_.]?not[-_.]?reply | mail[-_.]?(?:gate(?:way)? | server | admin) | gateway
      | notifications? | notify | delivery | exchange | listserv | majordomo | lsmtp | antivirus | virus
      | mailsweeper | imss | interscan\w* | mailmarshal | support | helpdesk
      | [\w.-]{1,40}-(?:admin | owner | bounces? | request) | owner-[\w.-]{1,40}
      | bounces?[-+=][^@]{1,100}""",
    re.IGNORECASE | re.VERBOSE,
)
_ANSWER = re.compile(
    r"\s*(?:re|aw|antw|sv|vs|fwd?|wg|rv|tr|rif|odp|res|enc|i|r)\s*(?:\[\d+\])?\s*:", re.IGNORECASE
)


def is_mailer(address: str, name: str) -> bool:
    """Claim that a mail server wrote the message: by the address, or by the name beside a robot's address."""
    local = address.partition("@")[0]
    if _MAILER_LOCAL.fullmatch(local):
        return True
    return bool(_MAILER_NAME.search(name) and (not local or _ROBOT_LOCAL.fullmatch(local)))


def is_robot(address: str, name: str) -> bool:
    """Claim that a program may have written the message."""
    local = address.partition("@")[0]
    return not local or bool(_ROBOT_LOCAL.fullmatch(local) or _MAILER_NAME.search(name))


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
