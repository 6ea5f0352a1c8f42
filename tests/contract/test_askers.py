"""The parent's care for its askers, at points in time that a test chooses."""

import os
import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest

from backstop.adapters.asker_client import AskerClient, Question, knock, make_door
from backstop.adapters.slow_source import KeptAnswers
from backstop.daemon.asker import Plan
from backstop.daemon.askers import BETWEEN_KNOCKS, SILENCE, Askers
from backstop.daemon.console import Console
from backstop.facts import Existence
from backstop.settings import SourceName, parse_source
from tests.harness.frozen import freeze, frozen
from tests.harness.waiting import wait_for

# Other tests of this process may have left threads; the child uses none of theirs.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class _Nobody:
    trouble = ""

    def ask(self, _local: str, _domain: str, _deadline: float) -> Existence:
        return Existence.MISSING


def _open(_name: SourceName) -> KeptAnswers:
    return KeptAnswers(_Nobody())


class Parent:
    """Askers as a supervisor keeps them, and what they log."""

    def __init__(self) -> None:
        self._log, self._written = os.pipe()
        self.askers = Askers(Console(self._written), lambda: [self._log])
        self.plan = Plan((parse_source("sql:x"),), _open, *make_door())
        self.client = AskerClient(self.plan.outer)
        self.askers.want(self.plan)
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        return self.askers._posts[0].process

    def at(self, seconds: float) -> None:
        """Let so much time have passed since the start."""
        self.askers.keep_up(self.began + seconds)

    def bury(self) -> str:
        """Wait for a child's end, and do what is due."""
        process, status = os.waitpid(self.pid, 0)
        self.askers.bury(process, f"signal {status}")
        return self.log()

    def log(self) -> str:
        return os.read(self._log, 65536).decode()

    def close(self) -> None:
        self.client.close()
        for plan in self.askers.plans():
            process = self.pid
            self.askers.dismiss(plan)
            os.waitpid(process, 0)
        os.close(self._log)
        os.close(self._written)


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent()
    assert parent.askers.lack(parent.plan)
    parent.at(0)
    assert not parent.askers.lack(parent.plan)
    yield parent
    parent.close()


def ask(parent: Parent) -> Existence | None:
    return parent.client.ask(Question("sql:x", "ours.test", ("x",), time.monotonic() + 5))


def test_one_that_answers_is_left_alone(parent: Parent) -> None:
    assert ask(parent) is Existence.MISSING
    first = parent.pid
    for seconds in range(0, 600, 5):
        parent.at(seconds)
        visit = parent.askers._posts[0].visit
        if visit is not None:
            wait_for(partial(_has_word, visit), 5, "an answer")
    assert parent.pid == first
    assert ask(parent) is Existence.MISSING


def _has_word(visit: socket.socket) -> bool:
    try:
        return bool(visit.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_one_that_is_silent_is_put_down_and_replaced(parent: Parent) -> None:
    assert ask(parent) is Existence.MISSING
    first = parent.pid
    freeze(first)
    for seconds in (BETWEEN_KNOCKS + 1, SILENCE - 1):
        parent.at(seconds)
        assert parent.pid == first
        assert os.waitpid(first, os.WNOHANG) == (0, 0)
    parent.at(SILENCE + 1)
    assert f"asker_silent pid={first} seconds=31" in parent.bury()
    assert parent.pid == 0
    parent.at(SILENCE + 3)
    assert parent.pid not in (0, first)
    assert ask(parent) is Existence.MISSING


def test_the_next_point_in_time_lies_ahead(parent: Parent) -> None:
    """Else the parent's loop would never rest."""
    with frozen(parent.pid):
        while visitor := knock(parent.plan.outer):
            visitor.close()
        for seconds in range(0, int(SILENCE), 3):
            parent.at(seconds)
            due = parent.askers.due
            assert due is not None
            assert due > parent.began + seconds


def test_it_comes_to_its_end_when_nobody_is_left(parent: Parent) -> None:
    process = parent.pid
    parent.askers.dismiss(parent.plan)
    assert os.waitpid(process, 0)[0] == process
    assert parent.askers.due is None
