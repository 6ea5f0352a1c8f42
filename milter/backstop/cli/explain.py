"""The command `explain`: a stored message and its envelope through the session's own code."""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backstop.cli import output
from backstop.cli.output import CommandFailed

if TYPE_CHECKING:
    from backstop.adapters.redis_store import Store
    from backstop.cli.explained import Case
    from backstop.cli.sought import Onlooker
    from backstop.cli.store import Toggles
    from backstop.config import Config
    from backstop.report import Report
    from backstop.session import Session
    from backstop.verdict import Change, Outcome

SOMEBODY: Final = "192.0.2.1"
"""A client outside that nobody has: RFC 5737."""

LOCAL: Final = "local"
MAX_OCTETS: Final = 1_000_000
QUEUE_ID: Final = "explain"


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add it to the command's own."""
    explain = commands.add_parser(
        "explain",
        help="what each check says of a stored message, and what would change it",
        description="Judge a stored message as the daemon would now; nothing is written or counted.",
    )
    explain.add_argument("file", metavar="FILE", type=Path, help="the message, as it was stored")
    explain.add_argument("--from", dest="sender", metavar="ADDRESS", required=True, help="'<>' for a bounce")
    explain.add_argument("--to", dest="recipients", metavar="ADDRESS", action="append", required=True)
    explain.add_argument(
        "--client", metavar="IP", default=SOMEBODY, help=f"who brings it ({SOMEBODY}), or {LOCAL}"
    )
    explain.add_argument("--helo", metavar="NAME", default="", help="what the client calls itself")
    explain.add_argument("--login", metavar="USER", default="", help="the name the client logged in with")
    explain.add_argument(
        "--offline", action="store_true", help="by the configuration file, without the store"
    )
    explain.add_argument("--json", action="store_true", help="print one JSON object")
    explain.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from backstop.adapters.slow_sources import asked_here
    from backstop.cli.sought import Onlooker
    from backstop.facts import Role
    from backstop.session import NOT_BY_SMTP, Session

    client = _client(arguments.client)
    headers, body = _message(arguments.file)
    config, toggles, store = _open(arguments)
    troubles: list[str] = []
    asking = asked_here(config.slow_sources, config.slow, troubles.append)
    arguments.closing.callback(asking.close)
    gather = Onlooker(config, store, troubles.append, asking)
    session = Session(config.site, gather, reads=True, verifies=True)
    session.connect(arguments.helo or client, NOT_BY_SMTP if client == LOCAL else client, "")
    session.helo(arguments.helo or client)
    session.mail(arguments.sender, arguments.login)
    story = _Story(config, toggles, gather, session, time.time())
    for recipient in arguments.recipients:
        story.rcpt(recipient)
    story.end(headers, body)
    if arguments.json:
        output.say_json({"client": client, "role": session.transaction.role.name.lower(), **story.as_json()})
        return os.EX_OK
    role = "outgoing mail" if session.transaction.role is Role.OUTGOING else "incoming mail"
    by = " through a relay of ours" if session.transaction.role is Role.RELAY else ""
    output.say(f"from {arguments.sender} by client {client}: {role}{by}")
    story.tell()
    for trouble in dict.fromkeys(troubles):
        output.say(f"trouble: {trouble}")
    return os.EX_OK


def _client(text: str) -> str:
    import ipaddress

    if text == LOCAL:
        return text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise CommandFailed(f'--client: an IP address is wanted, or {LOCAL}, not "{text}"') from None


def _message(path: Path) -> tuple[list[tuple[str, bytes]], bytes]:
    """Its header fields, as the mail server tells them, and its body: an mbox's first line is neither."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_OCTETS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandFailed(f"{path}: cannot be read: {reason}", status=os.EX_NOINPUT) from None
    fields: list[tuple[str, bytes]] = []
    lines = octets.splitlines(keepends=True)
    for number, line in enumerate(lines):
        bare = line.rstrip(b"\r\n")
        if not bare:
            return fields, b"".join(lines[number + 1 :])
        name, colon, value = bare.partition(b":")
        if line.startswith((b" ", b"\t")):
            if fields:
                fields[-1] = fields[-1][0], fields[-1][1] + b"\n" + bare
        elif colon and not (number == 0 and line.startswith(b"From ")):
            fields.append((name.rstrip().decode("ascii", "replace"), value.removeprefix(b" ")))
    return fields, b""


def _open(arguments: argparse.Namespace) -> "tuple[Config, Toggles | None, Store]":
    """The configuration and its store: one that is away, as far as anybody can tell, for `--offline`."""
    from backstop.cli.store import open_store

    config, toggles = open_store(arguments)
    if arguments.offline:
        toggles.close()
        return config, None, toggles.store
    if not toggles.probe():
        raise CommandFailed(
            f"the store {toggles} cannot be reached: {toggles.store.reason};"
            " --offline judges by the file alone",
            status=os.EX_UNAVAILABLE,
        )
    return config, toggles, toggles.store


class _Story:
    """One message, recipient by recipient, and how it ends."""

    def __init__(
        self, config: "Config", toggles: "Toggles | None", gather: "Onlooker", session: "Session", now: float
    ) -> None:
        self._config = config
        self._toggles = toggles
        self._gather = gather
        self._session = session
        self._now = now
        self._recipients: list[tuple[str, Case | None, Outcome]] = []
        self._end: tuple[str, Outcome] | None = None
        self._report: Report | None = None

    def rcpt(self, path: str) -> None:
        """One more recipient, unless the mail server would know better."""
        outcome = self._session.rcpt(path, "", self._now, QUEUE_ID)
        self._recipients.append((path, self._case(path), outcome))

    def end(self, headers: list[tuple[str, bytes]], body: bytes) -> None:
        """DATA, and where that is not the last word the message and its end."""
        self._send(headers, body)
        if not self._is_outgoing:
            self._report = self._read(headers, body)
        self._judge_again()

    def _send(self, headers: list[tuple[str, bytes]], body: bytes) -> None:
        from backstop.verdict import Verb

        if all(outcome.verb is Verb.REFUSE for _, _, outcome in self._recipients):
            return
        outcome = self._session.data(QUEUE_ID, self._now)
        stage = "at DATA"
        if outcome.verb is Verb.CONTINUE:
            for name, value in headers:
                self._session.header(name, value)
            self._session.body(body)
            outcome = self._session.end_of_message(QUEUE_ID, self._now)
            stage = "at the end of the message"
        self._end = stage, outcome

    def _read(self, headers: list[tuple[str, bytes]], body: bytes) -> "Report":
        """What the message is, also where the session had no reason to ask."""
        from backstop.report import read
        from backstop.session.content import Content

        content = Content()
        for name, value in headers:
            content.header(name, value)
        content.body(body)
        sender = self._session.transaction.reverse_path
        return read(content.message(), sender.path if sender else None)

    def _judge_again(self) -> None:
        """Give each recipient what the session knew of it in the end."""
        from backstop.cli.sought import kinds_sought, why_unread
        from backstop.verdict import Verb

        accepted = {one.facts.recipient: one.facts for one in self._session.transaction.accepted}
        told: list[tuple[str, Case | None, Outcome]] = []
        for path, case, outcome in self._recipients:
            known = case
            if case is not None:
                is_refused = outcome.verb is Verb.REFUSE
                facts = case.facts if is_refused else accepted.get(case.facts.recipient, case.facts)
                known = replace(case, facts=facts)
                unread = why_unread(
                    facts, case.settings, is_refused=is_refused, would_read=known.awaits_proof
                )
                sought = kinds_sought(facts, case.settings, self._gather, unread, self._now)
                known = replace(known, sought=tuple(sought), unread=unread)
            told.append((path, known, outcome))
        self._recipients = told

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        from backstop.cli.explained import as_json
        from backstop.cli.sought import report_as_json

        return {
            "message": None if self._report is None else report_as_json(self._report),
            "recipients": [
                {
                    "to": path,
                    "at_rcpt": "taken" if outcome.reply is None else str(outcome.reply),
                    "judged": None if case is None else as_json(case),
                }
                for path, case, outcome in self._recipients
            ],
            "end": self._end_as_json(),
        }

    def _end_as_json(self) -> dict[str, Any] | None:
        if self._end is None:
            return None
        stage, outcome = self._end
        return {
            "stage": stage,
            "verb": outcome.verb.value,
            "reply": None if outcome.reply is None else str(outcome.reply),
            "done": list(self._ends()),
        }

    def tell(self) -> None:
        """For people."""
        from backstop.cli.sought import report_lines

        for line in () if self._report is None else report_lines(self._report):
            output.say(f"  {line}")
        for path, case, outcome in self._recipients:
            output.say()
            output.say(f"to {path}")
            if case is not None:
                _tell_case(case)
            elif not self._is_outgoing:
                output.say("  not judged: its domain is not protected here, or this is no address")
            if outcome.reply is not None:
                output.say(f"  at RCPT: {outcome.reply}")
        output.say()
        if self._end is None:
            output.say("in the end: no recipient is left, so no message is taken")
        for line in self._ends():
            output.say(f"in the end, {self._end[0] if self._end else ''}: {line}")
        for _, case, _ in self._recipients:
            alternatives = [] if case is None else case.alternatives()
            for number, one in enumerate(alternatives):
                if number == 0:
                    output.say()
                    output.say(f"what would change it for {case.facts.base if case else ''}")
                output.say(f"  {one.change}")
                output.say(f"      {one.decision}")

    @property
    def _is_outgoing(self) -> bool:
        from backstop.facts import Role

        return self._session.transaction.role is Role.OUTGOING

    def _ends(self) -> Iterator[str]:
        """What is done in the end, one line each."""
        from backstop.verdict import Verb

        if self._end is None:
            return
        outcome = self._end[1]
        if outcome.reply is not None:
            yield str(outcome.reply)
            return
        if outcome.verb is Verb.DISCARD:
            yield "accepted and dropped"
            return
        yield from (_change_text(change) for change in outcome.changes)
        if self._is_outgoing and not any("reverse-path" in _change_text(one) for one in outcome.changes):
            reasons = [record.reason for record in outcome.records if record.reason]
            yield f"sent without a tag: {_WHY_UNTAGGED.get(reasons[0] if reasons else '', 'not ours to tag')}"
        elif not outcome.changes:
            yield "accepted, nothing is changed"

    def _case(self, path: str) -> "Case | None":
        from backstop.address import parse
        from backstop.batv import day_of
        from backstop.cli import effective
        from backstop.cli.explained import Case
        from backstop.facts import Role
        from backstop.session import incoming, origin

        transaction = self._session.transaction
        recipient = parse(path)
        if transaction.role not in (Role.INCOMING, Role.RELAY) or recipient is None or not recipient.domain:
            return None
        ring, domain = self._config.ring, recipient.domain
        asked = incoming.ask(transaction, ring, self._gather, recipient, self._now)
        if asked is None:
            return None
        question, answer = asked
        facts = incoming.facts_of(transaction, ring, self._gather, question, answer, day_of(self._now))
        # What the session has asked, and nothing more.
        needs = origin.wanted(facts, answer.known.settings) & transaction.asked
        facts = origin.ask(transaction, self._gather, facts, needs, self._now)
        if self._toggles is None:
            found = effective.by_file(self._config, domain)
        else:
            found = effective.read(self._config, self._toggles, domain)
        return Case(
            facts, answer.known.settings, answer.block, found, _grace_end(self._config, answer, domain)
        )


def _grace_end(config: "Config", answer: Any, domain: str) -> str:
    from backstop import grace
    from backstop.cli.times import date_text

    found = grace.of_domain(config.ring, domain, answer.known.settings)
    return "" if found is None else date_text(found.end)


def _tell_case(case: "Case") -> None:
    facts = case.facts
    output.say(f"  mailbox {facts.base}, tag: {facts.tag.value}")
    if case.block is not None:
        output.say(f"  block of {case.block.name or 'all domains'}: {case.block.action.label}")
    if facts.in_grace:
        output.say(f"  in grace until {case.grace_until}" if case.grace_until else "  no key signs")
    output.say()
    output.say(f"  proof of the original, sought by the setting proof ({case.effective.origin('proof')}):")
    output.table(("proof", "result", "where"), [row for one in case.sought for row in one.rows()])
    output.say()
    output.table(("check", "finding", "action", "from", "why"), [one.as_row() for one in case.checks()])


def _change_text(change: "Change") -> str:
    from backstop.verdict import (
        AddHeader,
        AddRecipient,
        ChangeSender,
        Hold,
        InsertHeader,
        RemoveHeader,
        ReplaceRecipient,
    )

    match change:
        case AddHeader(name, value) | InsertHeader(name, value):
            return f"accepted, with the header {name}: {value}"
        case RemoveHeader(name, index):
            return f"the forged header {name} (number {index}) is removed"
        case ChangeSender(path):
            return f"the reverse-path becomes {path}"
        case ReplaceRecipient(old, new, parameters):
            return f"delivered to {new} in place of {old}{f' with {parameters}' if parameters else ''}"
        case AddRecipient(path):
            return f"a copy goes to {path}"
        case Hold(reason):
            return f"held in the mail server's queue: {reason}"


_WHY_UNTAGGED: Final = {
    "null-sender": "it has the null sender",
    "not-ours": "the sender's domain is not protected here",
    "tagged-before": "the reverse-path carries a tag already",
    "exempt-sender": "the sender is in exempt_senders",
    "exempt-destination": "one of its recipients is in exempt_destinations",
    "internal": "it stays among our own domains (tag_internal)",
    "untaggable": "no tag fits into this address",
    "no-key": "no key signs for the sender's domain: backstop key new",
    "forward": "its headers show a forward of somebody else's mail",
}
