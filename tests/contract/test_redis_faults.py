"""The store on a Redis that is gone, hung, full, locked or something else altogether."""

import resource
import socket
import threading
import time

import pytest

from backstop.adapters import redis_names as names
from backstop.adapters.redis_store import ReplyError, Store, StoreUnavailable, glance, pack
from tests.contract.redis_peer import HELLO, Peer, saying, silence
from tests.harness.servers import RedisServer, free_port, need, wait_for

QUESTION = [glance(names.BLOCK_ALL), glance(names.block("example.com"))]
TIMEOUT = 0.2
# A machine under load adds to it. What must not happen are retries, which cost seconds, and a second wait.
MUCH = 0.5
QUICK = 0.15


def late(store):
    """How long one question took; the answer is nothing."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.ask(QUESTION)
    return time.monotonic() - started


def recovered(store, seconds=10):
    """How long it took until a trial, four times a second, found the store again."""
    started = time.monotonic()
    while not store.probe():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    assert store.ask(QUESTION)
    return time.monotonic() - started


@pytest.fixture
def make():
    made = []

    def make(url, **more):
        made.append(Store(url, **more))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_a_frozen_server_costs_one_answer_200_ms_and_then_nothing(redis_server, make, way):
    store = make(redis_server.unix_url if way == "unix" else redis_server.url)
    first, then, back = [], [], []
    for _ in range(3):
        store.ask(QUESTION)
        redis_server.freeze()
        first.append(late(store))
        assert "in time" in store.reason
        then.append(sum(late(store) for _ in range(1000)) / 1000)
        store.tell(QUESTION)
        redis_server.thaw()
        back.append(recovered(store))
    assert TIMEOUT * 0.9 < min(first) < TIMEOUT * 1.2
    assert min(then) < 0.0005
    assert max(back) < 2


def test_a_frozen_server_costs_each_of_many_threads_200_ms_and_no_more(redis_server, make):
    """Whoever waits for a connection gives up after 100 ms; his next question waits for the rest at most."""
    store = make(redis_server.unix_url, connections=8)
    store.ask(QUESTION)
    redis_server.freeze()
    took = []
    threads = [
        threading.Thread(target=lambda: took.append([late(store) for _ in range(4)])) for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 32
    assert max(sum(each) for each in took) < TIMEOUT + MUCH
    assert max(each[-1] for each in took) < QUICK


def test_a_server_that_freezes_before_the_first_connection_costs_the_same(redis_server, make):
    store = make(redis_server.url)
    redis_server.freeze()
    assert TIMEOUT * 0.9 < late(store) < TIMEOUT + MUCH
    assert late(store) < QUICK
    redis_server.thaw()
    assert recovered(store) < 2


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "unix:///nowhere/redis.sock"])
def test_a_dead_server_costs_nothing(make, url):
    store = make(url.format(port=free_port()))
    assert late(store) < QUICK
    assert late(store) < QUICK
    assert not store.probe()
    assert not store.available


def test_a_host_that_swallows_connections_costs_200_ms(make):
    """As behind a firewall that drops: the listener's queue is full, so that no SYN is answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        time.sleep(0.05)
        store = make(f"redis://127.0.0.1:{address[1]}/0")
        assert TIMEOUT * 0.9 < late(store) < TIMEOUT + MUCH
        assert late(store) < QUICK
        for filler in fillers:
            filler.close()


def test_a_connection_that_goes_deaf_in_mid_answer_costs_200_ms(make):
    with Peer(saying(b"$4\r\njunk\r\n$4\r\nju", then=silence)) as peer:
        store = make(peer.url)
        assert TIMEOUT * 0.9 < late(store) < TIMEOUT + MUCH


def test_an_answer_that_trickles_costs_no_more_than_one_that_never_comes(make):
    def trickle(sock, _number):
        sock.recv(1000)
        sock.sendall(HELLO)
        sock.recv(1000)
        for octet in b"$400\r\n" + b"x" * 400:
            sock.sendall(bytes([octet]))
            time.sleep(0.05)

    with Peer(trickle) as peer:
        store = make(peer.url)
        assert TIMEOUT * 0.9 < late(store) < TIMEOUT + MUCH


def test_a_killed_server_costs_nothing_and_is_found_again_within_2_s(redis_server, make):
    store = make(redis_server.url)
    store.ask(QUESTION)
    redis_server.kill()
    assert late(store) < QUICK
    assert late(store) < QUICK
    assert not store.probe()
    redis_server.start()
    assert recovered(store) < 2


def test_connections_the_server_closed_meanwhile_cost_no_answer(redis_server, make):
    store = make(redis_server.url)
    threads = [threading.Thread(target=lambda: [store.ask(QUESTION) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    redis_server.restart()
    for _ in range(50):
        assert store.ask(QUESTION) == [b"", b""]
    with redis_server.client() as client:
        client.config_set("timeout", 1)
        client.client_kill_filter(_type="normal", skipme=True)
    assert store.ask(QUESTION) == [b"", b""]
    assert store.available


def test_the_second_try_is_the_last(make):
    """Every connection takes the question and closes: that is no server, and it is found out once."""

    def talk(sock, number):
        sock.recv(1000)
        sock.sendall(HELLO)
        while number == 1:  # the first is well, until it is closed below
            sock.recv(1000)
            sock.sendall(b"$0\r\n\r\n" * 2)
        sock.recv(1000)
        sock.close()

    with Peer(talk) as peer:
        store = make(peer.url)
        store.ask(QUESTION)
        peer._open[0].shutdown(socket.SHUT_RDWR)
        with pytest.raises(StoreUnavailable):
            store.ask(QUESTION)
        assert peer.accepted == 2


def test_while_it_is_away_there_is_one_trial_a_second_and_none_by_a_message(make):
    with Peer(saying(then=silence)) as peer:
        store = make(peer.url)
        late(store)
        assert peer.accepted == 1
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            late(store)
            store.probe()
        assert peer.accepted in {2, 3}


def test_a_wrong_password_is_named_but_not_shown(redis_server, make):
    with redis_server.client() as client:
        client.config_set("requirepass", "Tr0ub4dor")
    for said, kind in [("", "NOAUTH"), (":wr0ngish@", "WRONGPASS"), ("eve:wr0ngish@", "WRONGPASS")]:
        store = make(redis_server.url.replace("//", f"//{said}"))
        late(store)
        assert kind in store.reason or "HELLO" in store.reason
        assert "wr0ngish" not in f"{store} {store.reason} {store!r} {store._server.place!r}"
    store = make(redis_server.url.replace("//", "//:Tr0ub4dor@"))
    assert store.ask(QUESTION) == [b"", b""]
    assert "Tr0ub4dor" not in f"{store} {store._server.place!r}"


def test_a_password_set_meanwhile_makes_it_unavailable_from_the_next_connection_on(redis_server, make):
    store = make(redis_server.url)
    store.ask(QUESTION)
    with redis_server.client() as client:
        client.config_set("requirepass", "Tr0ub4dor")
        client.client_kill_filter(_type="normal", skipme=True)
        late(store)
        assert not store.probe()
        client.config_set("requirepass", "")
    assert recovered(store) < 2


def test_a_user_without_rights_is_unavailable_and_does_not_flap(redis_server, make):
    with redis_server.client() as client:
        client.acl_setuser(
            "backstop", enabled=True, passwords=["+secret"], keys=["backstop:*"], commands=["+getrange"]
        )
        store = make(redis_server.url.replace("//", "//backstop:secret@"))
        asked = [glance(names.BLOCK_ALL), pack("SISMEMBER", names.DOMAINS, "example.com")]
        with pytest.raises(StoreUnavailable, match=r"NOPERM.*sismember"):
            store.ask(asked)
        # The trial repeats what was refused: what else may be asked does not close the breaker for a moment.
        assert not store.probe()
        client.acl_setuser("backstop", enabled=True, commands=["+sismember"])
    wait_for(store.probe, 3, "the right to be found")
    assert store.ask(asked) == [b"", 0]


def test_without_a_descriptor_left_the_thread_that_looks_for_the_server_ended(redis_server, make):
    """Its worker then never found Redis again, and wrote no counter."""
    store = make(redis_server.url)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        assert not store.probe()
        with pytest.raises(StoreUnavailable, match="Too many open files"):
            store.ask([glance(names.BLOCK_ALL)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert recovered(store) < 2


def test_with_a_single_connection_allowed_it_degrades_and_recovers(redis_server, make):
    store = make(redis_server.url)
    with redis_server.client() as client:
        client.config_set("maxclients", 1)
        assert late(store) < TIMEOUT + MUCH
        assert not store.probe()
        client.config_set("maxclients", 100)
    assert recovered(store) < 2


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b"-CLUSTERDOWN Hash slot not served\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ],
)
def test_answers_that_make_the_whole_server_unavailable(make, answer):
    with Peer(saying(answer * 2, then=silence)) as peer:
        store = make(peer.url)
        assert late(store) < TIMEOUT
        assert not store.available
        assert ("Cluster" in store.reason) == answer.startswith((b"-MOVED", b"-CLUSTER"))


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n", b"220 mail.example.com ESMTP\r\n", b"*1\r\n*9999999\r\n"]
)
def test_something_that_is_no_redis(make, answer):
    def talk(sock, _number):
        sock.recv(1000)
        sock.sendall(answer)
        silence(sock)

    with Peer(talk) as peer:
        store = make(peer.url)
        assert late(store) < TIMEOUT + MUCH
        assert not store.available


def test_a_server_before_redis_6_does_not_get_its_echo_of_the_password_into_the_log(make):
    def talk(sock, _number):
        said = sock.recv(1000)
        sock.sendall(
            b"-ERR unknown command `HELLO`, with args beginning with: "
            + said.replace(b"\r\n", b" ")
            + b"\r\n"
        )

    with Peer(talk) as peer:
        store = make(peer.url.replace("//", "//:hunter2222@"))
        late(store)
        assert "Redis 6" in store.reason
        assert "hunter2222" not in store.reason


def test_answers_nobody_asked_for_close_the_connection(make):
    with Peer(saying(b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n", then=silence)) as peer:
        store = make(peer.url)
        late(store)


def test_a_frozen_server_does_not_stop_a_write_for_longer_than_its_timeout(redis_server, make):
    store = make(redis_server.url, write_timeout=0.3)
    store.ask(QUESTION)
    redis_server.freeze()
    started = time.monotonic()
    assert store.write([pack("INCR", "backstop:client:_:x")]) == []
    assert 0.25 < time.monotonic() - started < 0.3 + MUCH
    with pytest.raises(StoreUnavailable):
        store.write([pack("INCR", "backstop:client:_:x")])
    redis_server.thaw()


def test_after_a_restart_a_write_finds_the_closed_connection_before_it_sends(redis_server, make):
    store = make(redis_server.url)
    store.ask(QUESTION)
    redis_server.restart()
    assert store.write([pack("INCR", "backstop:client:_:x")]) == [1]


def test_a_full_server_refuses_writes_and_answers_questions(redis_server, make):
    store = make(redis_server.url)
    with redis_server.client() as client:
        client.set("backstop:block", "junk")
        client.config_set("maxmemory", 1)
        [reply] = store.write([pack("HINCRBY", names.count("example.com"), "tag.fail", 1)])
        assert isinstance(reply, ReplyError)
        assert reply.kind == "OOM"
        assert reply.is_passing
        assert store.ask(QUESTION) == [b"junk", b""]


def test_a_server_without_enough_replicas_refuses_writes_and_answers_questions(redis_server, make):
    store = make(redis_server.url)
    with redis_server.client() as client:
        client.config_set("min-replicas-to-write", 1)
    [reply] = store.write([pack("HINCRBY", names.count("example.com"), "tag.fail", 1)])
    assert isinstance(reply, ReplyError)
    assert reply.kind == "NOREPLICAS"
    assert reply.is_passing
    assert store.ask(QUESTION) == [b"", b""]


def test_a_replica_answers_questions_refuses_writes_and_without_its_master_is_unavailable(
    redis_server, make, tmp_path
):
    need("redis-server", "valkey-server")
    settings = [f"replicaof 127.0.0.1 {redis_server.port}", "replica-serve-stale-data no"]
    with redis_server.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
        client.set("backstop:block", "junk")
    with RedisServer(tmp_path, *settings) as replica, replica.client() as client:
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", 10, "the replica")
        store = make(replica.url)
        assert store.ask(QUESTION) == [b"junk", b""]
        [reply] = store.write([pack("HINCRBY", names.count("example.com"), "tag.fail", 1)])
        assert isinstance(reply, ReplyError)
        assert reply.kind == "READONLY"
        assert store.available
        redis_server.kill()
        wait_for(lambda: client.info("replication")["master_link_status"] == "down", 10, "the loss")
        with pytest.raises(StoreUnavailable, match="MASTERDOWN"):
            store.ask(QUESTION)
        assert not store.probe()
        client.replicaof("NO", "ONE")
        wait_for(store.probe, 3, "the replica that became a master")


def test_a_cluster_is_refused_in_clear_words(make, tmp_path):
    need("redis-server", "valkey-server")
    # By default the cluster's own port is 10,000 higher, which may be too high.
    with RedisServer(tmp_path, "cluster-enabled yes", f"cluster-port {free_port()}") as server:
        store = make(server.url)
        with pytest.raises(StoreUnavailable, match="Redis Cluster"):
            store.ask(QUESTION)
        assert not store.probe()
