"""The ways to the store: TLS, Sentinels, names."""

import subprocess
import time

import pytest
import redis

from backstop.adapters import redis_names as names
from backstop.adapters.redis_store import Store, StoreUnavailable, glance, pack
from tests.contract.redis_peer import patient
from tests.harness.servers import RedisServer, free_port, need, spawn, stop, wait_for

QUESTION = [glance(names.BLOCK_ALL)]


def certificate(folder, name, subject):
    """A key and a certificate signed by itself."""
    openssl = need("openssl")
    key, written = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", f"subjectAltName={subject}", "-keyout", str(key), "-out", str(written)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, written


@pytest.fixture
def tls_server(tmp_path):
    """A Redis with TLS on a port of its own; its certificate is good for 127.0.0.1."""
    key, written = certificate(tmp_path, "server", "IP:127.0.0.1")
    port = free_port()
    server = RedisServer(
        tmp_path / "redis",
        f"tls-port {port}",
        f"tls-cert-file {written}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {written}",
        "tls-auth-clients optional",
    )
    with server:
        yield server, f"127.0.0.1:{port}", written


def test_tls_works_with_a_certificate_that_is_good(tls_server):
    server, place, written = tls_server
    store = patient(f"rediss://{place}/0?ssl_ca_certs={written}")
    with server.client() as client:
        client.set("backstop:block", "junk")
        assert store.ask(QUESTION) == [b"junk"]
        store.tell([pack("INCR", "backstop:client:_:x")])
        assert store.ask([glance(b"backstop:client:_:x")]) == [b"1"]
        client.set("backstop:block", "x" * 300_000)
        assert len(store.ask([pack("GET", "backstop:block")])[0]) == 300_000
    assert store.write([pack("INCR", "backstop:client:_:x")] * 300) == list(range(2, 302))
    server.restart()
    assert store.ask(QUESTION) == [b""]
    store.close()


def test_tls_to_a_frozen_server_costs_200_ms(tls_server):
    server, place, written = tls_server
    store = Store(f"rediss://{place}/0?ssl_ca_certs={written}")
    wait_for(store.probe, 10, "the first connection")
    server.freeze()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="in time"):
        store.ask(QUESTION)
    assert 0.18 < time.monotonic() - started < 1.5
    server.thaw()
    wait_for(store.probe, 10, "the server to be found again")
    store.close()


def test_tls_with_a_client_certificate(tls_server, tmp_path):
    server, place, written = tls_server
    with server.client() as client:
        client.config_set("tls-auth-clients", "yes")
    store = patient(f"rediss://{place}/0?ssl_ca_certs={written}")
    with pytest.raises(StoreUnavailable):
        store.ask(QUESTION)
    store.close()
    keys = f"ssl_certfile={written}&ssl_keyfile={tmp_path}/server.key"
    store = patient(f"rediss://{place}/0?ssl_ca_certs={written}&{keys}")
    assert store.ask(QUESTION) == [b""]
    store.close()


def test_tls_refuses_a_certificate_nobody_vouches_for(tls_server):
    store = patient(f"rediss://{tls_server[1]}/0")
    with pytest.raises(StoreUnavailable, match="certificate is not accepted"):
        store.ask(QUESTION)
    store.close()


def test_tls_refuses_a_certificate_for_another_name(tls_server):
    _, place, written = tls_server
    store = patient(f"rediss://{place.replace('127.0.0.1', 'localhost')}/0?ssl_ca_certs={written}")
    with pytest.raises(StoreUnavailable, match="certificate is not accepted"):
        store.ask(QUESTION)
    store.close()


def test_tls_files_that_are_not_there_are_a_fault_of_the_configuration():
    with pytest.raises(ValueError, match="TLS files"):
        Store("rediss://127.0.0.1/0?ssl_ca_certs=/nowhere/ca.pem")


def test_a_name_without_an_address_is_unavailable():
    store = patient("redis://no-such-host.invalid:6379/0")
    assert not store.probe()
    assert "no address" in store.reason
    store.close()


def sentinel(folder, port, master_port):
    """A Sentinel that watches a master as `mymaster`."""
    folder.mkdir()
    written = folder / "sentinel.conf"
    written.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor mymaster 127.0.0.1 {master_port} 2\n"
        "sentinel down-after-milliseconds mymaster 500\n"
        "sentinel failover-timeout mymaster 3000\n"
    )
    program = need("redis-server", "valkey-server")
    process = spawn([program, str(written), "--sentinel"], folder / "log", folder=folder)
    wait_for(lambda: process.poll() is not None or _seen_by(port), 20, "the Sentinel")
    return process


def _seen_by(port):
    """What a Sentinel knows of its master, word by word."""
    try:
        with redis.Redis(port=port, decode_responses=True) as client:
            return client.sentinel_master("mymaster")
    except redis.exceptions.RedisError:
        return None


@pytest.fixture
def watched(tmp_path):
    """A master, a replica and three Sentinels that watch them."""
    need("redis-server", "valkey-server")
    master = RedisServer(tmp_path / "master", "repl-diskless-sync-delay 0").start()
    replica = RedisServer(tmp_path / "replica", f"replicaof 127.0.0.1 {master.port}").start()
    with replica.client() as client:
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", 10, "the replica")
    ports = [free_port() for _ in range(3)]
    sentinels = [sentinel(tmp_path / f"sentinel-{port}", port, master.port) for port in ports]

    def settled():
        return all(
            (seen := _seen_by(port)) and seen["num-slaves"] == 1 and seen["num-other-sentinels"] == 2
            for port in ports
        )

    wait_for(settled, 30, "the Sentinels to know each other")
    yield master, replica, sentinels, [f"redis+sentinel://127.0.0.1:{port}/mymaster/0" for port in ports]
    for process in sentinels:
        stop(process)
    for server in (master, replica):
        server.close()


def test_the_sentinels_lead_to_the_master_and_to_the_next_one(watched):
    master, replica, sentinels, urls = watched
    stop(sentinels[0])
    store = patient(urls)
    assert store.probe()
    assert store.write([pack("SET", names.BLOCK_ALL, "junk")]) == [b"OK"]
    with replica.client() as client:
        wait_for(lambda: client.get("backstop:block") == "junk", 5, "the replica to follow")
    master.kill()
    with pytest.raises(StoreUnavailable):
        store.ask(QUESTION)
    wait_for(lambda: _is_master(replica), 30, "the fail-over")
    elected = time.monotonic()
    wait_for(store.probe, 20, "the new master to be found")
    assert time.monotonic() - elected < 10
    assert store.ask(QUESTION) == [b"junk"]
    assert store.write([pack("SET", names.BLOCK_ALL, "reject")]) == [b"OK"]
    store.close()


@pytest.mark.deep
def test_a_master_that_was_demoted_is_left_for_the_new_one(watched):
    master, replica, _, urls = watched
    store = patient(urls)
    assert store.probe()
    with replica.client() as client, master.client() as old:
        client.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", replica.port)
        # Until the Sentinels notice, the old one is still named: it is refused, as it is no master.
        wait_for(lambda: not _writes(store) or None, 5, "the refusal")
        wait_for(lambda: store.probe() and _writes(store), 40, "a master to write to")
    store.close()


def _is_master(server):
    try:
        with server.client() as client:
            return client.info("replication")["role"] == "master"
    except redis.exceptions.ConnectionError:  # a fail-over closes the clients' connections
        return False


def _writes(store):
    try:
        return store.write([pack("SET", names.BLOCK_ALL, "junk")]) == [b"OK"]
    except StoreUnavailable:
        return False


def test_sentinels_that_know_nothing_or_are_none(redis_server, tmp_path):
    port = free_port()
    process = sentinel(tmp_path / "sentinel", port, redis_server.port)
    for url, why in [
        (f"redis+sentinel://127.0.0.1:{port}/other", "knows no service"),
        (f"redis://127.0.0.1:{port}/0", "it is a Sentinel"),
        (f"redis+sentinel://127.0.0.1:{redis_server.port}/mymaster", "no Sentinel says"),
        (f"redis+sentinel://127.0.0.1:{free_port()}/mymaster", "no Sentinel says"),
    ]:
        store = patient(url)
        with pytest.raises(StoreUnavailable, match=why):
            store.ask(QUESTION)
        store.close()
    store = patient(f"redis+sentinel://127.0.0.1:{port}/mymaster")
    assert store.ask(QUESTION) == [b""]
    store.close()
    stop(process)
