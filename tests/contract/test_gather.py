"""Gather on a real Redis: what is asked, what it means, and what counts while Redis is away."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from backstop import batv
from backstop.adapters.asker_client import NOBODY
from backstop.adapters.redis_store import ReplyError, Store
from backstop.address import parse
from backstop.config import Config, load
from backstop.facts import Existence
from backstop.gather import Gather
from backstop.gather.knowledge import Knowledge
from backstop.session import Answer, Incoming, Known, Outgoing
from backstop.session.questions import base_of
from backstop.settings import Action, Block
from backstop.verdict import Count
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
CLIENT = "198.51.100.25"

WRONG_TYPES: dict[str, tuple[Any, ...]] = {
    "list": ("RPUSH", "x"),
    "set": ("SADD", "x"),
    "zset": ("ZADD", "1", "x"),
    "stream": ("XADD", "*", "a", "b"),
    "hash": ("HSET", "a", "b"),
    "string": ("SET", "x"),
}


class Outside:
    """A worker's gather with its store, and what it complained of."""

    def __init__(self, config: Config, url: str) -> None:
        self.store = Store(url)
        self.troubles: list[str] = []
        self.gather = Gather(config, self.store, self.troubles.append)

    def ask(
        self, address: str, *, sender: str = "", known: Known | None = None, now: float = NOW
    ) -> Answer | None:
        return self.gather.incoming(question(address, sender, known), now)

    def told(self, address: str, **more: Any) -> Answer:
        answer = self.ask(address, **more)
        assert answer is not None
        return answer


def question(address: str, sender: str = "", known: Known | None = None) -> Incoming:
    recipient = parse(address)
    assert recipient is not None
    tag = batv.parse(recipient)
    mailbox = tag.inner if tag else recipient
    reverse_path = parse(sender)
    return Incoming(
        recipient=recipient,
        mailbox=mailbox,
        base=base_of(mailbox, "+"),
        tag=tag,
        bounce=sender == "",
        network=CLIENT,
        sender_domain=reverse_path.domain if reverse_path else "",
        known=known,
    )


@pytest.fixture
def make_config(tmp_path: Path) -> Any:
    keys = tmp_path / "keys.toml"
    keys.write_text(
        '[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\ndomains = ["*"]\n'
        'created = 2026-01-01\nmax_lifetime = "11d"\n'
    )
    keys.chmod(0o400)

    def make(*settings: str) -> Config:
        path = tmp_path / "backstop.toml"
        path.write_text(
            "\n".join(
                [
                    f'keys = "{keys}"',
                    'domains = ["ours.test"]',
                    "[defaults]",
                    'tag_form = "subaddress"',
                    *settings,
                    "",
                ]
            )
        )
        return load(path)

    return make


@pytest.fixture
def client(shared_redis: RedisServer) -> Iterator["redis.Redis"]:
    connection = shared_redis.client()
    yield connection
    connection.close()


@pytest.fixture
def outside(make_config: Any, shared_redis: RedisServer) -> Iterator[Outside]:
    made = Outside(make_config('recipients = ["redis"]'), shared_redis.unix_url)
    yield made
    made.store.close()


class TestBlocks:
    def test_the_narrowest_key_wins(self, outside: Outside, client: Any) -> None:
        client.set("backstop:block", "junk")
        assert outside.told("alice@ours.test").block == Block(Action.JUNK, "", by_person=True)
        client.set("backstop:block:ours.test", "reject")
        assert outside.told("alice@ours.test").block == Block(Action.REJECT, "ours.test", by_person=True)
        client.set("backstop:block:alice@ours.test", "quarantine")
        block = outside.told("Alice+list+prvs=1234abcdef@ours.test").block
        assert block == Block(Action.QUARANTINE, "alice@ours.test", by_person=True)

    def test_an_explicit_off_hides_a_wider_block(self, outside: Outside, client: Any) -> None:
        client.set("backstop:block:ours.test", "reject")
        client.set("backstop:block:alice@ours.test", "off")
        assert outside.told("alice@ours.test").block is None
        assert outside.told("bob@ours.test").block is not None

    @pytest.mark.parametrize(
        ("value", "action"),
        [("1", Action.JUNK), (" TRUE ", Action.JUNK), ("yes", Action.JUNK), ("Reject", Action.REJECT)],
    )
    def test_values_are_forgiving(self, outside: Outside, client: Any, value: str, action: Action) -> None:
        client.set("backstop:block:ours.test", value)
        block = outside.told("alice@ours.test").block
        assert block is not None
        assert block.action is action

    @pytest.mark.parametrize("value", ["2", "-1", "maybe", "", b"\xff\xfe", "junk" * 100, "x" * 10_000_000])
    def test_a_value_that_means_nothing_is_no_block(
        self, outside: Outside, client: Any, value: str | bytes
    ) -> None:
        client.set("backstop:block:ours.test", value)
        assert outside.told("alice@ours.test").block is None
        assert bool(outside.troubles) == (value != "")
        assert all("backstop:block:ours.test" in trouble for trouble in outside.troubles)

    def test_ordinary_mail_does_not_ask_for_blocks(self, outside: Outside, client: Any) -> None:
        client.set("backstop:block:ours.test", "reject")
        assert outside.told("alice@ours.test", sender="a@else.test").block is None

    def test_the_next_question_sees_a_change(self, outside: Outside, client: Any) -> None:
        assert outside.told("alice@ours.test").block is None
        client.set("backstop:block:ours.test", "junk", px=300)
        assert outside.told("alice@ours.test").block is not None
        wait_for(lambda: outside.told("alice@ours.test").block is None, 5, "the block to end")

    def test_what_a_transaction_read_holds(self, outside: Outside, client: Any) -> None:
        first = outside.told("alice@ours.test")
        client.set("backstop:block:ours.test", "junk")
        assert outside.told("bob@ours.test", known=first.known).block is None

    def test_who_set_it_matters_in_grace(
        self, make_config: Any, shared_redis: RedisServer, client: Any
    ) -> None:
        outside = Outside(make_config('grace = "365d"'), shared_redis.unix_url)
        client.set("backstop:block:ours.test", "junk")
        client.hset("backstop:block-info:ours.test", "by", "surge")
        block = outside.told("alice@ours.test").block
        assert block is not None
        assert not block.by_person
        client.delete("backstop:block-info:ours.test")
        block = outside.told("alice@ours.test").block
        assert block is not None
        assert block.by_person
        outside.store.close()


class TestSettings:
    def test_a_hash_overrides_the_file(self, outside: Outside, client: Any) -> None:
        client.hset("backstop:domain:ours.test", mapping={"unproved": "reject", "lifetime": "7d"})
        settings = outside.told("alice@ours.test").known.settings
        assert settings.actions["unproved"] is Action.REJECT
        assert settings.lifetime == 7
        client.delete("backstop:domain:ours.test")
        assert outside.told("alice@ours.test").known.settings.lifetime == 11

    def test_what_means_nothing_falls_to_the_file(self, outside: Outside, client: Any) -> None:
        client.hset(
            "backstop:domain:ours.test", mapping={"unproved": "maybe", "nonsense": "1", "tag": "junk"}
        )
        settings = outside.told("alice@ours.test").known.settings
        assert settings.actions["unproved"] is Action.OBSERVE
        assert settings.actions["tag"] is Action.JUNK
        assert {trouble.split(": ")[1] for trouble in outside.troubles} == {"unproved", "nonsense"}

    def test_new_sources_count_at_once(
        self, make_config: Any, shared_redis: RedisServer, client: Any
    ) -> None:
        outside = Outside(make_config(), shared_redis.unix_url)
        client.sadd("backstop:recipients:ours.test", "alice")
        assert outside.told("bob@ours.test").existence is Existence.NOT_ASKED
        client.hset("backstop:domain:ours.test", "recipients", "redis")
        assert outside.told("bob@ours.test").existence is Existence.MISSING
        outside.store.close()

    def test_domains_beside_those_in_the_file(self, outside: Outside, client: Any) -> None:
        assert outside.ask("alice@more.test") is None
        client.sadd("backstop:domains", "more.test")
        assert outside.ask("alice@more.test") is not None
        assert outside.gather.is_protected("more.test")
        client.srem("backstop:domains", "more.test")
        assert outside.ask("alice@more.test") is None
        assert not outside.gather.is_protected("more.test")


class TestRecipients:
    def test_the_set_knows(self, outside: Outside, client: Any) -> None:
        client.sadd("backstop:recipients:ours.test", "alice", "bob+list")
        assert outside.told("ALICE+any@ours.test").existence is Existence.EXISTS
        assert outside.told("bob+list@ours.test").existence is Existence.EXISTS
        assert outside.told("bob@ours.test").existence is Existence.MISSING
        assert outside.told("nosuch+prvs=1234abcdef@ours.test").existence is Existence.MISSING

    @pytest.mark.parametrize("local", ["SRS0=x1y2=AB=far.example=bob", "srs1+x=relay.example==y=AB=z=bob"])
    def test_what_a_forwarding_mail_server_makes_is_its_own_business(self, outside, client, local) -> None:
        client.sadd("backstop:recipients:ours.test", "alice")
        assert outside.told(f"{local}@ours.test").existence is Existence.NOT_ASKED
        assert outside.told("srs0@ours.test").existence is Existence.MISSING

    def test_an_empty_set_knows_nobody(self, outside: Outside) -> None:
        assert outside.told("alice@ours.test").existence is Existence.UNKNOWN


class TestUntaggedAndLimits:
    def test_untagged_mail_is_under_way_until_its_time(self, outside: Outside, client: Any) -> None:
        client.hset("backstop:untagged", "alice@ours.test", str(int(NOW) + 60))
        assert outside.told("alice+any@ours.test").untagged_mail
        assert not outside.told("alice@ours.test", now=NOW + 61).untagged_mail

    def test_bad_tags_of_the_client(self, outside: Outside, client: Any) -> None:
        address = "alice+prvs=1234abcdef@ours.test"
        client.set(f"backstop:client:{CLIENT}:bad_tags", 9)
        assert not outside.told(address).guesses_tags
        client.set(f"backstop:client:{CLIENT}:bad_tags", 10)
        assert outside.told(address).guesses_tags

    def test_bad_tags_of_the_address_touch_only_who_guessed(self, outside: Outside, client: Any) -> None:
        address = "alice+prvs=1234abcdef@ours.test"
        client.set("backstop:client:alice@ours.test:bad_tags_address", 100)
        assert not outside.told(address).guesses_tags
        assert any("alice@ours.test" in trouble for trouble in outside.troubles)
        client.set(f"backstop:client:{CLIENT}:bad_tags", 1)
        assert outside.told(address).guesses_tags

    def test_a_guess_is_counted_with_the_question_after_it_is_answered(
        self, outside: Outside, client: Any
    ) -> None:
        guess = replace(
            question("alice+prvs=1234abcdef@ours.test"),
            counts=(Count("alice@ours.test", "bad_tags_address"), Count(CLIENT, "bad_tags")),
        )
        for number in range(12):
            answer = outside.gather.incoming(guess, NOW)
            assert answer is not None
            assert answer.guesses_tags == (number >= 10)
        assert client.get(f"backstop:client:{CLIENT}:bad_tags") == "12"
        assert client.get("backstop:client:alice@ours.test:bad_tags_address") == "12"
        assert 50 < client.ttl(f"backstop:client:{CLIENT}:bad_tags") <= 60
        assert 3500 < client.ttl("backstop:client:alice@ours.test:bad_tags_address") <= 3600

    def test_a_tag_for_a_stranger_is_no_guess(self, outside: Outside, client: Any) -> None:
        guess = replace(question("alice+prvs=1234abcdef@more.test"), counts=(Count(CLIENT, "bad_tags"),))
        assert outside.gather.incoming(guess, NOW) is None
        assert client.get(f"backstop:client:{CLIENT}:bad_tags") is None
        client.sadd("backstop:domains", "more.test")
        assert outside.gather.incoming(guess, NOW) is not None
        assert outside.gather.incoming(guess, NOW) is not None
        wait_for(lambda: client.get(f"backstop:client:{CLIENT}:bad_tags") == "2", 5, "both counts")

    @pytest.mark.parametrize("value", ["abc", "9223372036854775808", "-5", "1e9"])
    def test_a_limit_that_is_no_number_limits_nobody(self, outside: Outside, client: Any, value: str) -> None:
        client.set(f"backstop:client:{CLIENT}:unknown_recipients", value)
        assert not outside.told("alice@ours.test").harvests


class TestOutgoing:
    def test_one_question_for_sender_and_recipient(self, outside: Outside, client: Any) -> None:
        sending = outside.gather.outgoing(Outgoing("ours.test", "else.test"), NOW)
        assert sending.settings is not None
        assert not sending.recipient_is_ours
        client.sadd("backstop:domains", "else.test")
        assert outside.gather.outgoing(Outgoing("ours.test", "else.test"), NOW).recipient_is_ours
        assert outside.gather.outgoing(Outgoing("else.test", "else.test"), NOW).settings is not None
        assert outside.gather.outgoing(Outgoing("strange.test", "ours.test"), NOW).settings is None
        assert outside.gather.outgoing(Outgoing("", "ours.test"), NOW).recipient_is_ours


KEYS = [
    "backstop:block",
    "backstop:block:ours.test",
    "backstop:block:alice@ours.test",
    "backstop:domain:ours.test",
    "backstop:domains",
    "backstop:recipients:ours.test",
    "backstop:untagged",
    f"backstop:client:{CLIENT}:bad_tags",
    f"backstop:client:{CLIENT}:unknown_recipients",
    "backstop:client:alice@ours.test:bad_tags_address",
]


@pytest.mark.parametrize("kind", WRONG_TYPES)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_the_wrong_type_harms_nothing_else(
    outside: Outside, client: Any, key: str, kind: str
) -> None:
    """The answer comes, nothing raises, and nothing is refused for it."""
    command, *rest = WRONG_TYPES[kind]
    client.execute_command(command, key, *rest)
    answer = outside.told("alice+prvs=1234abcdef@ours.test")
    assert answer.known.settings.lifetime == 11
    assert answer.block is None
    assert not answer.guesses_tags
    assert not answer.untagged_mail
    if key != "backstop:recipients:ours.test" or kind != "set":
        assert answer.existence is Existence.UNKNOWN
    assert outside.ask("alice@strange.test", sender="a@b.test") is None
    assert outside.store.available


class TestAway:
    @pytest.fixture
    def server(self, redis_server: RedisServer) -> RedisServer:
        return redis_server

    def test_the_last_answers_count(self, make_config: Any, server: RedisServer) -> None:
        outside = Outside(make_config('recipients = ["redis"]'), server.unix_url)
        with server.client() as client:
            client.set("backstop:block:ours.test", "junk", ex=60)
            client.hset("backstop:domain:ours.test", "unproved", "reject")
            client.sadd("backstop:recipients:ours.test", "alice")
            client.sadd("backstop:domains", "more.test")
        before = outside.told("alice@ours.test")
        outside.ask("alice@more.test")
        server.kill()
        during = outside.told("alice@ours.test")
        assert during.known.settings == before.known.settings
        assert during.block == before.block
        assert during.existence is Existence.EXISTS
        assert outside.told("bob@ours.test").existence is Existence.UNKNOWN
        assert outside.ask("alice@more.test") is not None
        assert outside.ask("alice@strange.test") is None
        assert outside.gather.has_blocks(NOW)
        after = outside.told("alice@ours.test", now=NOW + 61)
        assert after.block is None, "the block's own time is over"
        assert not outside.gather.has_blocks(NOW + 61)
        assert outside.gather.outgoing(Outgoing("ours.test", "else.test"), NOW).settings is not None
        assert outside.gather.counted_today("ours.test", "action.quarantine", NOW) is None
        outside.store.close()

    def test_what_was_never_read_falls_to_the_file(self, make_config: Any, server: RedisServer) -> None:
        server.kill()
        outside = Outside(make_config('actions = { tag = "junk" }'), server.unix_url)
        answer = outside.told("alice@ours.test")
        assert answer.known.settings.actions["tag"] is Action.JUNK
        assert answer.block is None
        assert outside.ask("alice@strange.test") is None
        outside.store.close()

    def test_a_hung_server_is_late_once(self, make_config: Any, server: RedisServer) -> None:
        outside = Outside(make_config(), server.unix_url)
        server.freeze()
        assert outside.told("alice@ours.test").block is None
        assert not outside.store.available
        server.thaw()
        with server.client() as client:
            client.set("backstop:block:ours.test", "junk")
        wait_for(outside.store.probe, 5, "the store to be back")
        assert outside.told("alice@ours.test").block is not None
        outside.store.close()


class TestKnowledge:
    def test_a_disposable_address_that_was_switched_off_stays_so_while_redis_is_away(
        self, make_config: Any
    ) -> None:
        troubles: list[str] = []
        knowledge = Knowledge(make_config(), troubles.append, NOBODY)
        alias = "alice+d-1809c85a9f@ours.test"
        assert not knowledge.alias_is_off(alias, b"")
        assert not knowledge.alias_was_off(alias)
        assert knowledge.alias_is_off(alias, b"1")
        assert knowledge.alias_was_off(alias)
        assert not knowledge.alias_is_off(alias, b"")
        assert not knowledge.alias_was_off(alias)
        assert not knowledge.alias_is_off(alias, ReplyError.of("WRONGTYPE no hash"))
        assert troubles == [f"backstop:alias:{alias}: WRONGTYPE no hash"]

    def test_a_block_that_ended_between_two_questions_held_without_end(self, make_config: Any) -> None:
        """GETRANGE still saw it, PTTL did not: -2 was read as -1, and Redis went away just then."""
        knowledge = Knowledge(make_config(), print, NOBODY)
        assert knowledge.block("ours.test", b"reject", -2, NOW, by_person=True) is not None
        assert knowledge.last_block("ours.test", NOW) is None
        assert knowledge.block("ours.test", b"reject", -1, NOW, by_person=True) is not None
        assert knowledge.last_block("ours.test", NOW + 10**9) is not None

    def test_a_value_that_means_nothing_was_said_once_and_never_again(self, make_config: Any) -> None:
        """How often it is said is the journal's business: once a minute, as for every other key."""
        troubles: list[str] = []
        knowledge = Knowledge(make_config(), troubles.append, NOBODY)
        domain = knowledge.domain("ours.test")
        read = [knowledge.settings(domain, [b"tag", b"refuse", b"lifetime", b"9d"]) for _ in range(3)]
        assert read[0].lifetime == 9
        assert read[1] is read[2] is read[0]
        assert len(troubles) == 3
        assert len(set(troubles)) == 1
        assert troubles[0].startswith("backstop:domain:ours.test: tag: an action is wanted")
