"""The marks of answers given by programs: vacation notices, challenges, receipts (RFC 3834)."""

import re
from typing import Final

from backstop.report import wording
from backstop.report.charsets import readable
from backstop.report.header import Header
from backstop.report.model import Mark

_REPLY_FIELDS: Final = (
    b"x-autoreply",
    b"x-autorespond",
    b"x-autoresponder",
    b"x-auto-reply",
    b"x-autoreply-from",
    b"x-mail-autoreply",
    b"x-autoreply-domain",
    b"x-vacation",
    b"x-auto-reply-from",
)
_PRECEDENCE: Final = (b"precedence", b"x-precedence", b"preference")
_REPLY_SUBJECT = re.compile(
    r"(?:re: ?)?(?:auto(?:matic|mated)?[- ]?(?:reply|response|respon[sd]e?r?|answer)|"
    r"out[- ]of[- ](?:the[- ])?office|vacation|abwesenheit|automatische antwort|r\u00e9ponse automatique|"
    r"respuesta autom|resposta autom|risposta auto|automatisch antwoord|autosvar|automatiskt? svar|"
    r"fuori sede|fr\u00e5nvaro|autoreply|on holiday|away from)",
    re.IGNORECASE,
)


def reply_marks(header: Header) -> set[Mark]:
    """Look at the fields that responders set."""
    marks: set[Mark] = set()
    if header.first(b"auto-submitted").lower().startswith(b"auto-replied"):
        marks.add(Mark.AUTO_REPLIED)
    if any(name in header for name in _REPLY_FIELDS) or any(
        header.first(name).lower().startswith(b"auto_reply") for name in _PRECEDENCE
    ):
        marks.add(Mark.AUTO_REPLY_FIELD)
    if _REPLY_SUBJECT.match(readable(header.first(b"subject"))):
        marks.add(Mark.AUTO_REPLY_SUBJECT)
    return marks


def text_marks(said: str) -> set[Mark]:
    """Look at the wording."""
    return {Mark.BOUNCE_WORDING} if wording.says_bounce(said) else set()
