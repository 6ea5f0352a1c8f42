"""Times as people give and read them, the line for redis-cli, and what is printed."""

import io

import pytest

from backstop.adapters.redis_place import parse_place
from backstop.cli import output
from backstop.cli.store import _client
from backstop.cli.times import left_text, moment_text, parse_moment, parse_span
from backstop.plain import plain

NOW = 1795262400.0  # 2026-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("12h", 43200),
        (" 2D ", 172800),
        ("1w", 604800),
        ("2026-11-21T13:00Z", 3600),
        ("2026-11-21T13:00", 3600),
        ("2026-11-21T14:00+01:00", 3600),
        ("2026-11-22", 43200),
    ],
)
def test_a_time_from_now_on(text, seconds):
    assert parse_span(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "d", "-2d", "2 d", "tomorrow", "2026-13-01", "12:00", "٣d", "1e3s"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is no time; wanted is"):
        parse_span(text, NOW)


@pytest.mark.parametrize("text", ["0s", "2026-11-21T11:59Z", "1970-01-01", "2026-11-21T12:00Z"])
def test_what_is_over(text):
    with pytest.raises(ValueError, match="is over already"):
        parse_span(text, NOW)


def test_moments_there_and_back():
    assert moment_text(NOW) == "2026-11-21T12:00:00Z"
    assert parse_moment(moment_text(NOW)) == NOW


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3661, "1h 1m"),
        (86400, "1d 0h"),
        (172799, "1d 23h"),
        (-5, "0s"),
    ],
)
def test_what_is_left(seconds, text):
    assert left_text(seconds) == text


@pytest.mark.parametrize(
    ("urls", "line"),
    [
        ("redis://127.0.0.1:6379/0", "redis-cli"),
        ("redis://127.0.0.1:6379/3", "redis-cli -h 127.0.0.1 -p 6379 -n 3"),
        ("redis://:word@cache.example", "redis-cli -h cache.example -p 6379 --askpass"),
        ("redis://me:word@[::1]:7000", "redis-cli -h ::1 -p 7000 --user me --askpass"),
        ("unix:///run/redis/redis.sock?db=2", "redis-cli -s /run/redis/redis.sock -n 2"),
        ("unix:///run/two%20words.sock", "redis-cli -s '/run/two words.sock'"),
        ("rediss://h/0?ssl_ca_certs=/etc/ca.pem", "redis-cli -h h -p 6379 --tls --cacert /etc/ca.pem"),
        (["redis+sentinel://a/mymaster", "redis+sentinel://b/mymaster"], "redis-cli -h MASTER"),
    ],
)
def test_the_line_for_redis_cli(urls, line):
    assert " ".join(_client(parse_place(urls))) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is: ä €", "as it is: ä €"),
        ("a\nb\r\t\0", "a\\nb\\r\\t\\x00"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b1m\x7f", "\\x9b1m\\x7f"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\u2028\ufeff\u00ad", "\\u2028\\ufeff\\xad"),
        ("\udcff\ud800", "\\xff\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_would_be_obeyed_is_shown(text, shown):
    assert plain(text) == shown


def test_a_stream_that_knows_few_letters(monkeypatch):
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    output.say("ä € \x1b")
    output.say_json({"ä": "\x7f\x1b\ud800"})
    output.table(("one", "two"), [("ä", "b\nc"), ("long cell", "")])
    stream.flush()
    assert octets.getvalue().decode("ascii").splitlines() == [
        "\\xe4 \\u20ac \\x1b",
        '{"\\u00e4": "\\u007f\\u001b\\ud800"}',
        "one        two",
        "\\xe4          b\\nc",
        "long cell",
    ]
