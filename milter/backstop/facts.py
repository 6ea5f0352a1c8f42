"""What is known about one recipient of one transaction. Checks read it, nobody changes it.

Every question that can stay unanswered has a member that says so: from what was not asked or not
answered no refusal follows.
"""

from enum import Enum, auto

from backstop.address import NULL_SENDER, Address
from backstop.authentication import Dmarc, Listing, Spf
from backstop.batv import TagState, can_be_tagged, is_tagged
from backstop.proof import Proof
from backstop.report import Report
from backstop.settings import DomainSettings
from backstop.value import value


class Role(Enum):
    """Whose mail a client brings."""

    OUTGOING = auto()
    INCOMING = auto()
    RELAY = auto()
    """Incoming by way of a gateway, backup MX or content filter of ours."""
    REINJECTED = auto()
    """A second pass of mail that was judged before."""


class Existence(Enum):
    """What the recipient sources say of an address."""

    NOT_ASKED = auto()
    EXISTS = auto()
    MISSING = auto()
    UNKNOWN = auto()
    """A source that should know did not answer, or knows nobody at all."""
    ANYBODY = auto()
    """The next hop takes every recipient, so it says nothing of this one."""


class Need(Enum):
    """Facts that cost something to find out and are gathered only for checks that read them."""

    EXISTENCE = auto()
    UNKNOWN_RECIPIENTS = auto()
    UNTAGGED_MAIL = auto()
    SENDER_DOMAIN = auto()
    SPF = auto()
    CLIENT_LISTS = auto()
    SENDER_LISTS = auto()
    DMARC = auto()
    """Of the message, so it is known at its end."""


@value
class Client:
    """Who speaks SMTP with the mail server.

    `address` is empty for mail that did not come by SMTP; `network` is what limits count for.
    """

    name: str
    address: str
    network: str
    role: Role


@value
class Facts:
    """One recipient in a protected domain, as a check sees it.

    `recipient` is as given, `mailbox` without tag, `base` without tag and extension, folded.
    `sender_is_exempt` says that the reverse-path's own domain does not want it tagged, `untagged_mail` that
    mail of this recipient is under way without a tag, `in_grace` that its domain has signed for too short a
    time. `harvests` and `guesses_tags` say that limits are exceeded: false also where nobody knows.
    `readable` says that the message can still be read, `verifiable` that this is so for its signatures too,
    `report` what it says once it was; then `proofs` are all that were found, and `unanswered` the kinds of
    proof about which nobody could be asked.
    `alias` is what a disposable address is worth by date and hash. `spf`, the listings and `dmarc` are None
    where nobody asked.
    """

    client: Client
    reverse_path: Address
    recipient: Address
    mailbox: Address
    base: str
    tag: TagState = TagState.NONE
    existence: Existence = Existence.NOT_ASKED
    sender_is_ours: bool = False
    sender_tag: TagState = TagState.NONE
    sender_is_exempt: bool = False
    untagged_mail: bool = False
    in_grace: bool = False
    harvests: bool = False
    guesses_tags: bool = False
    proofs: frozenset[Proof] = frozenset()
    unanswered: frozenset[Proof] = frozenset()
    readable: bool = False
    verifiable: bool = False
    report: Report | None = None
    alias: TagState = TagState.NONE
    alias_is_off: bool = False
    spf: Spf | None = None
    client_listing: Listing | None = None
    sender_listing: Listing | None = None
    dmarc: Dmarc | None = None

    @property
    def is_bounce(self) -> bool:
        """Whether the transaction has the null sender."""
        return self.reverse_path is NULL_SENDER

    @property
    def is_proved(self) -> bool:
        """Whether it is a bounce of mail that we are proved to have sent: then no matter who brings it."""
        return self.is_bounce and bool(self.proofs)


def excuse(facts: Facts, settings: DomainSettings) -> str:
    """Why mail of the recipient may have gone out without a tag, so that no proof is asked for; else empty.

    Addresses with another system's tag (SRS0=, btv1==) are never tagged: that system judges them.
    """
    if facts.mailbox in settings.exempt_senders:
        return "the address is exempt"
    if is_tagged(facts.mailbox) or not can_be_tagged(facts.mailbox):
        return "the address is never tagged"
    return "mail of this address is under way without a tag" if facts.untagged_mail else ""


def awaits_proof(facts: Facts, settings: DomainSettings) -> bool:
    """Whether the message itself may still prove a bounce that nothing has proved yet."""
    return facts.readable and not facts.proofs and facts.is_bounce and settings.proof_is_in_message
