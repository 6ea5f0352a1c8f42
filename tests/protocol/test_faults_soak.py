"""Minutes of one fault after the other, in an order that chance makes, and one ledger for all of it."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness.frozen import frozen
from tests.harness.milter_host import MilterHost
from tests.harness.redis_server import PROGRAMS, RedisServer, free_port
from tests.harness.servers import need
from tests.harness.waiting import wait_for

FAULTS = 80
LOST_BY_A_KILL = 20


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilterHost]:
    need(*PROGRAMS)
    with (
        RedisServer(tmp_path_factory.mktemp("redis"), "appendonly yes") as server,
        MilterHost(server) as host,
    ):
        yield host


class Faults:
    """Each breaks something for a moment and mends it; all of them leave what Redis holds in place."""

    def __init__(self, host: MilterHost, chance: random.Random, wait: Callable[[float], None]) -> None:
        self._host = host
        self._chance = chance
        self._wait = wait
        self.kills = 0

    def all(self) -> list[Callable[[], None]]:
        return [
            self.worker_killed,
            self.workers_frozen,
            self.reloaded,
            self.redis_killed,
            self.redis_frozen,
            self.redis_full,
            self.redis_read_only,
            self.redis_without_its_master,
            self.redis_connections_cut,
        ]

    def worker_killed(self) -> None:
        victim = self._chance.choice(sorted(self._host.daemon.workers()))
        os.kill(victim, signal.SIGKILL)
        self.kills += 1
        self._wait(self._chance.uniform(0, 1))

    def workers_frozen(self) -> None:
        with frozen(*self._host.daemon.workers()):
            self._wait(self._chance.uniform(0.1, 1))

    def reloaded(self) -> None:
        self._host.configure(workers=self._chance.randint(1, 3))
        self._host.daemon.signal(signal.SIGHUP)
        self._wait(self._chance.uniform(0, 1))

    def redis_killed(self) -> None:
        self._host.redis.kill()
        self._wait(self._chance.uniform(0, 3))
        self._host.redis.start()

    def redis_frozen(self) -> None:
        self._host.redis.freeze()
        self._wait(self._chance.uniform(0, 3))
        self._host.redis.thaw()

    def redis_full(self) -> None:
        self._command("CONFIG", "SET", "maxmemory", "1mb")
        self._wait(self._chance.uniform(0, 2))
        self._command("CONFIG", "SET", "maxmemory", "0")

    def redis_read_only(self) -> None:
        self._command("REPLICAOF", "127.0.0.1", free_port())
        self._wait(self._chance.uniform(0, 2))
        self._command("REPLICAOF", "NO", "ONE")

    def redis_without_its_master(self) -> None:
        self._command("CONFIG", "SET", "replica-serve-stale-data", "no")
        self.redis_read_only()
        self._command("CONFIG", "SET", "replica-serve-stale-data", "yes")

    def redis_connections_cut(self) -> None:
        for _ in range(20):
            self._command("CLIENT", "KILL", "TYPE", "normal")
            self._wait(self._chance.uniform(0, 0.1))

    def _command(self, *words: object) -> None:
        with contextlib.closing(self._host.redis.client()) as client:
            client.execute_command(*words)


@pytest.mark.deep
@pytest.mark.parametrize("seed", [91, 92])
def test_one_fault_after_the_other(host: MilterHost, seed: int) -> None:
    host.start()
    chance = random.Random(seed)
    with host.load(seed, rate=60) as load:
        faults = Faults(host, chance, load.go_on)
        for _ in range(FAULTS):
            chance.choice(faults.all())()
            load.go_on(chance.choice([0.0, 0.0, 1.0, 2.0]))
        over = time.monotonic()
        load.go_on(6)
    assert load.ledger.violations([over], calm=3) == []
    wait_for(lambda: host.daemon.log_text().count("store=away") > 0, 1, "any of it to be noticed")
    assert host.settled_counters(load.ledger, missing=faults.kills * LOST_BY_A_KILL) == []
    log = host.daemon.log_text()
    assert "bug=" not in log
    assert "Traceback" not in log
