"""The journal: what is said, and how often."""

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backstop.config import LogAddresses
from backstop.journal import Journal
from backstop.settings import Limit, Limits


@dataclass
class Away:
    """A store of which only the reason matters."""

    reason: str = ""


def journal(store: Any) -> Journal:
    limit = Limit(10, 60)
    return Journal(store, Limits(limit, limit, limit), LogAddresses.FULL, b"secret")


def test_an_outage_that_changes_its_reason_is_no_line_a_second() -> None:
    """`ERR max number of clients reached` and `Broken pipe` took turns, with each trial."""
    store = Away()
    one = journal(store)
    for reason in ["Connection refused", *["Broken pipe", "it is full"] * 20, ""]:
        store.reason = reason
        one._watch_store()
    assert list(one._lines) == [
        'store=away reason="Connection refused"\n',
        'trouble="the store is away for another reason: Broken pipe"\n',
        'trouble="the store is away for another reason: it is full"\n',
        "store=back\n",
    ]


def test_word_of_dropped_lines_is_not_dropped_with_a_line() -> None:
    """The number stood in the next line, and was forgotten when that one was dropped too."""
    one = journal(Away())
    reading, one._output = os.pipe()
    os.set_blocking(one._output, False)
    _fill(one._output)
    for number in range(10):
        one.trouble(f"number {number}")
        one._write_lines()
    _empty(reading)
    one.trouble("the last")
    one._write_lines()
    assert os.read(reading, 4096).decode() == 'trouble="the last"\nlines_dropped=10\n'
    one._write_lines()
    os.close(one._output)
    assert os.read(reading, 4096) == b""
    os.close(reading)


def test_a_line_of_which_only_half_was_taken_is_counted_and_stays_alone(tmp_path: Path) -> None:
    one = journal(Away())
    log = tmp_path / "log"
    one._output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    one.trouble("first")
    one.trouble("second")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    one._write_lines()
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    one.trouble("third")
    one._write_lines()
    os.close(one._output)
    assert log.read_text() == "trouble=first\ntroubl\ntrouble=third\nlines_dropped=1\n"


def _fill(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)


def _empty(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.read(descriptor, 65536)
