"""What `doctor` says of the store and what is in it, on a real Redis, without mail server and daemon."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from backstop.settings import Action
from tests.contract.test_cli_commands import Site
from tests.harness.servers import free_port

SETTINGS = "backstop:domain:example.com"
USER = "backstop:block:user+news@example.com"
NO_NAME = "backstop:block:not a name"
BOB = "Bob+d-1234abcdef@Example.COM"
SIGNED = 'proof = ["tag"]\n'


@pytest.fixture
def backstop(tmp_path, redis_server, capsys):
    site = Site(tmp_path, redis_server, capsys)
    site.url = redis_server.unix_url
    site.write(site.url, f'socket = "unix:{tmp_path}/milter.sock"\n')
    site.path.write_text(site.path.read_text().replace("[defaults]\n", f"[defaults]\n{SIGNED}"))
    site.redis.config_set("save", "3600 1")
    yield site
    site.redis.close()


def findings(backstop, examination, *words, level="wrong", status=1):
    said = backstop("doctor", *words, "--server", f"127.0.0.1:{free_port()}", "--json", status=status)
    found = json.loads(said)["findings"]
    return [one for one in found if one["examination"] == examination and one["level"] == level]


def texts(found):
    return [f"{one['subject']}: {one['text']}" for one in found]


def test_a_daemon_that_does_not_run(backstop):
    (wrong,) = findings(backstop, "daemon")
    assert "/milter.sock: No such file" in wrong["text"]
    assert "systemctl status backstop" in wrong["cure"]


def test_a_good_store_is_fine(backstop):
    backstop("block", "example.com", "--for", "1h")
    backstop("block", "user@example.org")
    backstop("domain", "set", "example.com", "tag", "reject")
    assert findings(backstop, "store") == []
    assert findings(backstop, "keys of the store") == []
    assert len(findings(backstop, "store", level="fine")) == 1
    assert len(findings(backstop, "keys of the store", level="fine")) == 1


def test_a_store_that_forgets(backstop):
    backstop.redis.config_set("save", "")
    assert "keeps nothing over a restart" in findings(backstop, "store")[0]["text"]
    backstop.redis.config_set("save", "900 1")
    assert findings(backstop, "store") == []


def test_a_store_that_evicts(backstop):
    backstop.redis.config_set("maxmemory-policy", "allkeys-lru")
    assert findings(backstop, "store") == []  # without maxmemory nothing is ever dropped
    backstop.redis.config_set("maxmemory", "100mb")
    (wrong,) = findings(backstop, "store")
    assert "maxmemory-policy allkeys-lru" in wrong["text"]
    assert "noeviction" in wrong["cure"]


def test_a_store_that_does_not_let_us_look(backstop):
    backstop.redis.execute_command("ACL SETUSER mail on >secret ~backstop:* +@all -config")
    backstop.write(backstop.url.replace("unix://", "unix://mail:secret@"))
    (unknown,) = findings(backstop, "store", level="not examined")
    assert "CONFIG GET is refused" in unknown["text"]
    backstop.redis.execute_command("ACL SETUSER mail -info")
    (unknown,) = findings(backstop, "store", level="not examined")
    assert "does not say how it is kept" in unknown["text"]


def test_a_store_that_is_away(backstop):
    backstop.write("unix:///nonexistent/redis.sock")
    (wrong,) = findings(backstop, "store")
    assert "unix:///nonexistent/redis.sock" in wrong["text"]
    assert findings(backstop, "keys of the store") == []
    # The domains of the file are known all the same, others are not.
    assert len(findings(backstop, "signing", "example.org", level="fine")) == 1
    assert "example.net is not protected" in backstop("doctor", "example.net", status=64)


def test_keys_that_mean_nothing(backstop):
    client = backstop.redis
    client.set("backstop:recipients:example.com", "alice")
    client.hset("backstop:domain:example.com", mapping={"tag": "refuse", "no-such": "1"})
    client.rpush("backstop:domain:example.org", "x")
    client.set("backstop:block:example.com", "perhaps")
    client.set("backstop:block:Example.ORG", "junk")
    client.set(USER, "junk")
    client.set(NO_NAME, "junk")
    client.sadd("backstop:block", "junk")
    client.set("backstop:blockade", "none of ours")
    found = findings(backstop, "keys of the store")
    assert sorted(texts(found)) == sorted(
        [
            "backstop:recipients:example.com: is a string where a set is wanted, so it is passed over",
            "backstop:domain:example.org: is a list where a hash is wanted, so it is passed over",
            "backstop:domain:example.com: tag: an action is wanted: "
            + ", ".join(action.label for action in Action)
            + "; the field is passed over",
            f"{SETTINGS}: no-such: no setting and no check has this name; the field is passed over",
            'backstop:block:example.com: its value "perhaps" is no action, so it blocks nothing',
            "backstop:block:Example.ORG: no decision reads this key: the name is written example.org",
            f"{USER}: no decision reads this key: the name is written user@example.com",
            f"{NO_NAME}: no decision reads this key: its name is neither a domain nor an address",
            "backstop:block: is no string, so it blocks nothing",
        ]
    )
    cures = {one["subject"]: one["cure"] for one in found}
    assert cures["backstop:block:Example.ORG"].startswith("`backstop block example.org`, then ")
    assert "DEL backstop:block:Example.ORG" in cures["backstop:block:Example.ORG"]
    assert "--all" not in cures["backstop:block:example.com"]


def test_disposable_addresses_that_are_not_switched_off(backstop):
    good = "bob+d-1234abcdef@example.com"
    client = backstop.redis
    client.hset(f"backstop:alias:{good}", "off", "Yes")
    client.hset(f"backstop:alias:x{good}", "off", "0")
    client.hset(f"backstop:alias:y{good}", "note", "shop")
    assert texts(findings(backstop, "keys of the store")) == []
    client.set(f"backstop:alias:z{good}", "off")
    client.hset(f"backstop:alias:{BOB}", "off", "1")
    client.hset("backstop:alias:bob", "off", "1")
    client.hset(f"backstop:alias:{good}", "off", "ja")
    found = findings(backstop, "keys of the store")
    assert sorted(texts(found)) == [
        f"backstop:alias:{BOB}: no decision reads this key: the name is written {BOB.lower()}",
        f'backstop:alias:{good}: its field off, "ja", means neither yes nor no, so the address is on',
        "backstop:alias:bob: no decision reads this key: its name is no address",
        f"backstop:alias:z{good}: is no hash, so it switches nothing off",
    ]
    cures = {one["subject"]: one["cure"] for one in found}
    assert cures[f"backstop:alias:{good}"].startswith(f"`backstop alias off {good}`, or ")


def test_a_cure_is_safe_to_paste(backstop):
    backstop.redis.set("backstop:block:$(id)`id`;id@Example.com", "junk")
    backstop.redis.hset("backstop:domain:example.com", "$(id)", "1")
    setting, block = [one["cure"] for one in findings(backstop, "keys of the store")]
    assert "`backstop domain unset example.com '$(id)'`" in setting
    assert "`backstop block '$(id)`id`;id@example.com'`, then " in block
    assert " DEL 'backstop:block:$(id)`id`;id@Example.com' takes" in block


def test_the_set_of_domains_is_none(backstop):
    backstop.redis.set("backstop:domains", "example.net")
    assert findings(backstop, "store") == []
    (wrong,) = findings(backstop, "keys of the store")
    assert wrong["subject"] == "backstop:domains"
    assert wrong["text"] == "is a string where a set is wanted, so it is passed over"


def test_a_domain_that_is_none_is_told_and_never_asked_about(backstop):
    backstop.redis.sadd("backstop:domains", "Example.NET", "x>\r\nDATA\r\n.example", "example.net")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        heard = pool.submit(answer_everything, listener, 3)
        server = f"127.0.0.1:{listener.getsockname()[1]}"
        said = json.loads(backstop("doctor", "--server", server, "--json", status=1))
        lines = heard.result(10)
    found = [one for one in said["findings"] if one["examination"] == "keys of the store"]
    assert {one["subject"] for one in found} == {"backstop:domains"}
    assert sorted(one["text"] for one in found) == [
        '"Example.NET" is written example.net, so nothing is protected by it',
        '"x>\r\nDATA\r\n.example" is no domain, so nothing is protected by it',
    ]
    verbs = {line.partition(b" ")[0].strip() for line in lines}
    assert verbs == {b"EHLO", b"MAIL", b"RCPT", b"RSET", b"QUIT"}
    recipients = {line.rpartition(b"@")[2].strip(b">\r\n") for line in lines if line.startswith(b"RCPT")}
    assert recipients == {b"example.com", b"example.org", b"example.net"}


def answer_everything(listener, sessions):
    """Say 250 to every line of so many sessions; the lines."""
    lines = []
    for _ in range(sessions):
        with listener.accept()[0] as connection, connection.makefile("rwb", buffering=0) as stream:
            stream.write(b"220 hi\r\n")
            while line := stream.readline():
                lines.append(line)
                stream.write(b"250 ok\r\n")
    return lines


def test_what_comes_from_redis_moves_no_cursor_and_a_thousand_are_told_in_twenty_lines(backstop):
    for number in range(1000):
        backstop.redis.set(f"backstop:block:\x1b[2Jd{number}.example", "\x1b]0;owned\x07\n")
    said = backstop("doctor", "--server", f"127.0.0.1:{free_port()}", status=1)
    assert not [character for character in said if ord(character) < 32 and character != "\n"]
    assert "980 more keys mean nothing" in said
    assert len(said.splitlines()) < 60


def test_a_domain_without_a_key_and_one_in_grace(backstop):
    keys = backstop.path.parent / "keys.toml"
    keys.chmod(0o600)
    today = datetime.now(UTC).date()
    keys.write_text(
        keys.read_text()
        .replace('domains = ["*"]', 'domains = ["example.org"]')
        .replace("2026-01-01", today.isoformat())
    )
    keys.chmod(0o400)
    (wrong,) = findings(backstop, "signing")
    assert wrong["text"].startswith("no key signs for example.com: ")
    (note,) = findings(backstop, "signing", level="note")
    assert note["subject"] == "example.org"
    assert f"in grace until {today + timedelta(days=16)}" in note["text"]


def test_a_resolver_is_missed_only_where_it_is_asked(backstop):
    nobody = f'resolver = ["127.0.0.1:{free_port()}"]\n'
    text = backstop.path.read_text()
    backstop.path.write_text(nobody + text)
    assert findings(backstop, "resolver") == findings(backstop, "resolver", level="fine") == []
    backstop.path.write_text(nobody + text.replace(SIGNED, ""))  # the default proof, dkim among it
    (wrong,) = findings(backstop, "resolver")
    assert "no name server answers (127.0.0.1:" in wrong["text"]


def test_a_check_that_is_on_and_has_no_list_to_judge_by(backstop):
    assert findings(backstop, "lists") == findings(backstop, "lists", level="fine") == []
    backstop.redis.hset(SETTINGS, "client_list", "reject")
    (wrong,) = findings(backstop, "lists")
    assert wrong["subject"] == "client_list"
    assert "below [lists] in " in wrong["cure"]
    backstop.path.write_text(backstop.path.read_text() + '[lists]\n"bad.example" = { of = "sender" }\n')
    assert findings(backstop, "lists") == [wrong]
    backstop.redis.hset(SETTINGS, "sender_list", "observe")
    assert [one["subject"] for one in findings(backstop, "lists", level="fine")] == ["sender_list"]


@pytest.mark.parametrize("server", ["", ":25", "mx:0", "mx:70000", "mx:x", "[::1", "a b:25:25"])
def test_what_is_no_server(backstop, server):
    assert "HOST:PORT is wanted" in backstop("doctor", "--server", server, status=64)


@pytest.mark.parametrize("server", ["127.0.0.1", "[127.0.0.1]:1", "localhost:1"])
def test_what_is_one(backstop, server):
    assert "cannot be asked" in backstop("doctor", "--server", server, status=1)


def test_a_domain_that_is_not_ours(backstop):
    assert "example.net is not protected" in backstop("doctor", "example.net", status=64)
