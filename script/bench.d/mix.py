"""The mail that is measured with: who sends what to whom, and which verdict is right.

The mixed load is that of a server under a flood: two of five transactions are forged bounces, half of them
with a forged tag and half without any. Two writers put the same mail into the line format of load.c and into
the JSON of milterload.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from backstop.address import parse
from backstop.batv import Key, KeyState, TagForm, day_of, sign

DOMAIN: Final = "example.com"
USERS: Final = 256
BODY_OCTETS: Final = 2048
LIFETIME_DAYS: Final = 11
KEY_NUMBER: Final = 1
KEY_AGE_DAYS: Final = 60
"""Old enough that a missing tag counts at once: no grace."""

OUTSIDE: Final = ("mx.remote.example", "198.18.{c}", "mx.remote.example")
"""Backscatter comes from many hosts: 1000 addresses in turn, of the measurers' network (RFC 2544)."""

INSIDE: Final = ("laptop.example.com", "198.19.{c}", "laptop.example.com")
"""A user of ours, on the way and logged in."""

NULL_SENDER: Final = "<>"

_ORDINARY: Final = (
    ("Received", "from a.remote.example (a.remote.example [192.0.2.77]) by mx.remote.example id 4X{n}z"),
    ("Received", "from desk (unknown [192.0.2.78]) by a.remote.example with ESMTPSA id {n}"),
    (
        "DKIM-Signature",
        "v=1; a=rsa-sha256; c=relaxed/simple; d=remote.example; s=s1; t=1793700000;"
        " bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; h=From:To:Subject:Date; b=" + "A" * 344,
    ),
    ("From", "Some Body <some.body@remote.example>"),
    ("To", "user@example.com"),
    ("Subject", "The minutes of our meeting, number {n}"),
    ("Date", "Tue, 3 Nov 2026 10:00:00 +0000"),
    ("Message-ID", "<minutes.{n}@remote.example>"),
    ("MIME-Version", "1.0"),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Content-Transfer-Encoding", "7bit"),
    ("User-Agent", "Some Mailer 1.0"),
)
_BOUNCE: Final = (
    ("Received", "by mx.remote.example (Postfix) id 4X{n}z; Tue, 3 Nov 2026 10:00:00 +0000 (UTC)"),
    ("Date", "Tue, 3 Nov 2026 10:00:00 +0000"),
    ("From", "Mail Delivery System <MAILER-DAEMON@remote.example>"),
    ("Subject", "Undelivered Mail Returned to Sender"),
    ("To", "user@example.com"),
    ("Auto-Submitted", "auto-replied"),
    ("MIME-Version", "1.0"),
    ("Content-Type", 'multipart/report; report-type=delivery-status; boundary="4X{n}z.1/mx.remote.example"'),
    ("Message-Id", "<bounce.{n}@remote.example>"),
)


class Judge(Enum):
    """Whose verdicts are expected."""

    EMPTY = "empty"
    """A milter that lets everything through."""
    BACKSTOP = "backstop"
    """tag = reject, unproved = reject, proof = tag, tag_form = prvs, strip = mta."""
    READER = "reader"
    """The same with every kind of proof: what an untagged bounce returns is read before it is refused."""
    ANY = "any"
    """Another milter: it is timed, not examined."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of transaction; reverse-paths and recipients are used in turn."""

    name: str
    weight: int
    client: tuple[str, str, str]
    reverse_paths: Sequence[str]
    recipients: Sequence[str]
    headers: Sequence[tuple[str, str]]
    verdicts: Sequence[str]
    """What Backstop has to answer; any of them is right."""
    login: str = ""
    is_refused: bool = False
    """The mail server has no such recipient and says so itself."""


def mixed_load(secret: bytes, now: float) -> list[Scenario]:
    """The load of DESIGN section 9: weights add up to 100."""
    users = [f"user{number}@{DOMAIN}" for number in range(USERS)]
    ours = [f"<{user}>" for user in users]
    theirs = [f"<peer{number}@remote.example>" for number in range(USERS)]
    good = [f"<{_tagged(user, secret, now)}>" for user in users]
    forged = [_with_wrong_hash(path) for path in good]
    unknown = [f"<nobody{{n}}@{DOMAIN}>"]
    null = [NULL_SENDER]
    return [
        Scenario("forged-tag", 20, OUTSIDE, null, forged, _BOUNCE, ["rcpt:550"]),
        Scenario("untagged", 20, OUTSIDE, null, ours, _BOUNCE, ["data:550"]),
        Scenario("ordinary", 30, OUTSIDE, theirs, ours, _ORDINARY, ["data:accept"]),
        Scenario("outgoing", 20, INSIDE, ours, theirs, _ORDINARY[3:], ["eom:accept+chgfrom"], login="user"),
        Scenario("good-bounce", 5, OUTSIDE, null, good, _BOUNCE, ["data:accept"]),
        Scenario("unknown", 5, OUTSIDE, null, unknown, (), ["mta", "mta+rcpt:continue"], is_refused=True),
    ]


def only(scenarios: Sequence[Scenario], name: str) -> list[Scenario]:
    """One scenario by itself; ValueError when there is none of that name."""
    chosen = [replace(scenario, weight=1) for scenario in scenarios if scenario.name == name]
    if not chosen:
        raise ValueError(f"no scenario {name}; there are " + ", ".join(each.name for each in scenarios))
    return chosen


def expected(scenario: Scenario, judge: Judge) -> Sequence[str]:
    """The right verdicts; none when every verdict will do."""
    if judge is Judge.ANY:
        return ()
    if judge is Judge.READER and scenario.name == "untagged":
        return ("eom:550",)
    if judge in (Judge.BACKSTOP, Judge.READER):
        return scenario.verdicts
    return ("mta", "mta+rcpt:continue") if scenario.is_refused else ("eom:accept",)


def as_lines(scenarios: Sequence[Scenario], judge: Judge) -> str:
    """The line format that load.c describes."""
    lines: list[tuple[str, ...]] = []
    for scenario in scenarios:
        lines.append(("scenario", scenario.name, str(scenario.weight)))
        lines.append(("client", *scenario.client))
        lines += [("login", scenario.login)] if scenario.login else []
        lines += [("refused",)] if scenario.is_refused else []
        lines += [("from", path) for path in scenario.reverse_paths]
        lines += [("rcpt", path) for path in scenario.recipients]
        lines += [("header", name, value) for name, value in scenario.headers]
        lines += [("body", str(BODY_OCTETS))] if scenario.headers else []
        lines += [("expect", verdict) for verdict in expected(scenario, judge)]
    return "".join("\t".join(fields) + "\n" for fields in lines)


def as_json(scenarios: Sequence[Scenario], judge: Judge) -> str:
    """A list of objects, as milterload takes it. It knows no {c}: each kind of client has one address."""
    return json.dumps(
        [
            {
                "name": scenario.name,
                "weight": scenario.weight,
                "client_name": scenario.client[0],
                "client_addr": scenario.client[1].replace("{c}", "0.1"),
                "helo": scenario.client[2],
                "auth": scenario.login or None,
                "from": list(scenario.reverse_paths),
                "rcpt": list(scenario.recipients),
                "rejected_by_mta": scenario.is_refused,
                "headers": [list(header) for header in scenario.headers],
                "body_bytes": BODY_OCTETS if scenario.headers else 0,
                "expect": "|".join(expected(scenario, judge)) or "*",
            }
            for scenario in scenarios
        ]
    )


def _tagged(user: str, secret: bytes, now: float) -> str:
    address = parse(user)
    assert address is not None
    today = day_of(now)
    key = Key(KEY_NUMBER, secret, KeyState.SIGN, ("*",), today - KEY_AGE_DAYS, LIFETIME_DAYS)
    return sign(address, key, today, LIFETIME_DAYS, TagForm.PRVS)


def _with_wrong_hash(path: str) -> str:
    end = path.index("=", path.index("=") + 1)
    return path[: end - 1] + ("1" if path[end - 1] == "0" else "0") + path[end:]
