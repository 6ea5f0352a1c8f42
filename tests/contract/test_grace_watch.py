"""Changes of file and store that begin grace again, noticed on a real Redis."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backstop import grace
from backstop.adapters.redis_store import Store, StoreUnavailable
from backstop.batv import DAY
from backstop.config import Config, load
from backstop.gather.watch import MAX_TOLD, GraceWatch
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
TODAY = "2026-11-21"
EXEMPT = 'exempt_senders = ["news@ours.test", "robot-*@ours.test", "x@also.test"]\n'
LESS = 'exempt_senders = ["news@ours.test", "x@also.test"]\n'


class Host:
    """A mail host whose daemon is started again and again, with one file after another."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self.troubles: list[str] = []
        self._stores: list[Store] = []
        keys = folder / "keys.toml"
        keys.write_text(
            '[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\ndomains = ["*"]\n'
            'created = 2020-01-01\nmax_lifetime = "11d"\n'
        )
        keys.chmod(0o400)

    def config(self, defaults: str = "", domains: str = '"ours.test"') -> Config:
        path = self._folder / "backstop.toml"
        path.write_text(
            f'keys = "{self._folder}/keys.toml"\ndomains = [{domains}]\n'
            f'[defaults]\ntag_form = "prvs"\n{defaults}'
        )
        return load(path)

    def worker(self, defaults: str = "", domains: str = '"ours.test"', now: float = NOW) -> GraceWatch:
        store = Store(self._url)
        self._stores.append(store)
        return GraceWatch(self.config(defaults, domains), store, self.troubles.append, now)

    def run(self, defaults: str = "", domains: str = '"ours.test"', now: float = NOW) -> None:
        self.worker(defaults, domains, now).look(now)

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture
def host(tmp_path: Path, shared_redis: RedisServer) -> Iterator[Host]:
    one = Host(tmp_path, shared_redis.unix_url)
    yield one
    one.close()


@pytest.fixture
def since(shared_redis: RedisServer) -> Iterator[Callable[[str], str | None]]:
    client = shared_redis.client()
    yield lambda domain: client.hget(f"backstop:domain:{domain}", "grace_since")
    client.close()


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator[Any]:
    one = shared_redis.client()
    yield one
    one.close()


def test_a_first_start_changes_nothing(host: Host, client: Any) -> None:
    host.run(EXEMPT, '"ours.test", "also.test"')
    assert client.hkeys("backstop:domain:ours.test") == []
    assert set(client.hgetall("backstop:seen")) == {"ours.test", "also.test"}
    kept = grace.seen(client.hget("backstop:seen", "ours.test"))
    assert kept is not None
    assert kept.exempt == ("news@ours.test", "robot-*@ours.test")
    assert host.troubles == []


def test_an_exemption_taken_out_of_the_file(host: Host, since: Any) -> None:
    host.run(EXEMPT, '"ours.test", "also.test"')
    host.run(LESS, '"ours.test", "also.test"')
    assert since("ours.test") == f"{TODAY} exempt no more: robot-*@ours.test"
    assert since("also.test") is None
    (trouble,) = host.troubles
    assert trouble.startswith("ours.test: in grace until 2026-12-07, a missing tag is only observed: ")
    assert trouble.endswith("exempt no more: robot-*@ours.test")


def test_a_start_later_moves_nothing(host: Host, since: Any) -> None:
    host.run(EXEMPT)
    host.run(LESS)
    host.run(LESS, now=NOW + DAY)
    assert since("ours.test") == f"{TODAY} exempt no more: robot-*@ours.test"


def test_a_worker_that_finishes_under_the_old_file_takes_nothing_back(host: Host, since: Any) -> None:
    old = host.worker(EXEMPT)
    old.look(NOW)
    new = host.worker(LESS)
    new.look(NOW)
    for minutes in range(1, 4):
        old.look(NOW + 60 * minutes)
        new.look(NOW + 60 * minutes)
    old.look(NOW + DAY)
    new.look(NOW + DAY)
    assert since("ours.test").startswith(f"{TODAY} ")
    assert len(host.troubles) == 1


def test_an_exemption_taken_away_by_hand_in_redis(host: Host, since: Any, client: Any) -> None:
    client.hset("backstop:domain:ours.test", "exempt_senders", "news@ours.test")
    worker = host.worker()
    worker.look(NOW)
    client.hdel("backstop:domain:ours.test", "exempt_senders")
    worker.look(NOW + 60)
    assert since("ours.test") == f"{TODAY} exempt no more: news@ours.test"


def test_a_day_that_is_set_already_stays(host: Host, since: Any, client: Any) -> None:
    host.run(EXEMPT)
    client.hset("backstop:domain:ours.test", "grace_since", f"{TODAY} moved house")
    host.run(LESS)
    assert since("ours.test") == f"{TODAY} moved house"
    client.hset("backstop:domain:ours.test", "grace_since", "2026-11-01 moved house")
    host.run()
    assert since("ours.test") == f"{TODAY} exempt no more: news@ours.test"


def test_a_domain_that_is_added_to_the_file_or_by_hand_to_redis(host: Host, since: Any, client: Any) -> None:
    host.run()
    worker = host.worker(domains='"ours.test", "also.test"')
    worker.look(NOW)
    client.sadd("backstop:domains", "more.test")
    worker.look(NOW + 60)
    assert since("ours.test") is None
    for domain in ("also.test", "more.test"):
        assert since(domain) == f"{TODAY} the domain was not protected before"


@pytest.mark.parametrize(("days", "again"), [(0, False), (1, False), (2, True), (40, True)])
def test_a_time_in_which_nobody_ran(host: Host, since: Any, days: int, again: bool) -> None:
    host.run()
    host.run(now=NOW + days * DAY)
    assert (since("ours.test") is not None) is again


def test_a_domain_that_was_away_while_the_daemon_ran(host: Host, since: Any, client: Any) -> None:
    client.sadd("backstop:domains", "more.test")
    worker = host.worker()
    worker.look(NOW)
    client.srem("backstop:domains", "more.test")
    for day in range(1, 4):
        worker.look(NOW + day * DAY)
    client.sadd("backstop:domains", "more.test")
    worker.look(NOW + 4 * DAY)
    assert since("more.test") == "2026-11-25 it was not protected for a time"
    assert since("ours.test") is None


def test_days_without_the_store_are_not_days_without_the_daemon(
    host: Host, since: Any, redis_server: RedisServer, tmp_path: Path
) -> None:
    own = Host(tmp_path, redis_server.url)
    own.run(now=NOW)
    worker = own.worker(now=NOW)
    redis_server.kill()
    with pytest.raises(StoreUnavailable):
        worker.look(NOW)
    redis_server.start()
    fresh = redis_server.client()
    fresh.hset("backstop:seen", "ours.test", grace.Seen(int(NOW // DAY)).text())
    wait_for(worker._store.probe, 5, "the store")
    worker.look(NOW + 9 * DAY)
    assert fresh.hget("backstop:domain:ours.test", "grace_since") is None
    fresh.close()
    own.close()


def test_what_is_flushed_is_as_it_ever_was(host: Host, since: Any, client: Any) -> None:
    worker = host.worker(EXEMPT)
    worker.look(NOW)
    client.flushall()
    worker.look(NOW + 60)
    assert client.hexists("backstop:seen", "ours.test")
    assert since("ours.test") is None
    host.run(LESS)
    assert since("ours.test") is not None


@pytest.mark.parametrize("text", ["", "x", "[]", '{"day": []}'])
def test_what_means_nothing_is_written_anew(host: Host, since: Any, client: Any, text: str) -> None:
    client.hset("backstop:seen", "ours.test", text)
    host.run(EXEMPT)
    assert since("ours.test") is None
    assert grace.seen(client.hget("backstop:seen", "ours.test")) is not None


@pytest.mark.parametrize("kind", [("SET", "x"), ("RPUSH", "x"), ("SADD", "x"), ("ZADD", "1", "x")])
@pytest.mark.parametrize("key", ["backstop:seen", "backstop:domain:ours.test"])
def test_keys_of_another_type_begin_nothing(host: Host, client: Any, key: str, kind: tuple[str, ...]) -> None:
    verb, *rest = kind
    host.run(EXEMPT)
    client.delete(key)
    client.execute_command(verb, key, *rest)
    worker = host.worker(LESS)
    for _ in range(2):
        worker.look(NOW)
    assert client.type(key) != "hash"
    assert all("WRONGTYPE" in trouble for trouble in host.troubles)


def test_the_files_domains_are_looked_at_without_those_of_redis(host: Host, since: Any, client: Any) -> None:
    client.set("backstop:domains", "x")
    host.run(EXEMPT)
    host.run(LESS)
    assert since("ours.test") == f"{TODAY} exempt no more: robot-*@ours.test"


def test_at_the_start_one_worker_names_what_is_in_grace_for_another_reason_than_its_key(
    host: Host, client: Any
) -> None:
    names = [f"d{number}.test" for number in range(MAX_TOLD + 3)]
    for name in names:
        client.hset(f"backstop:domain:{name}", "grace_since", "2026-11-20 moved house")
    domains = ", ".join(f'"{name}"' for name in ["ours.test", *names])
    host.run(domains=domains)
    host.run(domains=domains)
    assert len(host.troubles) == MAX_TOLD + 1
    assert (
        host.troubles[0] == "d0.test: in grace until 2026-12-06, a missing tag is only observed: moved house"
    )
    assert host.troubles[-1] == "3 more domains are in grace; see `backstop domain list`"


def test_a_thousand_domains(host: Host, client: Any) -> None:
    client.sadd("backstop:domains", *(f"d{number}.test" for number in range(1000)))
    worker = host.worker()
    worker.look(NOW)
    assert client.hlen("backstop:seen") == 1001
    worker.look(NOW + DAY)
    assert host.troubles == []
