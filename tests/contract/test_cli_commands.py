"""The commands as an administrator gives them, on a real Redis, and the redis-cli line each prints."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from backstop.cli import main
from backstop.session import MARK
from tests.harness.servers import backstop_environment, need, run_backstop

DAY = datetime.now(UTC).date()


class Site:
    """A configuration, its store, and the command in this process."""

    def __init__(self, folder, server, capsys):
        self.redis = server.client()
        self.path = folder / "backstop.toml"
        self._capsys = capsys
        self.write(server.unix_url)

    def write(self, store, more=""):
        folder = self.path.parent
        keys = folder / "keys.toml"
        if not keys.exists():
            keys.write_text(
                '[[key]]\nnumber = 1\nsecret = "a secret for the tests"\nstate = "sign"\ndomains = ["*"]\n'
                'created = 2026-01-01\nmax_lifetime = "11d"\n'
            )
            keys.chmod(0o400)
        self.path.write_text(
            f'keys = "{keys}"\nstore = "{store}"\ndomains = ["example.com", "example.org"]\n{more}'
            '[defaults]\ntag_form = "subaddress"\nactions = { unproved = "junk" }\n'
            f'[domain."example.org"]\nrecipients = ["redis", "file:{folder}/list"]\n'
        )

    def __call__(self, *words, status=0):
        """What the command prints; for a status above 0 with what it complains of."""
        ended = main(["--config", str(self.path), *words])
        said, complained = self._capsys.readouterr()
        assert "Traceback" not in complained
        assert ended == status, said + complained
        assert status or complained == ""
        return said + complained

    def json(self, *words):
        return json.loads(self(*words, "--json"))


@pytest.fixture
def backstop(tmp_path, shared_redis, capsys):
    site = Site(tmp_path, shared_redis, capsys)
    yield site
    site.redis.close()


def by_hand(said):
    """Give the printed line to a shell, as an administrator would."""
    (line,) = (line for line in said.splitlines() if line.startswith("the same by hand: "))
    need("redis-cli")
    command = line.removeprefix("the same by hand: ")
    subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, timeout=10)


def dump(client):
    """Everything in the store, with the time left in rough seconds."""
    kinds = {"string": client.get, "hash": client.hgetall, "set": client.smembers}
    return {key: (kinds[client.type(key)](key), round(client.ttl(key) / 10)) for key in client.scan_iter()}


def test_block_is_what_redis_cli_would_do(backstop):
    said = backstop("block", "example.com", "--for", "2d", "--reason", "a flood")
    assert "example.com: bounces without proof are answered with junk until" in said
    key = "backstop:block:example.com"
    assert backstop.redis.get(key) == "junk"
    assert 172790 < backstop.redis.ttl(key) <= 172800
    info = backstop.redis.hgetall("backstop:block-info:example.com")
    assert info["why"] == "a flood"
    assert info["by"]
    assert datetime.fromisoformat(info["until"]) > datetime.now(UTC)
    assert abs(backstop.redis.ttl("backstop:block-info:example.com") - backstop.redis.ttl(key)) <= 1
    before = backstop.redis.get(key), round(backstop.redis.ttl(key) / 10)
    backstop.redis.delete(key)
    by_hand(said)
    assert (backstop.redis.get(key), round(backstop.redis.ttl(key) / 10)) == before


def test_a_block_without_end_forgets_what_was_said_of_the_last_one(backstop):
    backstop("block", "example.com", "--for", "1h", "--reason", "old")
    backstop("block", "example.com", "--as", "reject")
    assert backstop.redis.ttl("backstop:block:example.com") == -1
    assert backstop.redis.ttl("backstop:block-info:example.com") == -1
    assert set(backstop.redis.hgetall("backstop:block-info:example.com")) == {"by"}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Example.COM.", "example.com"),
        ("User@example.com", "user@example.com"),
        ("User+News@EXAMPLE.com", "user@example.com"),
        ("user+prvs=1234abcdef@example.com", "user@example.com"),
        ("prvs=1234abcdef=User@example.com", "user@example.com"),
        ("<user@example.com>", "user@example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ],
)
def test_a_name_has_one_key_however_it_is_written(backstop, written, name):
    backstop.redis.sadd("backstop:domains", "xn--bcher-kva.example")
    said = backstop("block", written)
    assert backstop.redis.get(f"backstop:block:{name}") == "junk"
    by_hand(said)
    assert list(backstop.redis.scan_iter("backstop:block:*")) == [f"backstop:block:{name}"]
    backstop("unblock", written)
    assert not backstop.redis.exists(f"backstop:block:{name}", f"backstop:block-info:{name}")


def test_the_block_of_all_domains(backstop):
    by_hand(backstop("block", "--all", "--for", "12h", "--as", "tempfail"))
    assert backstop.redis.get("backstop:block") == "tempfail"
    assert "all protected domains" in backstop("status")
    said = backstop("unblock", "example.com")
    assert "no block was on" in said
    assert "`backstop block example.com --as off` exempts this one" in said
    backstop("block", "example.com", "--as", "off")
    assert backstop.redis.get("backstop:block:example.com") == "off"
    by_hand(backstop("unblock", "--all"))
    assert not backstop.redis.exists("backstop:block", "backstop:block-info")


@pytest.mark.parametrize(
    "words",
    [
        ("block", "example.net"),
        ("block", "user@example.net"),
        ("block", "sub.example.com"),
        ("unblock", "example.net"),
        ("block", "a@b@"),
        ("block", ""),
        ("block", "*"),
        ("block", "two words"),
        ("block",),
        ("block", "example.com", "--all"),
        ("block", "example.com", "--for", "soon"),
        ("block", "example.com", "--for", "2020-01-01T00:00Z"),
        ("block", "example.com", "--for", "0s"),
        ("block", "example.com", "--as", "refuse"),
        ("domain", "show", "example.net"),
        ("domain", "set", "example.com", "quarantine", "5"),
        ("domain", "set", "example.com", "lifetime", "20d"),
        ("domain", "set", "example.com", "lifetime", "soon"),
        ("domain", "set", "example.com", "tag", "refuse"),
        ("domain", "set", "example.com", "recipient_delimiter", "-"),
        ("domain", "set", "example.com", "recipients", "file:/etc/passwd"),
        ("domain", "set", "example.net", "tag", "reject"),
        ("domain", "unset", "example.com", "nothing"),
        ("domain", "add", "a..b"),
        ("domain", "add", "user@example.com"),
        ("domain", "remove", "example.com"),
        ("recipient", "add", "user@example.net"),
        ("recipient", "add", "user"),
        ("recipient", "add", "one@example.com", "two@example.net"),
        ("recipient", "add", "user+prvs=1234abcdef@example.com"),
        ("recipient", "test", "user@example.net"),
        ("stats", "--days", "0"),
        ("stats", "--days", "many"),
        ("tail", "-n", "-1"),
        ("frobnicate",),
        (),
        ("status", "--colour"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(backstop, words):
    said = backstop(*words, status=os.EX_USAGE)
    assert said.strip()
    assert dump(backstop.redis) == {}


def test_a_domain_that_is_not_protected_only_by_force(backstop):
    assert "--force does it all the same" in backstop("block", "example.net", status=os.EX_USAGE)
    backstop("block", "example.net", "--force")
    assert backstop.redis.get("backstop:block:example.net") == "junk"
    assert "example.net (not protected)" in backstop("status")


def test_an_end_can_be_a_moment(backstop):
    until = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%MZ")
    backstop("block", "example.com", "--for", until)
    assert 3500 < backstop.redis.ttl("backstop:block:example.com") <= 3600


def test_status_shows_blocks_and_what_happened_today(backstop):
    assert "no block is on" in backstop("status")
    backstop("block", "example.com", "--for", "2d", "--reason", "a flood")
    backstop.redis.set("backstop:block:someone@example.org", " YES ", ex=90)
    backstop.redis.set("backstop:block:other@example.org", "perhaps")
    backstop.redis.lpush("backstop:block:example.org", "x")
    counts = {
        "bounce.seen": 7,
        "bounce.proved": 3,
        "action.reject": 2,
        "action.junk": 1,
        "outgoing.tagged": 9,
    }
    backstop.redis.hset(f"backstop:count:example.com:{DAY}", mapping=counts)
    found = backstop.json("status")
    assert found["store"]["reachable"] is True
    blocks = {block["name"]: block for block in found["blocks"]}
    assert blocks["example.com"]["action"] == "junk"
    assert blocks["example.com"]["why"] == "a flood"
    assert blocks["someone@example.org"]["action"] == "junk"
    assert 80 < blocks["someone@example.org"]["seconds_left"] <= 90
    assert blocks["other@example.org"]["action"] is None
    assert blocks["example.org"]["action"] is None
    assert found["today"]["example.com"] == counts
    lines = [line.split() for line in backstop("status").splitlines()]
    assert ["example.com", "7", "3", "0", "1", "2", "9"] in lines


def test_a_setting_is_changed_shown_and_taken_back(backstop):
    said = backstop("domain", "set", "example.com", "lifetime", "5d")
    assert "example.com: lifetime = 5d (before: 11d)" in said
    after = dump(backstop.redis)
    backstop.redis.flushall()
    by_hand(said)
    assert dump(backstop.redis) == after
    backstop("domain", "set", "Example.com", "tag", "Reject")
    shown = backstop.json("domain", "show", "example.com")
    assert shown["settings"]["lifetime"] == {"value": "5d", "from": "backstop:domain:example.com"}
    assert shown["actions"]["tag"] == {"value": "reject", "from": "backstop:domain:example.com"}
    assert shown["actions"]["unproved"] == {"value": "junk", "from": f"{backstop.path}:6 [defaults]"}
    assert shown["actions"]["harvest"]["from"] == "built-in default"
    assert shown["faults"] == []
    by_hand(backstop("domain", "unset", "example.com", "lifetime"))
    assert "was not set" in backstop("domain", "unset", "example.com", "lifetime")
    assert backstop.redis.hgetall("backstop:domain:example.com") == {"tag": "Reject"}


def test_what_means_nothing_in_the_hash_is_shown_and_can_be_removed(backstop):
    backstop.redis.hset(
        "backstop:domain:example.com", mapping={"tag": "refuse", "grqce": "1d", "lifetime": "3d"}
    )
    shown = backstop.json("domain", "show", "example.com")
    assert len(shown["faults"]) == 2
    assert shown["actions"]["tag"]["value"] == "observe"
    assert shown["actions"]["tag"]["from"] == "built-in default"
    assert shown["settings"]["lifetime"]["value"] == "3d"
    assert "grqce is gone" in backstop("domain", "unset", "example.com", "grqce")


def test_a_name_that_is_a_setting_and_a_check(backstop):
    backstop("domain", "set", "example.com", "receive_only", "news@example.com,@lists.example.com")
    shown = backstop.json("domain", "show", "example.com")
    assert shown["settings"]["receive_only"]["value"] == "news@example.com, @lists.example.com"
    assert shown["settings"]["receive_only"]["from"] == "backstop:domain:example.com"
    assert shown["actions"]["receive_only"] == {"value": "reject", "from": "built-in default"}


def test_domains_beside_those_of_the_file(backstop):
    by_hand(backstop("domain", "add", "Bücher.example"))
    assert backstop.redis.smembers("backstop:domains") == {"xn--bcher-kva.example"}
    rows = backstop.json("domain", "list")
    assert [(row["domain"], row["named_in"]) for row in rows] == [
        ("example.com", "file"),
        ("example.org", "file"),
        ("xn--bcher-kva.example", "store"),
    ]
    assert "protected already" in backstop("domain", "add", "example.com")
    by_hand(backstop("domain", "remove", "bücher.example"))
    assert "was not protected" in backstop("domain", "remove", "bücher.example")


def test_recipients_in_redis(backstop):
    said = backstop("recipient", "add", "Anna@example.org", '"two words"@example.org', "bert@example.com")
    assert backstop.redis.smembers("backstop:recipients:example.org") == {"anna", "two words"}
    assert "example.com does not ask this set yet" in said
    assert backstop("recipient", "list", "example.org").split("\n")[:2] == [
        "anna@example.org",
        '"two words"@example.org',
    ]
    by_hand(backstop("recipient", "remove", "anna@example.org"))
    said = backstop("recipient", "remove", '"two words"@example.org')
    assert "the set is empty now: it knows nobody" in said
    assert backstop.json("recipient", "list", "example.org") == []


def test_a_recipient_is_asked_of_every_source_in_order(backstop):
    found = backstop("recipient", "test", "anna+x@example.org", status=os.EX_TEMPFAIL)
    assert "in the end: unknown; source_down says tempfail" in found
    backstop("recipient", "add", "anna@example.org")
    (backstop.path.parent / "list").write_text("bert\n")
    os.utime(backstop.path.parent / "list", (0, 0))
    found = backstop.json("recipient", "test", "anna+x@example.org")
    assert found["tried"] == ["anna+x", "anna"]
    assert [source["answer"] for source in found["sources"]] == ["exists", "missing"]
    assert found["answer"] == "exists"
    found = backstop("recipient", "test", "nobody@example.org", status=1)
    assert "does not exist; the check `recipient` fails, its action is reject" in found
    assert "no source says anything" in backstop("recipient", "test", "anna@example.com")


def test_stats_count_days_and_since_ever(backstop):
    backstop.redis.hset(f"backstop:count:example.com:{DAY}", mapping={"tag.fail": 2, "x": "no number"})
    backstop.redis.hset("backstop:count:example.com:2020-01-01", mapping={"tag.fail": 5})
    backstop.redis.hset("backstop:count:example.com", mapping={"tag.fail": 7, "big": "9" * 5000})
    assert ["example.com", "tag.fail", "2", "2", "7"] in [
        line.split() for line in backstop("stats").splitlines()
    ]
    found = backstop.json("stats", "example.com", "--days", "3")
    assert next(iter(found["example.com"]["days"])) == DAY.isoformat()
    assert len(found["example.com"]["days"]) == 3
    assert found["example.com"]["ever"] == {"tag.fail": 7}
    assert "nothing was counted yet" in backstop("stats", "example.org")


def test_tail_shows_the_latest_and_follows(backstop):
    for number in range(450):
        backstop.redis.xadd("backstop:events", {"queue_id": f"Q{number}", "reason": "two words"})
    lines = backstop("tail", "-n", "430").splitlines()
    assert len(lines) == 430
    assert lines[0].endswith('queue_id=Q20 reason="two words"')
    assert lines[-1].endswith('queue_id=Q449 reason="two words"')
    assert len(backstop("tail").splitlines()) == 10
    last = json.loads(backstop("tail", "-n", "1", "--json"))
    assert last["queue_id"] == "Q449"
    assert datetime.fromisoformat(last["time"]).date() == DAY


def start(backstop, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "backstop", "--config", str(backstop.path), *words],
        env=backstop_environment({"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_tail_follows_until_ctrl_c(backstop):
    backstop.redis.xadd("backstop:events", {"queue_id": "OLD"})
    with start(backstop, "tail", "--follow") as follower:
        assert "queue_id=OLD" in follower.stdout.readline()
        backstop.redis.xadd("backstop:events", {"queue_id": "NEW1"})
        assert "queue_id=NEW1" in follower.stdout.readline()
        backstop.redis.xadd("backstop:events", {"queue_id": "NEW2"})
        assert "queue_id=NEW2" in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.stdout.read() == ""
        assert follower.stderr.read() == ""
        assert follower.wait(10) == 128 + signal.SIGINT


def test_who_has_read_enough_hears_no_complaint(backstop):
    for number in range(2000):
        backstop.redis.xadd("backstop:events", {"queue_id": f"Q{number}", "reason": "x" * 100})
    with start(backstop, "tail", "-n", "2000") as talker:
        talker.stdout.readline()
        talker.stdout.close()
        assert talker.stderr.read() == ""
        assert talker.wait(10) == 128 + signal.SIGPIPE


NASTY = [
    "\x1b[2J\x1b[1;31mred",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x90q\x9c",
    "line\r\nX-Evil: 1",
    "two\nlines",
    "\0nul",
    "\x7f\x08\x08",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "a\u2028b\u2029c",
    "\u200b\ufeff\u00ad",
    "%s%n%1$s",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "$(reboot)`reboot`;reboot",
    "x" * 10_000,
    b"\xff\xfe\x80\x9b2J",
    b"\xed\xa0\x80",
    "\U000e0041",
]


def test_nothing_hostile_comes_out_raw(backstop):
    """reliability.md K1 and T20: whatever stands in Redis or on the command line."""
    client = backstop.redis
    for nasty in NASTY:
        client.flushall()
        client.set("backstop:block:example.com", nasty)
        client.hset("backstop:block-info:example.com", mapping={"by": nasty, "why": nasty})
        client.set(_join("backstop:block:", nasty, "@example.com"), "junk")
        client.sadd("backstop:domains", _join("", nasty, ".example"))
        client.hset("backstop:domain:example.com", mapping={nasty: nasty, "tag": nasty})
        client.sadd("backstop:recipients:example.org", nasty)
        client.hset("backstop:count:example.com", nasty, 3)
        client.xadd("backstop:events", {"from": nasty, nasty: "x"})
        for words in (
            ("status",),
            ("status", "--json"),
            ("domain", "list"),
            ("domain", "list", "--json"),
            ("domain", "show", "example.com"),
            ("recipient", "list", "example.org"),
            ("stats",),
            ("tail",),
            ("tail", "--json"),
        ):
            said = backstop(*words)
            assert _is_clean(said), (words, nasty)
            if words[0] == "tail":
                assert said.count("\n") == 1
    for nasty in NASTY:
        text = nasty if isinstance(nasty, str) else os.fsdecode(nasty)
        for words in (
            ("block", text),
            ("domain", "show", text),
            ("domain", "set", "example.com", text, text),
            ("recipient", "add", text),
            ("recipient", "test", f"{text}@example.org"),
            ("stats", text),
            (text,),
            ("tail", "-n", text),
        ):
            ended = main(["--config", str(backstop.path), *words])
            said, complained = backstop._capsys.readouterr()
            assert isinstance(ended, int)
            assert _is_clean(said + complained), (words, nasty)


def _join(start_, nasty, end):
    if isinstance(nasty, bytes):
        return start_.encode() + nasty + end.encode()
    return start_ + nasty + end


def _is_clean(text):
    return all(char == "\n" or char.isprintable() for char in text)


TYPES = {
    "string": ("SET", "x"),
    "list": ("RPUSH", "x"),
    "set": ("SADD", "x"),
    "hash": ("HSET", "a", "b"),
    "zset": ("ZADD", "1", "x"),
    "stream": ("XADD", "*", "a", "b"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_keys_of_the_wrong_type_are_no_traceback(backstop, kind):
    verb, *rest = TYPES[kind]
    for key in (
        "backstop:block",
        "backstop:block:example.com",
        "backstop:block-info:example.com",
        "backstop:domain:example.com",
        "backstop:recipients:example.org",
        "backstop:count:example.com",
        "backstop:events",
        "backstop:domains",
    ):
        backstop.redis.flushall()
        backstop.redis.execute_command(verb, key, *rest)
        for words in (
            ("status",),
            ("domain", "list"),
            ("domain", "show", "example.com"),
            ("domain", "set", "example.com", "tag", "reject"),
            ("recipient", "list", "example.org"),
            ("recipient", "test", "x@example.org"),
            ("stats",),
            ("tail",),
            ("unblock", "example.com"),
            ("block", "example.com"),
        ):
            ended = main(["--config", str(backstop.path), *words])
            said, complained = backstop._capsys.readouterr()
            assert ended in (0, 1, os.EX_UNAVAILABLE, os.EX_TEMPFAIL), (key, words)
            assert bool(complained) == (ended == os.EX_UNAVAILABLE), (key, words, said, complained)
            if complained:
                assert "WRONGTYPE" in complained


EVERY_COMMAND = [
    ("status",),
    ("block", "example.com"),
    ("unblock", "example.com"),
    ("domain", "list"),
    ("domain", "show", "example.com"),
    ("domain", "set", "example.com", "tag", "reject"),
    ("domain", "unset", "example.com", "tag"),
    ("domain", "add", "example.net"),
    ("domain", "remove", "example.net"),
    ("recipient", "add", "x@example.com"),
    ("recipient", "remove", "x@example.com"),
    ("recipient", "list", "example.com"),
    ("recipient", "test", "x@example.com"),
    ("stats",),
    ("tail",),
]


@pytest.mark.parametrize("words", EVERY_COMMAND)
def test_a_store_that_is_away_is_said_at_once(backstop, words):
    backstop.write("redis://:secret-word@127.0.0.1:1/3")
    begun = time.monotonic()
    said = backstop(*words, status=os.EX_UNAVAILABLE)
    assert time.monotonic() - begun < 4
    assert "the store redis://127.0.0.1:1/3 cannot be reached: " in said
    assert "secret-word" not in said


def test_a_store_that_hangs_is_said_soon(backstop, redis_server):
    backstop.write(redis_server.url)
    redis_server.freeze()
    begun = time.monotonic()
    assert "cannot be reached" in backstop("status", status=os.EX_UNAVAILABLE)
    assert time.monotonic() - begun < 6
    redis_server.thaw()


def test_a_store_that_is_full_or_a_replica_changes_nothing_and_says_why(backstop, redis_server):
    backstop.write(redis_server.url)
    client = redis_server.client()
    client.config_set("maxmemory", "1")
    assert "its memory is full" in backstop("block", "example.com", status=os.EX_UNAVAILABLE)
    client.config_set("maxmemory", "0")
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert "it is a replica" in backstop("block", "example.com", status=os.EX_UNAVAILABLE)
    client.execute_command("REPLICAOF", "NO", "ONE")
    assert not client.exists("backstop:block:example.com")
    backstop("block", "example.com")
    client.close()


def test_a_password_is_asked_for_and_not_printed(backstop, redis_server):
    client = redis_server.client()
    client.config_set("requirepass", "secret-word")
    backstop.write(redis_server.url.replace("redis://", "redis://:secret-word@"))
    said = backstop("block", "example.com", "--for", "1h") + backstop("status")
    assert "secret-word" not in said
    assert f"redis-cli -h 127.0.0.1 -p {redis_server.port} --askpass SET backstop:block:example.com" in said
    backstop.write(redis_server.url.replace("redis://", "redis://:wrong-word@"))
    said = backstop("status", status=os.EX_UNAVAILABLE)
    assert "WRONGPASS" in said
    assert "wrong-word" not in said
    client.close()


def test_a_broken_configuration_ends_every_command_with_the_same_text(backstop):
    backstop.write("redis://127.0.0.1:1/0", "worker = 2\n")
    text = backstop("check-config", status=os.EX_CONFIG)
    assert (
        text == f'{backstop.path}:4: worker: this version does not know this name; did you mean "workers"?\n'
    )
    for words in EVERY_COMMAND:
        assert backstop(*words, status=os.EX_CONFIG) == text
    begun = time.monotonic()
    ended = run_backstop("serve", "--config", str(backstop.path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (os.EX_CONFIG, "", text)
    assert time.monotonic() - begun < 5
    assert json.loads(backstop("check-config", "--json", status=os.EX_CONFIG))["faults"] == [text.strip()]


def test_check_config_of_a_file_named(backstop, tmp_path):
    assert f"{backstop.path}: in order; 2 domains, 1 key" in backstop("check-config")
    assert "there is no such file" in backstop("check-config", f"{tmp_path}/none", status=os.EX_CONFIG)


def test_help_is_quick_and_loads_nothing_more(backstop):
    assert "explain" in backstop("--help")
    code = (
        "import sys; from backstop.cli import main; main(['--help'])\n"
        "print([name for name in sys.modules if name.startswith('backstop.')], file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=backstop_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(ended.stderr.split("'")[1::2])
    assert "backstop.session" not in loaded
    assert "backstop.adapters.redis_store" not in loaded
    assert "hiredis" not in loaded


def test_the_configuration_can_be_named_anywhere(backstop):
    for words in (
        ("--config", backstop.path, "domain", "list"),
        ("domain", "list", "--config", backstop.path),
    ):
        assert main([str(word) for word in words]) == 0
    backstop._capsys.readouterr()


# -- explain ------------------------------------------------------------------------------------------------


@pytest.fixture
def bounce(tmp_path):
    path = tmp_path / "bounce.eml"
    path.write_text(
        f"From a@b Sat Nov 21\nReceived: x\n  {MARK}: folded\n{MARK}: junk; forged\nSubject: x\n\nb\n"
    )
    return str(path)


def test_explain_says_what_would_be_done_why_and_what_would_change_it(backstop, bounce):
    backstop("block", "example.com", "--as", "reject")
    before = dump(backstop.redis)
    said = backstop("explain", bounce, "--from", "<>", "--to", "anna+x@example.com")
    assert "mailbox anna@example.com, tag: none" in said
    assert "block of example.com: reject" in said
    row = next(line for line in said.splitlines() if line.startswith("unproved"))
    assert row.split("  ")[0] == "unproved"
    assert "a bounce that returns nothing of the original, without proof" in row
    assert "block of example.com" in row
    assert "in the end, at the end of the message: 550 5.7.1" in said
    assert "a good tag on the recipient: backstop tag sign anna@example.com" in said
    assert "backstop unblock example.com" in said
    assert dump(backstop.redis) == before


def test_explain_tells_a_check_that_does_not_apply_from_one_that_is_off(backstop, bounce):
    backstop("domain", "set", "example.com", "harvest", "off")
    said = backstop("explain", bounce, "--from", "<>", "--to", "anna@example.com")
    rows = {line.split()[0]: line.split("  ")[1:] for line in said.splitlines() if "  " in line}
    cells = {name: [cell.strip() for cell in row if cell.strip()] for name, row in rows.items()}
    assert cells["forged_sender"][:2] == ["none", "observe"]
    assert cells["harvest"][:2] == ["not run", "off"]


def test_what_explain_promises_comes_true(backstop, bounce):
    backstop("block", "example.com", "--as", "reject")
    words = ("explain", bounce, "--from", "<>", "--to", "anna@example.com")
    (recipient,) = backstop.json(*words)["recipients"]
    changes = {one["change"]: one["decision"] for one in recipient["judged"]["would_change"]}
    assert changes["the end of the block: backstop unblock example.com"] == "accepted, marked as junk"
    backstop("unblock", "example.com")
    found = backstop.json(*words)
    (recipient,) = found["recipients"]
    assert recipient["judged"]["decision"] == "accepted, marked as junk"
    assert found["end"]["stage"] == "at the end of the message"
    assert f"the forged header {MARK} (number 1) is removed" in found["end"]["done"]
    assert f"accepted, with the header {MARK}: junk; check=unproved" in "\n".join(found["end"]["done"])
    changes = [one["change"] for one in recipient["judged"]["would_change"]]
    assert "its setting: backstop domain set example.com unproved observe" in changes
    backstop("domain", "set", "example.com", "unproved", "observe")
    (recipient,) = backstop.json(*words)["recipients"]
    assert recipient["judged"]["decision"] == "accepted"
    tagged = backstop("tag", "sign", "anna@example.com").split()[0]
    (recipient,) = backstop.json("explain", bounce, "--from", "<>", "--to", tagged)["recipients"]
    assert recipient["judged"]["tag"] == "good"
    assert recipient["judged"]["proofs"] == ["tag"]


def test_explain_of_a_recipient_that_does_not_exist(backstop, bounce):
    backstop("recipient", "add", "anna@example.org")
    said = backstop("explain", bounce, "--from", "a@b.example", "--to", "nobody@example.org")
    assert "at RCPT: 550 5.1.1 No such user here" in said
    assert "in the end: no recipient is left" in said
    assert "backstop recipient add nobody@example.org" in said


def test_explaining_a_forged_tag_is_no_guess(backstop, bounce):
    before = dump(backstop.redis)
    forged = "anna+prvs=1234abcdef@example.com"
    said = backstop("explain", bounce, "--from", "<>", "--to", forged, "--client", "192.0.2.9")
    assert "tag: forged" in said or "tag: unknown-key" in said
    assert dump(backstop.redis) == before


def test_explain_of_several_recipients_of_a_bounce(backstop, bounce):
    said = backstop(
        "explain",
        bounce,
        "--from",
        "<>",
        "--to",
        "a@example.com",
        "--to",
        "b@example.com",
        "--to",
        "c@else.example",
    )
    assert said.count("at RCPT: 452 4.5.3 One recipient at a time for the null sender") == 2


def test_explain_of_outgoing_mail(backstop, bounce):
    said = backstop(
        "explain", bounce, "--from", "anna@example.com", "--to", "x@else.example", "--login", "anna"
    )
    assert "outgoing mail" in said
    assert "the reverse-path becomes anna+prvs=1" in said
    said = backstop(
        "explain", bounce, "--from", "anna@example.net", "--to", "x@else.example", "--client", "local"
    )
    assert "sent without a tag: not ours to tag" in said


def test_explain_of_mail_that_is_not_ours(backstop, bounce):
    said = backstop("explain", bounce, "--from", "<>", "--to", "x@else.example", "--client", "2001:db8::1")
    assert "not judged: its domain is not protected here" in said
    assert "in the end, at DATA: accepted, nothing is changed" in said


def test_explain_without_the_store(backstop, bounce):
    backstop.write("redis://127.0.0.1:1/0")
    said = backstop("explain", bounce, "--from", "<>", "--to", "a@example.com", status=os.EX_UNAVAILABLE)
    assert "--offline judges by the file alone" in said
    said = backstop("explain", bounce, "--from", "<>", "--to", "a@example.com", "--offline")
    assert "accepted, with the header X-Backstop: junk" in said


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("/nonexistent", "--from", "<>", "--to", "a@example.com"), os.EX_NOINPUT),
        (("/", "--from", "<>", "--to", "a@example.com"), os.EX_NOINPUT),
        (("FILE", "--to", "a@example.com"), os.EX_USAGE),
        (("FILE", "--from", "<>"), os.EX_USAGE),
        (("FILE", "--from", "<>", "--to", "a@example.com", "--client", "host.example"), os.EX_USAGE),
    ],
)
def test_explain_refuses_what_it_cannot_read(backstop, bounce, words, status):
    backstop("explain", *(bounce if word == "FILE" else word for word in words), status=status)


@pytest.mark.parametrize(
    "octets", [b"", b"\0" * 5000, b":" * 3000, bytes(range(256)), b"a\r\n\r\nb", b"x:" * 600_000]
)
def test_explain_of_any_octets(backstop, tmp_path, octets):
    path = tmp_path / "odd.eml"
    path.write_bytes(octets)
    assert "in the end" in backstop("explain", str(path), "--from", "<>", "--to", "anna@example.com")


def test_tail_goes_on_when_the_store_comes_back(backstop, redis_server):
    backstop.write(redis_server.url)
    with redis_server.client() as client:
        client.xadd("backstop:events", {"queue_id": "OLD"})
    with start(backstop, "tail", "-f", "-n", "1") as follower:
        assert "queue_id=OLD" in follower.stdout.readline()
        redis_server.kill()
        assert "trying again" in follower.stderr.readline()
        redis_server.start()
        client = redis_server.client()
        client.xadd("backstop:events", {"queue_id": "BACK"})
        assert "queue_id=BACK" in follower.stdout.readline()
        client.close()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 128 + signal.SIGINT
