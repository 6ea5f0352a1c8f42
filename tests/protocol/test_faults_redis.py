"""The ledger's rules under load while Redis is killed, frozen, full, read-only, emptied, locked or cut off.

Mail never stops: no message is put off or cut. What is enforced stays enforced, because the file says so.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import pytest
import redis

from tests.harness.ledger import ENFORCED, Kind, Ledger
from tests.harness.milter_host import DOMAIN, MilterHost
from tests.harness.redis_server import PROGRAMS, RedisServer, free_port
from tests.harness.servers import need
from tests.harness.waiting import wait_for

RATE = 60.0
COURIERS = 10


@pytest.fixture
def host(redis_server: RedisServer) -> Iterator[MilterHost]:
    with MilterHost(redis_server) as host:
        yield host


@pytest.fixture
def lasting_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilterHost]:
    """Its Redis remembers after a kill what it had said was done."""
    need(*PROGRAMS)
    with (
        RedisServer(tmp_path_factory.mktemp("redis"), "appendonly yes") as server,
        MilterHost(server) as host,
    ):
        yield host


class Command:
    """What an administrator's client may do to a Redis that answers."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def __call__(self, *words: object) -> object:
        with contextlib.closing(self._server.client()) as client:
            return client.execute_command(*words)


class Again:
    """Do something again and again, in a thread, until the block ends."""

    def __init__(self, act: Callable[[], object], every: float) -> None:
        self._act = act
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._act()
            self.times += 1


def under_load(
    host: MilterHost, seed: int, break_it: Callable[[], object], seconds: float, mend: Callable[[], object]
) -> tuple[Ledger, float, float]:
    """A load, a fault for so long, its end, and a little more; the ledger, and when the fault lasted."""
    host.start()
    with host.load(seed, rate=RATE, couriers=COURIERS) as load:
        load.go_on_for(30)
        began = time.monotonic()
        break_it()
        load.go_on(seconds)
        mend()
        over = time.monotonic()
        load.go_on(1.5)
    ledger = load.ledger
    assert ledger.violations([over], calm=0) == []
    assert ledger.disturbed() == [], "mail never stops"
    log = host.daemon.log_text()
    assert "bug=" not in log
    assert "Traceback" not in log
    return ledger, began, over


def all_is_back(host: MilterHost) -> None:
    """Every worker has found its Redis again."""

    def count(line: str) -> int:
        return host.daemon.log_text().count(line)

    wait_for(lambda: count("store=back") == count("store=away"), 5, "Redis to be found again")


def overcounted(host: MilterHost, ledger: Ledger) -> list[str]:
    """What the counters show too much, where nobody can say how much is missing."""
    return ledger.miscounted(host.counters(), missing=len(ledger.entries))


def test_killed_and_back_empty(host: MilterHost) -> None:
    """reliability C1."""

    def revive() -> None:
        host.redis.start()

    ledger, _, _ = under_load(host, 11, host.redis.kill, 2, revive)
    all_is_back(host)
    assert "store=away" in host.daemon.log_text()
    assert overcounted(host, ledger) == []
    with host.load(12, rate=RATE) as load:
        load.go_on_for(30)
    wait_for(lambda: host.counters().get("proof.tag"), 5, "new counts")


def test_killed_and_back_with_what_it_had(lasting_host: MilterHost) -> None:
    """reliability C7: nothing counted twice, nothing missing but what is said to be uncertain."""
    host = lasting_host
    ledger, _, _ = under_load(host, 13, host.redis.kill, 2, host.redis.start)
    all_is_back(host)
    assert host.settled_counters(ledger) == []


def test_frozen(host: MilterHost) -> None:
    """reliability C2: each mail server process waits once at most, then the breaker is open."""
    ledger, began, over = under_load(host, 14, host.redis.freeze, 3, host.redis.thaw)
    during = [entry for entry in ledger.entries if began <= entry.began and entry.ended <= over]
    late = [entry for entry in during if entry.ended - entry.began > 0.15]
    assert len(during) > 3 * RATE / 4
    assert len(late) <= max(2 * COURIERS, len(during) / 10), ledger.summary()
    assert "store=away" in host.daemon.log_text()
    all_is_back(host)
    assert host.settled_counters(ledger) == []


def test_full(host: MilterHost) -> None:
    """reliability C4: what could not be counted is added later, and said once a minute."""
    command = Command(host.redis)
    command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    ledger, _, _ = under_load(
        host,
        15,
        lambda: command("CONFIG", "SET", "maxmemory", "1mb"),
        2,
        lambda: command("CONFIG", "SET", "maxmemory", "0"),
    )
    assert host.settled_counters(ledger) == []
    said = [line for line in host.daemon.log_text().splitlines() if "counts are kept for later: OOM" in line]
    assert 1 <= len(said) <= 2, "each of two workers says so once a minute"


@pytest.mark.parametrize("stale", ["yes", "no"])
def test_a_replica_of_a_dead_master(host: MilterHost, stale: str) -> None:
    """reliability C5: read-only, and with `no` refusing to be read as well (MASTERDOWN)."""
    command = Command(host.redis)
    command("CONFIG", "SET", "replica-serve-stale-data", stale)
    ledger, _, _ = under_load(
        host,
        16,
        lambda: command("REPLICAOF", "127.0.0.1", free_port()),
        2,
        lambda: command("REPLICAOF", "NO", "ONE"),
    )
    all_is_back(host)
    assert host.settled_counters(ledger) == []
    assert ("store=away" in host.daemon.log_text()) == (stale == "no")


def test_emptied_ten_times_a_second(host: MilterHost) -> None:
    """reliability C11."""
    command = Command(host.redis)
    again = Again(lambda: command("FLUSHALL"), 0.1)
    ledger, _, _ = under_load(host, 17, again.__enter__, 3, lambda: again.__exit__(None, None, None))
    assert again.times > 10
    assert overcounted(host, ledger) == []


def test_connections_cut_fifty_times_a_second(host: MilterHost) -> None:
    """Nothing is counted twice although every flush may be cut between question and answer."""
    command = Command(host.redis)
    again = Again(lambda: command("CLIENT", "KILL", "TYPE", "normal"), 0.02)
    ledger, _, _ = under_load(host, 18, again.__enter__, 3, lambda: again.__exit__(None, None, None))
    assert again.times > 50
    all_is_back(host)
    assert host.settled_counters(ledger) == []


def test_a_password_that_the_daemon_does_not_know(host: MilterHost) -> None:
    """reliability C6, in the middle of the run: connections that were open are cut, new ones are refused."""
    with contextlib.closing(host.redis.client()) as kept:

        def lock() -> None:
            kept.execute_command("CONFIG", "SET", "requirepass", "a secret of Redis")
            kept.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        def unlock() -> None:
            kept.execute_command("CONFIG", "SET", "requirepass", "")

        ledger, _, _ = under_load(host, 19, lock, 2, unlock)
    assert "store=away" in host.daemon.log_text()
    all_is_back(host)
    assert host.settled_counters(ledger) == []


def test_one_connection_for_everybody(host: MilterHost) -> None:
    """reliability C12: the test's own client has it, the daemon gets none."""
    with contextlib.closing(host.redis.client()) as kept:
        kept.ping()

        def restrict() -> None:
            kept.execute_command("CONFIG", "SET", "maxclients", 1)
            kept.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        def release() -> None:
            kept.execute_command("CONFIG", "SET", "maxclients", 1000)

        ledger, _, _ = under_load(host, 20, restrict, 2, release)
    assert "store=away" in host.daemon.log_text()
    all_is_back(host)
    assert host.settled_counters(ledger) == []


def test_a_block_holds_while_redis_is_away(host: MilterHost) -> None:
    """reliability C1: toggles as last read; and gone again once Redis is back without them."""
    observing = 'actions = { tag = "observe", unproved = "observe" }'
    right: Mapping[Kind, frozenset[int]] = {
        **ENFORCED,
        Kind.FORGED: frozenset({250, 550}),
        Kind.UNTAGGED: frozenset({250, 550}),
    }
    ledger = Ledger(host.ring, right)
    with contextlib.closing(host.redis.client()) as client:
        client.set(f"backstop:block:{DOMAIN}", "reject")
    host.start(observing)
    with host.load(21, rate=RATE, ledger=ledger) as load:
        load.go_on_for(120)
        away = time.monotonic()
        host.redis.kill()
        load.go_on(2)
        back = time.monotonic()
        host.redis.start()
        load.go_on(4)
    assert ledger.violations([back], calm=0) == []
    assert ledger.disturbed() == []
    forged = ledger.of(Kind.FORGED, Kind.UNTAGGED)
    assert {entry.code for entry in forged if entry.began < back} == {550}
    assert [entry for entry in forged if away < entry.began < back]
    assert {entry.code for entry in forged if entry.began > back + 3} == {250}


def test_keys_of_the_wrong_type(host: MilterHost) -> None:
    """reliability C8: mail goes on as the file says, and each worker names each key once a minute."""

    def spoil(client: "redis.Redis") -> None:
        for name in (f"block:{DOMAIN}", "block", f"domain:{DOMAIN}", "untagged", f"count:{DOMAIN}"):
            client.delete(f"backstop:{name}")
        client.rpush(f"backstop:block:{DOMAIN}", "reject")
        client.set("backstop:block", "x" * 10_000_000)
        client.set(f"backstop:domain:{DOMAIN}", "junk")
        client.set("backstop:untagged", "somebody")
        client.set(f"backstop:count:{DOMAIN}", "many")

    with contextlib.closing(host.redis.client()) as client:
        under_load(host, 22, lambda: spoil(client), 1, lambda: None)
    lines = [line for line in host.daemon.log_text().splitlines() if line.startswith("trouble=")]
    for key in (f"backstop:block:{DOMAIN}", "backstop:block", f"backstop:domain:{DOMAIN}"):
        assert 1 <= sum(f'"{key}: ' in line for line in lines) <= 2, lines
    assert 1 <= sum("is lost: WRONGTYPE" in line for line in lines) <= 2, lines
