"""One SMTP conversation without the wire: from envelope and headers to outcomes.

A `Session` lives as long as a milter connection; a transaction begins at MAIL and whatever was known
before is forgotten there. Time, and everything that has to be asked outside, is handed in.
"""

from typing import Final

from backstop.address import client_network, is_in, parse
from backstop.authserv import claims
from backstop.facts import Client, Role
from backstop.session import incoming, outgoing
from backstop.session.incoming import MARK, ONE_AT_A_TIME
from backstop.session.origin import AUTHENTICATION_RESULTS, note_results
from backstop.session.outgoing import Untagged
from backstop.session.questions import (
    Answer,
    Evidence,
    Gather,
    Incoming,
    Known,
    Origin,
    Origins,
    Outgoing,
    Proofs,
    Sending,
    Signed,
    Site,
)
from backstop.session.transaction import Accepted, Transaction
from backstop.verdict import ACCEPT, CONTINUE, Outcome

__all__ = [
    "FORWARD_MARKS",
    "KEPT_OF_OUTGOING",
    "MARK",
    "NOT_BY_SMTP",
    "ONE_AT_A_TIME",
    "RESULTS",
    "Accepted",
    "Answer",
    "Evidence",
    "Gather",
    "Incoming",
    "Known",
    "Origin",
    "Origins",
    "Outgoing",
    "Proofs",
    "Sending",
    "Session",
    "Signed",
    "Site",
    "Transaction",
    "Untagged",
]

NOT_BY_SMTP: Final = ""
"""The client address of mail that came by pickup or from the server itself."""

KEPT_OF_OUTGOING: Final = outgoing.KEPT
"""Headers of outgoing mail whose values are remembered."""

FORWARD_MARKS: Final = frozenset({"delivered-to", "x-original-to", "x-sieve"})
"""Headers that only a delivered message has: what carries them is sent on, not written here."""


RESULTS: Final = AUTHENTICATION_RESULTS.lower()
"""Results of authentication, of which ours may be forged: RFC 8601."""


class Session:
    """One milter connection: a client, and one transaction after another.

    `reads` says that the mail server shows bodies on this connection, `verifies` that it shows headers just
    as they came, and the HELO name: without them what speaks for an author would be missed.
    """

    def __init__(self, site: Site, gather: Gather, *, reads: bool = False, verifies: bool = False) -> None:
        self._site = site
        self._reads = reads
        self._verifies = reads and verifies
        self._gather = gather
        self._client = Client("", NOT_BY_SMTP, "", Role.OUTGOING)
        self._helo = ""
        self._transaction = Transaction(self._client, None, "")

    @property
    def client(self) -> Client:
        """Who brings the mail."""
        return self._client

    @property
    def transaction(self) -> Transaction:
        """The message under way."""
        return self._transaction

    def connect(self, name: str, address: str, daemon: str) -> None:
        """A client has connected; `address` is NOT_BY_SMTP for mail from the server's own side."""
        site = self._site
        if daemon in site.reinjecting_daemons:
            role = Role.REINJECTED
        elif daemon in site.originating_daemons or address == NOT_BY_SMTP:
            role = Role.OUTGOING
        elif is_in(address, site.relays):
            role = Role.RELAY
        elif is_in(address, site.internal_networks):
            role = Role.OUTGOING
        else:
            role = Role.INCOMING
        self._client = Client(name, address, client_network(address), role)
        self._helo = ""
        self.abort()

    def helo(self, name: str) -> None:
        """HELO or EHLO: what the client calls itself, until it says so again."""
        self._helo = name

    def mail(self, path: str, login: str) -> None:
        """MAIL: a new transaction; `login` is the authenticated name, empty without one."""
        # Whose mail it is stands fast before the path is read: a fault there must not make it a stranger's.
        transaction = self._transaction = Transaction(
            self._client, None, login, helo=self._helo, readable=self._reads, verifiable=self._verifies
        )
        transaction.reverse_path = parse(path)
        transaction.shows_results = bool(self._site.authserv_id) and transaction.role is Role.INCOMING

    def abort(self) -> None:
        """RSET, or the end of a transaction that came no further."""
        self._transaction = Transaction(self._client, None, "")

    def rcpt(self, path: str, parameters: str, now: float, queue_id: str = "") -> Outcome:
        """RCPT of a recipient that the mail server takes; never the last word on the message."""
        transaction = self._transaction
        if transaction.role is Role.REINJECTED:
            return CONTINUE
        if transaction.role is Role.OUTGOING:
            return outgoing.rcpt(transaction, self._site.ring, self._gather, path, parameters, now)
        return incoming.rcpt(transaction, self._site.ring, self._gather, path, parameters, now, queue_id)

    def refused_rcpt(self, path: str, *, unknown: bool) -> Outcome:
        """RCPT of a recipient that the mail server refused itself: counted, and never touched again."""
        if not unknown or self._transaction.role not in (Role.INCOMING, Role.RELAY):
            return CONTINUE
        return incoming.refused_rcpt(self._transaction, self._gather, path)

    def data(self, queue_id: str, now: float) -> Outcome:
        """DATA: the last word on everything that needs neither a change nor more reading."""
        transaction = self._transaction
        if transaction.role is Role.REINJECTED:
            return ACCEPT
        if transaction.role is Role.OUTGOING:
            return outgoing.data(transaction, self._site.ring, queue_id, now)
        return incoming.data(transaction, queue_id)

    def header(self, name: str, value: bytes, gap: bytes = b" ") -> None:
        """A header of the message, its value as it came; `gap` stands between colon and value."""
        transaction = self._transaction
        if transaction.content is not None:
            transaction.content.header(name, value, gap)
        folded = name.lower()
        if folded in FORWARD_MARKS:
            transaction.forwarded = True
        elif folded == MARK.lower():
            transaction.marks += 1
        elif folded == RESULTS:
            if transaction.shows_results:
                note_results(transaction, is_ours=claims(value, self._site.authserv_id))
        elif transaction.remembers:
            outgoing.header(transaction, folded, value)

    def body(self, chunk: bytes) -> bool:
        """A part of the body; whether more of it is wanted."""
        content = self._transaction.content
        return content is not None and content.body(chunk)

    def end_of_message(self, queue_id: str, now: float) -> Outcome:
        """The end of a message that was not answered at DATA: its changes."""
        transaction = self._transaction
        if transaction.role is Role.REINJECTED:  # a mark it bears may be our own
            return ACCEPT
        if transaction.role is Role.OUTGOING:
            return outgoing.end_of_message(transaction, self._site.ring, self._gather, queue_id, now)
        return incoming.end_of_message(transaction, self._gather, self._site.authserv_id, queue_id, now)
