"""What is known between MAIL and the end of one message."""

from backstop.address import NULL_SENDER, Address
from backstop.authentication import Authenticity
from backstop.facts import Client, Facts, Need, Role
from backstop.session.content import Content
from backstop.session.questions import Known, Origins
from backstop.settings import Block, DomainSettings, Strip
from backstop.value import value
from backstop.verdict import Check, Decision, Judgement, ReplaceRecipient


@value
class Envelope:
    """A recipient as the client gave it, and the path it is delivered to: the same, or without its tag."""

    path: str
    parameters: str
    delivered: str
    is_stripped: bool = False


@value
class Accepted:
    """A recipient in a protected domain that was not refused at RCPT.

    `waiting` are the checks that want the message read first. `alias` is the disposable address it uses, and
    when that ends (seconds since 1970).
    """

    facts: Facts
    settings: DomainSettings
    block: Block | None
    judgements: tuple[Judgement, ...]
    decision: Decision
    envelope: Envelope
    waiting: tuple[Check, ...] = ()
    alias: tuple[str, float] | None = None


class Transaction:
    """One message under way, and whose it is."""

    __slots__ = (
        "accepted",
        "asked",
        "authenticity",
        "author",
        "client",
        "content",
        "exempt_destination",
        "forwarded",
        "goes_outside",
        "helo",
        "in_doubt",
        "known",
        "login",
        "marks",
        "message_id",
        "origin",
        "others",
        "readable",
        "readers",
        "remembers",
        "replaced",
        "results",
        "reverse_path",
        "role",
        "sender_is_known",
        "sender_settings",
        "shows_results",
        "to_be_read",
        "verifiable",
    )

    def __init__(
        self,
        client: Client,
        reverse_path: Address | None,
        login: str,
        *,
        helo: str = "",
        readable: bool = False,
        verifiable: bool = False,
    ) -> None:
        self.client = client
        self.reverse_path = reverse_path
        """None for what is no address."""
        self.login = login
        own = bool(login) and client.role is not Role.REINJECTED
        self.role = Role.OUTGOING if own else client.role
        self.accepted: list[Accepted] = []
        """Recipients in protected domains."""
        self.others = 0
        """Further recipients that the mail server took."""
        self.known: dict[str, Known] = {}
        self.in_doubt = False
        """A bounce has its one recipient about whom more is to be decided."""
        self.marks = 0
        """Headers that look like ours."""
        self.replaced: list[ReplaceRecipient] = []
        """Recipients of outgoing mail without their tag."""
        self.helo = helo
        self.origin = Origins()
        """Where it comes from, as far as was asked: `asked` says what was."""
        self.asked: frozenset[Need] = frozenset()
        self.authenticity: Authenticity | None = None
        self.shows_results = False
        """A field Authentication-Results of ours says what was found."""
        self.results: list[bool] = []
        """Fields Authentication-Results, from the top: whether they pretend to be ours."""
        self.sender_is_known = False
        self.sender_settings: DomainSettings | None = None
        self.goes_outside = False
        self.exempt_destination = False
        self.forwarded = False
        self.readable = readable
        """The mail server would show what the message says."""
        self.verifiable = verifiable
        """It would show it so that signatures can be verified."""
        self.to_be_read = False
        """A check has its last word only once the message was read."""
        self.content: Content | None = None
        """What came of the message since DATA, where it is to be read."""
        self.remembers = False
        """It is outgoing mail that the memory of sent mail wants."""
        self.readers: list[str] = []
        """To whom it goes outside, folded."""
        self.message_id = b""
        """The field as it came, of mail that is remembered; so is `author`."""
        self.author = b""

    @property
    def is_bounce(self) -> bool:
        """Whether it has the null sender."""
        return self.reverse_path is NULL_SENDER

    @property
    def sender_domain(self) -> str:
        """The domain of the reverse-path; empty for the null sender and for what is no address."""
        return self.reverse_path.domain if self.reverse_path else ""


def envelope(path: str, mailbox: Address | None, parameters: str, settings: DomainSettings) -> Envelope:
    """A recipient, its tag taken off where that is the milter's task; `mailbox` is None without a tag."""
    if mailbox is not None and settings.strip is Strip.MILTER and mailbox.is_plain:
        return Envelope(path, parameters, mailbox.path, is_stripped=True)
    return Envelope(path, parameters, path)
