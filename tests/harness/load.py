"""A paced load of mail: couriers that deliver the messages of a seeded plan, each in a thread of its own."""

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from tests.harness.ledger import Entry, Kind, Ledger, Plan
from tests.harness.waiting import wait_for


class Courier(Protocol):
    """Takes one message after the other to the mail server or the milter."""

    def deliver(self, number: int, kind: Kind) -> Entry:
        """Deliver a message, and tell what became of it."""

    def close(self) -> None:
        """Say goodbye."""


class Load:
    """Messages at `rate` a second, noted in the ledger, until the block ends; `seed` decides which.

    `hire` makes a courier, who gets a source of chance of his own.
    """

    def __init__(
        self,
        ledger: Ledger,
        hire: Callable[[random.Random], Courier],
        *,
        seed: int,
        rate: float,
        couriers: int,
    ) -> None:
        print(f"load of seed {seed}, {rate:g} messages a second")
        self.ledger = ledger
        self._hire = hire
        self._rate = rate
        self._plan = Plan(seed)
        self._ended = threading.Event()
        self._bugs: list[BaseException] = []
        self._began = 0.0
        self._threads = [
            threading.Thread(target=self._guarded, args=(random.Random(f"{seed} {number}"),))
            for number in range(couriers)
        ]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        print(self.ledger.summary())
        if self._bugs and kind is None:
            raise self._bugs[0]

    def go_on(self, seconds: float) -> None:
        """Let it run for so long."""
        self._ended.wait(seconds)

    def go_on_for(self, messages: int, seconds: float = 60) -> None:
        """Let it run until so many more messages have an entry; at most so many seconds."""
        wanted = len(self.ledger.entries) + messages
        wait_for(lambda: len(self.ledger.entries) >= wanted, seconds, f"{messages} messages of the load")

    def _guarded(self, chance: random.Random) -> None:
        try:
            courier = self._hire(chance)
            self._run(courier)
            courier.close()
        except BaseException as bug:  # noqa: BLE001 - of this harness; it is raised again where the load ends
            self._bugs.append(bug)

    def _run(self, courier: Courier) -> None:
        while True:
            number, kind = self._plan.draw()
            self._ended.wait(max(self._began + number / self._rate - time.monotonic(), 0))
            if self._ended.is_set():
                return
            self.ledger.note(courier.deliver(number, kind))
