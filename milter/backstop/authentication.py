"""Where a message comes from, as SPF, DKIM, DMARC and DNS lists say: plain values, in the words of RFC 8601.

How it is found out is the business of adapters; what follows from it that of checks.
"""

from enum import Enum, IntEnum

from backstop.value import value


class SpfResult(Enum):
    """RFC 7208, section 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 - a word of RFC 8601
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class SpfIdentity(Enum):
    """Whose policy was asked: RFC 7208, sections 2.3 and 2.4. The value is the property of RFC 8601."""

    MAILFROM = "mailfrom"
    HELO = "helo"


@value
class Spf:
    """What SPF says; `domain` is the one that was asked, folded; `reason` is for the log alone."""

    result: SpfResult
    identity: SpfIdentity
    domain: str
    reason: str = ""


class DkimResult(Enum):
    """RFC 8601, section 2.7.1."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - a word of RFC 8601
    FAIL = "fail"
    POLICY = "policy"
    NEUTRAL = "neutral"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@value
class Dkim:
    """One signature; `domain` (d=) and `selector` (s=) are folded, and empty where it could not be read."""

    result: DkimResult
    domain: str = ""
    selector: str = ""
    reason: str = ""


class DmarcResult(Enum):
    """RFC 7489, section 11.2."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - a word of RFC 8601
    FAIL = "fail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class Disposition(IntEnum):
    """What the domain owner asks for: RFC 7489, section 6.3, tag p."""

    NONE = 0
    QUARANTINE = 1
    REJECT = 2

    @property
    def label(self) -> str:
        """The word for it in a record."""
        return self.name.lower()


@value
class Dmarc:
    """What DMARC says of the header From.

    `domain` is that of the header From, folded; `disposition` what its owner wants done with this message,
    subdomains and sampling considered: NONE unless the result is FAIL.
    """

    result: DmarcResult
    domain: str = ""
    disposition: Disposition = Disposition.NONE
    reason: str = ""


@value
class Listing:
    """What DNS lists say: the zones that name the client or the domain, and those that did not answer."""

    zones: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()


@value
class Authenticity:
    """What the message itself shows of its origin, once it was read.

    `vouched` says that a good signature is aligned with the domain of the reverse-path.
    """

    dkim: tuple[Dkim, ...] = ()
    dmarc: Dmarc | None = None
    vouched: bool = False
