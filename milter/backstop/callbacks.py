"""pymilter's callbacks: nothing but translation between the wire and a `Session`.

Plain functions on pymilter's C module; its class layer costs a third more for each callback. Every
callback ends here whatever happens: a fault of ours is logged, and answered as DESIGN section 10 says.
"""

import time
import traceback
from typing import Any, Final

import milter

from backstop.adapters.asker_client import NOBODY, Asking
from backstop.adapters.redis_store import Store
from backstop.config import Config
from backstop.facts import Role
from backstop.gather import Gather
from backstop.gather.watch import GraceWatch
from backstop.journal import Journal
from backstop.reply import Reply
from backstop.session import FORWARD_MARKS, KEPT_OF_OUTGOING, MARK, NOT_BY_SMTP, RESULTS, Session
from backstop.verdict import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeSender,
    Hold,
    InsertHeader,
    Outcome,
    RemoveHeader,
    ReplaceRecipient,
    Verb,
)

NAME: Final = "backstop"

ACTIONS: Final = (
    milter.ADDHDRS
    | milter.CHGHDRS
    | milter.CHGFROM
    | milter.ADDRCPT
    | milter.ADDRCPT_PAR
    | milter.DELRCPT
    | milter.QUARANTINE
    | milter.SETSYMLIST
)
"""Changes that we may make."""

STEPS: Final = (
    milter.P_RCPT_REJ
    | milter.P_NOEOH
    | milter.P_NOUNKNOWN
    | milter.P_NR_CONN
    | milter.P_NR_MAIL
    | milter.P_NR_HDR
)
"""What the mail server may leave out, and where it need not wait for us."""

WITHOUT_HELO: Final = milter.P_NOHELO
WITH_HELO: Final = milter.P_NR_HELO
WITH_SPACES: Final = milter.P_HDR_LEADSPC
"""Header values with the space before them: a signature may cover it."""

WITHOUT_BODY: Final = STEPS | milter.P_NOBODY
WITH_BODY: Final = STEPS | milter.P_SKIP
"""The body with a reply, by which the rest of it can be declined."""

MACROS: Final = (
    (milter.M_CONNECT, "{daemon_name}"),
    (milter.M_ENVFROM, "{auth_authen} {mail_addr}"),
    (milter.M_ENVRCPT, "i {rcpt_mailer} {rcpt_host}"),
    (milter.M_DATA, "i"),
    (milter.M_EOM, "i"),
)
"""All that is read of what the mail server tells besides the envelope."""

NOREPLY: Final = int(milter.NOREPLY)
"""Where the mail server waits all the same, libmilter says "continue" for us."""

HEADERS: Final = FORWARD_MARKS | KEPT_OF_OUTGOING | {MARK.lower(), RESULTS}
"""The headers that mean anything where a message is not read, in lower case."""

UNKNOWN_USER: Final = "5.1.1"
"""The status with which a mail server refuses an unknown recipient; others speak of policy or relaying."""

BUG: Final = Reply(451, "4.3.0", "Internal trouble, try again later")


class Connection:
    """What belongs to one milter connection."""

    __slots__ = ("broken", "enough", "half_changed", "session", "spaces", "unmet")

    def __init__(self, session: Session, enough: int = int(milter.CONTINUE)) -> None:
        self.session = session
        self.broken = False
        """A callback failed in the transaction under way."""
        self.half_changed = False
        """Changes of the message were begun: without the rest of them it must not be accepted."""
        self.unmet = True
        """Nobody knows who the client is: the callback of the connection failed, or has not come."""
        self.enough = enough
        """What declines the rest of a body."""
        self.spaces = False
        """Header values come and go with the space before them."""


class Service:
    """One worker's side of the milter: made before the fork, started after it.

    `asking` is asked for the recipient sources that take their time.
    """

    def __init__(self, config: Config, asking: Asking = NOBODY) -> None:
        self._config = config
        self._asking = asking
        self._made = time.time()
        self._store: Store
        self._gather: Gather
        self._journal: Journal
        self._watch: GraceWatch

    def install(self) -> None:
        """Set pymilter's callbacks for this process and register the milter."""
        milter.set_flags(ACTIONS)
        # What pymilter itself raises at, before a callback of ours: octets that are no UTF-8 in a HELO name
        # or in the name of a header field. Neither is a reason to stop mail; of a client's name see `unmet`.
        milter.set_exception_policy(milter.CONTINUE)
        milter.set_connect_callback(self._connect)
        milter.set_helo_callback(self._helo)
        milter.set_envfrom_callback(self._mail)
        milter.set_envrcpt_callback(self._rcpt)
        milter.set_header_callback(self._header)
        milter.set_body_callback(self._body)
        milter.set_eom_callback(self._end_of_message)
        milter.set_close_callback(self._close)
        milter.register(NAME, data=self._data, negotiate=self._negotiate)

    def start(self) -> None:
        """Open the store and start what runs beside the callbacks; after the fork."""
        config = self._config
        self._store = Store(config.store)
        self._journal = Journal(
            self._store,
            config.limits,
            config.log_addresses,
            config.ring.memory_secret,
            memory_max=config.memory_max,
        )
        self._gather = Gather(config, self._store, self._journal.trouble, self._asking)
        self._watch = GraceWatch(config, self._store, self._journal.trouble, self._made)
        self._journal.start()
        self._watch.start()

    def finish(self) -> None:
        """Write what waits to be written; for at most a second."""
        self._watch.stop()
        self._journal.stop(time.monotonic() + 1.0)
        self._store.close()

    # -- callbacks --------------------------------------------------------------------------------------

    def _negotiate(self, ctx: Any, options: list[int]) -> int:
        options[0] &= ACTIONS
        gather = self._gather
        reads, asks_helo, reads_signatures = gather.reads, gather.asks_helo, gather.reads_signatures
        wanted = (WITH_BODY if reads else WITHOUT_BODY) | (WITH_HELO if asks_helo else WITHOUT_HELO)
        if reads_signatures:
            wanted |= WITH_SPACES
        options[1] &= wanted
        options[2] = options[3] = 0
        if options[0] & milter.SETSYMLIST:
            for stage, names in MACROS:
                ctx.setsymlist(stage, names)
        skips = bool(options[1] & milter.P_SKIP)
        connection = self._open_connection(
            ctx,
            reads=reads,
            verifies=asks_helo and reads_signatures,
            enough=int(milter.SKIP if skips else milter.CONTINUE),
        )
        connection.spaces = bool(options[1] & WITH_SPACES)
        return int(milter.CONTINUE)

    def _open_connection(
        self,
        ctx: Any,
        *,
        reads: bool = False,
        verifies: bool = False,
        enough: int = int(milter.CONTINUE),
    ) -> Connection:
        session = Session(self._config.site, self._gather, reads=reads, verifies=verifies)
        connection = Connection(session, enough)
        ctx.setpriv(connection)
        return connection

    def _connection(self, ctx: Any) -> Connection:
        """What was opened at the negotiation, which libmilter lets a peer leave out; no mail server does."""
        return ctx.getpriv() or self._open_connection(ctx)

    def _connect(self, ctx: Any, host: str, _family: int, address: Any) -> int:
        connection = self._connection(ctx)
        try:
            daemon = ctx.getsymval("{daemon_name}") or ""
            connection.session.connect(host, _client_address(address), daemon)
            connection.unmet = False
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "connect", "")
        return NOREPLY

    def _helo(self, ctx: Any, name: str) -> int:
        connection = self._connection(ctx)
        try:
            connection.session.helo(name)
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "helo", "")
        return NOREPLY

    def _mail(self, ctx: Any, path: bytes, *_parameters: bytes) -> int:
        connection = self._connection(ctx)
        try:
            connection.broken = connection.unmet
            connection.half_changed = False
            sender = _decoded(path)
            if "@" not in sender and len(sender) > len("<>"):
                sender = _with_domain(sender, _macro(ctx, "{mail_addr}"))
            connection.session.mail(sender, _macro(ctx, "{auth_authen}", "?"))
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "mail", "")
        return NOREPLY

    def _rcpt(self, ctx: Any, path: bytes, *parameters: bytes) -> int:
        connection = self._connection(ctx)
        if connection.broken:
            return self._answer_to_bug(ctx, connection)
        now = time.time()
        try:
            if ctx.getsymval("{rcpt_mailer}") == "error":
                unknown = ctx.getsymval("{rcpt_host}") == UNKNOWN_USER
                outcome = connection.session.refused_rcpt(_decoded(path), unknown=unknown)
                self._journal.take(outcome.counts, outcome.records, now)
                return int(milter.CONTINUE)
            joined = _decoded(b" ".join(parameters))
            queue_id = ctx.getsymval("i") or ""
            return self._carry_out(
                ctx, connection, connection.session.rcpt(_decoded(path), joined, now, queue_id), now
            )
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "rcpt", ctx.getsymval("i") or "")
            return self._answer_to_bug(ctx, connection)

    def _data(self, ctx: Any) -> int:
        connection = self._connection(ctx)
        if connection.broken:
            return self._answer_to_bug(ctx, connection)
        now = time.time()
        queue_id = ctx.getsymval("i") or ""
        try:
            return self._carry_out(ctx, connection, connection.session.data(queue_id, now), now)
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "data", queue_id)
            return self._answer_to_bug(ctx, connection)

    def _header(self, ctx: Any, name: str, value: bytes) -> int:
        connection = self._connection(ctx)
        session = connection.session
        if session.transaction.content is None and name.lower() not in HEADERS:
            return NOREPLY
        try:
            if connection.spaces:
                blank = value[:1] if value[:1] in (b" ", b"\t") else b""
                session.header(name, value[len(blank) :], blank)
            else:
                session.header(name, value)
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "header", ctx.getsymval("i") or "")
        return NOREPLY

    def _body(self, ctx: Any, chunk: bytes) -> int:
        connection = self._connection(ctx)
        try:
            if connection.session.body(chunk):
                return int(milter.CONTINUE)
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "body", ctx.getsymval("i") or "")
        return connection.enough

    def _end_of_message(self, ctx: Any) -> int:
        connection = self._connection(ctx)
        if connection.broken:
            return self._answer_to_bug(ctx, connection)
        now = time.time()
        queue_id = ctx.getsymval("i") or ""
        try:
            outcome = connection.session.end_of_message(queue_id, now)
            if outcome.changes:
                connection.half_changed = True
            return self._carry_out(ctx, connection, outcome, now)
        except BaseException:  # noqa: BLE001 - the one guard, see the module's text
            self._note_bug(connection, "end of message", queue_id)
            return self._answer_to_bug(ctx, connection)

    def _close(self, ctx: Any) -> int:
        ctx.setpriv(None)
        return int(milter.CONTINUE)

    # -- answers ----------------------------------------------------------------------------------------

    def _carry_out(self, ctx: Any, connection: Connection, outcome: Outcome, now: float) -> int:
        for change in outcome.changes:
            _make(ctx, change, " " if connection.spaces else "")
        if outcome.counts or outcome.records:
            self._journal.take(outcome.counts, outcome.records, now)
        if outcome.sent is not None:
            self._journal.remember(outcome.sent, now)
        if outcome.reply is not None:
            return _refuse(ctx, outcome.reply)
        return _ANSWERS[outcome.verb]

    def _note_bug(self, connection: Connection, place: str, queue_id: str) -> None:
        connection.broken = True
        self._journal.bug(place, queue_id, traceback.format_exc(limit=-8))

    def _answer_to_bug(self, ctx: Any, connection: Connection) -> int:
        """Outgoing mail and bounces under a block come again later; all else goes on without us.

        Not in two pieces, though: of a recipient who was to be replaced, one half may be done.
        """
        transaction = connection.session.transaction
        blocked = transaction.is_bounce and self._gather.has_blocks(time.time())
        if transaction.role is Role.OUTGOING or blocked or connection.half_changed:
            return _refuse(ctx, BUG)
        return int(milter.CONTINUE)


_ANSWERS: Final = {
    Verb.CONTINUE: int(milter.CONTINUE),
    Verb.ACCEPT: int(milter.ACCEPT),
    Verb.DISCARD: int(milter.DISCARD),
}


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _macro(ctx: Any, name: str, unreadable: str = "") -> str:
    """What a macro says; `unreadable` for octets that are no UTF-8, at which pymilter raises."""
    try:
        return ctx.getsymval(name) or ""
    except UnicodeDecodeError:
        return unreadable


def _with_domain(path: str, resolved: str) -> str:
    """A reverse-path without a domain, as devices send it, with the one that the mail server gives it."""
    at, domain = resolved.rpartition("@")[1:]
    return f"<{path.removeprefix('<').removesuffix('>')}{at}{domain}>" if at else path


def _client_address(address: Any) -> str:
    """The client's IP address; NOT_BY_SMTP for what pickup and the mail server itself bring.

    Postfix names 127.0.0.1 and port 0 there. Port 0 alone means nothing: XCLIENT makes it so for others.
    """
    if not isinstance(address, tuple):
        return NOT_BY_SMTP
    host, port = str(address[0]), address[1]
    return NOT_BY_SMTP if port == 0 and (host == "::1" or host.startswith("127.")) else host


def _refuse(ctx: Any, reply: Reply) -> int:
    ctx.setreply(str(reply.code), reply.status, reply.milter_text)
    return int(milter.REJECT if reply.is_permanent else milter.TEMPFAIL)


def _make(ctx: Any, change: Change, space: str) -> None:
    """Carry a change out; `space` stands before the value of a header where the mail server adds none."""
    match change:
        case ChangeSender(path):
            ctx.chgfrom(f"<{path}>")
        case AddHeader(name, value):
            ctx.addheader(name, space + value)
        case InsertHeader(name, value):
            ctx.addheader(name, space + value, 0)
        case RemoveHeader(name, index):
            ctx.chgheader(name, index, None)
        case ReplaceRecipient(old, new, parameters):
            ctx.delrcpt(old)
            ctx.addrcpt(f"<{new}>", *([parameters] if parameters else []))
        case AddRecipient(path):
            ctx.addrcpt(f"<{path}>")
        case Hold(reason):
            ctx.quarantine(reason)
