"""The memory of sent mail on a real Redis: written behind, shared by several hosts, asked in one question."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backstop import memory
from backstop.adapters.redis_store import Store
from backstop.adapters.write_behind import WriteBehind
from backstop.config import Config, LogAddresses, load
from backstop.gather import Gather
from backstop.journal import Journal
from backstop.proof import Proof
from backstop.session import Evidence, Proofs
from backstop.settings import Limits
from backstop.verdict import Sent
from tests.contract.redis_peer import patient
from tests.harness.redis_server import RedisServer

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
DAY = 86400
SECRET = b"the memory of the tests"
SENT = "backstop:sent:2026-11-21"
WROTE = "backstop:wrote:2026-11-21"
ALICE, FRIEND = "alice@ours.test", "friend@else.test"


def configuration(folder: Path, secret: bytes = SECRET) -> Config:
    keys = folder / "keys.toml"
    keys.unlink(missing_ok=True)
    remembering = f'[memory]\nsecret_hex = "{secret.hex()}"\n' if secret else ""
    keys.write_text(
        f'{remembering}[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\n'
        'domains = ["*"]\ncreated = 2026-01-01\nmax_lifetime = "11d"\n'
    )
    keys.chmod(0o400)
    path = folder / "backstop.toml"
    path.write_text(
        f'keys = "{keys}"\ndkim_keys = "{folder}"\nresolver = ["127.0.0.1:1"]\ndomains = ["ours.test"]\n'
        '[defaults]\ntag_form = "prvs"\n'
    )
    return load(path)


class Host:
    """One mail host: what it remembers, and what it is told when it asks."""

    def __init__(self, folder: Path, url: str, *, secret: bytes = SECRET, most: int = 1000) -> None:
        self.store = patient(url)
        self.journal = Journal(self.store, Limits(), LogAddresses.FULL, secret, memory_max=most, output=2)
        self.behind: WriteBehind = self.journal._behind
        self.troubles: list[str] = []
        self.behind._on_trouble = self.troubles.append
        self.gather = Gather(configuration(folder, secret), self.store, self.troubles.append)

    def send(self, message_id: str, *pairs: tuple[str, str], now: float = NOON) -> None:
        self.journal.remember(Sent(message_id, pairs), now)
        self.behind.flush()

    def ask(self, *ids: str, pairs: tuple[tuple[str, str], ...] = (), now: float = NOON) -> Proofs:
        return self.gather.proofs(Evidence(ids, pairs, b""), now)

    def knows(self, message_id: str, now: float = NOON) -> bool:
        proofs = self.ask(message_id, now=now)
        assert proofs.unanswered == frozenset()
        return Proof.MEMORY in proofs.found


@pytest.fixture
def host(tmp_path: Path, redis_server: RedisServer) -> Iterator[Host]:
    made = Host(tmp_path, redis_server.unix_url)
    yield made
    made.store.close()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as connection:
        yield connection


def test_what_was_sent_is_known_and_nothing_else(host: Host) -> None:
    host.send("one@ours.test", (ALICE, FRIEND))
    assert host.knows("one@ours.test")
    assert not host.knows("ONE@ours.test")
    assert not host.knows("two@ours.test")
    assert host.ask("x@y", "one@ours.test").found == {Proof.MEMORY}
    pairs = (("bob@ours.test", FRIEND), (ALICE, "x@y.test"), (ALICE, FRIEND))
    assert host.ask(pairs=pairs).correspondents == {ALICE}
    assert host.ask(pairs=((FRIEND, ALICE),)).correspondents == frozenset()


def test_entries_are_short_keyed_hashes_that_end(host: Host, client: Any) -> None:
    host.send("one@ours.test", (ALICE, FRIEND))
    assert client.smembers(SENT) == {memory.of_id(SECRET, "one@ours.test").decode()}
    assert client.smembers(WROTE) == {memory.of_pair(SECRET, ALICE, FRIEND).decode()}
    for key in (SENT, WROTE):
        assert 15 * DAY - 5 < client.ttl(key) <= 15 * DAY


def test_another_secret_knows_nothing(tmp_path: Path, host: Host, redis_server: RedisServer) -> None:
    host.send("one@ours.test")
    other = Host(tmp_path, redis_server.unix_url, secret=b"another secret of tests")
    assert not other.knows("one@ours.test")
    other.store.close()


def test_without_a_secret_nothing_is_asked(tmp_path: Path, redis_server: RedisServer, client: Any) -> None:
    bare = Host(tmp_path, redis_server.unix_url, secret=b"")
    client.config_resetstat()
    assert bare.ask("one@ours.test", pairs=((ALICE, FRIEND),)) == Proofs()
    assert "cmdstat_sismember" not in client.info("commandstats")
    bare.store.close()


def test_fifteen_days_and_no_more(host: Host) -> None:
    host.send("one@ours.test", now=NOON)
    assert host.knows("one@ours.test", NOON + 14 * DAY + DAY / 2 - 1)
    assert not host.knows("one@ours.test", NOON + 15 * DAY)


def test_each_day_has_sets_of_its_own(host: Host, client: Any) -> None:
    midnight = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    for number, moment in enumerate((midnight - 1, midnight, midnight - 0.5)):
        host.journal.remember(Sent(f"{number}@ours.test", ()), moment)
    host.behind.flush()
    assert client.scard(SENT) == 2
    assert client.scard("backstop:sent:2026-11-22") == 1
    for number in range(3):
        assert host.knows(f"{number}@ours.test", midnight + 1)


def test_several_hosts_share_it(tmp_path: Path, host: Host, redis_server: RedisServer) -> None:
    other = Host(tmp_path, redis_server.unix_url)
    host.send("one@ours.test")
    other.send("two@ours.test")
    assert other.knows("one@ours.test")
    assert host.knows("two@ours.test")
    other.store.close()


def test_a_day_takes_so_many_and_counts_the_rest(
    tmp_path: Path, redis_server: RedisServer, client: Any
) -> None:
    host = Host(tmp_path, redis_server.unix_url, most=100)
    for number in range(150):
        host.journal.remember(Sent(f"{number}@ours.test", ()), NOON)
        if number % 20 == 0:
            host.behind.flush()
    host.behind.flush()
    host.behind.flush()
    assert client.scard(SENT) == 100
    assert client.hget("backstop:count:-", "memory.dropped") == "50"
    assert any("memory_max is 100" in text for text in host.troubles)
    assert all(host.knows(f"{number}@ours.test") for number in range(80))
    host.send("tomorrow@ours.test", now=NOON + DAY)
    assert host.knows("tomorrow@ours.test", NOON + DAY)
    host.store.close()


def test_what_waits_while_redis_is_away_is_bounded_and_written_later(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    host = Host(tmp_path, redis_server.unix_url)
    host.behind._memory._most_buffered = 100
    redis_server.kill()
    for number in range(150):
        host.send(f"{number}@ours.test")
    answer = host.ask("1@ours.test", pairs=((ALICE, FRIEND),))
    assert answer == Proofs(unanswered=frozenset({Proof.MEMORY, Proof.CORRESPONDENT}))
    assert host.ask(pairs=((ALICE, FRIEND),)).unanswered == {Proof.CORRESPONDENT}
    assert host.behind._memory.dropped == 50
    redis_server.start()
    assert host.store.probe() or _soon(host.store)
    host.behind.flush()
    assert host.knows("99@ours.test")
    assert not host.knows("149@ours.test")
    assert host.behind._memory._buffered == 0
    host.store.close()


def _soon(store: Store) -> bool:
    store._next_trial = 0.0
    return store.probe()


def test_a_full_server_takes_it_when_it_has_room(host: Host, client: Any) -> None:
    client.config_set("maxmemory", 1)
    host.send("one@ours.test")
    assert client.scard(SENT) == 0
    client.config_set("maxmemory", 0)
    host.behind.flush()
    assert host.knows("one@ours.test")
    assert any("OOM" in text for text in host.troubles)


@pytest.mark.parametrize("key", [SENT, WROTE])
def test_a_set_somebody_spoilt_is_named_and_the_others_go_on(host: Host, client: Any, key: str) -> None:
    client.set(key, "x")
    host.send("one@ours.test", (ALICE, FRIEND))
    host.behind.flush()
    answer = host.ask("one@ours.test", pairs=((ALICE, FRIEND),))
    spoilt, other = (Proof.MEMORY, ALICE) if key == SENT else (Proof.CORRESPONDENT, Proof.MEMORY)
    assert answer.unanswered == {spoilt}
    assert other in answer.found | answer.correspondents
    assert any("not remembered" in text for text in host.troubles)
    assert client.hget("backstop:count:-", "memory.dropped") == "1"
    host.send("two@ours.test", (ALICE, "x@y.test"), now=NOON + DAY)
    assert host.knows("two@ours.test", NOON + 20 * DAY - 6 * DAY)


def test_one_question_whatever_is_asked(host: Host, client: Any) -> None:
    ids = tuple(f"{number}@x" for number in range(6))
    pairs = tuple((ALICE, f"{number}@else.test") for number in range(10))
    client.config_resetstat()
    before = client.info("stats")["total_reads_processed"]
    host.ask(*ids, pairs=pairs)
    after = client.info("stats")["total_reads_processed"]
    assert client.info("commandstats")["cmdstat_sismember"]["calls"] == 16 * 15
    assert after - before <= 4


def test_only_these_commands_are_used(host: Host, client: Any) -> None:
    client.config_resetstat()
    host.send("one@ours.test", (ALICE, FRIEND))
    host.knows("one@ours.test")
    used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert {"scard", "sadd", "expire", "sismember"} <= used
    assert not used & {"keys", "scan", "eval", "config", "monitor", "sscan", "smembers"}
