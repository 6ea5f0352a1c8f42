"""The Redis that `backstop-redis.service` runs, started with the shipped configuration."""

import contextlib
import stat
import tempfile
from pathlib import Path

import redis

from tests.harness.redis_server import PROGRAMS
from tests.harness.servers import ROOT, need, spawn, stop, wait_for


def answers(socket):
    with contextlib.closing(redis.Redis(unix_socket_path=str(socket), socket_timeout=1)) as client:
        try:
            return client.ping()
        except redis.exceptions.RedisError:
            return False


def test_the_shipped_redis_keeps_evicts_nothing_and_listens_on_its_socket_alone(tmp_path):
    program = need(*PROGRAMS)
    with tempfile.TemporaryDirectory(prefix="redis-") as short:
        socket = Path(short) / "redis.sock"
        shipped = (ROOT / "systemd/backstop-redis.conf").read_text()
        written = tmp_path / "redis.conf"
        here = shipped.replace("/run/backstop-redis/", f"{short}/").replace(
            "/var/lib/backstop-redis", str(tmp_path)
        )
        written.write_text(here)
        server = spawn([program, str(written)], tmp_path / "redis.log")
        try:
            wait_for(lambda: answers(socket), 20, "Redis with the shipped configuration")
            client = redis.Redis(unix_socket_path=str(socket), decode_responses=True)
            with contextlib.closing(client):
                names = ("port", "appendonly", "maxmemory-policy", "databases")
                found = {name: client.config_get(name)[name] for name in names}
            assert found == {
                "port": "0",
                "appendonly": "yes",
                "maxmemory-policy": "noeviction",
                "databases": "1",
            }
            assert stat.S_IMODE(socket.stat().st_mode) == 0o770
        finally:
            stop(server)
