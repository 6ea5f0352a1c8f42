"""Grace that begins again for the real daemon, when its file exempts fewer."""

from collections.abc import Iterator

import pytest

from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.fake_mta import Client, Message, Session
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for
from tests.protocol.conftest import backstop_settings

OUTSIDE = Client(name="mx.victim.example", address="198.51.100.25")
ENFORCED = 'proof = ["tag"]\nactions = { unproved = "reject" }'
NEWS, ALICE = "<news@example.com>", "<alice@example.com>"


class Host:
    """A daemon, its Redis, and bounces without a tag."""

    def __init__(self, daemon: Daemon, redis: RedisServer) -> None:
        self.daemon = daemon
        self._redis = redis

    def configure(self, exempt: str = "") -> None:
        store = self._redis.unix_url
        self.daemon.configure(backstop_settings(self.daemon, ENFORCED, exempt, store=store))

    def is_refused(self, recipient: str) -> bool:
        with Session(self.daemon.target, OUTSIDE) as session:
            return session.send(Message(recipients=(recipient,))).final.refused


@pytest.fixture
def host(shared_redis: RedisServer) -> Iterator[Host]:
    with Daemon(BACKSTOP) as daemon:
        yield Host(daemon, shared_redis)


def test_a_file_that_exempts_fewer_refuses_none_of_their_bounces(host: Host) -> None:
    host.configure('exempt_senders = ["news@example.com"]')
    host.daemon.start()
    assert not host.is_refused(NEWS)
    assert host.is_refused(ALICE)
    host.configure()
    host.daemon.reload()
    assert not host.is_refused(NEWS)
    assert not host.is_refused(ALICE)
    wait_for(lambda: "exempt no more: news@example.com" in host.daemon.log_text(), 5, "the log line")


def test_what_was_changed_while_nobody_ran_is_noticed_at_the_start(
    host: Host, shared_redis: RedisServer
) -> None:
    host.configure('exempt_senders = ["news@example.com"]')
    host.daemon.start()
    host.daemon.stop()
    host.configure()
    host.daemon.start()
    assert not host.is_refused(NEWS)
    with shared_redis.client() as client:
        assert "exempt no more" in client.hget("backstop:domain:example.com", "grace_since")
        client.hset("backstop:domain:example.com", "grace", "0d")
    assert host.is_refused(NEWS)
