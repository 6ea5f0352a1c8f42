"""What many sessions leave behind in a worker: no memory, no descriptor, no thread."""

import contextlib
import multiprocessing
import random
import re
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

import pytest

from tests.harness.fake_mta import Session
from tests.harness.ledger import ENFORCED, Plan
from tests.harness.milter_host import DOMAIN, MilterHost
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for
from tests.harness.wire_load import STRANGER, WireCourier

SESSIONS = 100_000
WARM_UP = 10_000
CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: kilobytes of its own share of memory, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    memory = _number(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
    threads = _number(Path(f"/proc/{pid}/status"), "Threads")
    return Held(memory, len(list(Path(f"/proc/{pid}/fd").iterdir())), threads)


def _number(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", path.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[MilterHost]:
    with MilterHost(shared_redis) as host:
        yield host


def run_sessions(work: tuple[str, dict[str, str], int, int]) -> int:
    """Sessions of one message each, in a process of its own; how many got a wrong answer."""
    target, tagged, seed, count = work
    plan = Plan(seed)
    courier = WireCourier(target, tagged.__getitem__, random.Random(seed), domain=DOMAIN, most_per_session=1)
    wrong = 0
    for _ in range(count):
        number, kind = plan.draw()
        wrong += courier.deliver(number, kind).code not in ENFORCED[kind]
    courier.close()
    return wrong


def run(host: MilterHost, pool: Pool, sessions: int, seed: int) -> None:
    tagged = {address: host.tagged(address) for address in (f"user{n}@{DOMAIN}" for n in range(40))}
    share = sessions // CLIENTS
    work = [(host.daemon.target, tagged, seed + number, share) for number in range(CLIENTS)]
    assert sum(pool.map(run_sessions, work, chunksize=1)) == 0


def settled(host: MilterHost) -> dict[int, Held]:
    """What the workers hold once no session is open: libmilter's idle threads end after a while."""

    def idle() -> bool:
        return all(held(pid).threads <= 12 for pid in host.daemon.workers())

    with contextlib.suppress(TimeoutError):
        wait_for(idle, 10, "the threads of closed sessions to end")
    return {pid: held(pid) for pid in host.daemon.workers()}


@pytest.mark.deep
def test_a_hundred_thousand_sessions_leave_nothing_behind(host: MilterHost) -> None:
    """reliability D6."""
    host.start()
    with multiprocessing.get_context("spawn").Pool(CLIENTS) as pool:
        run(host, pool, WARM_UP, 71)
        before = settled(host)
        began = time.monotonic()
        run(host, pool, SESSIONS, 75)
        took = time.monotonic() - began
        after = settled(host)
    sys.stdout.write(f"{SESSIONS} sessions in {took:.0f} s; before {before}; after {after}\n")
    assert set(before) == set(after)
    for pid, then in before.items():
        now = after[pid]
        assert now.memory - then.memory < 10_000
        assert abs(now.descriptors - then.descriptors) <= 5
        assert abs(now.threads - then.threads) <= 4


@pytest.fixture
def _room_for_sockets() -> Iterator[None]:
    """This process has an end of each connection, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.deep
@pytest.mark.usefixtures("_room_for_sockets")
def test_idle_connections_cost_little(host: MilterHost) -> None:
    """reliability D1: a thousand, at 10 kB each, and mail goes on beside them as fast as before."""
    host.start()
    with host.load(81, rate=60) as load:
        load.go_on_for(300)
        before = {pid: held(pid) for pid in host.daemon.workers()}
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(Session(host.daemon.target, STRANGER)) for _ in range(1000)]
            load.go_on_for(300)
            during = {pid: held(pid) for pid in host.daemon.workers()}
            assert len(sessions) == 1000
        load.go_on_for(60)
    grown = sum(during[pid].memory - before[pid].memory for pid in before)
    sys.stdout.write(f"a thousand idle connections: {grown} kB; before {before}; during {during}\n")
    assert grown < 10 * 1000
    assert load.ledger.violations() == []
    assert load.ledger.disturbed() == []
    after = settled(host)
    for pid, then in before.items():
        assert after[pid].descriptors - then.descriptors <= 5
