"""The commands `alias` as an administrator gives them, on a real Redis, without one, and while it is away."""

import json
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from backstop.adapters import redis_names
from backstop.adapters.redis_alias import KEPT, is_off, off_command, use_commands
from backstop.address import parse
from backstop.batv import day_of, parse_alias, sign_alias
from backstop.cli import main
from backstop.cli.store import PAGE
from backstop.keyfile import read
from tests.contract.redis_peer import patient
from tests.harness.servers import need

TODAY = datetime.now(UTC).date()
BOB = "bob@example.com"


class Site:
    """A configuration, its store, and the command in this process."""

    def __init__(self, folder, url, capsys):
        self.folder = folder
        self.path = folder / "backstop.toml"
        self.url = url
        self._capsys = capsys
        self.keys = folder / "keys.toml"
        self.write()
        self("key", "new")

    def write(self, more="", store=None):
        self.path.write_text(
            f'keys = "{self.keys}"\nstore = "{store or self.url}"\ndomains = ["example.com", "example.org"]\n'
            f'[defaults]\ntag_form = "prvs"\n{more}\n[domain."example.org"]\nrecipient_delimiter = "-+"\n'
        )

    def both(self, *words, status=0):
        """What the command prints, and what it complains of."""
        ended = main(["--config", str(self.path), *words])
        said, complained = self._capsys.readouterr()
        assert "Traceback" not in complained
        assert ended == status, said + complained
        return said, complained

    def __call__(self, *words, status=0):
        said, complained = self.both(*words, status=status)
        assert status or complained == ""
        return said + complained

    def new(self, user=BOB, days=30, *more):
        """A new address."""
        return self("alias", "new", user, "--for", f"{days}d", *more).splitlines()[0]

    def listed(self, *words):
        return json.loads(self("alias", "list", *words, "--json"))


@pytest.fixture
def site(tmp_path, shared_redis, capsys):
    return Site(tmp_path, shared_redis.unix_url, capsys)


@pytest.fixture
def client(shared_redis):
    with shared_redis.client() as client:
        yield client


@pytest.fixture
def store(shared_redis):
    store = patient(shared_redis.unix_url)
    yield store
    store.close()


def key(address):
    return redis_names.alias(parse(address).folded).decode()


def last_day(days):
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def end_of(days):
    """When the record of an address ends, seconds since 1970."""
    return (int(time.time()) // 86400 + days + 1) * 86400 + KEPT


def by_hand(said):
    """Give the printed line to a shell, as an administrator would."""
    (line,) = re.findall(r"redis-cli.*", said)
    need("redis-cli")
    subprocess.run(["/bin/sh", "-c", line], check=True, capture_output=True, timeout=10)


def test_the_life_of_an_address(site, client, store):
    said = site("alias", "new", BOB, "--for", "30d", "--note", "shop")
    address, sentence = said.splitlines()
    label = parse_alias(parse(address))
    assert label.inner.path == BOB
    assert f"up to and on {last_day(30)}" in sentence
    assert client.hgetall(key(address)) == {"note": "shop", "until": last_day(30)}
    assert abs(client.ttl(key(address)) - (end_of(30) - time.time())) < 60
    assert "good: disposable address of bob@example.com" in site("tag", "check", address)

    store.write(use_commands(address, time.time(), end_of(30) - KEPT))
    [row] = site.listed()
    assert row.pop("last")[:10] == TODAY.isoformat()
    assert row == {
        "address": address,
        "user": BOB,
        "note": "shop",
        "used": 1,
        "last_day": last_day(30),
        "state": "good",
    }

    said = site("alias", "off", address.upper())
    assert "switched off" in said
    assert is_off(store.ask([off_command(address)])[0])
    assert site.listed()[0]["state"] == "off"
    client.hdel(key(address), "off")
    by_hand(said)
    assert site.listed()[0]["state"] == "off"

    said = site("alias", "off", address, "--undo")
    assert "switched on again" in said
    assert site.listed()[0]["state"] == "good"
    assert "was not switched off" in site("alias", "off", address, "--undo")
    client.hset(key(address), "off", "1")
    by_hand(said)
    assert site.listed()[0] == {**row, "last": site.listed()[0]["last"]}


def test_what_is_switched_off_without_a_record_stays_off_beyond_its_end(site, client):
    address = site.new(days=500)
    client.delete(key(address))
    site("alias", "off", address)
    assert abs(client.ttl(key(address)) - (end_of(500) - time.time())) < 60


def test_each_note_has_an_address_of_its_own_and_the_same_note_the_same(site):
    shop = site.new(BOB, 30, "--note", "shop")
    said = site("alias", "new", BOB, "--for", "30d", "--note", "news")
    news = said.splitlines()[0]
    assert f"up to and on {last_day(31)}" in said
    assert f"not only up to {last_day(30)}" in said
    unnamed = site.new(BOB, 30)
    assert len({shop, news, unnamed}) == 3
    for address, note in ((shop, "shop"), (news, "news"), (unnamed, "")):
        assert site.new(BOB, 30, "--note", note) == address
        assert site.new("BOB@Example.COM", 30, "--note", note).lower() == address.lower()
    assert [row["last_day"] for row in site.listed()] == [last_day(30), last_day(31), last_day(32)]
    # Another user's, or another day's, is another address anyway.
    assert "not only" not in site("alias", "new", "carol@example.com", "--for", "30d", "--note", "x")
    assert "not only" not in site("alias", "new", BOB, "--for", "60d", "--note", "x")


def test_an_address_that_is_off_is_not_handed_out_again(site):
    first = site.new(BOB, 30, "--note", "shop")
    site("alias", "off", first)
    second = site.new(BOB, 30, "--note", "shop")
    assert second != first
    assert site.new(BOB, 30, "--note", "shop") == second


def test_an_address_that_is_in_use_without_a_note_is_not_handed_out(site, client, store):
    first = site.new(BOB, 30, "--note", "shop")
    client.delete(key(first))
    store.write(use_commands(first, time.time(), end_of(30) - KEPT))
    assert site.new(BOB, 30, "--note", "shop") != first
    [one, _] = site.listed()
    assert (one["address"], one["note"], one["used"]) == (first, "", 1)


def test_a_key_of_another_type_is_passed_by_and_named(site, client):
    first = site.new(BOB, 30, "--note", "shop")
    client.delete(key(first))
    client.set(key(first), "something")
    assert site.new(BOB, 30, "--note", "shop") != first
    said, complained = site.both("alias", "list")
    assert f"{key(first)}: WRONGTYPE" in complained
    assert "not switched off" in complained
    assert first in said
    assert "another kind of value" in site("alias", "off", first, status=os.EX_UNAVAILABLE)


def test_where_every_day_is_taken_it_says_so(site):
    site.new(BOB, 499, "--note", "a")
    site.new(BOB, 499, "--note", "b")
    said = site("alias", "new", BOB, "--for", "499d", "--note", "c", status=os.EX_USAGE)
    assert "take one that ends earlier" in said


@pytest.mark.parametrize("span", ["0d", "501d", "12h", "25h", "-1d", "soon", "", "2026-12-24", "1000000w"])
def test_times_that_are_no_whole_days(site, client, span):
    assert '"1d" to "500d"' in site("alias", "new", BOB, f"--for={span}", status=os.EX_USAGE)
    assert client.dbsize() == 0


@pytest.mark.parametrize(("span", "days"), [("1d", 1), ("24h", 1), ("2w", 14), ("500d", 500)])
def test_whole_days(site, span, days):
    assert f"up to and on {last_day(days)}" in site("alias", "new", BOB, "--for", span)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("bob", "no address"),
        ("bob@example.net", "not protected"),
        ("bob+shop@example.com", "without an extension"),
        ("bob+prvs=1484abcdef@example.com", "carries a tag"),
        ("prvs=1484abcdef=bob@example.com", "carries a tag"),
        ("bob+d-1484abcdef@example.com", "without an extension"),
        ("john-smith@example.org", "would go to john@example.org"),
        ('"a b"@example.com', "quotes"),
        ("a" * 52 + "@example.com", "longer than 51 octets"),
        ("postmaster@example.com", "never refused"),
        ("Abuse@example.com", "never refused"),
        ("<>", "no address"),
    ],
)
def test_whom_no_address_is_made_for(site, client, address, why):
    assert why in site("alias", "new", address, "--for", "30d", status=os.EX_USAGE)
    assert client.dbsize() == 0


def test_the_longest_local_part_there_is_room_for(site):
    assert len(site.new("a" * 51 + "@example.com").partition("@")[0]) == 64


def test_the_delimiter_is_the_domains_own(site):
    assert site.new("john@example.org").startswith("john-d-1")
    assert site.new("john@example.org", 60, "--delimiter", "+").startswith("john+d-1")
    for wrong in ("_", "-+", ""):
        said = site(
            "alias", "new", "john@example.org", "--for", "1d", f"--delimiter={wrong}", status=os.EX_USAGE
        )
        assert 'recipient_delimiter of example.org, "-+"' in said


def test_a_domain_without_delimiter_or_key_is_told_the_cure(site):
    site.write('recipient_delimiter = ""')
    assert "set one in the mail server" in site("alias", "new", BOB, "--for", "1d", status=os.EX_CONFIG)
    site.write()
    site.keys.chmod(0o600)
    site.keys.write_text(site.keys.read_text().replace('["*"]', '["example.org"]'))
    assert "backstop key new" in site("alias", "new", BOB, "--for", "1d", status=os.EX_CONFIG)


def test_domains_and_settings_of_the_store_count(site, client):
    client.sadd("backstop:domains", "example.net")
    client.hset("backstop:domain:example.net", "recipient_delimiter", "_")
    address = site.new("bob@example.net")
    assert address.startswith("bob_d-1")
    site("alias", "off", address)
    assert [row["state"] for row in site.listed("example.net")] == ["off"]


def test_notes_are_escaped_and_bounded(site, client):
    note = "shop\n\x1b[2Jgone \u202e\udcff"
    address = site.new(BOB, 30, "--note", note)
    assert site.listed()[0]["note"] == note
    said = site("alias", "list")
    assert "shop\\n\\x1b[2Jgone \\u202e\\xff" in said
    assert len(said.splitlines()) == 2
    assert site.new(BOB, 30, "--note", note) == address
    assert site.new(BOB, 60, "--note", "n" * 200)
    assert "at most 200" in site("alias", "new", BOB, "--for", "90d", "--note", "n" * 201, status=os.EX_USAGE)
    client.hset(key(address), mapping={"used": "\x1b[1m", "last": "\r\nx"})
    assert "\x1b" not in site("alias", "list")
    assert site.listed(BOB)[0]["used"] == 0


# ---- off, and what is none ----


@pytest.mark.parametrize(
    "address",
    [
        BOB,
        "bob+shop@example.com",
        "bob+d-1484aaaaaa@example.com",
        "bob+d-9484aaaaaa@example.com",
        "bob+d-x@example.com",
    ],
)
def test_what_is_the_users_own_cannot_be_switched_off(site, client, address):
    assert "is no disposable address" in site("alias", "off", address, status=os.EX_USAGE)
    assert client.dbsize() == 0


def test_off_takes_the_address_with_its_tag_too(site, client):
    address = site.new()
    tagged = site("tag", "sign", address).strip()
    assert tagged.startswith("prvs=")
    assert address in site("alias", "off", tagged)
    assert client.hget(key(address), "off") == "1"


def test_an_address_past_its_day_needs_no_switch(site, client):
    past = sign_alias(parse(BOB), read(site.keys).signer("example.com"), day_of(time.time()) - 1)
    for undo in ((), ("--undo",)):
        assert f"refused since the end of {last_day(-1)}" in site("alias", "off", past, *undo)
    assert client.dbsize() == 0
    client.hset(key(past), mapping={"note": "old", "off": "1"})
    assert [(row["state"], row["last_day"]) for row in site.listed()] == [("ended", last_day(-1))]


def test_a_retired_keys_addresses_can_be_switched_off_and_a_strangers_cannot(site, client):
    address = site.new()
    site("key", "rotate")
    said = site("key", "retire", "1", "--force")
    assert f"go on, up to {last_day(500)}" in said
    assert site.listed()[0]["state"] == "good"
    assert "good" in site("tag", "check", address)
    assert site.new(BOB, 31).startswith("bob+d-2")
    site("alias", "off", address)
    assert site.listed()[0]["state"] == "off"
    # Only who takes the key out of the file makes its addresses unknown.
    text = site.keys.read_text()
    first, second = text.index("[[key]]"), text.rindex("[[key]]")
    site.keys.chmod(0o600)
    site.keys.write_text(text[:first] + text[second:])
    [gone, _] = site.listed()
    assert (gone["address"], gone["state"], gone["last_day"]) == (address, "unknown", None)
    assert "is no disposable address" in site("alias", "off", address, status=os.EX_USAGE)


# ---- list ----


def test_a_list_is_sorted_and_of_whom_it_is_asked(site, client):
    for user, days in (("bob@example.com", 60), ("bob@example.com", 5), ("al@example.com", 90)):
        site.new(user, days, "--note", f"{user} {days}")
    org = site.new("bob@example.org", 7)
    assert [row["user"] for row in site.listed()] == ["al@example.com", BOB, BOB, "bob@example.org"]
    assert [row["last_day"] for row in site.listed("Bob@Example.com")] == [last_day(5), last_day(60)]
    assert [row["address"] for row in site.listed("example.org")] == [org]
    assert [row["address"] for row in site.listed("bob@example.org")] == [org]
    assert site.listed("b?b@example.com") == []
    assert site.listed("*@example.com") == []
    assert "no disposable address" in site("alias", "list", "bo@example.com")
    assert "is no domain" in site("alias", "list", "exa mple", status=os.EX_USAGE)
    assert site("alias", "list").splitlines()[0].split() == (
        ["address", "note", "used", "last", "use", "last", "day", "state"]
    )


def test_a_user_whose_name_is_a_pattern_is_found_alone(site):
    star, other = site.new("b*b?x@example.com"), site.new("bob@example.com")
    assert [row["address"] for row in site.listed("b*b?x@example.com")] == [star]
    assert [row["address"] for row in site.listed("bob@example.com")] == [other]


def test_what_nobody_made_is_shown_as_unknown(site, client):
    for name in (
        "",
        "bob@example.com",
        "bob+d-1484aaaaaa@example.com",
        "\x1b[2J",
        "@",
        "a@b@c+d-1484aaaaaa@d",
    ):
        client.hset(f"backstop:alias:{name}", "note", "by hand")
    assert {row["state"] for row in site.listed()} == {"unknown"}
    assert len(site.listed()) == 6
    assert "\x1b" not in site("alias", "list")


def test_what_no_decision_reads_is_not_shown_as_off(site, client):
    address = site.new(BOB)
    client.hset(f"backstop:alias:{address.upper()}", "off", "1")
    assert {row["address"]: row["state"] for row in site.listed()} == {
        address: "good",
        address.upper(): "unknown",
    }


def test_a_list_reads_in_pages_and_ends(site, client):
    with client.pipeline() as pipe:
        for number in range(10_050):
            pipe.hset(f"backstop:alias:u{number:05d}+d-1484aaaaaa@example.com", "note", "n")
        pipe.execute()
    assert len(site.listed("u00001@example.com")) == 1
    client.config_resetstat()
    said, complained = site.both("alias", "list")
    assert len(said.splitlines()) == 10_001
    assert "more than 10,000" in complained
    calls = client.info("commandstats")
    assert "cmdstat_keys" not in calls
    assert calls["cmdstat_scan"]["calls"] >= 10_050 / PAGE / 2


# ---- without the store ----


def test_without_the_store_an_address_is_made_all_the_same(site, client):
    site.write(store=f"unix://{site.folder}/nobody.sock")
    said, complained = site.both("alias", "new", BOB, "--for", "30d", "--note", "the shop's")
    address = said.splitlines()[0]
    assert "cannot be reached" in complained
    assert "its note is not kept" in complained
    assert "good" in site("tag", "check", address)
    site.write()
    assert site.listed() == []
    by_hand(
        complained.replace(f"{site.folder}/nobody.sock", site.url.removeprefix("unix://").partition("?")[0])
    )
    assert [(row["address"], row["note"]) for row in site.listed()] == [(address, "the shop's")]
    assert site.new(BOB, 30, "--note", "the shop's") == address


def test_a_store_that_refuses_to_write_is_as_good_as_none(site, client):
    client.config_set("min-replicas-to-write", 1)
    try:
        said, complained = site.both("alias", "new", BOB, "--for", "30d")
        assert "NOREPLICAS" in complained
        assert "its note is not kept" in complained
        assert said.startswith("bob+d-1")
        site("alias", "off", said.splitlines()[0], status=os.EX_UNAVAILABLE)
    finally:
        client.config_set("min-replicas-to-write", 0)


def test_without_the_store_nothing_is_switched_off_or_listed(site):
    address = site.new()
    site.write(store=f"unix://{site.folder}/nobody.sock")
    for undo in ((), ("--undo",)):
        said = site("alias", "off", address, *undo, status=os.EX_TEMPFAIL)
        assert "nothing is changed" in said
    assert "cannot be reached" in site("alias", "list", status=os.EX_UNAVAILABLE)


def test_without_the_store_nobody_knows_the_domains_that_it_alone_names(site):
    site.write(store=f"unix://{site.folder}/nobody.sock")
    said = site("alias", "new", "bob@example.net", "--for", "1d", status=os.EX_TEMPFAIL)
    assert "whether example.net is protected" in said


def test_a_check_that_is_off_is_said(site, client):
    client.hset("backstop:domain:example.com", "alias", "observe")
    _, complained = site.both("alias", "new", BOB, "--for", "1d")
    assert "`alias` is observe" in complained
