"""Disposable addresses through a real Postfix, whose maps know nothing of them."""

import time
from collections.abc import Iterator

import pytest

from backstop import batv
from backstop.adapters import redis_names
from backstop.address import parse
from tests.harness.mail_host import MailHost, bounce
from tests.harness.postfix import why_not
from tests.harness.servers import need
from tests.harness.smtp import SmtpReply, deliver
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.e2e

ALICE = "alice@our.test"
STRANGER = "shop@else.test"
LETTER = b"Subject: an offer\r\n\r\nBuy.\r\n"
TODAY = batv.day_of(time.time())


@pytest.fixture(scope="module")
def _whole_host() -> Iterator[MailHost]:
    need("redis-server", "valkey-server")
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    with MailHost("subaddress") as host:
        yield host


def new(host: MailHost, user: str = ALICE, days: int = 30, note: str = "shop") -> str:
    """A new disposable address."""
    return host.backstop("alias", "new", user, "--for", f"{days}d", "--note", note).splitlines()[0]


def ended(host: MailHost, user: str = ALICE, days: int = 1) -> str:
    """A disposable address whose last day was so many days ago."""
    address = parse(user)
    assert address is not None
    return batv.sign_alias(address, host.signing_key(), TODAY - days)


def answers(host: MailHost, recipient: str) -> list[SmtpReply]:
    """What RCPT says to a stranger and to a bounce."""
    said = []
    with host.outside() as client:
        for sender in (STRANGER, ""):
            assert client.mail(sender).code == 250
            said.append(client.rcpt(recipient))
            client.command("RSET")
    return said


def assert_refused(host: MailHost, recipient: str) -> None:
    """The recipient is refused for good at RCPT, as if there were no such user."""
    for answer in answers(host, recipient):
        assert answer.code == 550, (recipient, str(answer))
        assert answer.text.startswith("5.1.1 "), (recipient, str(answer))


def send(host: MailHost, recipient: str) -> None:
    """A stranger's letter, which is accepted."""
    with host.outside() as client:
        sent = deliver(client, STRANGER, (recipient,), LETTER)
        assert sent.accepted, (recipient, sent)


def used(host: MailHost, address: str) -> int:
    """How often an address took mail, as the list shows."""
    with host.redis.client() as client:
        found = parse(address)
        assert found is not None
        return int(client.hget(redis_names.alias(found.folded), "used") or 0)


@pytest.mark.parametrize("user", [ALICE, "vic@virt.test", "Bob@our.test", "games@our.test"])
def test_mail_reaches_the_user_and_is_counted(host: MailHost, user: str) -> None:
    address = new(host, user)
    send(host, address)
    send(host, address.upper())
    if user != "games@our.test":  # a mailbox of the system's own
        letters = host.postfix.wait_for_mail(user.lower(), 2)
        assert [letter["Subject"] for letter in letters] == ["an offer", "an offer"]
    host.postfix.wait_until_idle()
    wait_for(lambda: used(host, address) == 2, 10, "two uses")
    assert "  2  " in host.backstop("alias", "list", user)


def test_mail_for_the_next_hop_goes_there_with_its_extension(host: MailHost) -> None:
    address = new(host, "rita@relay.test")
    send(host, address)
    assert [letter.recipients for letter in host.next_hop.wait_for_letters(1)] == [(address,)]
    host.backstop("alias", "off", address)
    assert_refused(host, address)


def test_what_is_switched_off_is_refused_from_the_next_message_on(host: MailHost) -> None:
    address, other = new(host), new(host, note="another")
    send(host, address)
    host.backstop("alias", "off", address)
    assert_refused(host, address)
    assert_refused(host, address.upper())
    send(host, other)
    send(host, ALICE)
    host.backstop("alias", "off", address, "--undo")
    send(host, address)
    host.postfix.wait_for_mail(ALICE, 4)
    host.postfix.wait_until_idle()
    wait_for(lambda: used(host, address) == 2, 10, "two uses: what was refused is none")
    host.wait_for_counter("alias.fail", 2)


def test_what_is_past_its_day_is_refused_whatever_the_store_says(host: MailHost) -> None:
    for days in (1, 2, 499, 500, 999, 1000, 1500):
        assert_refused(host, ended(host, days=days))
    send(host, ended(host, days=0))
    with host.redis.client() as client:
        found = parse(ended(host))
        assert found is not None
        client.hset(redis_names.alias(found.folded), mapping={"off": "0", "until": "2999-01-01"})
    assert_refused(host, ended(host))
    assert len(host.postfix.wait_for_mail(ALICE, 1)) == 1


@pytest.mark.parametrize(
    "extension",
    ["dates", "d-", "d-day", "d-1484aaaaa", "d-1484aaaaaa", "d-9484aaaaaa", "d-1484aaaaaaa", "D-1484AAAAAA"],
)
def test_an_extension_that_only_looks_alike_is_the_users_own(host: MailHost, extension: str) -> None:
    address = f"alice+{extension}@our.test"
    with host.redis.client() as client:  # nor can the store say anything about it
        client.hset(redis_names.alias(address.lower()), "off", "1")
    send(host, address)
    (letter,) = host.postfix.wait_for_mail(ALICE, 1)
    assert letter["X-Original-To"] == address
    assert used(host, address) == 0


def test_another_users_label_is_an_extension_like_others(host: MailHost) -> None:
    label = ended(host).partition("+")[2]
    send(host, f"bob+{label}")
    host.postfix.wait_for_mail("bob@our.test", 1)


def test_nobody_exists_for_having_a_label(host: MailHost) -> None:
    for answer in answers(host, new(host, "nosuch@our.test")):
        assert answer.code == 550


def test_a_letter_sent_from_one_comes_back_by_its_tag(host: MailHost) -> None:
    address = new(host)
    host.next_hop.answer("RCPT", "*", "550 5.1.1 no such user")
    with host.postfix.own_user() as client:
        assert deliver(client, address, (STRANGER,), LETTER).accepted
    (report,) = host.postfix.wait_for_mail(ALICE, 1)
    assert "Undelivered" in report["Subject"]
    tagged = host.tagged(address)
    with host.outside() as client:
        assert deliver(client, "", (tagged,), bounce(address)).accepted
    host.backstop("alias", "off", address)
    assert_refused(host, tagged)


def test_a_retired_key_ends_none_of_them(host: MailHost) -> None:
    with host.redis.client() as client:
        client.set("backstop:block", "off")
    before = host.keys.read_bytes()
    address, past = new(host), ended(host)
    number = host.signing_key().number
    try:
        host.backstop("key", "rotate")
        host.backstop("key", "retire", str(number), "--force")
        host.reload()
        send(host, address)
        assert_refused(host, past)
        host.backstop("alias", "off", address)
        assert_refused(host, address)
    finally:
        host.keys.chmod(0o600)
        host.keys.write_bytes(before)
        host.keys.chmod(0o400)
        host.reload()


def test_while_the_store_is_away_date_and_hash_decide(host: MailHost) -> None:
    address = new(host)
    off = new(host, "bob@our.test")
    host.backstop("alias", "off", off)
    host.redis.stop()
    try:
        send(host, address)
        assert_refused(host, ended(host))
        made = host.backstop("alias", "new", "carol@our.test", "--for", "30d").splitlines()[0]
        send(host, made)
        send(host, off)  # no worker has heard of it: what cannot be asked refuses nobody
    finally:
        host.redis.start()
    host.postfix.wait_for_mail(ALICE, 1)
    host.postfix.wait_for_mail("carol@our.test", 1)
    host.postfix.wait_for_mail("bob@our.test", 1)
    wait_for(lambda: told(host, "store=back") == told(host, "store=away"), 10, "all workers to see the store")


def told(host: MailHost, what: str) -> int:
    """How often the log says it."""
    return host.daemon.log_text().count(what)


def test_a_key_of_another_type_switches_nothing_off(host: MailHost) -> None:
    address = new(host)
    found = parse(address)
    assert found is not None
    with host.redis.client() as client:
        key = redis_names.alias(found.folded)
        client.delete(key)
        client.set(key, "off")
    send(host, address)
    host.postfix.wait_for_mail(ALICE, 1)


def test_observe_refuses_nothing_and_counts(host: MailHost) -> None:
    host.backstop("domain", "set", "our.test", "alias", "observe")
    send(host, ended(host))
    host.postfix.wait_for_mail(ALICE, 1)
    host.wait_for_counter("alias.fail", 1)
