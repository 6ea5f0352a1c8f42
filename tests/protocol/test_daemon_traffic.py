"""The daemon's life under traffic: outgoing mail is tagged or not accepted, whatever happens to us."""

import os
import random
import signal
import threading
import time
from collections import Counter
from typing import Self

import pytest

from tests.harness.daemon import Daemon, alive
from tests.harness.fake_mta import Hangup, Message, SenderChanged, Session
from tests.harness.waiting import wait_for

OUTGOING = Message(
    "<user@example.com>",
    ("<friend@remote.example>",),
    macros={"{auth_authen}": "user", "{auth_type}": "PLAIN"},
)
INCOMING = Message("<a@remote.example>", ("<user@example.com>",))
MESSAGES_A_SESSION = 5


class Traffic:
    """Sessions one after the other on several threads, until the block ends; what became of them is counted.

    "tagged" and "accepted" are well, "cut" is a session that was dropped, "nobody" one that was not taken at
    all: both are temporary failures. Anything else is wrong.
    """

    def __init__(self, daemon: Daemon, sessions: int = 8) -> None:
        self.results: Counter[str] = Counter()
        self._daemon = daemon
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(sessions)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def wrong(self) -> set[str]:
        return set(self.results) - {"tagged", "accepted", "cut", "nobody"}

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        while not self._ended.is_set():
            try:
                with self._daemon.session(timeout=20) as session:
                    for _ in range(MESSAGES_A_SESSION):
                        self.results[_deliver(session, chance.choice([OUTGOING, INCOMING]))] += 1
                        time.sleep(chance.random() * 0.01)
            except Hangup:
                self.results["cut"] += 1
            except (FileNotFoundError, ConnectionRefusedError):
                self.results["nobody"] += 1
                time.sleep(0.05)


def _deliver(session: Session, message: Message) -> str:
    outcome = session.send(message)
    if not outcome.accepted:
        return f"refused with {outcome.final.code}"
    if message is INCOMING:
        return "accepted" if not outcome.changes else f"incoming changed: {outcome.changes}"
    senders = [change for change in outcome.changes if isinstance(change, SenderChanged)]
    return "tagged" if len(senders) == 1 else f"outgoing with {len(senders)} tags"


def rounds(few: int, many: int) -> list[object]:
    """As a parameter: a few rounds always, many when deep."""
    return [pytest.param(few, id="few"), pytest.param(many, id="many", marks=pytest.mark.deep)]


@pytest.mark.parametrize("times", rounds(5, 100))
def test_reloads_cut_no_session(backstop: Daemon, times: int) -> None:
    """reliability B5."""
    backstop.start()
    with Traffic(backstop) as traffic:
        for _ in range(times):
            backstop.reload()
            time.sleep(0.3)
    assert traffic.wrong == set()
    assert traffic.results["cut"] == traffic.results["nobody"] == 0
    assert traffic.results["tagged"] > 10 * times
    wait_for(lambda: len(backstop.workers()) == 2, 5, "the old workers' end")


@pytest.mark.parametrize("times", rounds(5, 40))
def test_killed_workers_cost_their_sessions_and_no_tag(backstop: Daemon, times: int) -> None:
    """reliability B1 and B2."""
    chance = random.Random(1)
    backstop.start()
    with Traffic(backstop) as traffic:
        for _ in range(times):
            time.sleep(chance.random() * 0.5)
            victim = chance.choice(sorted(backstop.workers()))
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda gone=victim: not alive(gone), 2, "its end")
            wait_for(lambda: sum(map(alive, backstop.workers())) == 2, 2, "another worker")
    assert traffic.wrong == set()
    assert traffic.results["nobody"] == 0
    assert 0 < traffic.results["cut"] <= 9 * times
    assert traffic.results["tagged"] > 10 * times


@pytest.mark.parametrize("times", rounds(2, 24))
def test_stops_and_starts_leave_nothing_untagged(backstop: Daemon, times: int) -> None:
    """reliability B3 and B4."""
    chance = random.Random(2)
    backstop.start()
    with Traffic(backstop) as traffic:
        for _ in range(times):
            time.sleep(0.2 + chance.random() * 0.3)
            workers = backstop.workers()
            status, seconds = backstop.stop()
            assert (status, seconds < 5) == (0, True)
            assert not [pid for pid in workers if alive(pid)]
            backstop.start()
    assert traffic.wrong == set()
    assert traffic.results["tagged"] > 10 * times


@pytest.mark.parametrize("times", rounds(2, 20))
def test_killed_parents_leave_nothing_untagged(backstop: Daemon, times: int) -> None:
    backstop.start()
    with Traffic(backstop) as traffic:
        for _ in range(times):
            time.sleep(0.3)
            workers = backstop.workers()
            backstop.process.kill()
            backstop.process.wait()
            backstop.start()
            wait_for(lambda old=workers: not [pid for pid in old if alive(pid)], 5, "the orphans' end")
    assert traffic.wrong == set()
    assert traffic.results["tagged"] > 10 * times
