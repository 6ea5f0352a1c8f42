"""The parent's log lines: one line an event, whatever is in it."""

import os

import pytest

from backstop.daemon.console import Console


def lines(environment: dict[str, str], **fields: object) -> list[str]:
    reader, writer = os.pipe()
    Console(writer, environment).warning("event", **fields)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="strict") as end:
        return end.read().split("\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (7, "7"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "so"', r'"say \"so\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nfeed", r'"line\\nfeed"'),
        ("\x1b[31m\r\x00\x7f", r'"\\x1b[31m\\r\\x00\\x7f"'),
        ("a\u2028b\u202ec", r'"a\\u2028b\\u202ec"'),
        ("\udce9", r'"\\xe9"'),
        ("müller", '"müller"'),
    ],
)
def test_a_value_is_one_word(value: object, shown: str) -> None:
    assert lines({}, key=value) == [f"event key={shown}", ""]


def test_the_journal_gets_the_priority() -> None:
    assert lines({"JOURNAL_STREAM": "8:1"}) == ["<4>event", ""]


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    console = Console(writer, {})
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    for _ in range(3):
        console.info("lost")
    os.read(reader, 1 << 20)
    console.info("heard")
    assert os.read(reader, 1 << 20) == b"heard lines_dropped=3\n"
    console.info("again")
    assert os.read(reader, 1 << 20) == b"again\n"
    os.close(reader)
    os.close(writer)
