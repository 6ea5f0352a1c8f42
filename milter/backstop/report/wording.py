"""How bounces word themselves: who they come from, what their subjects and their texts say.

Every list here is weak evidence. `kind` takes it in pairs only: a sender that looks like a mail server
and wording of a bounce. Phrases are looked for in lower case, with white space brought to single spaces.
"""

import re
from typing import Final

_MAILER_LOCAL = re.compile(
    r"(?:mailer[-_. ]?(?:daemon|demon|deamon)|mail[-_. ]?daemon|post[-_. ]?(?:master|office)|double-bounce|"
    r"mail[-_. ]?delivery[-_. ]?\w*|microsoftexchange[0-9a-f]{16,40}|mmdf|mdaemon|ndragent|"
    r"smtp-?daemon)\w{0,20}",
    re.IGNORECASE,
)
_MAILER_NAME = re.compile(
    r"(?:internet )?mail(?:er)?[- ]?(?:delivery|daemon|administrator|system|router|transport)|postmaster|"
    r"mailer-daemon|delivery (?:status|failure|report|service|agent|subsystem)|system administrator|"
    r"microsoft (?:outlook|exchange)|non[- ]?delivery|ndr agent|system attendant",
    re.IGNORECASE,
)
_ROBOT_LOCAL = re.compile(
    r"(?:root|administrator|sysadmin|admin|system|mail|mailer|smtp|mailsystem|bounces?|no-?reply|do-?not-?reply|"
    r"mailgate|mailserver|mail-?admin|notification|notify|uucp|daemon|delivery|exchange|listserv|majordomo)\w{0,20}",
    re.IGNORECASE,
)

SUBJECTS: Final = tuple(
    """
undeliver
undelivered
returned mail
mail returned
delivery status notification
delivery failure
delivery failed
delivery has failed
failure notice
mail delivery fail
delivery notification
non-delivery
nondeliver
non delivery
returning message to sender
message status - undeliverable
delivery error
delivery problem
mail system error
warning: could not send
warning: message
mail failure
failed mail
failure delivery
returned to sender
return to sender
message not delivered
not delivered
delivery report
unable to deliver
mail could not be delivered
could not be delivered
unzustellbar
nicht zugestellt
zustellung
não entregue
nao entregue
no se puede entregar
no entregado
non remis
non distribu
remise
impossibile recapitare
mancata consegna
onbestelbaar
niet bezorgd
未配送
送信でき
配信不能
退信
无法投递
недостав
""".strip().splitlines()
)

PHRASES: Final = tuple(
    """
could not be delivered
couldn't be delivered
cannot be delivered
was not delivered
not be delivered
unable to deliver
delivery to the following recipient
delivery has failed
did not reach the following recipient
this is the mail system at host
this is the qmail-send program
transcript of session follows
the following addresses had
permanent fatal errors
message was undeliverable
returned to sender
user unknown
unknown user
no such user
mailbox unavailable
mailbox full
over quota
could not deliver
couldn't deliver
delivery failed
undeliverable
undelivered
message created automatically by mail delivery software
has been delayed
is being returned
was not able to deliver
wasn't able to deliver
delivery attempts
message to the following addresses
failed permanently
temporary failure
host unknown
recipient rejected
unrouteable address
nicht zugestellt werden
konnte nicht
n'a pas pu être
no se pudo entregar
non è stato possibile
""".strip().splitlines()
)

_ANSWER = re.compile(r"\s*(?:re|aw|sv|vs|antw|fwd?|wg|rv|tr|rif|odp)\s*(?:\[\d+\])?\s*:", re.IGNORECASE)


def is_mailer(address: str, name: str) -> bool:
    """Claim that a mail server wrote the message: by the address, or by the name beside a robot's address."""
    local = address.partition("@")[0]
    if _MAILER_LOCAL.fullmatch(local):
        return True
    return bool(_MAILER_NAME.search(name) and (not local or _ROBOT_LOCAL.fullmatch(local)))


def is_robot(address: str, name: str) -> bool:
    """Claim that a program may have written the message."""
    return bool(_ROBOT_LOCAL.fullmatch(address.partition("@")[0]) or _MAILER_NAME.search(name))


def is_answer(subject: str) -> bool:
    """Claim that somebody answered or forwarded a message."""
    return bool(_ANSWER.match(subject))


def says_bounce_in_subject(subject: str) -> bool:
    """Claim that a subject is that of a bounce."""
    folded = subject.casefold()
    return any(phrase in folded for phrase in SUBJECTS)


def says_bounce(prose: str) -> bool:
    """Claim that a text tells of a message that was not delivered."""
    folded = " ".join(prose.casefold().split())
    return any(phrase in folded for phrase in PHRASES)
