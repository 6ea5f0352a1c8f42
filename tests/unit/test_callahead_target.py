"""Which next hop a setting names, and what can be asked of it."""

import re
import subprocess
import sys

import pytest

from backstop.adapters.callahead_domains import random_local
from backstop.adapters.callahead_target import Target, parse_target, path_of
from tests.harness.servers import backstop_environment


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("callahead:[mail.example.com]:2525", Target("mail.example.com", 2525)),
        ("callahead:[mail.example.com]", Target("mail.example.com", 25)),
        ("callahead:mail.example.com:2525", Target("mail.example.com", 2525)),
        ("callahead:mail.example.com", Target("mail.example.com", 25)),
        ("[mail.example.com]:25", Target("mail.example.com", 25)),
        ("callahead:[192.0.2.1]:25", Target("192.0.2.1", 25)),
        ("callahead:192.0.2.1", Target("192.0.2.1", 25)),
        ("callahead:[2001:db8::1]:587", Target("2001:db8::1", 587)),
        ("callahead:[IPv6:2001:db8::1]", Target("2001:db8::1", 25)),
        ("callahead:localhost:65535", Target("localhost", 65535)),
        ("callahead:Mail.Example.COM.", Target("mail.example.com", 25)),
        ("callahead:exchange_1", Target("exchange_1", 25)),
    ],
)
def test_a_next_hop_is_read(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("callahead:", "host name"),
        ("callahead:[]:25", "host name"),
        ("callahead::25", "host name"),
        ("callahead:2001:db8::1", "write [2001:db8::1]"),
        ("callahead:25", "host name"),
        ("callahead:mail.example.com:0", "from 1 to 65535"),
        ("callahead:mail.example.com:65536", "from 1 to 65535"),
        ("callahead:mail.example.com:" + "9" * 5000, "from 1 to 65535"),
        ("callahead:mail.example.com:smtp", "[host]:port"),
        ("callahead:mail example.com", "host name"),
        ("callahead:mail..example.com", "host name"),
        ("callahead:-mail.example.com", "host name"),
        ("callahead:[mail.example.com", "[host]:port"),
        ("callahead:[a]b:25", "[host]:port"),
        ("callahead:mail.example.com\n", "host name"),
        ("callahead:" + "a" * 64, "host name"),
        ("callahead:" + "a." * 200 + "a", "host name"),
        ("callahead:1.2.3", "host name"),
        ("callahead:\u0661\u0662", "host name"),
    ],
)
def test_what_is_no_next_hop_is_refused_with_its_cure(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_target(text)


@pytest.mark.parametrize("target", [Target("mail.example.com", 2525), Target("2001:db8::1")])
def test_a_target_is_shown_as_it_can_be_written(target):
    assert parse_target(f"callahead:{target}") == target


def test_reading_a_setting_loads_nothing_heavy():
    heavy = ("smtplib", "ssl", "email", "dns")
    code = (
        "import sys, backstop.adapters.callahead_target as light;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=backstop_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def test_a_path_says_whether_it_is_ascii():
    assert path_of("ann", "Example.COM.").text == "ann@example.com"
    assert path_of("ann", "example.com").is_ascii
    assert not path_of("jürgen", "example.com").is_ascii


@pytest.mark.parametrize(
    "code", [*range(0x21), 0x7F, *range(0x80, 0xA1), 0xAD, 0x2028, 0x202E, 0xDCFF, 0xFEFF]
)
def test_nothing_invisible_comes_through(code):
    path = path_of(f"a{chr(code)}b", "example.com")
    assert path is None or (code == 0x20 and path.text == '"a b"@example.com')
    path = path_of("ann", f"exa{chr(code)}mple.com")
    assert path is None or path.text == "ann@example.com"  # IDNA takes out what has no width


def test_random_names_look_like_names_and_are_never_the_same():
    names = {random_local() for _ in range(2000)}
    assert len(names) == 2000
    assert all(re.fullmatch(r"[a-z]{8}\.[a-z]{8}[0-9]{2}", name) for name in names)
