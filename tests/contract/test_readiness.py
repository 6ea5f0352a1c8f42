"""`readiness`, and what wants to wait for it, on a real Redis with counters of many days."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.test_cli_commands import Site, by_hand, dump

DOMAIN = "example.com"
TODAY = datetime.now(UTC).date()
EXEMPT = 'exempt_senders = ["news@example.com", "@example.org"]\n'


def ago(days):
    return TODAY - timedelta(days=days)


@pytest.fixture
def backstop(tmp_path, shared_redis, capsys):
    site = Site(tmp_path, shared_redis, capsys)
    yield site
    site.redis.close()


def count(backstop, days, **counters):
    names = {name.replace("_", "."): number for name, number in counters.items()}
    backstop.redis.hset(f"backstop:count:{DOMAIN}:{ago(days)}", mapping=names)


def not_yet(backstop, *words):
    return json.loads(backstop("readiness", DOMAIN, "--json", *words, status=1))


def use_key_of(backstop, day):
    keys = backstop.path.parent / "keys.toml"
    keys.chmod(0o600)
    keys.write_text(keys.read_text().replace("2026-01-01", day.isoformat()))
    keys.chmod(0o400)


def test_a_domain_that_is_ready(backstop):
    count(backstop, 100, outgoing_tagged=50, proof_tag=4)
    count(
        backstop, 1, outgoing_tagged=5, outgoing_untagged=2, untagged_forward=2, proof_tag=3, unproved_fail=9
    )
    count(backstop, 30, bounce_untagged=1)
    before = dump(backstop.redis)
    said = backstop("readiness", DOMAIN)
    assert said.startswith(
        f"example.com: Enforcing is safe from {ago(19)} on, because mail has gone out with"
    )
    assert "now: unproved = junk, from " in said
    assert "stands against" not in said
    assert (
        f"mail sent in 56 days: 5 with a tag, the first on {ago(100)},\n  2 without one\n  2: a forward"
        in said
    )
    assert ["56", "days", "3", "1", "75.0", "%", "9"] in [line.split() for line in said.splitlines()]
    assert dump(backstop.redis) == before


def test_a_domain_that_is_not(backstop):
    count(backstop, 90, outgoing_tagged=50)
    count(backstop, 3, outgoing_tagged=50, bounce_untagged=2, proof_tag=6)
    until = int(time.time()) + 3 * 86400
    client = backstop.redis
    client.hset(
        "backstop:untagged",
        mapping={
            "anna@example.com": until,
            "old@example.com": 5,
            "x@example.org": until,
            "b@example.com": "?",
        },
    )
    client.zadd(
        "backstop:elsewhere:example.com", {"shop@example.com": until - 86400 * 5, "older@example.com": 9}
    )
    said = backstop("readiness", DOMAIN, status=1)
    assert f"safe from {ago(-8)} on, because a genuine bounce without a tag came on {ago(3)}" in said
    assert "What stands against it" not in said
    assert "anna@example.com" in said
    assert "shop@example.com" in said
    assert "older@" not in said
    assert "x@example.org" not in said
    found = not_yet(backstop, "--days", "7")
    assert (found["safe"], found["safe_from"]) == (False, ago(-8).isoformat())
    assert found["bounces"] == {
        "from": ago(6).isoformat(),
        "tagged": 6,
        "untagged": 2,
        "per_cent": 75.0,
        "no_proof": 0,
    }
    assert found["sent"] == {"outgoing.tagged": 50}
    assert found["under_way"] == {"anna@example.com": until}
    assert found["elsewhere"] == {"shop@example.com": until - 86400 * 5}
    assert found["last_untagged"] == ago(3).isoformat()
    assert found["first_tagged"] == ago(90).isoformat()
    assert found["grace"]["why"] == "the signing key is of that day"


def test_a_domain_of_which_nothing_is_known(backstop):
    found = not_yet(backstop)
    assert found["safe_from"] is None
    assert "no message has gone out with a tag yet" in found["sentence"]
    assert found["weeks"] == []
    assert "none were counted" in backstop("readiness", DOMAIN, status=1)


def test_several_things_that_stand_against_it_are_a_list(backstop):
    use_key_of(backstop, TODAY)
    count(backstop, 0, outgoing_tagged=1, bounce_untagged=1)
    said = backstop("readiness", DOMAIN, status=1)
    assert f"What stands against it today:\n- bounces of mail from before {TODAY} carry no tag" in said
    assert f"\n- a genuine bounce without a tag came on {TODAY}" in said


@pytest.mark.parametrize("words", [("example.net",), (DOMAIN, "--days", "0"), (DOMAIN, "--days", "401"), ()])
def test_what_is_wrong_is_refused(backstop, words):
    backstop("readiness", *words, status=os.EX_USAGE)


@pytest.mark.parametrize("action", ["quarantine", "discard", "tempfail", "reject"])
def test_enforcing_too_early_wants_to_be_insisted_on(backstop, action):
    use_key_of(backstop, TODAY)
    count(backstop, 0, outgoing_tagged=1)
    before = dump(backstop.redis)
    said = backstop("domain", "set", DOMAIN, "unproved", action, status=os.EX_TEMPFAIL)
    assert (
        f"Enforcing is safe from {ago(-16)} on, because bounces of mail from before {TODAY} carry no tag"
        in said
    )
    assert "--force does it all the same" in said
    assert dump(backstop.redis) == before
    said = backstop("domain", "set", DOMAIN, "unproved", action, "--force")
    assert f"unproved = {action} (before: junk)" in said
    assert f"warning: Enforcing is safe from {ago(-16)} on" in said
    assert backstop.redis.hget("backstop:domain:example.com", "unproved") == action
    backstop("domain", "set", DOMAIN, "unproved", "junk")


def test_junk_is_only_warned_of_and_what_is_milder_is_not(backstop):
    assert "warning" not in backstop("domain", "set", DOMAIN, "unproved", "observe")
    assert "warning: Nobody can say yet" in backstop("domain", "set", DOMAIN, "unproved", "junk")
    assert "warning" not in backstop("domain", "set", DOMAIN, "unproved", "junk")
    assert "warning" not in backstop("domain", "set", DOMAIN, "tag", "reject")


def test_enforcing_when_it_is_safe_needs_no_force(backstop):
    count(backstop, 100, outgoing_tagged=50, proof_tag=4)
    assert "warning" not in backstop("domain", "set", DOMAIN, "unproved", "reject")


def test_a_block_by_a_person_waits_for_nothing(backstop):
    use_key_of(backstop, TODAY)
    assert "answered with reject" in backstop("block", DOMAIN, "--as", "reject")


def test_an_exemption_taken_away_begins_grace_again(backstop):
    backstop("domain", "set", DOMAIN, "exempt_senders", "news@example.com, robot@example.com")
    assert backstop.redis.hgetall("backstop:domain:example.com").keys() == {"exempt_senders"}
    said = backstop("domain", "set", DOMAIN, "exempt_senders", "news@example.com")
    assert "grace begins again (exempt no more: robot@example.com): a missing tag is only" in said
    assert f"observed until {ago(-16)}" in said
    after = dump(backstop.redis)
    backstop.redis.hset(
        "backstop:domain:example.com", "exempt_senders", "news@example.com, robot@example.com"
    )
    backstop.redis.hdel("backstop:domain:example.com", "grace_since")
    by_hand(said)
    assert dump(backstop.redis) == after
    shown = backstop.json("domain", "show", DOMAIN)
    assert shown["grace_until"] == ago(-16).isoformat()
    assert shown["grace_since"] == TODAY.isoformat()
    assert shown["grace_because"] == "exempt no more: robot@example.com"
    assert "exempt no more: robot@example.com" in backstop("domain", "show", DOMAIN)
    count(backstop, 100, outgoing_tagged=50)
    assert "exempt no more: robot@example.com" in not_yet(backstop)["sentence"]


def test_an_exemption_of_the_hash_that_goes_with_it_begins_grace_again(backstop):
    backstop("domain", "set", DOMAIN, "exempt_senders", "@example.com")
    said = backstop("domain", "unset", DOMAIN, "exempt_senders")
    assert "grace begins again (exempt no more: @example.com)" in said
    backstop.redis.delete("backstop:domain:example.com")
    by_hand(said)
    grace_since = backstop.redis.hget("backstop:domain:example.com", "grace_since")
    assert grace_since == f"{TODAY} exempt no more: @example.com"
    backstop("domain", "unset", DOMAIN, "grace_since")
    assert backstop.json("domain", "show", DOMAIN)["grace_until"] is None


def test_a_domain_that_is_added_is_in_grace_even_if_its_key_is_old(backstop):
    by_hand(backstop("domain", "add", "example.net"))
    shown = backstop.json("domain", "show", "example.net")
    assert shown["grace_until"] == ago(-16).isoformat()
    assert shown["grace_because"] == "the domain was not protected before"
    backstop.redis.hset("backstop:domain:example.net", "grace_since", "2026-01-02")
    backstop("domain", "add", "example.net")
    assert backstop.redis.hget("backstop:domain:example.net", "grace_since") == "2026-01-02"


@pytest.mark.parametrize("kind", [("SET", "x"), ("SADD", "x"), ("HSET", "a", "b"), ("ZADD", "1", "x")])
@pytest.mark.parametrize(
    "key", ["backstop:untagged", "backstop:elsewhere:example.com", "backstop:domain:example.com"]
)
def test_keys_of_another_type_are_no_traceback(backstop, kind, key):
    verb, *rest = kind
    backstop.redis.execute_command(verb, key, *rest)
    status = os.EX_UNAVAILABLE if key == "backstop:untagged" and verb != "HSET" else 1
    backstop("readiness", DOMAIN, status=status)
