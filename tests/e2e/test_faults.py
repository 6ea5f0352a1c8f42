"""The ledger's rules through a real Postfix while the daemon, Redis or Postfix itself is disturbed.

What was accepted is delivered exactly once, in a mailbox or at the next hop; what was put off is tried again.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from backstop.batv import KeyRing
from tests.harness.frozen import frozen
from tests.harness.ledger import Ledger
from tests.harness.load import Load
from tests.harness.mail_host import MailHost
from tests.harness.postfix import why_not
from tests.harness.redis_server import PROGRAMS, free_port
from tests.harness.servers import need
from tests.harness.smtp_load import SmtpCourier, badly_tagged, places
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.e2e

NO_LIMITS = (
    "[limits]",
    'bad_tags = "1000000/1m"',
    'bad_tags_address = "1000000/1h"',
    'unknown_recipients = "1000000/1m"',
)
SECONDS = 20.0
RATE = 20.0


def mail_host(form: str) -> MailHost:
    need(*PROGRAMS)
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    return MailHost(form, top=NO_LIMITS)


@pytest.fixture(scope="module")
def _whole_host() -> Iterator[MailHost]:
    with mail_host("subaddress") as host:
        yield host


@pytest.fixture
def host(_whole_host: MailHost) -> Iterator[MailHost]:
    """The host as it was at the beginning, and its load."""
    _whole_host.postfix.forget()
    _whole_host.next_hop.forget()
    began, complained = len(_whole_host.daemon.log_text()), len(_whole_host.postfix.log())
    yield _whole_host
    lines = _whole_host.daemon.log_text()[began:].splitlines()
    sys.stdout.write("\n".join(line for line in lines if not line.startswith("queue_id=")))
    lines = _whole_host.postfix.log()[complained:].splitlines()
    grave = ("warning:", "fatal:", "panic:", "reload")
    sys.stdout.write("\n".join(line for line in lines if any(word in line for word in grave)))


def load(host: MailHost, seed: int, rate: float = RATE) -> Load:
    key = host.signing_key()
    ledger = Ledger(KeyRing([key]), changes_are_seen=False)
    return Load(ledger, lambda chance: SmtpCourier(host, key, chance), seed=seed, rate=rate, couriers=10)


def settle(host: MailHost, ledger: Ledger, over: float, calm: float) -> None:
    """Everything is delivered; then the rules."""
    host.postfix.wait_until_idle(seconds=90)
    assert ledger.violations([over], calm=calm) == []
    found = places(host)
    assert ledger.undelivered(found) == []
    assert badly_tagged(host, ledger) == []
    assert sum(len(where) for where in found.values()) > 50
    log = host.daemon.log_text()
    assert "bug=" not in log
    assert "Traceback" not in log


def redis(host: MailHost, *words: object) -> None:
    with contextlib.closing(host.redis.client()) as client:
        client.execute_command(*words)


def kill_a_worker(host: MailHost, chance: random.Random) -> None:
    victim = chance.choice(sorted(host.daemon.workers()))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(host.daemon.workers() - {victim}) == 2, 3, "another worker")


def test_workers_and_redis_killed_for_a_moment() -> None:
    """The short form of what follows, with the other form of the tag and Postfix's maps."""
    chance = random.Random(51)
    with mail_host("prvs") as host:
        with load(host, 51) as traffic:
            traffic.go_on_for(20)
            for _ in range(4):
                kill_a_worker(host, chance)
                traffic.go_on(chance.uniform(0.1, 0.6))
            host.redis.kill()
            kill_a_worker(host, chance)
            traffic.go_on(1)
            host.redis.start()
            over = time.monotonic()
            traffic.go_on(2)
        settle(host, traffic.ledger, over, calm=1)


@pytest.mark.deep
class TestLong:
    """reliability groups B and C, each at 20 messages a second for some twenty seconds."""

    def test_workers_killed(self, host: MailHost) -> None:
        chance = random.Random(52)
        with load(host, 52) as traffic:
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                kill_a_worker(host, chance)
                traffic.go_on(chance.uniform(0.2, 1.8))
            over = time.monotonic()
            traffic.go_on(5)
        settle(host, traffic.ledger, over, calm=2)

    def test_redis_killed_and_back_empty(self, host: MailHost) -> None:
        with load(host, 53) as traffic:
            traffic.go_on(3)
            host.redis.kill()
            traffic.go_on(SECONDS / 2)
            host.redis.start()
            over = time.monotonic()
            traffic.go_on(5)
        settle(host, traffic.ledger, over, calm=0)
        assert traffic.ledger.disturbed() == []

    def test_redis_frozen(self, host: MailHost) -> None:
        with load(host, 54) as traffic:
            traffic.go_on(3)
            host.redis.freeze()
            traffic.go_on(SECONDS / 2)
            host.redis.thaw()
            over = time.monotonic()
            traffic.go_on(5)
        settle(host, traffic.ledger, over, calm=0)
        assert traffic.ledger.disturbed() == []

    def test_redis_full(self, host: MailHost) -> None:
        redis(host, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        with load(host, 55) as traffic:
            traffic.go_on(3)
            redis(host, "CONFIG", "SET", "maxmemory", "1mb")
            traffic.go_on(SECONDS / 2)
            redis(host, "CONFIG", "SET", "maxmemory", "0")
            over = time.monotonic()
            traffic.go_on(5)
        settle(host, traffic.ledger, over, calm=0)
        assert traffic.ledger.disturbed() == []

    def test_redis_read_only(self, host: MailHost) -> None:
        with load(host, 56) as traffic:
            traffic.go_on(3)
            redis(host, "REPLICAOF", "127.0.0.1", free_port())
            traffic.go_on(SECONDS / 2)
            redis(host, "REPLICAOF", "NO", "ONE")
            over = time.monotonic()
            traffic.go_on(5)
        settle(host, traffic.ledger, over, calm=0)
        assert traffic.ledger.disturbed() == []

    def test_redis_emptied_ten_times_a_second(self, host: MailHost) -> None:
        with load(host, 57) as traffic:
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                redis(host, "FLUSHALL")
                traffic.go_on(0.1)
            over = time.monotonic()
            traffic.go_on(2)
        settle(host, traffic.ledger, over, calm=0)
        assert traffic.ledger.disturbed() == []

    def test_reloaded_every_second(self, host: MailHost) -> None:
        parent = host.daemon.pid
        with load(host, 58) as traffic:
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                host.daemon.signal(signal.SIGHUP)
                traffic.go_on(1)
            over = time.monotonic()
            traffic.go_on(2)
        settle(host, traffic.ledger, over, calm=0)
        assert traffic.ledger.disturbed() == []
        assert host.daemon.pid == parent
        assert not host.daemon.ended()

    def test_the_daemon_frozen_for_ten_seconds(self, host: MailHost) -> None:
        with load(host, 59) as traffic:
            traffic.go_on(3)
            with frozen(*host.daemon.workers(), host.daemon.pid):
                traffic.go_on(10)
            over = time.monotonic()
            traffic.go_on(6)
        settle(host, traffic.ledger, over, calm=1)

    def test_the_daemon_stopped_and_started(self, host: MailHost) -> None:
        with load(host, 60) as traffic:
            traffic.go_on(2)
            for _ in range(3):
                status, seconds = host.daemon.stop()
                assert (status, seconds < 8) == (0, True)
                host.daemon.start()
                over = time.monotonic()
                traffic.go_on(2)
            traffic.go_on(2)
        settle(host, traffic.ledger, over, calm=1)

    def test_postfix_reloaded_every_two_seconds(self, host: MailHost) -> None:
        # What the reload cuts between Postfix's own programs, its queue manager tries again after a minute.
        # And a program may ask one that has just ended, and wait until the next reload: so these go on
        # to the end.
        host.postfix.edit("transport_retry_time=1s")
        is_over = threading.Event()

        def reload() -> None:
            while not is_over.wait(2):
                host.postfix.reload()

        with ThreadPoolExecutor(1) as thread:
            reloading = thread.submit(reload)
            try:
                with load(host, 61) as traffic:
                    traffic.go_on(SECONDS)
                host.postfix.wait_until_idle(seconds=90)
            finally:
                is_over.set()
            reloading.result()
        settle(host, traffic.ledger, time.monotonic(), calm=0)
