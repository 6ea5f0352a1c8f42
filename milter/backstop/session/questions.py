"""What the session asks outside, and what the outside answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from backstop.address import Address, Network, without_extension
from backstop.authentication import Authenticity, Listing, Spf
from backstop.batv import KeyRing, Tag, TagState
from backstop.dkim_body import BodyCanonicalization
from backstop.facts import Existence, Need
from backstop.proof import Proof
from backstop.settings import Block, DomainSettings
from backstop.value import value
from backstop.verdict import Count


@dataclass(frozen=True, slots=True)
class Site:
    """What holds for every domain of this server."""

    ring: KeyRing
    internal_networks: tuple[Network, ...]
    relays: tuple[Network, ...]
    originating_daemons: frozenset[str]
    reinjecting_daemons: frozenset[str]
    authserv_id: str = ""
    """Who we are in Authentication-Results; empty for none."""


@value
class Known:
    """What was read at the first recipient of a domain, and holds for the transaction."""

    settings: DomainSettings
    block: Block | None
    """The block of the domain or of all domains; an address may have one of its own."""


@value
class Incoming:
    """What must be known about a recipient; `known` is what this transaction has read before.

    `counts` is added to limits by whoever asks, once the domain is known to be protected. `alias` is the
    mailbox where it is a disposable address of ours, folded; else empty.
    """

    recipient: Address
    mailbox: Address
    base: str
    tag: Tag | None
    bounce: bool
    network: str
    sender_domain: str
    known: Known | None
    tag_state: TagState = TagState.NONE
    counts: tuple[Count, ...] = ()
    alias: str = ""
    alias_state: TagState = TagState.NONE


@value
class Answer:
    """What the outside says about a recipient in a protected domain.

    `harvests`: the client is over its limit of unknown recipients; `guesses_tags`: it, or the address
    together with it, is over the limit of bad tags.
    """

    known: Known
    block: Block | None = None
    existence: Existence = Existence.NOT_ASKED
    sender_is_ours: bool = False
    untagged_mail: bool = False
    harvests: bool = False
    guesses_tags: bool = False
    alias_is_off: bool = False


@value
class Origin:
    """What is asked about where a message comes from; `helo` and `client` are as the client gave them.

    `spent` is what an earlier answer about the message brought with it: only the outside reads it.
    """

    client: str
    helo: str
    reverse_path: Address
    needs: frozenset[Need]
    spent: object = None


@value
class Origins:
    """What the outside says of a message's origin; None for what was not asked."""

    spf: Spf | None = None
    client_listing: Listing | None = None
    sender_listing: Listing | None = None
    spent: object = None


@value
class Signed:
    """A message that was read, as far as its signatures cover it.

    `header` is the block as it came, `authors` the values of its fields From, `bodies` the hashes of its
    body in every canonicalisation that a signature names; none of a body that did not come to its end.
    """

    header: bytes
    authors: tuple[bytes, ...]
    bodies: Mapping[BodyCanonicalization, bytes]
    reverse_path: Address
    spf: Spf | None
    spent: object = None


@value
class Outgoing:
    """What must be known about outgoing mail; an empty domain is not asked about."""

    sender_domain: str
    recipient_domain: str


@value
class Sending:
    """What the outside says of outgoing mail: the sender's settings, None for a domain that is not ours."""

    settings: DomainSettings | None
    recipient_is_ours: bool


@value
class Evidence:
    """What is asked about a message that was read.

    `ids` were returned or are mentioned, without brackets. `pairs` are recipients, by their base, and the
    addresses to whom they may have written. `block` is the returned header, empty for none. `spent` as in
    `Origin`.
    """

    ids: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    block: bytes
    spent: object = None


@value
class Proofs:
    """What the outside says about the evidence.

    `found` holds for every recipient, `correspondents` are the bases who wrote to an address of a pair.
    """

    found: frozenset[Proof] = frozenset()
    correspondents: frozenset[str] = frozenset()
    unanswered: frozenset[Proof] = frozenset()


def base_of(mailbox: Address, delimiters: str) -> str:
    """Under what a mailbox is known outside: without its extension, folded."""
    local = without_extension(mailbox.local, delimiters)
    if local is mailbox.local:
        return mailbox.folded
    return Address(local, mailbox.domain, mailbox.domain).folded


class Gather(Protocol):
    """Whatever must be asked outside. No method raises; what stays unanswered is said in the answer."""

    def expected(self, domain: str) -> DomainSettings:
        """The settings a domain had when last read, or has by the file: no question is asked."""

    def incoming(self, question: Incoming, now: float) -> Answer | None:
        """Everything about a recipient; None if its domain is not protected."""

    def outgoing(self, question: Outgoing, now: float) -> Sending:
        """The settings that tag a sender, and whether a recipient's domain is protected."""

    def origin(self, question: Origin, now: float) -> Origins:
        """What SPF and the lists say, within what one message may cost."""

    def authenticity(self, question: Signed, now: float) -> Authenticity:
        """What its signatures and DMARC say of a message."""

    def proofs(self, evidence: Evidence, now: float) -> Proofs:
        """What a message's evidence is worth."""

    def is_protected(self, domain: str) -> bool:
        """Whether a domain is ours to protect; not, where nobody knows."""

    def counted_today(self, domain: str, name: str, now: float) -> int | None:
        """A counter of a domain for today; None where nobody can say."""
