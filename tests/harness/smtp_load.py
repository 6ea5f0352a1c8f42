"""A courier who brings mail to a real Postfix by SMTP, and tries again what is put off; and where it went."""

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.policy import compat32
from typing import Final

from backstop.batv import Key
from tests.harness.ledger import NO_ANSWER, Entry, Kind, Ledger, Setback
from tests.harness.mail_host import MailHost
from tests.harness.smtp import Delivery, Disconnected, SmtpClient, deliver

MARK: Final = "X-Load"
MOST_PER_CONNECTION: Final = 4
AGAIN_AFTER: Final = 0.3
PATIENCE: Final = 60.0
"""Seconds a message is tried before it is given up: longer than any fault of the tests."""

LOCAL: Final = ("alice@our.test", "bob@our.test", "carol@our.test", "vic@virt.test", "vera@virt.test")
_PARAGRAPH: Final = b"What is said here matters to nobody, and is said to fill some room.\r\n"
_LINES: Final = 72


@dataclass(slots=True)
class _Open:
    client: SmtpClient
    since: float
    left: int


class SmtpCourier:
    """One client with two connections, as a stranger and as one of our own users."""

    def __init__(self, host: MailHost, key: Key, chance: random.Random) -> None:
        self._host = host
        self._key = key
        self._chance = chance
        self._connections: dict[bool, _Open] = {}

    def deliver(self, number: int, kind: Kind) -> Entry:
        """Try until the answer is for good: accepted, or refused by 5xx."""
        began = time.monotonic()
        user = self._chance.choice(LOCAL)
        reverse_path, recipient = self._envelope(kind, number, user)
        content = _content(number, user)
        setbacks: list[Setback] = []
        while True:
            opened, code, text = self._try(kind is Kind.OUTGOING, reverse_path, recipient, content)
            now = time.monotonic()
            if code >= 500 or 200 <= code < 300 or now > began + PATIENCE:
                return Entry(
                    number, kind, opened, began, now, code, text, reverse_path, setbacks=tuple(setbacks)
                )
            setbacks.append(Setback(opened, now, code, text))
            time.sleep(AGAIN_AFTER)

    def close(self) -> None:
        """Close the connections that are open."""
        for each in self._connections.values():
            each.client.close()

    def _try(self, own: bool, reverse_path: str, recipient: str, content: bytes) -> tuple[float, int, str]:
        opened = time.monotonic()
        try:
            held = self._connections.get(own) or self._connect(own=own)
            opened = held.since
            delivery = deliver(held.client, reverse_path, (recipient,), content)
        except (Disconnected, OSError) as error:
            self._drop(own=own)
            return opened, NO_ANSWER, str(error)
        held.left -= 1
        code, text = _last_word(delivery)
        if not held.left or 400 <= code < 500:
            self._drop(own=own)
        return opened, code, text

    def _connect(self, *, own: bool) -> _Open:
        since = time.monotonic()
        ports = self._host.postfix.ports
        client = SmtpClient(ports.submission if own else ports.outside, timeout=PATIENCE)
        held = self._connections[own] = _Open(client, since, self._chance.randint(1, MOST_PER_CONNECTION))
        if own:
            client.ehlo()
        else:
            client.xclient("192.0.2.1")
        return held

    def _drop(self, *, own: bool) -> None:
        if held := self._connections.pop(own, None):
            held.client.close()

    def _envelope(self, kind: Kind, number: int, user: str) -> tuple[str, str]:
        match kind:
            case Kind.ORDINARY:
                return f"a{number}@remote.test", user
            case Kind.OUTGOING:
                return user, "friend@else.test"
            case Kind.GENUINE:
                return "", self._host.sign(user, self._key)
            case Kind.FORGED:
                return "", self._forged(user)
            case Kind.UNTAGGED:
                return "", user

    def _forged(self, user: str) -> str:
        local, _, domain = user.partition("@")
        tag = f"prvs=1{self._chance.randrange(1000):03}{self._chance.randrange(1 << 24):06x}"
        return f"{tag}={user}" if self._host.form == "prvs" else f"{local}+{tag}@{domain}"


def places(host: MailHost) -> dict[int, list[str]]:
    """Where the messages of a load lie, by number: each mailbox or letter once for each time."""
    found: dict[int, list[str]] = defaultdict(list)
    for address, messages in host.postfix.mailboxes().items():
        for message in messages:
            if number := message[MARK]:
                found[int(number)].append(address)
    for number, letter in _letters(host):
        found[number].append(f"the next hop, from {letter}")
    return dict(found)


def badly_tagged(host: MailHost, ledger: Ledger) -> list[str]:
    """Letters at the next hop that carry not exactly one good tag of their sender."""
    senders: Mapping[int, str] = {entry.number: entry.sender for entry in ledger.of(Kind.OUTGOING)}
    return [
        f"message {number}: {fault}"
        for number, reverse_path in _letters(host)
        if (fault := ledger.tag_fault(reverse_path, senders.get(number, "")))
    ]


def _letters(host: MailHost) -> list[tuple[int, str]]:
    parser = BytesHeaderParser(policy=compat32)
    return [
        (int(parser.parsebytes(letter.content)[MARK]), letter.reverse_path)
        for letter in host.next_hop.letters
    ]


def _last_word(delivery: Delivery) -> tuple[int, str]:
    if delivery.mail.code != 250:
        reply = delivery.mail
    elif delivery.recipients[0].code != 250:
        reply = delivery.recipients[0]
    else:
        assert delivery.end is not None
        reply = delivery.end
    return reply.code, reply.text


def _content(number: int, user: str) -> bytes:
    """Five thousand octets, as in the reference load."""
    head = f"From: <{user}>\r\nSubject: message {number}\r\n{MARK}: {number}\r\n\r\n"
    return head.encode() + _PARAGRAPH * _LINES
