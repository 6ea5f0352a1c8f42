"""The record of a disposable address on a real Redis: switched off or not, its uses, and its end."""

import time

import pytest

from backstop.adapters import redis_names
from backstop.adapters.redis_alias import KEPT, is_off, off_command, use_commands
from backstop.adapters.redis_store import ReplyError
from tests.contract.redis_peer import patient

ADDRESS = "bob+d-1484abcdef@example.com"
KEY = redis_names.alias(ADDRESS).decode()
NOW = time.time()
UNTIL = float(int(NOW) // 86400 * 86400 + 30 * 86400)


@pytest.fixture
def store(shared_redis):
    store = patient(shared_redis.unix_url)
    yield store
    store.close()


@pytest.fixture
def client(shared_redis):
    with shared_redis.client() as client:
        yield client


@pytest.mark.parametrize("word", ["1", "on", "yes", "true", " Yes "])
def test_a_word_for_yes_switches_it_off(store, client, word):
    client.hset(KEY, "off", word)
    assert is_off(store.ask([off_command(ADDRESS)])[0])


@pytest.mark.parametrize("word", ["0", "off", "no", "false", "", "junk", "2", "\xff"])
def test_no_other_word_does(store, client, word):
    client.hset(KEY, "off", word)
    assert not is_off(store.ask([off_command(ADDRESS)])[0])


def test_an_address_without_a_record_is_on(store, client):
    assert not is_off(store.ask([off_command(ADDRESS)])[0])
    client.hset(KEY, "note", "shop")
    assert not is_off(store.ask([off_command(ADDRESS)])[0])


def test_a_key_of_another_type_switches_nothing_off_and_harms_no_neighbour(store, client):
    client.set(KEY, "off")
    [wrong, right] = store.ask([off_command(ADDRESS), off_command("carol+d-1484abcdef@example.com")])
    assert isinstance(wrong, ReplyError)
    assert not is_off(wrong)
    assert right is None
    store.write(use_commands(ADDRESS, NOW, UNTIL))
    assert client.get(KEY) == "off"


def test_uses_are_counted_and_what_was_never_registered_ends_too(store, client):
    for seconds in range(3):
        store.tell(use_commands(ADDRESS, 1795262400 + seconds, UNTIL))
    store.ask([off_command(ADDRESS)])
    assert client.hgetall(KEY) == {"used": "3", "last": "2026-11-21T12:00:02Z"}
    assert abs(client.ttl(KEY) - (UNTIL + KEPT - time.time())) < 60


def test_a_use_changes_nothing_that_a_command_wrote(store, client):
    client.hset(KEY, mapping={"note": "shop", "until": "2026-12-21", "used": 41, "off": "1"})
    store.write(use_commands(ADDRESS, NOW, UNTIL))
    kept = client.hgetall(KEY)
    assert kept.pop("last")
    assert kept == {"note": "shop", "until": "2026-12-21", "used": "42", "off": "1"}


def test_a_count_that_is_no_number_stays(store, client):
    client.hset(KEY, "used", "many")
    store.write(use_commands(ADDRESS, NOW, UNTIL))
    assert client.hget(KEY, "used") == "many"
    assert client.ttl(KEY) > 0


def test_an_address_that_ended_long_ago_leaves_no_record(store, client):
    store.write(use_commands(ADDRESS, NOW, NOW - KEPT - 1))
    assert not client.exists(KEY)


@pytest.mark.parametrize("local", ["a\r\nDEL x", "ü", "\udcfc", "a" * 600])
def test_no_address_leaves_its_place(store, client, local):
    address = f"{local}+d-1484abcdef@example.com"
    store.write(use_commands(address, NOW, UNTIL))
    assert client.dbsize() == 1
    assert store.ask([off_command(address)]) == [None]
