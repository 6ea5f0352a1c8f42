"""A mail server that shows whole messages to a milter, as Postfix does, for tests.

`Session` leaves out the steps the milter does not want, waits for no answer where none is due, honours SKIP,
sends only the macros the milter listed, and tells the milter of recipients the mail server refused by itself.
Single steps, and frames no mail server would send, are in `milter_wire`; its names are offered here too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.harness.milter_wire import (
    ALL_STEPS,
    Answer,
    BodyReplaced,
    Change,
    Connection,
    Hangup,
    HeaderAdded,
    HeaderChanged,
    HeaderInserted,
    Negotiated,
    ProtocolError,
    Quarantined,
    RecipientAdded,
    RecipientRemoved,
    SenderChanged,
    Stage,
    Step,
    Verdict,
    dial,
    frame,
)

__all__ = [
    "Answer",
    "BodyReplaced",
    "Change",
    "Client",
    "Connection",
    "Hangup",
    "HeaderAdded",
    "HeaderChanged",
    "HeaderInserted",
    "Message",
    "Negotiated",
    "Outcome",
    "ProtocolError",
    "Quarantined",
    "Recipient",
    "RecipientAdded",
    "RecipientRemoved",
    "SenderChanged",
    "Session",
    "Stage",
    "Step",
    "Verdict",
    "dial",
    "frame",
]

BODY_CHUNK = 65535


@dataclass(frozen=True, slots=True)
class Client:
    """Who talks to the mail server; without `helo` it never says HELO.

    Mail that did not come by SMTP has the name `localhost` and port 0 in Postfix, and the address `None` in
    Sendmail.
    """

    name: str = "mx.remote.example"
    address: str | None = "192.0.2.10"
    port: int = 40000
    helo: str = "mx.remote.example"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient as on the wire; `refused` is the mail server's own refusal (`5.1.1 User unknown`)."""

    address: str
    parameters: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One transaction; `macros` are added to those of the session (`{auth_authen}` of a login, say)."""

    reverse_path: str = "<>"
    recipients: Sequence[str | Recipient] = ("<user@example.com>",)
    parameters: tuple[str, ...] = ()
    headers: Sequence[tuple[str, str]] = (("Subject", "test"), ("From", "<sender@remote.example>"))
    body: bytes = b"Hello.\r\n"
    macros: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message: one answer a recipient, then the answer that ended it, and where.

    `stage` is "connect", "mail", "rcpt" (no recipient was left), "data", "header", "eoh", "body" or "eom".
    `final` is ACCEPT where the milter let the message go, whatever word it used.
    """

    recipients: tuple[tuple[str, Answer], ...]
    stage: str
    final: Answer
    changes: tuple[Change, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """The recipients to whom the message goes."""
        if self.final.refused or self.final.verdict is Verdict.DISCARD:
            return ()
        return tuple(address for address, answer in self.recipients if not answer.refused)


ACCEPTED = Answer(Verdict.ACCEPT)

# The macros Postfix 3.7 sends by default
_DEFAULT_MACROS: Mapping[Stage, str] = {
    Stage.CONNECT: "j {daemon_name} {daemon_addr} v _",
    Stage.HELO: "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
    Stage.MAIL: "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}",
    Stage.RCPT: "i {rcpt_addr} {rcpt_host} {rcpt_mailer}",
    Stage.DATA: "i",
    Stage.EOH: "i",
    Stage.EOM: "i",
}


class Session:
    """An SMTP session as Postfix shows it to a milter; any number of messages, one after the other.

    `offered` are the steps that the mail server knows to leave out, or not to wait for.
    """

    def __init__(
        self,
        target: str,
        client: Client = Client(),
        macros: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        offered: int = ALL_STEPS,
    ) -> None:
        self.connection = Connection(target, timeout)
        self.client = client
        self.macros = {
            "j": "mx.example.com",
            "{daemon_name}": "smtpd",
            "{daemon_addr}": "127.0.0.1",
            "{client_addr}": client.address or "",
            "{client_name}": client.name,
            "{client_port}": str(client.port),
            "v": "Postfix 3.7.11",
            "_": f"{client.name} [{client.address}]",
            **(macros or {}),
        }
        self.messages = 0
        try:
            self.negotiated = self.connection.negotiate(steps=offered)
            self.greeting = self._greet()
        except (Hangup, ProtocolError):
            self.connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.quit()

    def _greet(self) -> Answer:
        self._announce(b"C", Stage.CONNECT, self.macros)
        answer = self.connection.connect(self.client.name, self.client.address, self.client.port)
        if answer.refused or answer.verdict is Verdict.ACCEPT:
            return answer
        return self.helo(self.client.helo) if self.client.helo else answer

    def helo(self, name: str) -> Answer:
        """HELO or EHLO; a client may say it again, and its transaction ends."""
        self._announce(b"H", Stage.HELO, self.macros)
        return self.connection.helo(name)

    def send(self, message: Message) -> Outcome:
        """One whole transaction; what the mail server adds by itself (queue id, macros) is added here."""
        if self.greeting.refused or self.greeting.verdict is Verdict.ACCEPT:
            return Outcome((), "connect", self.greeting)
        self.messages += 1
        macros = {**self.macros, **message.macros}
        answer = self._mail(message, macros)
        if answer.refused or _ends(answer):
            return self._finish(message, (), "mail", answer)
        recipients, answer = self._recipients(message, macros)
        if _ends(answer) or all(answer.refused for _, answer in recipients):
            return self._finish(message, recipients, "rcpt", answer)
        macros["i"] = self._queue_id()
        stage, answer = self._content(message, macros)
        return self._finish(message, recipients, stage, answer)

    def probe(self, recipient: str, reverse_path: str = "<>") -> Answer:
        """Another host asks whether the recipient exists: MAIL, RCPT, and no message."""
        message = Message(reverse_path=reverse_path, recipients=(recipient,))
        answer = self._mail(message, self.macros)
        if not answer.refused:
            _, answer = self._recipients(message, dict(self.macros))
        self.connection.abort()
        return answer

    def _queue_id(self) -> str:
        return f"4X{self.messages:09X}z"

    def _mail(self, message: Message, macros: Mapping[str, str]) -> Answer:
        bare = message.reverse_path.strip("<>")
        shown = {
            "{mail_addr}": bare,
            "{mail_mailer}": "smtp",
            "{mail_host}": bare.rpartition("@")[2],
            **macros,
        }
        self._announce(b"M", Stage.MAIL, shown)
        return self.connection.mail(message.reverse_path, *message.parameters)

    def _recipients(
        self, message: Message, macros: dict[str, str]
    ) -> tuple[tuple[tuple[str, Answer], ...], Answer]:
        """One answer each, and the last answer of the milter.

        An ACCEPT or DISCARD holds for the whole message, so the milter sees no recipient after it.
        """
        answers: list[tuple[str, Answer]] = []
        last = Answer(Verdict.UNASKED)
        skipped = False
        for entry in message.recipients:
            recipient = entry if isinstance(entry, Recipient) else Recipient(entry)
            if recipient.refused:
                if self.connection.steps & Step.RCPT_REJECTED and not _ends(last):
                    self._announce(b"R", Stage.RCPT, {**macros, **_refusal(recipient)})
                    self.connection.rcpt(recipient.address, *recipient.parameters)
                # Postfix gives its own refusal, whatever the milter says
                answers.append((recipient.address, Answer(Verdict.REPLY, f"550 {recipient.refused}")))
                continue
            if not skipped and not _ends(last):
                self._announce(b"R", Stage.RCPT, {**_delivery(recipient), **macros})
                last = self.connection.rcpt(recipient.address, *recipient.parameters)
                skipped = last.verdict is Verdict.SKIP
            answers.append((recipient.address, last))
            if not last.refused:  # Postfix opens the queue file after the first good recipient
                macros["i"] = self._queue_id()
        if last.verdict is Verdict.UNASKED and all(answer.refused for _, answer in answers):
            last = answers[-1][1] if answers else Answer(Verdict.REPLY, "554 5.5.1 no valid recipients")
        return tuple(answers), last

    def _content(self, message: Message, macros: Mapping[str, str]) -> tuple[str, Answer]:
        connection = self.connection
        self._announce(b"T", Stage.DATA, macros)
        answer = connection.data()
        if answer.refused or _ends(answer):
            return "data", answer
        for name, value in message.headers:
            if not connection.steps & Step.NO_HEADERS:
                connection.macros(b"L", {"i": macros["i"]})
            answer = connection.header(name, value)
            if answer.refused or _ends(answer):
                return "header", answer
            if answer.verdict is Verdict.SKIP:
                break
        if not connection.steps & Step.NO_EOH:
            self._announce(b"N", Stage.EOH, macros)
        answer = connection.eoh()
        if answer.refused or _ends(answer):
            return "eoh", answer
        for at in range(0, len(message.body), BODY_CHUNK):
            answer = connection.body(message.body[at : at + BODY_CHUNK])
            if answer.refused or _ends(answer):
                return "body", answer
            if answer.verdict is Verdict.SKIP:
                break
        self._announce(b"E", Stage.EOM, macros)
        return "eom", connection.eom()

    def _finish(
        self, message: Message, recipients: tuple[tuple[str, Answer], ...], stage: str, answer: Answer
    ) -> Outcome:
        if not recipients:
            recipients = tuple((_address(entry), answer) for entry in message.recipients)
        changes = tuple(self.connection.changes) if stage == "eom" else ()
        if stage != "eom" and not _ends(answer):
            self.connection.abort()
        final = answer if answer.refused or answer.verdict is Verdict.DISCARD else ACCEPTED
        return Outcome(recipients, stage, final, changes)

    def _announce(self, command: bytes, stage: Stage, values: Mapping[str, str]) -> None:
        if self.connection.steps & _UNWANTED[stage]:
            return
        names = self.connection.wanted_macros.get(stage, _DEFAULT_MACROS[stage]).replace(",", " ").split()
        wanted = [name if len(name) == 1 or name.startswith("{") else f"{{{name}}}" for name in names]
        self.connection.macros(command, {name: values[name] for name in wanted if values.get(name)})


_UNWANTED: Mapping[Stage, Step] = {
    Stage.CONNECT: Step.NO_CONNECT,
    Stage.HELO: Step.NO_HELO,
    Stage.MAIL: Step.NO_MAIL,
    Stage.RCPT: Step.NO_RCPT,
    Stage.DATA: Step.NO_DATA,
    Stage.EOH: Step.NO_EOH,
    Stage.EOM: Step(0),
}


def _ends(answer: Answer) -> bool:
    """The milter wants to hear no more of this message."""
    return answer.verdict in (Verdict.ACCEPT, Verdict.DISCARD, Verdict.SHUTDOWN, Verdict.CONNECTION_FAILURE)


def _address(entry: str | Recipient) -> str:
    return entry.address if isinstance(entry, Recipient) else entry


def _delivery(recipient: Recipient) -> dict[str, str]:
    bare = recipient.address.strip("<>")
    return {"{rcpt_addr}": bare.lower(), "{rcpt_host}": bare.rpartition("@")[2], "{rcpt_mailer}": "local"}


def _refusal(recipient: Recipient) -> dict[str, str]:
    status, _, text = recipient.refused.partition(" ")
    return {
        "{rcpt_addr}": f"Recipient address rejected: {text}",
        "{rcpt_host}": status,
        "{rcpt_mailer}": "error",
    }
