"""Forged senders through a real Postfix and a real name server, and whom a later failure reaches."""

from collections.abc import Iterator

import pytest

from tests.harness.dkim_signer import rsa_key, sign
from tests.harness.mail_host import MailHost
from tests.harness.name_server import NameServer, txt
from tests.harness.postfix import why_not
from tests.harness.servers import need
from tests.harness.smtp import SmtpReply, deliver

pytestmark = pytest.mark.e2e

ALICE = "alice@our.test"
RITA = "rita@relay.test"
ID = "mx.our.test"
KEY = rsa_key(1024)

SENDERS = {
    "pass": "v=spf1 ip4:192.0.2.0/24 -all",
    "fail": "v=spf1 -all",
    "softfail": "v=spf1 ~all",
    "neutral": "v=spf1 ?all",
    "none": "",
}
"""A domain for each result of SPF; `temperror.test` is served by nobody."""


def zones() -> dict[str, str]:
    """The world: each sender's domain with SPF, a key and a policy; two lists."""
    world = {}
    for name, record in SENDERS.items():
        spf = f"@ TXT {txt(record)}\n" if record else ""
        key = f"s1._domainkey TXT {txt(KEY.record)}\n"
        world[f"{name}.test"] = (
            f"{spf}{key}_dmarc TXT {txt('v=DMARC1; p=reject')}\n@ MX 10 mx\nmx A 192.0.2.9"
        )
    world["bl.test"] = "2.0.0.127 A 127.0.0.2\n66.2.0.192 A 127.0.0.4\n67.2.0.192 A 127.255.255.254"
    world["dbl.test"] = "TEST A 127.0.1.2\nneutral.test A 127.0.1.2"
    world["client.example.net"] = f"@ TXT {txt('v=spf1 ip4:192.0.2.1 -all')}"
    return world


TOP = (
    f'authserv_id = "{ID}"',
    "[lists]",
    '"bl.test" = { of = "client" }',
    '"dbl.test" = { of = "sender" }',
)


@pytest.fixture(scope="module")
def _whole_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailHost]:
    need("redis-server", "valkey-server")
    need("postconf")
    need("nsd")
    if reason := why_not():
        pytest.skip(reason)
    with (
        NameServer(tmp_path_factory.mktemp("nsd"), zones()) as names,
        MailHost("subaddress", top=TOP, resolver=names.address) as host,
    ):
        yield host


def switch(host: MailHost, settings: tuple[str, ...] = (), **actions: str) -> None:
    """Give the defaults other settings and actions."""
    host.configure(actions={"tag": "reject", "unproved": "reject", **actions}, settings=settings)
    host.reload()


def letter(sender: str, author: str = "", to: str = ALICE) -> bytes:
    return (
        f"From: A Friend <{author or sender}>\r\nTo: {to}\r\nSubject: a  letter\r\n"
        "Message-ID:<without.a.space@example.net>\r\nX-Tab:\tone\r\n\r\nHello.\r\n\r\n"
    ).encode()


def give(
    host: MailHost, sender: str, *, to: str = ALICE, client: str = "192.0.2.1", message: bytes = b""
) -> SmtpReply:
    """A stranger brings a message; the last reply."""
    with host.outside(client) as session:
        delivery = deliver(session, sender, (to,), message or letter(sender or "mailer-daemon@else.test"))
    return delivery.end or delivery.recipients[0]


def test_only_what_fails_spf_is_refused_and_nobody_for_a_name_server_that_is_away(host):
    switch(host, spf="reject")
    replies = {name: give(host, f"friend@{name}.test").code for name in (*SENDERS, "temperror")}
    assert replies == {**dict.fromkeys((*SENDERS, "temperror"), 250), "fail": 550}
    reply = give(host, "friend@fail.test")
    assert str(reply).startswith("550 5.7.23")


def test_a_bounce_is_judged_by_its_helo_name_at_data(host):
    switch(host, spf="reject", tag="off", unproved="off")
    assert give(host, "").code == 250
    with host.outside("192.0.2.99") as client:
        assert client.mail("").code == 250
        assert client.rcpt(ALICE).code == 250
        assert client.command("DATA").text.startswith("5.7.23")


def test_a_client_and_a_sender_on_a_list(host):
    switch(host, client_list="reject", sender_list="reject")
    assert give(host, "friend@pass.test", client="192.0.2.66").code == 550
    assert give(host, "friend@pass.test", client="192.0.2.67").code == 250
    assert give(host, "friend@pass.test").code == 250
    assert give(host, "friend@neutral.test").code == 550


@pytest.mark.parametrize("canon", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
def test_a_signature_of_the_author_saves_what_spf_cannot(host, canon):
    switch(host, dmarc="reject")
    headers = ("from", "to", "subject", "message-id", "x-tab")
    signed = sign(KEY, letter("friend@neutral.test"), domain="neutral.test", canon=canon, headers=headers)
    assert give(host, "friend@neutral.test", message=signed).code == 250
    (received,) = host.postfix.wait_for_mail(ALICE, 1)
    results = received["Authentication-Results"]
    assert results.split(";")[0] == ID
    for words in (
        "spf=neutral",
        "dkim=pass",
        "header.d=neutral.test",
        "dmarc=pass",
        "header.from=neutral.test",
    ):
        assert words in results
    changed = signed.replace(b"Hello.", b"Send money.")
    assert give(host, "friend@neutral.test", message=changed).code == 550


def test_a_forged_author_is_refused_whoever_the_envelope_names(host):
    switch(host, dmarc="reject")
    assert give(host, "friend@pass.test", message=letter("friend@pass.test")).code == 250
    assert give(host, "friend@pass.test", message=letter("friend@fail.test")).code == 550
    assert give(host, "friend@pass.test", message=letter("friend@temperror.test")).code == 250


def test_forged_results_are_gone_and_others_stay(host):
    switch(host, spf="observe")
    forged = (
        f"Authentication-Results: {ID}; spf=pass smtp.mailfrom=bank.test\r\n"
        "Authentication-Results: other.test; spf=fail\r\n"
        f"AUTHENTICATION-results:\r\n {ID.upper()}; dkim=pass\r\n"
    ).encode()
    assert give(host, "friend@softfail.test", message=forged + letter("friend@softfail.test")).code == 250
    (received,) = host.postfix.wait_for_mail(ALICE, 1)
    ours, other = received.get_all("Authentication-Results")
    assert "spf=softfail" in ours
    assert ours.startswith(ID)
    assert other == "other.test; spf=fail"


# -- Never a source --------------------------------------------------------------------------------------


def reports(host: MailHost, sender: str) -> int:
    """Reports that reached the world, once the queue is empty."""
    host.postfix.wait_until_idle()
    assert all(letter.reverse_path == "" for letter in host.next_hop.letters_to(sender))
    return len(host.next_hop.letters_to(sender))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fail", 0), ("softfail", 0), ("pass", 1), ("neutral", 1), ("none", 1), ("temperror", 1)],
)
def test_a_next_hop_that_takes_everybody_and_refuses_later_makes_no_report_to_a_forged_sender(
    host, name, expected
):
    hop = f'recipients = ["callahead:[127.0.0.1]:{host.next_hop.port}"]'
    switch(host, (hop, 'quiet = "unvouched"'))
    host.next_hop.answer("END", RITA, "550 5.1.1 no such user after all")
    sender = f"friend@{name}.test"
    assert give(host, sender, to=RITA).code == 250
    assert reports(host, sender) == expected
    assert host.next_hop.refused
    host.wait_for_counter("quiet.set", 1 - expected, "relay.test")


def test_a_signature_of_the_sender_is_enough_to_be_told(host):
    switch(host, ('quiet = "unvouched"',))
    host.next_hop.answer("END", RITA, "550 5.1.1 no such user after all")
    sender = "friend@softfail.test"
    signed = sign(KEY, letter(sender, to=RITA), domain="softfail.test", headers=("from", "to", "subject"))
    assert give(host, sender, to=RITA, message=signed).code == 250
    assert reports(host, sender) == 1


def test_without_the_setting_everybody_is_told(host):
    switch(host)
    host.next_hop.answer("END", RITA, "550 5.1.1 no such user after all")
    assert give(host, "friend@fail.test", to=RITA).code == 250
    assert reports(host, "friend@fail.test") == 1


def test_to_a_user_who_is_known_to_exist_nothing_is_hushed(host):
    with host.redis.client() as client:
        client.sadd("backstop:recipients:relay.test", "rita")
    switch(host, ('recipients = ["redis"]', 'quiet = "unvouched"'))
    host.next_hop.answer("END", RITA, "552 5.2.2 the mailbox is full")
    assert give(host, "friend@fail.test", to=RITA).code == 250
    assert reports(host, "friend@fail.test") == 1


def test_a_mark_stands_as_it_does_without_signatures(host):
    switch(host, spf="junk", dmarc="observe")
    assert give(host, "friend@fail.test").code == 250
    (received,) = host.postfix.wait_for_mail(ALICE, 1)
    assert received["X-Backstop"].startswith("junk; check=spf")
    assert received["X-Spam-Flag"] == "YES"
    assert b"X-Spam-Flag: YES\n" in received.as_bytes()
