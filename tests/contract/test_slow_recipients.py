"""Slow recipient sources among the others: when they are asked, and what commands show of them."""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backstop.adapters.asker_client import PATIENCE, Question
from backstop.adapters.redis_store import Store
from backstop.cli import main
from backstop.config import load
from backstop.facts import Existence
from backstop.gather import Gather
from tests.contract.test_gather import question
from tests.harness.callahead_target import CallaheadTarget, says, users
from tests.harness.redis_server import RedisServer

EXISTS, MISSING, UNKNOWN, ANYBODY = Existence.EXISTS, Existence.MISSING, Existence.UNKNOWN, Existence.ANYBODY
NOW = 1_795_000_000.0

PEOPLE = """
[sql.people]
driver = "sqlite3"
connect = { database = "FOLDER/people.db" }
query = "SELECT 1 FROM people WHERE local = {local}"
anybody = "SELECT 1 FROM people"
[sql.gone]
driver = "sqlite3"
connect = { database = "file:FOLDER/gone.db?mode=ro", uri = true }
query = "SELECT 1 FROM people WHERE local = {local}"
anybody = "SELECT 1 FROM people"
"""


class Answers:
    """Answers by the source's name, and keeps the questions."""

    def __init__(self, **answers: Existence | None) -> None:
        self.answers = answers
        self.questions: list[Question] = []

    def ask(self, question: Question) -> Existence | None:
        self.questions.append(question)
        return self.answers[question.source.removeprefix("sql:")]

    def asked(self) -> list[str]:
        return [question.source for question in self.questions]


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Path]:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        '[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\ndomains = ["*"]\n'
        'created = 2026-01-01\nmax_lifetime = "11d"\n'
    )
    keys.chmod(0o400)
    with contextlib.closing(sqlite3.connect(tmp_path / "people.db")) as people:
        people.execute("CREATE TABLE people (local TEXT)")
        people.execute("INSERT INTO people VALUES ('alice')")
        people.commit()

    def write(store: str, *sources: str) -> Path:
        path = tmp_path / "backstop.toml"
        path.write_text(
            f'keys = "{keys}"\nstore = "{store}"\ndomains = ["ours.test"]\n'
            f'[defaults]\ntag_form = "subaddress"\n'
            f"recipients = {list(sources)}\n" + PEOPLE.replace("FOLDER", str(tmp_path))
        )
        return path

    return write


@pytest.fixture
def gather(
    configure: Callable[..., Path], shared_redis: RedisServer
) -> Iterator[Callable[..., tuple[Existence, Answers]]]:
    with contextlib.ExitStack() as stores:

        def ask(
            address: str, *sources: str, url: str = "", **answers: Existence | None
        ) -> tuple[Existence, Answers]:
            config = load(configure(shared_redis.unix_url, *sources))
            store = Store(url or config.store)
            stores.callback(store.close)
            asking = Answers(**answers)
            answer = Gather(config, store, print, asking).incoming(question(address, "a@b.test"), NOW)
            assert answer is not None
            return answer.existence, asking

        yield ask


class TestOrder:
    @pytest.fixture(autouse=True)
    def _redis_knows_bob(self, shared_redis: RedisServer) -> None:
        with contextlib.closing(shared_redis.client()) as client:
            client.sadd("backstop:recipients:ours.test", "bob")

    @pytest.mark.parametrize(("local", "answer"), [("bob", EXISTS), ("carol", MISSING)])
    def test_whom_redis_knows_no_slow_source_is_asked_about(self, gather, local, answer) -> None:
        found, asking = gather(f"{local}@ours.test", "redis", "sql:people", people=EXISTS)
        assert found is answer
        assert not asking.questions

    @pytest.mark.parametrize("said", [EXISTS, MISSING])
    def test_the_first_that_knows_is_the_last_that_is_asked(self, gather, said) -> None:
        found, asking = gather("x@ours.test", "sql:people", "sql:gone", people=said, gone=EXISTS)
        assert found is said
        assert asking.asked() == ["sql:people"]

    @pytest.mark.parametrize(
        ("first", "second", "together"),
        [
            (UNKNOWN, EXISTS, EXISTS),
            (None, MISSING, MISSING),
            (UNKNOWN, ANYBODY, UNKNOWN),
            (ANYBODY, UNKNOWN, UNKNOWN),
            (ANYBODY, MISSING, MISSING),
            (ANYBODY, ANYBODY, ANYBODY),
        ],
    )
    def test_who_does_not_know_leaves_it_to_the_next(self, gather, first, second, together) -> None:
        found, asking = gather("x@ours.test", "sql:people", "sql:gone", people=first, gone=second)
        assert found is together
        assert asking.asked() == ["sql:people", "sql:gone"]

    def test_what_is_asked_and_until_when(self, gather) -> None:
        _, asking = gather("Alice+List@ours.test", "sql:people", "sql:gone", people=UNKNOWN, gone=UNKNOWN)
        first, second = asking.questions
        assert (first.domain, first.locals_) == ("ours.test", ("alice+list", "alice"))
        assert first.deadline == second.deadline
        assert 0 < first.deadline - time.monotonic() <= PATIENCE

    @pytest.mark.parametrize(
        ("address", "tried"),
        [
            ("John.Doe+List@ours.test", ("John.Doe+List", "John.Doe")),
            ("John.Doe@ours.test", ("John.Doe",)),
            ("john.doe+List@ours.test", ("john.doe+List", "john.doe")),
            ("İnci+x@ours.test", ("İnci+x", "i̇nci")),  # its lower case is longer
        ],
    )
    def test_a_next_hop_is_asked_for_what_was_written(self, gather, address, tried) -> None:
        """It may have John.Doe and no john.doe, who was then refused; others are asked in lower case."""
        hop = "callahead:[127.0.0.1]:2525"
        _, asking = gather(address, hop, "sql:people", people=UNKNOWN, **{hop: UNKNOWN})
        assert [one.locals_ for one in asking.questions] == [tried, tuple(map(str.lower, tried))]

    def test_redis_away_a_slow_source_answers(self, gather) -> None:
        found, _ = gather("x@ours.test", "redis", "sql:people", url="redis://127.0.0.1:1/0", people=MISSING)
        assert found is MISSING


def test_both_away_what_was_known_last_counts(configure, redis_server: RedisServer) -> None:
    """An unknown answer while only the source was away made a worker forget whom Redis had shown it."""
    store = Store(redis_server.unix_url)
    asking = Answers(people=EXISTS)
    gather = Gather(load(configure(redis_server.unix_url, "sql:people")), store, print, asking)

    def existence(address: str) -> Existence:
        answer = gather.incoming(question(address, "a@b.test"), NOW)
        assert answer is not None
        return answer.existence

    assert existence("alice@ours.test") is EXISTS
    asking.answers["people"] = None
    assert existence("alice@ours.test") is UNKNOWN
    redis_server.kill()
    assert existence("alice@ours.test") is EXISTS
    assert existence("bob@ours.test") is UNKNOWN
    asking.answers["people"] = MISSING
    assert existence("alice@ours.test") is MISSING
    store.close()


class TestCommands:
    @pytest.fixture
    def command(self, configure, shared_redis: RedisServer, capsys) -> Callable[..., str]:
        def run(sources: list[str], *words: str, status: int = 0) -> str:
            path = configure(shared_redis.unix_url, *sources)
            assert main(["--config", str(path), *words]) == status
            said, complained = capsys.readouterr()
            assert not complained
            return str(said)

        return run

    def test_each_source_is_shown_with_its_word_and_its_trouble(self, command) -> None:
        with CallaheadTarget(rcpt=says("451 4.7.1 Come back later")) as target:
            callahead = f"callahead:[127.0.0.1]:{target.port}"
            sources = ["redis", "sql:gone", callahead, "sql:people"]
            said = command(sources, "recipient", "test", "alice@ours.test")
            found: dict[str, Any] = json.loads(
                command(sources, "recipient", "test", "eve@ours.test", "--json", status=1)
            )
        assert "in the end: exists" in said
        rows = {line.split()[0]: line for line in said.splitlines() if ":" in line or "redis" in line}
        assert "unknown" in rows["sql:gone"]
        assert "unable to open database file" in rows["sql:gone"]
        assert "451 4.7.1 Come back later" in rows[callahead]
        assert rows["sql:people"].split()[1] == "exists"
        assert [one["answer"] for one in found["sources"]] == ["unknown", "unknown", "unknown", "missing"]
        assert found["answer"] == "missing"

    def test_a_next_hop_that_takes_everybody(self, command) -> None:
        with CallaheadTarget() as target:
            said = command([f"callahead:[127.0.0.1]:{target.port}"], "recipient", "test", "x@ours.test")
        assert "takes everybody" in said
        assert "in the end: the next hop takes everybody, so nobody is refused here" in said

    def test_a_next_hop_is_asked_for_what_was_written(self, command) -> None:
        with CallaheadTarget(rcpt=users("John.Doe@ours.test")) as target:
            sources = [f"callahead:[127.0.0.1]:{target.port}", "sql:people"]
            command(sources, "recipient", "test", "John.Doe@ours.test")
            command(sources, "recipient", "test", "john.doe@ours.test", status=1)
            command(["sql:people"], "recipient", "test", "Alice@ours.test")

    def test_explain_asks_the_sources_itself(self, command, tmp_path: Path) -> None:
        message = tmp_path / "message"
        message.write_text("Subject: x\n\nx\n")
        envelope = ("explain", str(message), "--from", "a@b.test", "--to", "eve@ours.test")
        said = command(["sql:people"], *envelope)
        assert "550 5.1.1" in said
        assert "550 5.1.1" not in command(["sql:people"], *envelope[:-1], "alice@ours.test")
        with CallaheadTarget(rcpt=users("alice@ours.test")) as target:
            assert "550 5.1.1" in command([f"callahead:[127.0.0.1]:{target.port}"], *envelope)
            assert target.recipients

    def test_a_slow_source_is_not_set_in_redis(self, configure, shared_redis: RedisServer, capsys) -> None:
        path = configure(shared_redis.unix_url, "redis")
        status = main(["--config", str(path), "domain", "set", "ours.test", "recipients", "sql:people"])
        assert status == os.EX_USAGE
        assert '"sql:people" is named in the configuration file only' in capsys.readouterr().err
