"""Mail through a real Postfix as `setup postfix` left it, in both forms of the tag."""

import subprocess
from itertools import product

import pytest

from backstop import batv
from backstop.address import parse
from tests.harness.mail_host import MailHost, bounce
from tests.harness.smtp import deliver
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.e2e

ALICE = "alice@our.test"
LETTER = b"Subject: a letter\r\n\r\nHello.\r\n"


def forged(host: MailHost, address: str = ALICE) -> str:
    """The address with a tag that nobody made."""
    local, _, domain = address.partition("@")
    if host.form == "prvs":
        return f"prvs=1234abcdef={local}@{domain}"
    return f"{local}+prvs=1234abcdef@{domain}"


def tags(path: str) -> int:
    """How many tags a path carries."""
    return path.count("prvs=")


class TestOwnReports:
    def test_a_hundred_of_a_hundred_come_home(self, host: MailHost) -> None:
        """A tagged letter that the next hop refuses: Postfix's own report arrives at the sender."""
        host.next_hop.answer("RCPT", "*", "550 5.1.1 no such user")
        with host.postfix.own_user() as client:
            for number in range(100):
                sent = deliver(client, ALICE, (f"nobody{number}@else.test",), LETTER)
                assert sent.accepted
        reports = host.postfix.wait_for_mail(ALICE, 100, seconds=120)
        host.postfix.wait_until_idle(seconds=60)
        assert len(host.postfix.mailbox(ALICE)) == 100
        assert all("Undelivered" in (report["Subject"] or "") for report in reports)
        assert not host.next_hop.letters

    def test_from_every_class_of_domain(self, host: MailHost) -> None:
        host.next_hop.answer("RCPT", "*@else.test", "550 5.1.1 no such user")
        with host.postfix.own_user() as client:
            extended = "alice+list@our.test" if host.form == "subaddress" else "Alice@our.test"
            for sender in (ALICE, extended, "Bob@our.test", "vic@virt.test"):
                assert deliver(client, sender, ("nobody@else.test",), LETTER).accepted
        assert len(host.postfix.wait_for_mail(ALICE, 2, seconds=60)) == 2
        host.postfix.wait_for_mail("bob@our.test", 1)
        host.postfix.wait_for_mail("vic@virt.test", 1)
        host.postfix.wait_until_idle()


class TestUnknownUsers:
    def test_four_hundred_of_four_hundred_are_refused(self, host: MailHost) -> None:
        """A tagged address of an unknown user: null and real senders, good and bad tags; no report."""
        key = host.signing_key()
        answers = []
        for start in range(0, 100, 4):  # Postfix drops a client after 20 errors
            with host.outside() as client:
                for number in range(start, start + 4):
                    for sender, good in product(("", "a@b.test"), (True, False)):
                        address = f"nosuch{number}@our.test"
                        client.mail(sender)
                        answers.append(
                            client.rcpt(host.sign(address, key) if good else forged(host, address))
                        )
                        client.command("RSET")
        assert len(answers) == 400
        refused = [answer for answer in answers if answer.code == 550]
        assert len(refused) == 400, [str(answer) for answer in answers if answer.code != 550][:5]
        assert not host.postfix.queue()


class TestBounces:
    def test_a_good_tag_is_delivered_without_it(self, host: MailHost) -> None:
        tagged = host.tagged(ALICE)
        with host.outside() as client:
            assert deliver(client, "", (tagged,), bounce(tagged)).accepted
        (message,) = host.postfix.wait_for_mail(ALICE, 1)
        assert tags(message["Delivered-To"] or "") == 0 or host.form == "subaddress"
        assert message["X-Backstop"] is None

    def test_forged_at_rcpt_missing_at_data_and_a_callback_never(self, host: MailHost) -> None:
        with host.outside() as client:
            client.mail("")
            assert client.rcpt(forged(host)).code == 550
            client.command("RSET")
            client.mail("")
            assert client.rcpt(ALICE).code == 250
            assert client.command("DATA").code == 550
            client.command("RSET")
            client.mail("")
            assert client.rcpt(ALICE).code == 250
        assert not host.postfix.mailbox(ALICE)

    def test_one_recipient_at_a_time(self, host: MailHost) -> None:
        tagged = host.tagged(ALICE)
        with host.outside() as client:
            replies = client.pipeline("MAIL FROM:<>", f"RCPT TO:<{tagged}>", "RCPT TO:<bob@our.test>")
            assert [reply.code for reply in replies] == [250, 250, 452]

    def test_a_reply_to_a_tagged_address_is_delivered(self, host: MailHost) -> None:
        """The tag grants and costs nothing where the sender is real, forged or not."""
        with host.outside() as client:
            for recipient in (host.tagged(ALICE), forged(host)):
                assert deliver(client, "friend@else.test", (recipient,), LETTER).accepted
        assert len(host.postfix.wait_for_mail(ALICE, 2)) == 2

    def test_postmaster_is_never_refused(self, host: MailHost) -> None:
        with host.outside() as client:
            client.mail("")
            assert client.rcpt("postmaster@our.test").code != 452
            assert client.command("DATA").code in (354, 554)


class TestSwitch:
    def test_one_line_of_redis_cli(self, host: MailHost) -> None:
        """It changes the very next message, ends by itself, and a good tag passes all the while."""
        tagged = host.tagged(ALICE)
        words = ["redis-cli", "-s", str(host.redis.socket)]
        done = subprocess.run(
            [*words, "SET", "backstop:block:our.test", "junk", "EX", "3"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "OK"
        with host.outside() as client:
            assert deliver(client, "", (ALICE,), bounce(ALICE, "forged")).accepted
            assert deliver(client, "", (tagged,), bounce(ALICE, "genuine")).accepted
            mail = {message["Subject"]: message for message in host.postfix.wait_for_mail(ALICE, 2)}
            assert mail["forged"]["X-Backstop"].startswith("junk")
            assert mail["forged"]["X-Spam-Flag"] == "YES"
            assert mail["genuine"]["X-Backstop"] is None

            def is_over() -> bool:
                return not deliver(client, "", (ALICE,), bounce(ALICE, "later")).accepted

            wait_for(is_over, 10, "the block to end")


class TestOutgoing:
    def wire(self, host: MailHost, count: int = 1) -> list[str]:
        return [letter.reverse_path for letter in host.next_hop.wait_for_letters(count)]

    def test_exactly_one_good_tag(self, host: MailHost) -> None:
        with host.postfix.own_user() as client:
            assert deliver(client, ALICE, ("friend@else.test",), LETTER).accepted
        host.postfix.sendmail("bob@our.test", ["friend@else.test"], LETTER)
        with host.postfix.own_user("alice") as client:
            assert deliver(client, "carol@our.test", ("friend@else.test",), LETTER).accepted
        paths = self.wire(host, 3)
        assert sorted(inner(path) for path in paths) == [ALICE, "bob@our.test", "carol@our.test"]
        assert all(tags(path) == 1 and is_good(host, path) for path in paths)

    def test_a_sender_without_a_domain_gets_a_tag_too(self, host: MailHost) -> None:
        """Postfix gives him its own domain, after the milter: devices say MAIL FROM:<scanner>."""
        with host.postfix.own_user() as client:
            assert deliver(client, "Alice", ("friend@else.test",), LETTER).accepted
        (path,) = self.wire(host)
        assert tags(path) == 1
        assert is_good(host, path)
        assert inner(path) == "Alice@our.test"

    def test_parameters_are_kept(self, host: MailHost) -> None:
        with host.postfix.own_user() as client:
            sent = deliver(client, ALICE, ("friend@else.test",), LETTER, "RET=HDRS ENVID=abc")
            assert sent.accepted
        (letter,) = host.next_hop.wait_for_letters(1)
        assert "ENVID=abc" in letter.mail_parameters
        assert "RET=HDRS" in letter.mail_parameters

    def test_foreign_tags_in_transit_are_never_touched(self, host: MailHost) -> None:
        foreign = [
            "prvs=1234abcdef=x@strange.test",
            "btv1==0123456789a==x@strange.test",
            "SRS0=HHH=TT=else.test=x@strange.test",
            "x+prvs=1234abcdef@strange.test",
            "prvs=1234abcdef=x@our.test",
        ]
        with host.postfix.own_user() as client:
            for sender in foreign:
                assert deliver(client, sender, ("friend@else.test",), LETTER).accepted
                recipient = sender.replace("our.test", "else.test")
                assert deliver(client, "", (recipient,), LETTER).accepted
        letters = host.next_hop.wait_for_letters(10)
        assert [letter.reverse_path for letter in letters if letter.reverse_path] == foreign
        returned = [letter.recipients[0] for letter in letters if not letter.reverse_path]
        assert returned == [sender.replace("our.test", "else.test") for sender in foreign]

    def test_a_long_local_part_goes_untagged_and_its_bounce_comes_back(self, host: MailHost) -> None:
        long = f"{'x' * 45}+{'y' * 10}@our.test"
        with host.postfix.own_user() as client:
            assert deliver(client, long, ("friend@else.test",), LETTER).accepted
        assert self.wire(host) == [long]


class TestSecondPass:
    def test_a_content_filter_gives_mail_back(self, host: MailHost) -> None:
        """Tagged once, not twice; and a stranger's forgery comes back as it was."""
        with host.postfix.own_user() as client:
            assert deliver(client, ALICE, ("friend@else.test",), LETTER).accepted
        (tagged,) = (letter.reverse_path for letter in host.next_hop.wait_for_letters(1))
        for port in (host.postfix.ports.reinjection, host.postfix.ports.unfiltered):
            with host.postfix.client(address="", port=port) as client:
                assert deliver(client, tagged, ("friend@else.test",), LETTER).accepted
                assert deliver(client, "bob@our.test", ("friend@else.test",), LETTER).accepted
        paths = [letter.reverse_path for letter in host.next_hop.wait_for_letters(5)[1:]]
        assert paths == [tagged, "bob@our.test"] * 2

    def test_an_own_tag_is_not_tagged_again(self, host: MailHost) -> None:
        expired = host.sign(ALICE, host.signing_key(), age=40)
        with host.postfix.own_user() as client:
            for sender in (host.tagged(ALICE), expired, forged(host)):
                assert deliver(client, sender, ("friend@else.test",), LETTER).accepted
        assert all(tags(letter.reverse_path) == 1 for letter in host.next_hop.wait_for_letters(3))

    @pytest.mark.parametrize("sender", ["stranger@else.test", "bob@our.test"])
    def test_forward_and_alias_vouch_for_nobody(self, host: MailHost, sender: str) -> None:
        """What comes from outside goes on as it came: a tag on a forgery would make its bounces good."""
        host.postfix.forward("games", "friend@else.test")
        with host.outside() as client:
            for recipient in ("games@our.test", "away@our.test"):
                assert deliver(client, sender, (recipient,), LETTER).accepted
        letters = host.next_hop.wait_for_letters(2)
        assert [tags(letter.reverse_path) for letter in letters] == [0, 0]

    def test_sendmail_of_a_delivered_message_is_a_forward(self, host: MailHost) -> None:
        forwarded = b"Delivered-To: alice@our.test\r\n" + LETTER
        host.postfix.sendmail("bob@our.test", ["friend@else.test"], forwarded)
        (letter,) = host.next_hop.wait_for_letters(1)
        assert letter.reverse_path == "bob@our.test"
        with host.redis.client() as client:
            wait_for(lambda: client.hget("backstop:untagged", "bob@our.test"), 5, "bob to be remembered")
        with host.outside() as client:
            assert deliver(client, "", ("bob@our.test",), bounce("bob@our.test")).accepted


def inner(path: str) -> str:
    """The address without its tag."""
    address = parse(path)
    assert address is not None
    tag = batv.parse(address)
    return (tag.inner if tag else address).path


def is_good(host: MailHost, path: str) -> bool:
    """Whether the command line calls the tag good."""
    return "good" in host.backstop("tag", "check", path)
