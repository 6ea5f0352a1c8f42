"""The store on a Redis that is well: answers, the pool, threads, forks."""

import os
import random
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from backstop.adapters import redis_names as names
from backstop.adapters.redis_store import ReplyError, Store, StoreUnavailable, glance, pack
from tests.contract.redis_peer import patient
from tests.harness.servers import backstop_environment, wait_for

TYPES = {
    "absent": lambda c, k: c.delete(k),
    "string": lambda c, k: c.set(k, "junk"),
    "number": lambda c, k: c.set(k, 7),
    "empty string": lambda c, k: c.set(k, ""),
    "not UTF-8": lambda c, k: c.set(k, b"\xff\xfe\x00\r\n"),
    "10 MB": lambda c, k: c.set(k, b"x" * 10_000_000),
    "list": lambda c, k: c.rpush(k, "a"),
    "set": lambda c, k: c.sadd(k, "a"),
    "zset": lambda c, k: c.zadd(k, {"a": 1}),
    "hash": lambda c, k: c.hset(k, "f", "word"),
    "biggest number": lambda c, k: c.hset(k, "f", 2**63 - 1),
    "stream": lambda c, k: c.xadd(k, {"a": "b"}),
}
READS = [
    ("GETRANGE", 0, 63),
    ("HMGET", "f", "g"),
    ("HGETALL",),
    ("SISMEMBER", "a"),
    ("SCARD",),
    ("HLEN",),
    ("HSCAN", 0, "COUNT", 500),
    ("SMEMBERS",),
]
WRITES = [
    ("INCR",),
    ("HINCRBY", "f", 1),
    ("HSET", "f", 1),
    ("HDEL", "g"),
    ("XADD", "MAXLEN", "~", 1000, "*", "f", "g"),
    ("SET", "1", "NX", "EX", 100),
    ("EXPIRE", 100),
]


@pytest.fixture(params=["unix", "tcp"])
def store(request, shared_redis):
    store = patient(shared_redis.unix_url if request.param == "unix" else shared_redis.url)
    yield store
    store.close()


@pytest.fixture
def client(shared_redis):
    client = shared_redis.client()
    yield client
    client.close()


def test_one_round_trip_answers_many_questions(store, client):
    client.set(names.block("example.com"), "junk")
    client.sadd(names.recipients("example.com"), "bob", "bö")
    client.hset(names.domain("example.com"), mapping={"tag": "reject"})
    replies = store.ask(
        [
            glance(names.block("example.com")),
            glance(names.BLOCK_ALL),
            pack("SISMEMBER", names.recipients("example.com"), "bö"),
            pack("SISMEMBER", names.recipients("example.com"), "eve"),
            pack("HMGET", names.domain("example.com"), "tag", "unproved"),
            pack("HGETALL", names.domain("example.com")),
            glance(names.domain("example.com")),
        ]
    )
    assert replies[:6] == [b"junk", b"", 1, 0, [b"reject", None], [b"tag", b"reject"]]
    assert isinstance(replies[6], ReplyError)
    assert replies[6].kind == "WRONGTYPE"
    assert store.available


def test_a_question_is_one_packet_each_way(redis_server):
    with redis_server.client() as client:
        store = patient(redis_server.url)
        store.ask([glance(names.BLOCK_ALL)])
        before = client.info("stats")["total_reads_processed"]
        for _ in range(50):
            store.ask([glance(names.block(f"{number}.example.com")) for number in range(8)])
        assert client.info("stats")["total_reads_processed"] - before <= 51
        store.close()


def test_a_toggle_counts_from_the_next_question_on(store, client):
    for value in ["junk", "reject"]:
        client.set(names.BLOCK_ALL, value, ex=60)
        assert store.ask([glance(names.BLOCK_ALL)]) == [value.encode()]
    client.delete(names.BLOCK_ALL)
    assert store.ask([glance(names.BLOCK_ALL)]) == [b""]


def test_what_is_told_arrives_and_its_answers_are_not_taken_for_others(store, client):
    limit = names.client("192.0.2.1", "bad_tags")
    for number in range(1, 51):
        store.tell([pack("INCR", limit), pack("EXPIRE", limit, 60), pack("HGET", limit, "f")])
        assert store.ask([glance(limit), pack("STRLEN", limit)]) == [b"%d" % number, len(str(number))]
    assert client.ttl(limit) > 0
    assert store.available


def test_what_is_told_and_never_asked_arrives_too(store, client):
    for told in range(100, 3001, 100):
        for _ in range(100):
            store.tell([pack("INCR", "backstop:client:_:x")])
        wait_for(lambda wanted=str(told): client.get("backstop:client:_:x") == wanted, 5, "what was told")
    assert store.ask([glance(b"backstop:client:_:x")]) == [b"3000"]


def test_a_server_that_lags_is_told_less_and_nobody_waits(redis_server):
    store = patient(redis_server.unix_url)
    store.probe()
    redis_server.freeze()
    started = time.monotonic()
    for _ in range(5000):
        store.tell([pack("INCR", "backstop:client:_:x")])
    took = time.monotonic() - started
    redis_server.thaw()
    [told] = store.ask([glance(b"backstop:client:_:x")])
    assert 100 < int(told) <= 5000
    assert took < 2
    store.close()


@pytest.mark.parametrize("kind", TYPES)
def test_a_key_of_any_type_gives_a_value_or_an_error_value_and_hurts_nobody(shared_redis, client, kind):
    store = patient(shared_redis.unix_url)
    key, other = "backstop:block:example.com", names.block("example.org")
    client.set(other, "junk")
    TYPES[kind](client, key)
    for command, *rest in READS:
        replies = store.ask([glance(other), pack(command, key, *rest), glance(other)])
        assert replies[0] == replies[2] == b"junk"
        assert not isinstance(replies[1], ReplyError) or replies[1].kind == "WRONGTYPE"
    for command, *rest in WRITES:
        client.delete(key)
        TYPES[kind](client, key)
        [reply, after] = store.write([pack(command, key, *rest), glance(other)])
        assert not isinstance(reply, ReplyError) or reply.kind in {"WRONGTYPE", "ERR"}
        assert after == b"junk"
    assert store.available
    store.close()


def test_a_value_of_10_mb_is_an_error_value_for_its_key_alone(shared_redis, client):
    store = patient(shared_redis.unix_url)
    client.set("backstop:block:big", b"x" * 10_000_000)
    client.set("backstop:block", "junk")
    store.ask([glance(names.BLOCK_ALL)])
    started = time.monotonic()
    replies = store.ask(
        [
            glance(names.BLOCK_ALL),
            pack("GET", "backstop:block:big"),
            pack("GET", "backstop:block:big"),
            pack("GET", "backstop:block"),
        ]
    )
    took = time.monotonic() - started
    assert [replies[0], replies[3]] == [b"junk", b"junk"]
    assert [reply.kind for reply in replies[1:3]] == ["TOOBIG", "TOOBIG"]
    assert took < 2
    assert store.available
    store.close()


def test_an_answer_of_many_pieces_is_put_together(store, client):
    client.sadd("backstop:recipients:example.com", *range(50_000))
    assert len(store.ask([pack("SMEMBERS", "backstop:recipients:example.com")])[0]) == 50_000
    assert store.ask([glance(names.BLOCK_ALL)]) == [b""]


def test_answers_match_their_questions_with_32_threads_and_a_server_that_stumbles(redis_server):
    """Each thread asks for values it can check; the server halts for longer than the timeout now and then."""
    with redis_server.client() as client:
        client.mset({f"backstop:block:{number}": f"v{number}" for number in range(1000)})
    store = Store(redis_server.unix_url, connections=6, timeout=0.03)
    ending = threading.Event()
    answered, unavailable, wrong = [], [], []

    def ask(seed):
        chance = random.Random(seed)
        while not ending.is_set():
            asked = [chance.randrange(1000) for _ in range(chance.randrange(1, 9))]
            if chance.random() < 0.3:
                store.tell([pack("INCR", f"backstop:client:{seed}:x"), pack("GET", "backstop:block:wrong")])
            try:
                replies = store.ask([glance(names.block(str(number))) for number in asked])
            except StoreUnavailable as error:
                unavailable.append(str(error))
                time.sleep(0.001)
                continue
            answered.append(1)
            if replies != [b"v%d" % number for number in asked]:
                wrong.append((asked, replies))

    def tend():
        while not ending.wait(0.01):
            store._next_trial = 0.0  # try at once: the more comes and goes, the better
            store.probe()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(32)]
    threads.append(threading.Thread(target=tend))
    for thread in threads:
        thread.start()
    until = time.monotonic() + 3
    while time.monotonic() < until:
        time.sleep(0.05)
        redis_server.freeze()
        time.sleep(0.05)
        redis_server.thaw()
    ending.set()
    for thread in threads:
        thread.join(10)
    assert not wrong[:3]
    assert len(answered) > 1000
    assert any("in time" in text for text in unavailable)
    store.close()


def test_whoever_waits_for_a_connection_is_served_in_turn(redis_server):
    store = patient(redis_server.unix_url, connections=2)
    store.probe()
    failures = []

    def ask():
        for _ in range(100):
            try:
                store.ask([glance(names.BLOCK_ALL)])
            except StoreUnavailable as error:
                failures.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with redis_server.client() as client:
        assert client.info("clients")["connected_clients"] <= 3
    store.close()


def test_a_forked_process_shares_nothing(redis_server):
    """Parent and children ask at once for different things; a shared connection would mix them up."""
    script = textwrap.dedent(
        """
        import os, sys
        from backstop.adapters.redis_store import Store, pack

        store = Store(sys.argv[1], timeout=5)
        own = lambda who: store.ask([pack("ECHO", who), pack("CLIENT", "ID")])
        first = own("parent")[1]
        children = []
        for child in ("one", "two"):
            if (pid := os.fork()) == 0:
                answers = [own(child) for _ in range(500)]
                good = all(said == child.encode() and number != first for said, number in answers)
                store.close()
                os._exit(0 if good else 1)
            children.append(pid)
        good = all(own("parent") == [b"parent", first] for _ in range(500))
        ended = [os.waitpid(pid, 0)[1] for pid in children]
        good = good and own("parent") == [b"parent", first]
        store.close()
        sys.exit(0 if good and ended == [0, 0] else 1)
        """
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, redis_server.unix_url],
        env=backstop_environment(),
        check=False,
        timeout=60,
    )
    assert ran.returncode == os.EX_OK


def test_after_close_it_is_unavailable_and_leaves_no_connection(redis_server):
    store = patient(redis_server.url)
    store.probe()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.ask([glance(names.BLOCK_ALL)])
    store.tell([glance(names.BLOCK_ALL)])
    assert not store.probe()
    with redis_server.client() as client:
        wait_for(lambda: client.info("clients")["connected_clients"] == 1, 5, "the connections to be closed")


def test_a_database_other_than_0_is_chosen(redis_server):
    store = patient(redis_server.url.removesuffix("/0") + "/3")
    with redis_server.client() as client:
        client.select(3)
        client.set("backstop:block", "junk")
    assert store.ask([glance(names.BLOCK_ALL)]) == [b"junk"]
    store.close()
