"""A scripted outside for the engine: what Redis, sources and limits would say stands in dictionaries.

`Outside` is a plain `Gather`. `Talk` is one connection, with the time and the client already chosen, so that
a test reads like the SMTP dialogue it is about.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from backstop.address import parse, without_extension
from backstop.authentication import Authenticity, Listing, Spf
from backstop.batv import DAY, Key, KeyRing, KeyState, TagForm, TagState, sign
from backstop.checks import CHECKS
from backstop.facts import Client, Existence, Facts, Need, Role
from backstop.proof import Proof
from backstop.session import (
    Answer,
    Evidence,
    Incoming,
    Known,
    Origin,
    Origins,
    Outgoing,
    Proofs,
    Sending,
    Session,
    Signed,
    Site,
)
from backstop.settings import Action, Block, DomainSettings
from backstop.verdict import Outcome, Verb, defaults

TODAY: Final = 20_000
NOW: Final = (TODAY + 0.5) * DAY

OURS: Final = "our.example"
ALSO_OURS: Final = "also.example"
ELSEWHERE: Final = "else.example"
ALICE: Final = f"alice@{OURS}"
BOB: Final = f"bob@{OURS}"
STRANGER: Final = f"someone@{ELSEWHERE}"

STRANGE_CLIENT: Final = "203.0.113.7"
INTERNAL_CLIENT: Final = "10.1.2.3"
RELAY_CLIENT: Final = "10.9.0.1"

OLD_KEY: Final = Key(1, b"an old secret of tests", KeyState.VERIFY, ("*",), TODAY - 400, 11)
KEY: Final = Key(2, b"the secret of the tests", KeyState.SIGN, ("*",), TODAY - 200, 11)
STRANGE_KEY: Final = Key(2, b"a secret nobody has", KeyState.SIGN, ("*",), TODAY - 200, 11)
RING: Final = KeyRing((OLD_KEY, KEY), b"the memory of the tests")


def site(ring: KeyRing = RING, authserv_id: str = "") -> Site:
    """A server with one relay within its internal network."""
    return Site(
        ring=ring,
        internal_networks=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
        relays=(ipaddress.ip_network("10.9.0.0/24"),),
        originating_daemons=frozenset({"ORIGINATING"}),
        reinjecting_daemons=frozenset({"REINJECT"}),
        authserv_id=authserv_id,
    )


def settings(fields: dict[str, Any] | None = None, /, **actions: Action) -> DomainSettings:
    """The settings of a domain: other fields first, then the actions of checks by name.

    Tags alone are proof, unless the fields name other kinds.
    """
    base = DomainSettings(TagForm.SUBADDRESS, {**defaults(CHECKS), **actions}, proof=(Proof.TAG,))
    return replace(base, **fields) if fields else base


def enforcing(action: Action = Action.REJECT, **fields: Any) -> DomainSettings:
    """Every check takes one action."""
    return settings(fields, **{check.name: action for check in CHECKS})


def tagged(
    address: str,
    day: int = TODAY,
    key: Key = KEY,
    form: TagForm = TagForm.SUBADDRESS,
    lifetime: int = 11,
) -> str:
    """The path of an address as it was tagged on a day."""
    parsed = parse(address)
    assert parsed is not None
    return f"<{sign(parsed, key, day, lifetime, form)}>"


def forged(address: str) -> str:
    """The path of an address with a tag that names our key and is none of ours."""
    return tagged(address, key=STRANGE_KEY)


@dataclass(slots=True)
class Outside:
    """What is known outside. `domains` are protected; everything else is keyed as in Redis."""

    domains: dict[str, DomainSettings] = field(default_factory=dict)
    existence: dict[str, Existence] = field(default_factory=dict)
    otherwise: Existence = Existence.NOT_ASKED
    blocks: dict[str, Block] = field(default_factory=dict)
    untagged: set[str] = field(default_factory=set)
    harvesters: set[str] = field(default_factory=set)
    guessers: set[str] = field(default_factory=set)
    counted: dict[tuple[str, str], int | None] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    wrote: set[tuple[str, str]] = field(default_factory=set)
    signed: set[bytes] = field(default_factory=set)
    unanswered: frozenset[Proof] = frozenset()
    aliases_off: set[str] = field(default_factory=set)
    spf: Spf | None = None
    listed_clients: Listing | None = None
    listed_senders: Listing | None = None
    authentic: Authenticity = field(default_factory=Authenticity)
    asked: list[Incoming | Outgoing | Evidence | Origin | Signed] = field(default_factory=list)

    def block(self, name: str, action: Action = Action.REJECT, *, by_person: bool = True) -> Self:
        """Switch a block on, "" for all domains."""
        self.blocks[name] = Block(action, name, by_person)
        return self

    def expected(self, domain: str) -> DomainSettings:
        """As in `Gather`."""
        return self.domains.get(domain) or settings()

    def incoming(self, question: Incoming, now: float) -> Answer | None:  # noqa: ARG002 - nothing here ages
        """As in `Gather`."""
        self.asked.append(question)
        domain = question.mailbox.domain
        if domain not in self.domains:
            return None
        known = question.known or Known(self.domains[domain], self.blocks.get(domain) or self.blocks.get(""))
        return Answer(
            known=known,
            block=self.blocks.get(question.base) or known.block,
            existence=self.existence.get(question.base, self.otherwise),
            sender_is_ours=question.sender_domain in self.domains,
            untagged_mail=question.base in self.untagged,
            harvests=question.network in self.harvesters,
            guesses_tags=question.network in self.guessers,
            alias_is_off=question.alias in self.aliases_off,
        )

    def origin(self, question: Origin, now: float) -> Origins:  # noqa: ARG002 - nothing here ages
        """As in `Gather`."""
        self.asked.append(question)
        return Origins(
            spf=self.spf if Need.SPF in question.needs else None,
            client_listing=self.listed_clients if Need.CLIENT_LISTS in question.needs else None,
            sender_listing=self.listed_senders if Need.SENDER_LISTS in question.needs else None,
            spent="spent",
        )

    def authenticity(self, question: Signed, now: float) -> Authenticity:  # noqa: ARG002 - nothing here ages
        """As in `Gather`."""
        self.asked.append(question)
        return self.authentic

    def outgoing(self, question: Outgoing, now: float) -> Sending:  # noqa: ARG002 - nothing here ages
        """As in `Gather`."""
        self.asked.append(question)
        return Sending(self.domains.get(question.sender_domain), question.recipient_domain in self.domains)

    def proofs(self, evidence: Evidence, now: float) -> Proofs:  # noqa: ARG002 - nothing here ages
        """As in `Gather`."""
        self.asked.append(evidence)
        found = {
            Proof.MEMORY: not self.sent.isdisjoint(evidence.ids),
            Proof.DKIM: evidence.block in self.signed,
        }
        return Proofs(
            found=frozenset(kind for kind, is_found in found.items() if is_found) - self.unanswered,
            correspondents=frozenset(
                base for base, address in evidence.pairs if (base, address) in self.wrote
            ),
            unanswered=self.unanswered,
        )

    def remember(self, outcome: Outcome) -> None:
        """What the journal would do."""
        if outcome.sent is not None:
            self.sent |= {outcome.sent.message_id} - {""}
            self.wrote |= set(outcome.sent.pairs)

    def is_protected(self, domain: str) -> bool:
        """As in `Gather`."""
        return domain in self.domains

    def counted_today(self, domain: str, name: str, now: float) -> int | None:  # noqa: ARG002 - nothing here ages
        """As in `Gather`."""
        return self.counted.get((domain, name), 0)


def protecting(ours: DomainSettings | None = None, also: DomainSettings | None = None) -> Outside:
    """An outside with two protected domains; without settings of its own the second has the first's."""
    first = ours or settings()
    return Outside({OURS: first, ALSO_OURS: also or first})


class Talk:
    """One connection to the engine, at one moment."""

    def __init__(
        self,
        outside: Outside,
        client: str = STRANGE_CLIENT,
        daemon: str = "smtpd",
        ring: KeyRing = RING,
        now: float = NOW,
        *,
        reads: bool = True,
        verifies: bool = True,
        authserv_id: str = "",
    ) -> None:
        self.outside = outside
        self.now = now
        self.session = Session(site(ring, authserv_id), outside, reads=reads, verifies=verifies)
        self.session.connect("client.example", client, daemon)
        self.session.helo("helo.example")

    def mail(self, path: str = "<>", login: str = "") -> Self:
        """MAIL FROM."""
        self.session.mail(path, login)
        return self

    def rcpt(self, path: str, parameters: str = "") -> Outcome:
        """RCPT TO, which the mail server takes."""
        return self.session.rcpt(path, parameters, self.now, "QID")

    def code(self, path: str) -> int:
        """RCPT TO, and the code of the reply; 250 where it is taken."""
        return code(self.rcpt(path))

    def accept(self, *paths: str) -> Self:
        """RCPT TO for each, none of them refused."""
        for path in paths:
            outcome = self.rcpt(path)
            assert outcome.verb is Verb.CONTINUE, outcome.reply
        return self

    def rest(self, *headers: str) -> Outcome:
        """DATA, headers by name, and the end of the message: the outcome that ended it."""
        return self.send("".join(f"{name}: x\n" for name in headers).encode())

    def send(self, message: bytes) -> Outcome:
        """DATA, a message with lines that end in LF, and its end: the outcome that ended it."""
        outcome = self.session.data("QID", self.now)
        if outcome.verb is not Verb.CONTINUE:
            return outcome
        header, _, body = message.partition(b"\n\n")
        for name, value in re.findall(rb"^([!-9;-~]+):[ ]?(.*(?:\n[ \t].*)*)", header, re.MULTILINE):
            self.session.header(name.decode(), value)
        if body:
            self.session.body(body)
        outcome = self.session.end_of_message("QID", self.now)
        self.outside.remember(outcome)
        return outcome


def bounce(outside: Outside, *recipients: str, client: str = STRANGE_CLIENT) -> Talk:
    """A bounce whose recipients were all taken at RCPT."""
    return Talk(outside, client).mail("<>").accept(*recipients)


def letter(outside: Outside, sender: str, *recipients: str, login: str = "") -> Talk:
    """An outgoing message of an internal client or a login, up to DATA."""
    client = STRANGE_CLIENT if login else INTERNAL_CLIENT
    return Talk(outside, client).mail(f"<{sender}>", login).accept(*recipients)


def facts(
    sender: str = "<>",
    recipient: str = ALICE,
    *,
    role: Role = Role.INCOMING,
    tag: TagState = TagState.NONE,
    **others: Any,
) -> Facts:
    """The facts about a recipient, given without its tag; a good tag is a proof."""
    reverse_path, address = parse(sender), parse(recipient)
    assert reverse_path is not None
    assert address is not None
    base = f"{without_extension(address.local, '+').lower()}@{address.domain}"
    proofs = frozenset({Proof.TAG} if tag is TagState.GOOD else ())
    client = Client("client.example", STRANGE_CLIENT, STRANGE_CLIENT, role)
    known = {"proofs": proofs, **others}
    return Facts(client, reverse_path, address, address, base, tag=tag, **known)


def code(outcome: Outcome) -> int:
    """The SMTP code of an outcome, 250 for what accepts."""
    return outcome.reply.code if outcome.reply else 250


def counters(outcomes: Iterable[Outcome]) -> list[str]:
    """Every counter that goes up."""
    return [name for one in outcomes for record in one.records for name in record.counters]
