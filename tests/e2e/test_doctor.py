"""`backstop doctor` on a whole mail host: silent on a good one, and what it says where one thing is wrong."""

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.harness.mail_host import DOMAINS, MailHost
from tests.harness.postfix import Site, why_not
from tests.harness.servers import free_port, need, run_backstop, wait_for

pytestmark = pytest.mark.e2e

SITE = Site(virtual_users=("vic", "vera", "postmaster"), relay_users=("rita", "postmaster"))
LEVELS = ("fine", "note", "not examined", "wrong")


class Examined(MailHost):
    """A host that `doctor` looks at."""

    def doctor(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_backstop(
            "doctor", *words, "--config", str(self.config), "--postfix-config", str(self.postfix.etc)
        )

    def findings(self, *words: str, status: int = 1) -> dict[str, list[dict[str, str]]]:
        """What it finds, by level."""
        done = self.doctor(*words, "--json")
        assert done.returncode == status, done.stdout + done.stderr
        found = json.loads(done.stdout)["findings"]
        return {level: [one for one in found if one["level"] == level] for level in LEVELS}

    @contextlib.contextmanager
    def with_main(self, *assignments: str) -> Iterator[None]:
        """Another main.cf for a while."""
        before = (self.postfix.etc / "main.cf").read_text()
        try:
            self.postfix.edit(*assignments)
            self.postfix.restart()
            yield
        finally:
            (self.postfix.etc / "main.cf").write_text(before)
            self.postfix.restart()

    @contextlib.contextmanager
    def with_settings(self, *settings: str, **actions: str) -> Iterator[None]:
        """Other settings for a while."""
        self.configure(settings=settings, actions=actions)
        self.reload()
        try:
            yield
        finally:
            self.configure(settings=(), actions={})
            self.reload()


@pytest.fixture(scope="module", params=["subaddress", "prvs"])
def _whole_host(request: pytest.FixtureRequest) -> Iterator[Examined]:
    need("redis-server", "valkey-server")
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    with Examined(request.param, site=SITE, actions={}, workers=1) as host:
        host.postfix.edit("smtpd_forbid_bare_newline=yes")
        host.postfix.restart()
        yield host


@pytest.fixture
def host(_whole_host: Examined) -> Examined:
    with _whole_host.redis.client() as client:
        client.flushall()
        client.config_set("save", "3600 1")
    return _whole_host


def test_a_good_system_gives_no_alarm_and_gets_no_message(host):
    before = len(host.postfix.log())
    done = host.doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("\nnothing is wrong\n")
    levels = {line.split("  ")[0] for line in done.stdout.splitlines()[:-1]}
    assert levels == {"fine"}, done.stdout
    for domain in DOMAINS:
        assert f"{domain}: unknown users are refused, plain and tagged: 550 5.1.1" in done.stdout
        assert f"{domain}: a tagged address of a user is accepted" in done.stdout
    log = host.postfix.log()[before:]
    # Whoever saw only whether it listens was there before, though it may be logged now.
    sessions = [line for line in log.splitlines() if "disconnect from" in line and " mail=" in line]
    assert len(sessions) == len(DOMAINS)
    # Four recipients for each domain, two of them nobody's, and never a message.
    assert all(" mail=4 rcpt=2/4 rset=4 quit=1 " in line for line in sessions), sessions
    assert not any("data=" in line for line in sessions)
    assert host.postfix.queue() == ()
    assert host.postfix.mailboxes() == {}
    assert host.counters("our.test") == {}


def test_a_missing_table_of_users(host):
    with host.with_main("local_recipient_maps="):
        found = host.findings()
    (wrong,) = found["wrong"]
    assert wrong["examination"] == "unknown users"
    assert wrong["subject"] == "our.test"
    assert wrong["text"].startswith("accepts mail for unknown users (plain and tagged): it will bounce it")
    assert wrong["text"].endswith("no recipient source is set")
    assert 'below [domain."our.test"], recipients = [...]' in wrong["cure"]
    assert any("local_recipient_maps is empty" in note["text"] for note in found["note"])
    assert host.postfix.queue() == ()


def test_backstop_has_the_source_that_the_mail_server_has_not(host):
    with host.with_main("relay_recipient_maps="), host.redis.client() as client:
        client.sadd("backstop:recipients:relay.test", "rita", "postmaster")
        client.hset("backstop:domain:relay.test", "recipients", "redis")
        found = host.findings("relay.test", status=0)
        assert (
            "relay.test",
            "Backstop refuses unknown users, plain and tagged: 550 5.1.1 No such user here",
        ) in [(one["subject"], one["text"]) for one in found["fine"]]
        # Each question is counted for a network of its own: nobody's limit is reached by asking.
        counted = wait_for(lambda: list(client.scan_iter("backstop:client:*")), 5, "the limits")
        assert {client.get(key) for key in counted} == {"1"}
        assert all(key.startswith("backstop:client:2001_db8_") for key in counted)
        client.hset("backstop:domain:relay.test", "recipient", "observe")
        (wrong,) = host.findings("relay.test")["wrong"]
    assert wrong["text"].endswith("redis says: does not exist")
    assert "`backstop domain set relay.test recipient reject`" in wrong["cure"]


def test_unknown_users_that_are_put_off(host):
    with host.with_main("soft_bounce=yes"):
        found = host.findings("our.test", status=0)
    said = [one for one in found["note"] if one["subject"] == "our.test"]
    assert len(said) == 1, found
    assert said[0]["text"].startswith(
        "unknown users are put off and not refused, plain and tagged: 450 4.1.1"
    )


def test_only_the_tagged_form_gets_in(host):
    """A canonical map that smtpd sees too makes every tagged address exist."""
    (host.postfix.etc / "everything").write_text(
        "/^prvs=[0-9a-f]{10}=(.+)$/ $1\n/^(.+)\\+prvs=[0-9a-f]{10}(@.+)$/ $1$2\n"
    )
    with host.with_main(f"recipient_canonical_maps=regexp:{host.postfix.etc}/everything"):
        found = host.findings("our.test")
    (wrong,) = found["wrong"]
    assert wrong["text"].startswith("accepts mail for unknown users (tagged)")
    assert any("rewrites tagged addresses" in note["text"] for note in found["note"])


def test_a_source_that_is_down(host):
    with (
        host.with_main("relay_recipient_maps="),
        host.with_settings('recipients = ["file:/nonexistent/list"]'),
    ):
        (wrong,) = host.findings("relay.test")["wrong"]
        assert wrong["text"].startswith(
            "mail for unknown users is put off, as no recipient source answered: 451"
        )
        assert "file:/nonexistent/list says: unknown" in wrong["text"]
        assert "`backstop recipient test " in wrong["cure"]
    with (
        host.with_main("relay_recipient_maps="),
        host.with_settings('recipients = ["file:/nonexistent/list"]', 'source_down = "continue"'),
    ):
        (wrong,) = host.findings("relay.test")["wrong"]
        assert "file:/nonexistent/list says: unknown" in wrong["text"]
        assert "source_down tempfail" in wrong["cure"]


def test_a_next_hop_is_asked_and_refuses(host):
    host.next_hop.answer("RCPT", "*.*@relay.test", "550 5.1.1 nobody of that name")
    source = f'recipients = ["callahead:[127.0.0.1]:{host.next_hop.port}"]'
    with host.with_main("relay_recipient_maps="), host.with_settings(source):
        found = host.findings("relay.test", status=0)
    host.next_hop.forget()
    assert any(
        "Backstop refuses unknown users, plain and tagged: 550" in one["text"] for one in found["fine"]
    )
    assert host.next_hop.letters == ()


def test_a_next_hop_that_takes_everybody(host):
    source = f'recipients = ["callahead:[127.0.0.1]:{host.next_hop.port}"]'
    with host.with_main("relay_recipient_maps="), host.with_settings(source):
        (wrong,) = host.findings("relay.test")["wrong"]
    assert wrong["text"].endswith("says: takes everybody")
    assert wrong["cure"].startswith(
        "the next hop takes everybody: tell it to refuse unknown recipients itself"
    )


def test_a_next_hop_that_was_asked_too_often_is_not_broken(host):
    host.next_hop.answer("RCPT", "*.*@relay.test", "550 5.1.1 nobody of that name")
    source = f'recipients = ["callahead:[127.0.0.1]:{host.next_hop.port}"]'
    with host.with_main("relay_recipient_maps="), host.with_settings(source):
        for _ in range(11):  # ten new questions a minute
            found = json.loads(host.doctor("relay.test", "--json").stdout)["findings"]
            last = [one for one in found if one["examination"] == "unknown users"]
            if last[0]["level"] != "fine":
                break
    host.next_hop.forget()
    assert last[0]["level"] == "not examined", last
    assert "says: does not exist" in last[0]["text"]
    assert "`backstop doctor relay.test` again in a minute" in last[0]["cure"]


def test_tags_that_the_mail_server_does_not_know(host):
    if host.form == "subaddress":
        assignments = ["recipient_delimiter=", f"virtual_mailbox_maps=hash:{host.postfix.etc}/vmailbox"]
    else:
        assignments = [f"virtual_mailbox_maps=hash:{host.postfix.etc}/vmailbox"]
    with host.with_main(*assignments, "smtpd_forbid_bare_newline=no"):
        found = host.findings("virt.test")
    notes = {one["text"].partition(" ")[0] for one in found["note"]}
    assert notes >= {"`setup`", "smtpd_forbid_bare_newline"}, found
    wrong = [one for one in found["wrong"] if one["subject"] == "virt.test"]
    assert len(wrong) == 1, found
    assert wrong[0]["text"].startswith(
        "genuine bounces are refused: the mail server knows postmaster@virt.test"
    )
    assert "setup postfix" in wrong[0]["cure"]


def test_a_postfix_that_does_not_call(host):
    with host.with_main("smtpd_milters="):
        found = host.findings()
    assert [one["text"].partition(" does")[0] for one in found["wrong"]] == ["smtpd_milters"]
    assert "passes Backstop by" in found["wrong"][0]["text"]


def test_nobody_at_the_port(host):
    done = host.doctor("--server", f"127.0.0.1:{free_port()}")
    assert done.returncode == 75, done.stdout
    assert "not examined  mail server: 127.0.0.1:" in done.stdout
    assert done.stdout.endswith("\nnothing is wrong; 1 could not be examined\n")


def test_redis_down(host):
    host.redis.stop()
    try:
        found = host.findings()
    finally:
        host.redis.start()
    (wrong,) = found["wrong"]
    assert wrong["subject"] == "store"
    assert "cannot be reached" in wrong["text"]
    assert {one["subject"] for one in found["fine"]} >= {"daemon", *DOMAINS}


def test_the_daemon_down(host):
    host.daemon.stop()
    try:
        found = host.findings()
    finally:
        host.daemon.start()
    assert [one["subject"] for one in found["wrong"]] == ["daemon"]
    assert {one["subject"] for one in found["not examined"]} == set(DOMAINS)
    assert all("451" in one["text"] for one in found["not examined"])
