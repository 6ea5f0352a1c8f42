"""A gateway before another mail server: whom that does not know is refused here, and nothing comes back."""

import shutil
from collections.abc import Iterator

import pytest

from tests.harness.mail_host import MailHost
from tests.harness.next_hop import NextHop
from tests.harness.postfix import PrivatePostfix, Site, scratch, why_not
from tests.harness.servers import need
from tests.harness.smtp import SmtpReply, deliver

pytestmark = pytest.mark.e2e

INNER = Site(local="relay.test", users=("rita", "rob", "rex"), virtual="virt.invalid", relay="relay.invalid")
RITA = "rita@relay.test"
STRANGER = "someone@else.test"


@pytest.fixture(scope="module")
def inner() -> Iterator[PrivatePostfix]:
    """Who has the mailboxes, and knows them."""
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    folder = scratch()
    try:
        with NextHop() as world, PrivatePostfix(folder, next_hop=world.port, site=INNER) as postfix:
            yield postfix
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def _gateway(inner: PrivatePostfix) -> Iterator[MailHost]:
    need("redis-server", "valkey-server")
    hop = f"[127.0.0.1]:{inner.ports.outside}"
    settings = (f'recipients = ["callahead:{hop}"]',)
    with MailHost("subaddress", settings=settings, top=("[callahead]", "questions = 600")) as host:
        # The other domains are of no interest here.
        host.postfix.edit("relay_recipient_maps=", f"transport_maps=inline:{{relay.test=smtp:{hop}}}")
        host.postfix.restart()
        yield host


@pytest.fixture
def edge(inner: PrivatePostfix, _gateway: MailHost) -> MailHost:
    """The gateway: its Postfix takes everybody in relay.test, and Backstop asks the one behind it.

    It remembers nothing of an earlier test.
    """
    inner.forget()
    _gateway.next_hop.forget()
    with _gateway.redis.client() as client:
        client.flushall()
    _gateway.reload()
    return _gateway


def give(host: MailHost, to: str, sender: str = STRANGER) -> SmtpReply:
    """A stranger brings a message; the last reply."""
    with host.outside() as client:
        delivery = deliver(client, sender, (to,), b"Subject: hello\r\n\r\nHello.\r\n")
    return delivery.end or delivery.recipients[0]


def asked(inner: PrivatePostfix) -> int:
    """Connections that the one behind has seen."""
    return inner.log().count("]: connect from ")


def test_who_is_unknown_behind_is_refused_at_the_edge_and_nobody_is_told_by_mail(inner, edge):
    assert give(edge, RITA).code == 250
    assert inner.wait_for_mail(RITA, 1)
    for sender in (STRANGER, ""):
        for number in range(3):
            reply = give(edge, f"nobody{number}@relay.test", sender)
            assert str(reply).startswith("550 5.1.1"), reply
    reply = give(edge, edge.tagged("nobody0@relay.test"), "")
    assert str(reply).startswith("550 5.1.1"), reply
    assert give(edge, edge.tagged(RITA), "").code == 250
    assert len(inner.wait_for_mail(RITA, 2)) == 2
    edge.postfix.wait_until_idle()
    assert not edge.postfix.queue()
    assert not edge.next_hop.letters
    assert "status=bounced" not in edge.postfix.log()
    edge.wait_for_counter("recipient.fail", 7, "relay.test")


def test_while_it_is_down_mail_waits_and_nobody_is_refused_for_good(inner, edge):
    assert give(edge, RITA).code == 250
    inner.stop()
    for to in ("rob@relay.test", "nobody@relay.test", edge.tagged("nobody@relay.test")):
        reply = give(edge, to)
        assert str(reply).startswith("451 4.1.1"), reply
    assert give(edge, "postmaster@relay.test").code == 250
    assert give(edge, RITA).code == 250  # who was known a moment ago still is
    inner.start()
    assert give(edge, "rex@relay.test").code == 250
    assert len(inner.wait_for_mail(RITA, 2)) == 2


def test_one_that_takes_everybody_is_found_out_and_left_alone(inner, edge):
    inner.edit("local_recipient_maps=")
    inner.restart()
    before = asked(inner)
    with edge.outside() as client:
        for number in range(20):
            client.mail(STRANGER)
            assert client.rcpt(f"user{number}@relay.test").code == 250
            client.command("RSET")
    assert asked(inner) - before <= 2
