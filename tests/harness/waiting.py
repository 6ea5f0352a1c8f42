"""Waiting for a condition, for harness parts that run without pytest (the demo uses them too)."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def wait_for(condition: Callable[[], _T], seconds: float, what: str) -> _T:
    """The first true answer of the condition; without one in time a TimeoutError that names `what`."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return answer
