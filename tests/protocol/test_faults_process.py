"""The rules of the ledger while workers and daemons are killed, frozen, stopped and reloaded under load."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.harness.frozen import frozen
from tests.harness.ledger import ENFORCED, Kind, Ledger
from tests.harness.milter_host import REJECTING, MilterHost
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

LOST_BY_A_KILL = 20
"""Counts that may be missing: what a worker had not written yet."""


SHORT_SESSIONS = {"couriers": 4, "most_per_session": 5}
"""They end within two seconds: where reloads come faster than sessions end, the oldest sessions are cut."""


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[MilterHost]:
    with MilterHost(shared_redis) as host:
        yield host


STOPPED_WITHIN = 8.0
"""Seconds: 5 on a machine that has nothing else to do, as the daemon's own tests say."""


def depth(shallow: int, deep: int) -> pytest.MarkDecorator:
    """How often, or for how many seconds: a little each time, much with --deep."""
    return pytest.mark.parametrize("depth", [shallow, pytest.param(deep, marks=pytest.mark.deep)])


def left_waiting(ledger: Ledger) -> list[str]:
    """Messages on whose connection there was silence until libmilter gave up the old socket."""
    return [ledger.shown(entry) for entry in ledger.entries if entry.ended - entry.began > 3]


def no_bugs(host: MilterHost) -> None:
    log = host.daemon.log_text()
    assert "bug=" not in log
    assert "Traceback" not in log


@depth(10, 200)
def test_workers_killed_at_random_moments(host: MilterHost, depth: int) -> None:
    """reliability B1 and B2."""
    host.start()
    chance = random.Random(1)
    with host.load(1, rate=60) as load:
        load.go_on_for(30)
        for _ in range(depth):
            load.go_on(chance.uniform(0.05, 0.6))
            victim = chance.choice(sorted(host.daemon.workers()))
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: len(host.daemon.workers() - {victim}) == 2, 3, "another worker")  # noqa: B023 - asked here and now
        over = time.monotonic()
        load.go_on(3.5)
    assert load.ledger.violations([over], calm=3) == []
    # Each mail server process has two sessions at most that a kill can cut.
    assert len(load.ledger.disturbed()) <= depth * 2 * 10
    assert host.settled_counters(load.ledger, missing=depth * LOST_BY_A_KILL) == []
    no_bugs(host)


@depth(2, 20)
def test_daemons_killed_and_started_again(host: MilterHost, depth: int) -> None:
    """The parent falls, the service manager starts another, the orphans finish their sessions."""
    host.start()
    with host.load(2, rate=60) as load:
        load.go_on_for(30)
        for _ in range(depth):
            host.daemon.process.kill()
            host.daemon.process.wait()
            host.daemon.start(seconds=10)
            over = time.monotonic()
            load.go_on(1.5)
        load.go_on(2)
    assert load.ledger.violations([over], calm=0.5) == []
    assert left_waiting(load.ledger) == [], "whom no orphan takes is told so at once"
    assert host.settled_counters(load.ledger) == []
    no_bugs(host)


@depth(5, 100)
def test_the_same_configuration_again_and_again(host: MilterHost, depth: int) -> None:
    """reliability B5: no session is cut, no message put off, no count lost."""
    host.start()
    parent = host.daemon.pid
    with host.load(3, rate=60, **SHORT_SESSIONS) as load:
        ends = time.monotonic() + depth
        while time.monotonic() < ends:
            host.daemon.signal(signal.SIGHUP)
            load.go_on(0.2)
        over = time.monotonic()
        load.go_on(1)
    assert load.ledger.violations([over], calm=0) == []
    assert load.ledger.disturbed() == []
    assert host.daemon.pid == parent
    assert not host.daemon.ended()
    assert host.daemon.log_text().count("reloaded ") > depth / 4
    assert host.settled_counters(load.ledger) == []
    no_bugs(host)


@depth(5, 100)
def test_ever_other_configurations(host: MilterHost, depth: int) -> None:
    """Each verdict is that of one configuration or another, a broken file changes nothing, the last holds."""
    host.start()
    other = REJECTING.replace('unproved = "reject"', 'unproved = "tempfail"')
    right = {**ENFORCED, Kind.UNTAGGED: frozenset({550, 450})}
    with host.load(4, rate=60, ledger=Ledger(host.ring, right), **SHORT_SESSIONS) as load:
        ends = time.monotonic() + depth
        turns = 0
        while time.monotonic() < ends:
            if turns % 5 == 4:
                host.daemon.configure("this is = = nothing")
            else:
                host.configure(other if turns % 2 else REJECTING, workers=2 + turns % 2)
            host.daemon.signal(signal.SIGHUP)
            turns += 1
            load.go_on(0.2)
        host.configure(REJECTING)
        began = time.monotonic()
        host.daemon.reload()
        wait_for(lambda: "reloaded " in host.daemon.log_text(), 5, "a reload")
        host.daemon.reload()  # the signal before may have been answered by a reload already under way
        load.go_on(2)
    assert load.ledger.violations([began], calm=0) == []
    assert load.ledger.disturbed() == []
    codes = {entry.code for entry in load.ledger.of(Kind.UNTAGGED)}
    assert codes == {550, 450}, "both configurations were to be seen"
    last = [entry for entry in load.ledger.of(Kind.UNTAGGED) if entry.opened > began + 1]
    assert {entry.code for entry in last} <= {550}
    no_bugs(host)


@depth(1, 20)
def test_stopped_under_load_and_started_again(host: MilterHost, depth: int) -> None:
    """reliability B3 and B4: answered or dropped, never accepted untagged, and gone soon."""
    host.start()
    with host.load(5, rate=60) as load:
        load.go_on_for(30)
        for _ in range(depth):
            status, seconds = host.daemon.stop()
            assert (status, seconds < STOPPED_WITHIN) == (0, True)
            assert not host.daemon.socket.exists()
            host.daemon.start()
            over = time.monotonic()
            load.go_on(1)
        load.go_on(2)
    assert load.ledger.violations([over], calm=0.5) == []
    assert left_waiting(load.ledger) == [], "whom nobody takes any more is told so at once"
    assert host.settled_counters(load.ledger, missing=depth * LOST_BY_A_KILL) == []
    no_bugs(host)


def test_frozen_under_load(host: MilterHost) -> None:
    """reliability B12, for a shorter time: messages wait, none is lost or refused."""
    host.start()
    with host.load(6, rate=60) as load:
        load.go_on_for(30)
        with frozen(*host.daemon.workers(), host.daemon.pid):
            load.go_on(2)
        over = time.monotonic()
        load.go_on(2)
    assert load.ledger.violations([over], calm=0) == []
    assert load.ledger.disturbed() == []
    assert host.settled_counters(load.ledger) == []
    no_bugs(host)
