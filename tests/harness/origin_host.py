"""A daemon that judges where mail comes from, and the names it asks: some answer, and some do not."""

import base64
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import dns.message
import dns.rcode
import dns.rdatatype
import redis

from backstop import batv
from backstop.address import parse
from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.fake_mta import Client, Message, Session
from tests.harness.name_server import txt
from tests.harness.odd_name_server import Odd, OddNameServer, answer, cut, framed
from tests.harness.redis_server import RedisServer

ID: Final = "mx.our.example"
OUTSIDE: Final = Client(name="mx.remote.example", address="198.51.100.25", helo="mx.pass.test")
INSIDE: Final = Client(name="localhost", address="127.0.0.1")
CHECKS: Final = ("spf", "client_list", "sender_list", "dmarc")
LISTED: Final = "198.51.100.66"
"""A client that the list of clients names."""

NOT_THERE: Final = "redis://127.0.0.1:1/0"

_KEY = batv.Key(1, b"a secret for the tests", batv.KeyState.SIGN, ("*",), 0, 11)
_KEY_FILE = """
[[key]]
number = 1
secret = "a secret for the tests"
state = "sign"
domains = ["*"]
created = 2026-01-01
max_lifetime = "11d"
"""
_SPF = {
    "pass": "v=spf1 ip4:198.51.100.0/24 -all",
    "fail": "v=spf1 -all",
    "softfail": "v=spf1 ~all",
}


def _records(*records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> Odd:
    return Odd(lambda query: [answer(query, *records, rcode=rcode)])


def _large(octets: int) -> str:
    return "@ 60 TXT " + txt("v=spf1 -all " + " ".join(f"x{at}=" + "y" * 195 for at in range(octets // 200)))


def _thousand(query: bytes) -> bytes:
    kind = dns.rdatatype.to_text(dns.message.from_wire(query).question[0].rdtype)
    if kind not in ("A", "TXT"):
        return framed(answer(query))
    value = "127.0.{}.{}" if kind == "A" else '"v=spf1 -all {}.{}"'
    records = [f"@ 60 {kind} {value.format(at // 250, at % 250)}" for at in range(1000)]
    return framed(answer(query, *records))


FAULTS: Final[Mapping[str, Odd]] = {
    "silence": Odd(),
    "servfail": _records(rcode=dns.rcode.SERVFAIL),
    "truncated": Odd(lambda query: [cut(query)]),
    "large": Odd(lambda query: [cut(query)], lambda query: framed(answer(query, _large(50_000)))),
    "loop": _records("@ 60 CNAME b.loop.", "b.loop. 60 CNAME c.loop.", "c.loop. 60 CNAME b.loop."),
    "thousand": Odd(lambda query: [cut(query)], _thousand),
}
"""What a name server may do instead of answering. Nothing comes over TCP after what is truncated."""


class World(OddNameServer):
    """Answers `*.FAULT.test` by FAULTS, `*.pass.test` and its like with SPF and DMARC, and lists.

    `zones` adds to it, by the label before `.test`. With `everything` it answers all names so.
    """

    def __init__(self, zones: Mapping[str, Odd] | None = None) -> None:
        super().__init__({})
        self.zones = {**FAULTS, **(zones or {})}
        self.everything: Odd | None = None

    def _odd(self, query: bytes) -> Odd:
        asked = dns.message.from_wire(query).question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        self.seen.append(name)
        if self.everything is not None:
            return self.everything
        zone = name.removesuffix(".test").rpartition(".")[2]
        return self.zones.get(zone) or _records(*_published(name, zone, dns.rdatatype.to_text(asked.rdtype)))


def _published(name: str, zone: str, kind: str) -> Iterable[str]:
    if kind == "TXT" and zone in _SPF:
        if name.startswith("_dmarc."):
            yield '@ 300 TXT "v=DMARC1; p=reject"'
        elif "_domainkey" not in name:
            yield f'@ 300 TXT "{_SPF[zone]}"'
    if kind == "A" and name == ".".join(reversed(LISTED.split("."))) + ".bl.test":
        yield "@ 300 A 127.0.0.2"


class OriginHost(Daemon):
    """Protects our.example and judges by the names that `world` serves."""

    def __init__(self, world: World, redis: RedisServer | None = None) -> None:
        super().__init__(BACKSTOP)
        self.world = world
        self.redis = redis
        keys = self.folder / "keys.toml"
        keys.write_text(_KEY_FILE)
        keys.chmod(0o400)

    def begin(self, *defaults: str, workers: int = 1, top: tuple[str, ...] = ()) -> None:
        """Start it; `defaults` are lines of the section of that name, `top` such before it."""
        store = self.redis.unix_url if self.redis else NOT_THERE
        self.configure(
            f'socket = "{self.target}"\nworkers = {workers}\nstate_directory = "{self.folder}"\n'
            f'keys = "{self.folder / "keys.toml"}"\nstore = "{store}"\n'
            f'domains = ["our.example"]\nresolver = ["{self.world.address}"]\nauthserv_id = "{ID}"\n'
            + "".join(f"{line}\n" for line in top)
            + '[lists]\n"bl.test" = { of = "client" }\n"dbl.test" = { of = "sender" }\n'
            '[limits]\nbad_tags = "1000/1m"\n'
            '[defaults]\ntag_form = "prvs"\ngrace = "0d"\n' + "".join(f"{line}\n" for line in defaults)
        )
        self.start()

    def outside(self, client: Client = OUTSIDE, **more: Any) -> Session:
        """A stranger's session."""
        return Session(self.target, client, timeout=15, **more)

    def tagged(self, address: str) -> str:
        """The address with a good tag."""
        parsed = parse(address)
        assert parsed is not None
        return batv.sign(parsed, _KEY, batv.day_of(time.time()), 11, batv.TagForm.PRVS)

    def redis_client(self) -> "redis.Redis":
        """An administrator's."""
        assert self.redis is not None
        return self.redis.client()

    def counter(self, name: str, domain: str = "our.example") -> int:
        """What was counted so far."""
        with self.redis_client() as client:
            return int(client.hget(f"backstop:count:{domain}", name) or 0)

    def memory(self) -> int:
        """Octets of the workers that are in memory, together."""
        return sum(map(_resident, self.workers()))


def actions(*checks: str) -> str:
    """A line that switches checks on, beside those of forged bounces."""
    words = [f'{check} = "reject"' for check in ("tag", "unproved", *checks)]
    return f"actions = {{ {', '.join(words)} }}"


ALL: Final = actions(*CHECKS)


def letter(sender: str, *, author: str = "", more: tuple[tuple[str, str], ...] = (), to: str = "") -> Message:
    """A message of a sender, of whose domain the header From and a signature speak too."""
    author = author or sender
    return Message(
        f"<{sender}>",
        (to or "<alice@our.example>",),
        headers=(*more, ("DKIM-Signature", signature(author.rpartition("@")[2])), ("From", f"<{author}>")),
    )


def signature(domain: str) -> str:
    """A field that looks good until its key is asked for."""
    octets = base64.b64encode(bytes(32)).decode()
    return f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s=s1; h=from; bh={octets}; b={octets}"


def by_name(says: Callable[[str, str], Iterable[str]]) -> Odd:
    """Answers with the records (`TYPE VALUE`) that `says` names for a name and a type."""

    def udp(query: bytes) -> list[bytes]:
        asked = dns.message.from_wire(query).question[0]
        name, kind = asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype)
        return [answer(query, *(f"@ 300 {line}" for line in says(name, kind) if line.startswith(f"{kind} ")))]

    return Odd(udp)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
