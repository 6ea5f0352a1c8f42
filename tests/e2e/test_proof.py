"""Bounces without a tag through a real Postfix: what proves them, and what a forger does not have."""

from collections.abc import Iterator

import pytest

from tests.harness.dkim_signer import rsa_key, sign
from tests.harness.mail_host import MailHost
from tests.harness.postfix import why_not
from tests.harness.servers import need
from tests.harness.smtp import SmtpReply, deliver
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.e2e

ALICE = "alice@our.test"
FRIEND = "friend@else.test"
EVERYTHING = ("tag", "memory", "dkim", "correspondent")


@pytest.fixture(scope="module")
def _whole_host() -> Iterator[MailHost]:
    need("redis-server", "valkey-server")
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    with MailHost("prvs", proof=EVERYTHING) as host:
        yield host


def send_letter(host: MailHost, message_id: str = "", sender: str = ALICE) -> None:
    """A letter of Alice's, once it is remembered."""
    field = f"Message-ID: <{message_id}>\r\n" if message_id else ""
    letter = f"From: Alice <{ALICE}>\r\nTo: {FRIEND}\r\nSubject: a letter\r\n{field}\r\nHello.\r\n"
    remembered = host.remembered()
    with host.postfix.own_user() as client:
        assert deliver(client, sender, (FRIEND,), letter.encode()).accepted
    host.wait_for_memory(remembered + 1)


def returned_letter(host: MailHost, sender: str = ALICE) -> bytes:
    """Postfix's own report about a letter that the next hop refused, as it came home."""
    host.next_hop.answer("RCPT", FRIEND, "550 5.1.1 no such user")
    send_letter(host, sender=sender)
    (report,) = host.postfix.wait_for_mail(ALICE, 1)
    host.postfix.forget()
    for name in ("Return-Path", "X-Original-To", "Delivered-To"):  # or it would have been here before
        del report[name]
    return report.as_bytes()


def give(host: MailHost, message: bytes, *, sender: str = "", to: str = ALICE) -> SmtpReply:
    """A stranger brings a message; the last reply."""
    with host.outside() as client:
        delivery = deliver(client, sender, (to,), message)
    return delivery.end or delivery.recipients[0]


def forged_report(message_id: str, failed: str = "victim@elsewhere.test") -> bytes:
    """A report as a mail server writes it, about a message that a forger sent in Alice's name."""
    return (
        "From: Mail Delivery System <MAILER-DAEMON@mx.elsewhere.test>\r\n"
        f"To: {ALICE}\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.elsewhere.test\r\n\r\n"
        f"Final-Recipient: rfc822; {failed}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\nReturn-Path: <{ALICE}>\r\n"
        f"From: {ALICE}\r\nTo: {failed}\r\nSubject: pills\r\nMessage-ID: <{message_id}>\r\n\r\nBuy.\r\n"
        "--b--\r\n"
    ).encode()


def vacation(host: MailHost, more: str = "") -> bytes:
    """An automatic answer that goes to the header From, where no tag is."""
    return (
        f"From: Friend <{FRIEND}>\r\nTo: {ALICE}\r\nSubject: Out of office\r\n"
        f"Auto-Submitted: auto-replied\r\n{more}\r\nI am away until Monday.\r\n"
    ).encode()


class TestMemory:
    def test_a_genuine_bounce_that_lost_its_tag_is_delivered(self, host: MailHost) -> None:
        report = returned_letter(host)
        assert give(host, report).code == 250
        host.postfix.wait_for_mail(ALICE, 1)
        host.wait_for_counter("proof.memory", 1)
        host.wait_for_counter("bounce.untagged", 1)
        host.wait_for_counter("unproved.pass", 1)

    def test_with_the_memory_wiped_it_is_refused(self, host: MailHost) -> None:
        report = returned_letter(host)
        with host.redis.client() as client:
            client.flushall()
        refused = give(host, report)
        assert (refused.code, refused.text[:5]) == (550, "5.7.1")

    def test_a_forged_bounce_with_an_id_we_never_sent_is_refused_at_the_end(self, host: MailHost) -> None:
        send_letter(host, "genuine@our.test")
        with host.outside() as client:
            client.mail("")
            assert client.rcpt(ALICE).code == 250
            refused = client.data(forged_report("forged@our.test"))
        assert (refused.code, refused.text[:5]) == (550, "5.7.1")
        assert "milter-reject: END-OF-MESSAGE" in host.postfix.log()
        assert not host.postfix.mailbox(ALICE)
        host.wait_for_counter("report.bounce", 1)
        assert give(host, forged_report("genuine@our.test")).code == 250

    def test_the_memory_holds_no_name(self, host: MailHost) -> None:
        send_letter(host, "secret-id@our.test")
        with host.redis.client() as client:
            entries = [entry for key in client.scan_iter("backstop:[sw]*") for entry in client.smembers(key)]
        assert len(entries) == 2
        assert {len(entry) for entry in entries} == {11}

    def test_untagged_mail_is_remembered_too(self, host: MailHost) -> None:
        long = f"{'x' * 50}@our.test"
        send_letter(host, "long@our.test", sender=long)
        (letter,) = host.next_hop.wait_for_letters(1)
        assert letter.reverse_path == long
        assert give(host, forged_report("long@our.test")).code == 250


class TestOurSignature:
    """The memory is wiped: what is left is the signature in the returned header."""

    def bounced(self, host: MailHost, letter: bytes) -> bytes:
        """Postfix's own report about this letter, after the memory was wiped."""
        host.next_hop.answer("RCPT", FRIEND, "550 5.1.1 no such user")
        with host.postfix.own_user() as client:
            assert deliver(client, ALICE, (FRIEND,), letter).accepted
        (report,) = host.postfix.wait_for_mail(ALICE, 1)
        host.wait_for_memory(1)
        host.wait_for_memory(1, "wrote")
        host.postfix.forget()
        with host.redis.client() as client:
            client.delete(*client.scan_iter("backstop:sent:*"), *client.scan_iter("backstop:wrote:*"))
        for name in ("Return-Path", "X-Original-To", "Delivered-To"):
            del report[name]
        return report.as_bytes()

    def signed(self, host: MailHost, domain: str = "our.test", selector: str = "mail") -> bytes:
        """A letter with a signature whose key is known."""
        key = rsa_key(2048)
        host.dkim_keys.mkdir(exist_ok=True)
        (host.dkim_keys / f"{selector}._domainkey.{domain}").write_bytes(key.record)
        letter = (
            f"From: Alice <{ALICE}>\r\nTo: {FRIEND}\r\nSubject: a signed letter\r\n"
            "Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <signed@our.test>\r\n\r\nHello.\r\n"
        ).encode()
        headers = ("from", "to", "subject", "date", "message-id")
        return sign(key, letter, domain=domain, selector=selector, headers=headers)

    def test_a_good_one_is_proof(self, host: MailHost) -> None:
        report = self.bounced(host, self.signed(host))
        assert give(host, report).code == 250
        host.postfix.wait_for_mail(ALICE, 1)
        host.wait_for_counter("proof.dkim", 1)
        wait_for(lambda: 'reason="proof: dkim"' in host.daemon.log_text(), 5, "the line in the log")

    def test_a_broken_one_is_none(self, host: MailHost) -> None:
        report = self.bounced(host, self.signed(host))
        assert give(host, report.replace(b"a signed letter", b"a forged letter")).code == 550

    def test_another_domains_is_none(self, host: MailHost) -> None:
        report = self.bounced(host, self.signed(host, domain="forger.test"))
        assert give(host, report).code == 550

    def test_one_whose_key_cannot_be_asked_for_makes_it_wait(self, host: MailHost) -> None:
        letter = self.signed(host).replace(b"s=mail;", b"s=other;")
        assert b"s=other;" in letter
        assert give(host, self.bounced(host, letter)).code == 451


def test_odd_octets_come_through(host: MailHost) -> None:
    """Names of headers that are no ASCII never reach a milter: Postfix takes such a line for the body."""
    odd = b"From: \xff <\xfe@else.test>\r\nX\xff: y\r\nReferences: <\xff@x>\r\n\r\n\x00\xff\r\n"
    assert give(host, odd).code == 550
    assert "bug=" not in host.daemon.log_text()


class TestAutomaticAnswers:
    def test_a_vacation_answer_to_the_header_from_is_delivered(self, host: MailHost) -> None:
        send_letter(host, "asked@our.test")
        assert give(host, vacation(host, "In-Reply-To: <asked@our.test>\r\n")).code == 250
        assert give(host, vacation(host)).code == 250
        assert len(host.postfix.wait_for_mail(ALICE, 2)) == 2
        host.wait_for_counter("proof.memory", 1)
        host.wait_for_counter("proof.correspondent", 2)

    def test_one_to_a_letter_nobody_wrote_is_refused(self, host: MailHost) -> None:
        assert give(host, vacation(host, "In-Reply-To: <forged@our.test>\r\n")).code == 550

    def test_the_author_counts_where_the_envelope_says_otherwise(self, host: MailHost) -> None:
        send_letter(host, sender="bob@our.test")
        host.wait_for_memory(2, "wrote")
        assert give(host, vacation(host)).code == 250


def test_what_is_not_sent_to_the_end_costs_nothing(host: MailHost) -> None:
    """A callback and a good tag end before the message, as before."""
    with host.outside() as client:
        client.mail("")
        assert client.rcpt("vic@virt.test").code == 250
    assert give(host, forged_report("x@y.test"), to=host.tagged("vic@virt.test")).code == 250
    host.wait_for_counter("proof.tag", 1, "virt.test")
    assert not any(name.startswith("report.") for name in host.counters("virt.test"))


@pytest.fixture
def junking(host: MailHost) -> Iterator[MailHost]:
    """The host with marks in place of refusals, and Bob to see what was marked."""
    host.configure(actions={"unproved": "junk", "report": "reject"}, settings=('copy_to = "bob@our.test"',))
    host.reload()
    yield host
    host.configure(actions={"tag": "reject", "unproved": "reject"}, settings=())
    host.reload()


def test_a_junked_bounce_is_copied_and_a_report_with_a_real_sender_refused(junking: MailHost) -> None:
    host = junking
    assert give(host, forged_report("forged@our.test")).code == 250
    for address in (ALICE, "bob@our.test"):
        (message,) = host.postfix.wait_for_mail(address, 1)
        assert (message["X-Backstop"] or "").startswith("junk; check=unproved; a bounce without proof")
    host.wait_for_counter("copies.sent", 1)
    robot = "mailer-daemon@elsewhere.test"
    assert give(host, forged_report("forged@our.test"), sender=robot).code == 550
    send_letter(host, "genuine@our.test")
    assert give(host, forged_report("genuine@our.test"), sender=robot).code == 250
