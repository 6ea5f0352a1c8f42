"""Counters, events and untagged senders on a real Redis: nothing twice, and what is missing is known."""

import random
import threading
import time
from datetime import UTC, datetime

import pytest

from backstop.adapters import redis_names as names
from backstop.adapters.redis_store import Store, StoreUnavailable, pack
from backstop.adapters.write_behind import DAY_KEPT, HOUR_KEPT, WriteBehind
from tests.contract.redis_peer import patient
from tests.harness.servers import RedisServer, need, wait_for

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
EVER = names.count("example.com").decode()
DAY = names.count_day("example.com", NOON).decode()
HOUR = names.count_hour("example.com", NOON).decode()
ALLOWED = {
    *(
        "hello",
        "select",
        "getrange",
        "hincrby",
        "expire",
        "hset",
        "hlen",
        "hmget",
        "hscan",
        "hdel",
        "xadd",
        "set",
        "scard",
        "sadd",
        "zadd",
        "zremrangebyrank",
    ),
}


@pytest.fixture
def told():
    return []


@pytest.fixture
def behind(redis_server, told):
    store = patient(redis_server.unix_url)
    behind = WriteBehind(store, on_trouble=told.append)
    yield behind
    store.close()


def total(client):
    """What three hashes hold of one name, in increments of single fields."""
    return sum(int(client.hget(key, "tag.fail") or 0) for key in (EVER, DAY, HOUR))


def test_counts_events_and_senders_arrive_and_expire(redis_server, behind):
    behind.count("example.com", ["tag.fail", "action.reject"], NOON.timestamp())
    behind.count("example.com", ["tag.fail"], NOON.timestamp())
    behind.event({"queue_id": "4XyZ", "reason": "bö\udcff\r\n"})
    behind.untagged("bob@example.com", NOON.timestamp())
    behind.flush()
    with redis_server.client() as client:
        for key in (EVER, DAY, HOUR):
            assert client.hgetall(key) == {"tag.fail": "2", "action.reject": "1"}
        assert client.ttl(EVER) == -1
        assert DAY_KEPT - 5 < client.ttl(DAY) <= DAY_KEPT
        assert HOUR_KEPT - 5 < client.ttl(HOUR) <= HOUR_KEPT
        assert client.hgetall("backstop:untagged") == {"bob@example.com": str(int(NOON.timestamp()))}
        client.connection_pool.connection_kwargs["decode_responses"] = False
    with redis_server.client() as client:
        assert client.xlen("backstop:events") == 1


def test_the_stream_is_capped(redis_server, behind):
    with redis_server.client() as client:
        for _ in range(60):
            for number in range(50):
                behind.event({"queue_id": str(number)})
            behind.flush()
        assert 1000 <= client.xlen("backstop:events") <= 1200


def test_the_thread_flushes_four_times_a_second_and_a_last_time_at_the_end(redis_server, behind):
    behind.start()
    with redis_server.client() as client:
        for made in range(1, 4):
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            started = time.monotonic()
            wait_for(lambda made=made: total(client) == 3 * made, 5, "the counts")
            assert time.monotonic() - started < 2
        behind.count("example.com", ["tag.fail"], NOON.timestamp())
        behind.stop(time.monotonic() + 5)
        assert total(client) == 12


def test_the_last_flush_tries_a_store_that_a_late_answer_had_shut_out(redis_server, told):
    """A busy machine answered one question late, a moment before the worker left: its counts were lost."""
    store = Store(redis_server.unix_url)
    behind = WriteBehind(store, every=60, on_trouble=told.append)
    behind.start()
    with redis_server.client() as client:
        wait_for(lambda: client.info("clients")["connected_clients"] > 1, 5, "the flusher's connection")
        redis_server.freeze()
        with pytest.raises(StoreUnavailable):
            store.ask([pack("GETRANGE", names.BLOCK_ALL, 0, 63)])
        redis_server.thaw()
        behind.count("example.com", ["tag.fail"], NOON.timestamp())
        wait_for(lambda: store._next_trial < time.monotonic(), 5, "the moment at which a trial may be made")
        behind.stop(time.monotonic() + 5)
        assert total(client) == 3
    assert told == []
    store.close()


def test_counting_costs_a_message_nothing_worth_naming(behind):
    behind.start()
    best = 1.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(10_000):
            behind.count("example.com", ("tag.fail", "action.reject"), NOON.timestamp())
        best = min(best, (time.perf_counter() - started) / 10_000)
    assert best < 20e-6
    behind.stop(time.monotonic() + 5)


@pytest.mark.parametrize("harm", ["kill", "freeze"])
def test_a_server_that_is_killed_or_frozen_under_load_never_counts_too_much(tmp_path, told, harm):
    """The server writes each change to disk before it answers: all it lost is what nobody answered for."""
    need("redis-server", "valkey-server")
    chance = random.Random(harm)
    made = 0
    with RedisServer(tmp_path, "appendonly yes", "appendfsync always") as server:
        store = Store(server.unix_url, write_timeout=0.2)
        behind = WriteBehind(store, every=0.01, on_trouble=told.append)
        ending = threading.Event()
        done = []

        def count():
            own = 0
            while not ending.is_set():
                behind.count("example.com", ["tag.fail"], NOON.timestamp())
                own += 1
                time.sleep(0.0005)
            done.append(own)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        behind.start()
        for _ in range(8):
            time.sleep(chance.uniform(0.05, 0.3))
            if harm == "kill":
                server.kill()
                time.sleep(chance.uniform(0, 0.1))
                server.start()
            else:
                server.freeze()
                time.sleep(chance.uniform(0.05, 0.5))
                server.thaw()
            wait_for(lambda: store.available, 20, "the store to be found again")
        ending.set()
        for thread in threads:
            thread.join()
        made = 3 * sum(done)
        wait_for(lambda: store.available, 20, "the store to be found again")
        behind.stop(time.monotonic() + 10)
        with server.client() as client:
            counted = total(client)
        missing = made - counted
        assert (behind.lost, behind.dropped, behind.unwritten) == (0, 0, 0)
        assert 0 <= missing <= behind.uncertain
        # A flush holds three fields; at most one is under way at each kill.
        assert behind.uncertain <= 8 * made / 10
        store.close()


def test_what_a_full_server_refuses_is_added_when_it_has_room(redis_server, behind, told):
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        for _ in range(10):
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            behind.event({"a": "b"})
            behind.untagged("bob@example.com", 1.0)
            behind.flush()
        assert total(client) == 0
        client.config_set("maxmemory", 0)
        wait_for(lambda: behind.flush() or behind.unwritten == 0, 3, "the counts")
        assert total(client) == 30
        assert client.hget("backstop:untagged", "bob@example.com") == "1"
    assert (behind.uncertain, behind.lost, behind.dropped) == (0, 0, 0)
    assert len(told) == 3, "counts, events and senders are told of once each"
    assert all("OOM" in text for text in told)


@pytest.mark.parametrize(
    ("setting", "wrong", "right"),
    [("min-replicas-to-write", 1, 0), ("maxmemory", 1, 0)],
)
def test_every_unit_is_counted_once_while_a_server_refuses_now_and_then(redis_server, setting, wrong, right):
    store = patient(redis_server.unix_url)
    behind = WriteBehind(store, every=0.01)
    behind.start()
    with redis_server.client() as client:
        for _ in range(200):
            client.config_set(setting, random.choice([wrong, right]))
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            behind._pause_until = 0.0
        client.config_set(setting, right)
        behind.stop(time.monotonic() + 5)
        assert total(client) == 600
    store.close()


def test_a_replica_keeps_counts_until_it_is_a_master(redis_server, tmp_path):
    need("redis-server", "valkey-server")
    with (
        RedisServer(tmp_path, f"replicaof 127.0.0.1 {redis_server.port}") as replica,
        replica.client() as client,
    ):
        store = patient(replica.url)
        told = []
        behind = WriteBehind(store, on_trouble=told.append)
        behind.count("example.com", ["tag.fail"], NOON.timestamp())
        behind.flush()
        assert "READONLY" in told[0]
        client.replicaof("NO", "ONE")
        wait_for(lambda: behind.flush() or behind.unwritten == 0, 5, "the counts")
        assert total(client) == 3
        store.close()


@pytest.mark.parametrize("spoil", ["list", "string", "word", "biggest"])
def test_a_counter_somebody_spoilt_is_named_and_the_others_go_on(redis_server, behind, told, spoil):
    with redis_server.client() as client:
        match spoil:
            case "list":
                client.rpush(DAY, "a")
            case "string":
                client.set(DAY, "a")
            case "word":
                client.hset(DAY, "tag.fail", "abc")
            case "biggest":
                client.hset(DAY, "tag.fail", 2**63 - 1)
        for _ in range(20):
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            behind.flush()
        behind.flush()
        assert client.hget(EVER, "tag.fail") == client.hget(HOUR, "tag.fail") == "20"
        assert client.hgetall("backstop:count:-") == {"counters.lost": "20"}
    assert (behind.lost, behind.unwritten) == (20, 0)
    assert sum(DAY in text for text in told) == 1


@pytest.mark.parametrize(
    "key", ["backstop:count:-", "backstop:events", "backstop:untagged", "backstop:untagged:sweep"]
)
def test_any_other_key_of_the_wrong_type_stops_nothing(redis_server, behind, key):
    with redis_server.client() as client:
        for kind in (lambda: client.rpush(key, "a"), lambda: client.set(key, "x")):
            client.delete(key)
            kind()
            behind._next_sweep = 0.0
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            behind.event({"a": "b"})
            behind.untagged("bob@example.com", 1.0)
            for _ in range(3):
                behind.flush()
        assert client.hget(EVER, "tag.fail") == "2"
    assert behind.unwritten == 0
    assert behind._store.available


def test_the_dead_among_the_untagged_are_taken_out_by_one_worker(redis_server, told):
    with redis_server.client() as client:
        now = time.time()
        client.hset(
            "backstop:untagged", mapping={f"old{n}@example.com": int(now - 90_000) for n in range(3000)}
        )
        client.hset(
            "backstop:untagged", mapping={f"new{n}@example.com": int(now + 90_000) for n in range(1000)}
        )
        client.hset("backstop:untagged", "note", "somebody's own")
        stores = [patient(redis_server.unix_url) for _ in range(3)]
        workers = [WriteBehind(store, on_trouble=told.append) for store in stores]
        for _ in range(200):
            for worker in workers:
                worker.flush()
        assert client.hlen("backstop:untagged") == 1001
        assert client.hget("backstop:untagged", "note") == "somebody's own"
        assert 0 < client.ttl("backstop:untagged:sweep") <= 3000
        scans = client.info("commandstats")["cmdstat_hscan"]["calls"]
        assert scans < 30
        for store in stores:
            store.close()
    assert told == []


def test_the_untagged_are_bounded_and_who_is_in_may_stay_longer(redis_server, told):
    store = patient(redis_server.unix_url)
    behind = WriteBehind(store, most_untagged=100, on_trouble=told.append)
    until = time.time() + 1000
    for number in range(100):
        behind.untagged(f"{number}@example.com", until)
    behind.flush()
    for number in range(90, 110):
        behind.untagged(f"{number}@example.com", until + 50)
    behind.flush()
    behind.flush()
    with redis_server.client() as client:
        assert client.hlen("backstop:untagged") == 100
        assert client.hget("backstop:untagged", "95@example.com") == str(int(until + 50))
        assert client.hgetall("backstop:count:-") == {"untagged.dropped": "10"}
    assert any("untagged.dropped" in text for text in told)
    store.close()


def test_a_user_with_just_the_rights_named_can_do_it_all(redis_server, told):
    with redis_server.client() as client:
        rights = [f"+{command}" for command in sorted(ALLOWED - {"hello", "select"})]
        client.acl_setuser(
            "backstop", enabled=True, passwords=["+secret"], keys=["backstop:*"], commands=rights
        )
        store = patient(redis_server.url.replace("//", "//backstop:secret@"))
        behind = WriteBehind(store, most_untagged=1, on_trouble=told.append)
        assert store.probe()
        for number in range(5):
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            behind.event({"a": "b"})
            behind.untagged(f"{number}@example.com", 1.0)
            behind.remember([b"id"], [b"pair"], NOON.timestamp())
            behind.flush()
        assert total(client) == 15
        used = client.info("commandstats")
        assert {"cmdstat_hmget", "cmdstat_hscan", "cmdstat_hdel"} <= used.keys()
        store.close()
    assert [text for text in told if "NOPERM" in text] == []


def test_no_command_is_used_but_those_allowed(redis_server):
    store = patient(redis_server.unix_url)
    behind = WriteBehind(store, most_untagged=2)
    with redis_server.client() as client:
        client.config_resetstat()
        store.probe()
        for number in range(10):
            behind.count("example.com", ["tag.fail"], NOON.timestamp())
            behind.event({"a": "b"})
            behind.untagged(f"{number}@example.com", 1.0)
            behind.remember([b"id"], [b"pair"], NOON.timestamp())
            behind.flush()
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert used - {"config|resetstat", "info", "client|setinfo", "client"} <= ALLOWED
    store.close()


ELSEWHERE = "backstop:elsewhere:example.com"


def test_of_senders_by_other_hosts_the_latest_thousand_are_kept(redis_server, behind, told):
    now = NOON.timestamp()
    for number in range(1010):
        behind.elsewhere("example.com", f"a{number}@example.com", now + number)
    behind.elsewhere("example.com", "a5@example.com", now + 5000)
    behind.elsewhere("example.org", "x@example.org", now)
    for _ in range(12):
        behind.flush()
    client = redis_server.client()
    assert client.zcard(ELSEWHERE) == 1000
    assert client.zrevrange(ELSEWHERE, 0, 1, withscores=True) == [
        ("a5@example.com", now + 5000),
        ("a1009@example.com", now + 1009),
    ]
    assert client.zscore(ELSEWHERE, "a9@example.com") is None
    assert client.zscore("backstop:elsewhere:example.org", "x@example.org") == now
    assert 59 * 86400 < client.ttl(ELSEWHERE) <= 60 * 86400
    assert told == []
    client.close()


def test_senders_by_other_hosts_wait_for_the_store_and_a_wrong_key_is_said_once(redis_server, behind, told):
    redis_server.kill()
    behind.elsewhere("example.com", "a@example.com", 5.0)
    behind.flush()
    redis_server.start()
    wait_for(behind._store.probe, 5, "the store")
    behind.flush()
    client = redis_server.client()
    assert client.zrange(ELSEWHERE, 0, -1) == ["a@example.com"]
    client.delete(ELSEWHERE)
    client.set(ELSEWHERE, "x")
    told.clear()
    for _ in range(3):
        behind.elsewhere("example.com", "b@example.com", 6.0)
        behind.flush()
    (said,) = told
    assert said.startswith("senders by other hosts are not remembered: WRONGTYPE")
    client.close()
