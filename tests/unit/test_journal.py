"""The journal: what is said, and how often."""

import contextlib
import os
import resource
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backstop.adapters.redis_store import Store
from backstop.config import LogAddresses
from backstop.journal import Journal, Priority
from backstop.settings import Limit, Limits
from backstop.verdict import Record


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


RECORDS = [
    Record("our.example", (), notable=True, action="accept"),
    Record("our.example", (), queue_id="4X1", reverse_path="a@b", action="tagged", recipient='x" y=z@b'),
    Record(
        'no "domain"',
        (),
        queue_id="4X\n1",
        client="2001:db8::1",
        reverse_path="prvs=1234abcdef=a@b" + "c" * 400,
        recipient="\udcff@b",
        check="tag",
        result="fail",
        action="reject",
        reply='550 5.7.1 "No"',
        reason="tag\tforged",
    ),
]


@pytest.mark.parametrize("addresses", LogAddresses)
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("stream", ["", "8:1"])
def test_a_record_is_the_line_of_its_fields(
    record: Record, addresses: LogAddresses, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stream:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    limit = Limit(10, 60)
    one = Journal(cast("Any", Away()), Limits(limit, limit, limit), addresses, b"secret")
    assert one._line_of(record) == one._line(Priority.INFO, one._fields(record))


def test_lines_keep_their_order_and_the_newest_records_are_shown() -> None:
    one = journal(Away())
    events: list[Mapping[str, str]] = []
    one._behind = SimpleNamespace(count=lambda *_: None, event=events.append)  # type: ignore[assignment]
    for number in range(60):
        one.take((), (Record("our.example", (), notable=True, queue_id=str(number), action="accept"),), 0.0)
        if number == 30:
            one.trouble("in between")
    reading, one._output = os.pipe()
    one._show_events()
    one._write_lines()
    words = [line.split()[0] for line in os.read(reading, 65536).decode().splitlines()]
    assert words == [
        *(f"queue_id={number}" for number in range(31)),
        'trouble="in',
        *(f"queue_id={number}" for number in range(31, 60)),
    ]
    assert [event["queue_id"] for event in events] == [str(number) for number in range(10, 60)]
    os.close(one._output)
    os.close(reading)


def test_lines_of_several_workers_stood_within_each_other() -> None:
    """A pipe takes no more than PIPE_BUF in one piece."""
    one = journal(Away())
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one._output = writing.fileno()
    lines = [f"trouble={'x' * length}\n" for length in (3000, 1000, 90, 1, 4087, 1, 9000, 50, 50)]
    for line in lines:
        one._put(line)
    one._write_lines()
    writing.close()
    pieces = list(iter(lambda: reading.recv(65536).decode(), ""))
    reading.close()
    assert "".join(pieces) == "".join(lines)
    assert all(piece.endswith("\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > select.PIPE_BUF] == [len(lines[6])]
    assert len(pieces) == 6


def test_a_jump_of_the_clock_is_said_once() -> None:
    one = journal(Away())
    ahead = one._clock_was
    for jump in (0.0, 3000.0, 6000.0, 86_400.0, 86_400.0, 0.0, 0.0):
        one._watch_clock(ahead + jump)
    assert list(one._lines) == [
        'trouble="the clock jumped by +80400 seconds"\n',
        'trouble="the clock jumped by -86400 seconds"\n',
    ]


def test_what_could_not_be_counted_at_the_end_was_not_said() -> None:
    """The counters are flushed last, when nobody wrote lines any more."""
    one = journal(Store("unix:///nonexistent/redis.sock"))
    reading, one._output = os.pipe()
    one.start()
    one.take((), [Record("ours.test", ("bounce.seen",))], 0.0)
    one.stop(time.monotonic() + 10)
    os.close(one._output)
    assert "3 counts are lost: the store was away at the end" in os.read(reading, 65536).decode()
    os.close(reading)


def _fill(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)


def _empty(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.read(descriptor, 65536)
