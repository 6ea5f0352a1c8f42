"""The block is flipped a hundred times a second while bounces pass: each verdict is one that was in force."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import pytest

from tests.harness.fake_mta import HeaderAdded, Session, Verdict
from tests.harness.milter_host import DOMAIN, MilterHost
from tests.harness.redis_server import RedisServer
from tests.harness.wire_load import STRANGER

OBSERVING = 'actions = { tag = "observe", unproved = "observe" }'
VALUES = ("reject", "tempfail", "junk", "off")
OUTAGE_SECONDS = 2.0
"""A verdict may be as old as this where a worker thought Redis away."""


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[MilterHost]:
    with MilterHost(shared_redis) as host:
        yield host


@dataclass
class Switch:
    """Turns the domain's block again and again, and remembers when it was what."""

    server: RedisServer
    every: float
    changes: list[tuple[float, float, str]] = field(default_factory=list)
    """Before it was set, after it was set, the value."""

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._turn("off")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def in_force(self, since: float, until: float) -> set[str]:
        """The values that were in force at any moment of a span."""
        found = set()
        for (before, _, value), (_, after, _) in zip(
            self.changes, [*self.changes[1:], (0.0, float("inf"), "")], strict=True
        ):
            if before <= until and after >= since:
                found.add(value)
        return found

    def _run(self) -> None:
        for value in itertools.cycle(VALUES):
            if self._ended.wait(self.every):
                return
            self._turn(value)

    def _turn(self, value: str) -> None:
        before = time.monotonic()
        with contextlib.closing(self.server.client()) as client:
            client.set(f"backstop:block:{DOMAIN}", value)
        self.changes.append((before, time.monotonic(), value))


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a bounce, as a value of the block, and between which moments RCPT was answered."""

    asked: float
    answered: float
    value: str


def judge(session: Session, recipient: str, chance: random.Random) -> Judged:
    """An untagged bounce, with a pause between RCPT and DATA in which the block turns."""
    connection = session.connection
    connection.mail("<>")
    asked = time.monotonic()
    assert not connection.rcpt(recipient).refused
    answered = time.monotonic()
    time.sleep(chance.random() * 0.03)
    answer = connection.data()
    if answer.refused:
        connection.abort()
        return Judged(asked, answered, {550: "reject", 450: "tempfail"}[answer.code])
    if answer.verdict is Verdict.ACCEPT:
        return Judged(asked, answered, "off")
    connection.header("Subject", "Undelivered Mail Returned to Sender")
    time.sleep(chance.random() * 0.03)
    assert connection.eom().verdict in (Verdict.ACCEPT, Verdict.CONTINUE)
    marks = [change.value for change in connection.changes if isinstance(change, HeaderAdded)]
    assert len(marks) == 2
    assert marks[0].startswith("junk; check=unproved")
    return Judged(asked, answered, "junk")


def bounces(host: MilterHost, seed: int, seconds: float, processes: int = 6) -> list[Judged]:
    """Untagged bounces on several sessions at once."""
    found: list[Judged] = []
    bugs: list[BaseException] = []
    ends = time.monotonic() + seconds

    def pass_on(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        try:
            while time.monotonic() < ends:
                with Session(host.daemon.target, STRANGER) as session:
                    found.extend(
                        judge(session, f"<user{chance.randrange(40)}@{DOMAIN}>", chance) for _ in range(10)
                    )
        except BaseException as bug:  # noqa: BLE001 - it is raised again below
            bugs.append(bug)

    threads = [threading.Thread(target=pass_on, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bugs:
        raise bugs[0]
    return found


@pytest.mark.parametrize(
    ("every", "seconds"),
    [(0.01, 5.0), pytest.param(0.01, 30.0, marks=pytest.mark.deep)],
    ids=["a while", "thousands"],
)
def test_each_verdict_is_one_that_was_in_force_at_its_recipient(
    host: MilterHost, every: float, seconds: float
) -> None:
    """reliability C9: the toggle counts from the next recipient on, and holds for the message."""
    host.start(OBSERVING)
    with Switch(host.redis, every) as switch:
        found = bounces(host, 31, seconds)
    log = host.daemon.log_text()
    assert "bug=" not in log
    assert {one.value for one in found} == set(VALUES)
    # Where a worker missed Redis, it went on with the last answer it had read.
    slack = OUTAGE_SECONDS if "store=away" in log else 0.0
    wrong = [one for one in found if one.value not in switch.in_force(one.asked - slack, one.answered)]
    assert wrong == []
