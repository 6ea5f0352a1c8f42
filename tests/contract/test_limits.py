"""Limits on a real Redis: a window that was opened ends."""

import socket
from typing import Any

import pytest

from backstop.adapters import redis_names as names
from backstop.adapters.limits import count_commands, read_command
from backstop.adapters.redis_store import Store
from backstop.settings import Limits
from backstop.verdict import Count
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

CLIENT = "192.0.2.1"
COUNT = Count(CLIENT, "bad_tags")
KEY = names.client(CLIENT, "bad_tags")
SECONDS = Limits().bad_tags.seconds


def test_a_window_that_ended_between_two_commands_left_a_count_without_end(shared_redis: RedisServer) -> None:
    """INCR then began a count of its own, and the client's good tags got 450 for ever."""
    commands = count_commands([COUNT], Limits())
    with shared_redis.client() as client, socket.socket(socket.AF_UNIX) as link:
        client.set(KEY, 9, px=50)
        link.connect(str(shared_redis.socket))
        link.settimeout(10)
        link.sendall(b"".join(commands[:-1]))
        _replies(link, len(commands) - 1)
        wait_for(lambda: not client.exists(KEY), 10, "the end of the window")
        link.sendall(commands[-1])
        wait_for(lambda: client.exists(KEY), 10, "the count")
        assert client.get(KEY) == "1"
        assert 0 < client.ttl(KEY) <= SECONDS


def test_several_things_are_counted_and_read(shared_redis: RedisServer) -> None:
    counts = [
        COUNT,
        Count("alice@example.com", "bad_tags_address"),
        Count("2001:db8::", "unknown_recipients"),
    ]
    store = Store(shared_redis.unix_url)
    for _ in range(3):
        store.tell(count_commands(counts, Limits()))
    assert store.ask([read_command(count.name, count.what) for count in counts]) == [b"3", b"3", b"3"]
    store.close()
    with shared_redis.client() as client:
        keys = sorted(client.keys())
        assert all(client.ttl(key) > 0 for key in keys)
    assert keys == [
        "backstop:client:192.0.2.1:bad_tags",
        "backstop:client:2001_db8__:unknown_recipients",
        "backstop:client:alice@example.com:bad_tags_address",
    ]


@pytest.mark.parametrize("value", ["abc", str(2**63 - 1)])
def test_a_count_that_is_none_spoils_no_other(shared_redis: RedisServer, value: Any) -> None:
    other = Count("alice@example.com", "bad_tags_address")
    store = Store(shared_redis.unix_url)
    with shared_redis.client() as client:
        client.set(KEY, value)
    store.tell(count_commands([COUNT, other], Limits()))
    assert store.ask([read_command(other.name, other.what)]) == [b"1"]
    assert store.available
    store.close()


def _replies(link: socket.socket, lines: int) -> None:
    heard = b""
    while heard.count(b"\r\n") < lines:
        heard += link.recv(4096)
