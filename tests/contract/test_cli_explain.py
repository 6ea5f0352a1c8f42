"""`explain` of five stored messages, on a real Redis: what it prints must need no manual."""

import os
import time

import pytest

from backstop import memory
from backstop.adapters import redis_names
from tests.contract.test_cli_commands import DAY, Site, dump
from tests.harness.dkim_signer import header, rsa_key, sign

SECRET = "what the memory is keyed with"
ANNA = "anna@example.com"
FRIEND = "friend@far.example"


class Host(Site):
    """With a memory of sent mail, keys of ours, and no DNS."""

    def write(self, store, more=""):
        folder = self.path.parent
        self.dkim_keys = folder / "dkim.d"
        self.dkim_keys.mkdir(exist_ok=True)
        super().write(store, f'dkim_keys = "{self.dkim_keys}"\nresolver = ["127.0.0.1:1"]\n{more}')
        keys = folder / "keys.toml"
        if "[memory]" not in keys.read_text():
            keys.chmod(0o600)
            keys.write_text(f'{keys.read_text()}[memory]\nsecret = "{SECRET}"\n')
            keys.chmod(0o400)

    def remember(self, message_id):
        """As the daemon does at the end of an outgoing message."""
        self.redis.sadd(redis_names.sent(DAY), memory.of_id(SECRET.encode(), message_id))
        self.redis.sadd(redis_names.wrote(DAY), memory.of_pair(SECRET.encode(), ANNA, FRIEND))

    def explain(self, message, *words, sender="<>"):
        """What is said of a message, and the same for programs; the store stays as it was."""
        path = self.path.parent / "message.eml"
        path.write_bytes(message)
        words = ("explain", str(path), "--from", sender, "--to", ANNA, *words)
        before = dump(self.redis)
        said = self(*words)
        found = self.json(*words)
        assert dump(self.redis) == before
        return said, found


@pytest.fixture
def host(tmp_path, shared_redis, capsys):
    site = Host(tmp_path, shared_redis, capsys)
    site("domain", "set", "example.com", "unproved", "reject", "--force")
    yield site
    site.redis.close()


def report(returned, failed="stranger@elsewhere.example"):
    """A report as a mail server writes it."""
    return (
        (
            f"From: Mail Delivery System <MAILER-DAEMON@mx.example>\r\nTo: {ANNA}\r\n"
            "Subject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"
            'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
            "--b\r\n\r\nIt could not be delivered.\r\n"
            "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
            f"Final-Recipient: rfc822; {failed}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n"
            "--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        ).encode()
        + returned
        + b"\r\n--b--\r\n"
    )


def letter(message_id, to="stranger@elsewhere.example"):
    """What we sent, or a forger."""
    return (
        f"From: Anna <{ANNA}>\r\nTo: {to}\r\nSubject: hello\r\n"
        f"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{message_id}>\r\n\r\nHello.\r\n"
    ).encode()


def vacation():
    """It goes to the header From, where no tag is."""
    return (
        f"From: Friend <{FRIEND}>\r\nTo: {ANNA}\r\nSubject: Out of office\r\n"
        "Auto-Submitted: auto-replied\r\n\r\nI am away until Monday.\r\n"
    ).encode()


def row(said, name):
    """The line of a table that begins with a name."""
    return next(line for line in said.splitlines() if line.split()[:1] == [name])


def sought(found):
    """The result for each kind of proof."""
    (recipient,) = found["recipients"]
    return {one["proof"]: one["result"] for one in recipient["judged"]["sought"]}


def test_a_genuine_bounce_that_lost_its_tag(host):
    host.remember("sent@example.com")
    said, found = host.explain(report(header(letter("sent@example.com"))))
    assert "kind: bounce, a report that a message was not delivered" in said
    assert (
        "it has the null sender; its type is that of a delivery report; it has a delivery-status part" in said
    )
    assert "reports: stranger@elsewhere.example failed 5.1.1" in said
    assert "returns: a header with Message-ID <sent@example.com>" in said
    assert "proof of the original, sought by the setting proof" in said
    assert f"not found  {ANNA}: it carries no tag" in row(said, "tag")
    assert "found      among the mail we sent: <sent@example.com>: yes" in row(said, "memory")
    assert "not found  the returned header has no DKIM-Signature" in row(said, "dkim")
    assert f"not found  whether {ANNA} wrote to stranger@elsewhere.example" in row(said, "correspondent")
    assert "pass" in row(said, "unproved")
    assert "proof: memory" in row(said, "unproved")
    assert "backstop:domain:example.com" in row(said, "unproved")
    assert "in the end, at the end of the message: accepted, nothing is changed" in said
    assert "the loss of its proof: memory\n      550 5.7.1" in said
    assert sought(found) == {
        "tag": "not found",
        "memory": "found",
        "dkim": "not found",
        "correspondent": "not found",
    }
    assert found["message"]["kind"] == "bounce"
    assert found["message"]["returned"]["message_id"] == "sent@example.com"
    assert found["end"]["verb"] == "accept"


def test_one_that_our_signature_proves(host):
    key = rsa_key(2048)
    (host.dkim_keys / "mail._domainkey.example.com").write_bytes(key.record)
    names = ("from", "to", "subject", "date", "message-id")
    signed = sign(key, letter("old@example.com"), selector="mail", headers=names)
    said, found = host.explain(report(header(signed)))
    assert "found      d=example.com s=mail: it verifies" in row(said, "dkim")
    assert "not found  among the mail we sent: <old@example.com>" in row(said, "memory")
    assert "proof: dkim" in row(said, "unproved")
    assert "accepted, nothing is changed" in said
    assert sought(found)["dkim"] == "found"
    assert found["recipients"][0]["judged"]["proofs"] == ["dkim"]


def test_signatures_that_do_not_count(host):
    key = rsa_key(2048)
    (host.dkim_keys / "mail._domainkey.example.com").write_bytes(key.record)
    names = ("from", "to", "subject", "date", "message-id")
    ours = sign(key, letter("x@example.com"), selector="mail", headers=names)
    several = sign(key, ours, domain="forger.example", headers=names)
    said, _ = host.explain(report(header(several).replace(b"hello", b"pills")))
    assert "not found  d=example.com s=mail: it does not verify with the key" in row(said, "dkim")
    assert "d=forger.example: none of our domains, so it proves nothing" in said
    assert "in the end, at the end of the message: 550 5.7.1" in said
    long = sign(key, letter("x@example.com"), selector="mail", headers=names, tags=[("l", "3")])
    said, _ = host.explain(report(header(long)))
    assert "not found  d=example.com s=mail: it cannot count: its tags are damaged, or it has l=" in said
    away = sign(key, letter("x@example.com"), selector="other", headers=names)
    said, found = host.explain(report(header(away)))
    assert "could not be asked  d=example.com s=other: its key could not be asked for" in row(said, "dkim")
    assert "temperror" in row(said, "unproved")
    assert "in the end, at the end of the message: 451 4.7.1" in said
    assert sought(found)["dkim"] == "could not be asked"


def test_a_forged_bounce_with_an_id_we_never_sent(host):
    host.remember("sent@example.com")
    said, found = host.explain(report(header(letter("forged@example.com"))))
    assert "not found  among the mail we sent: <forged@example.com>" in row(said, "memory")
    assert "yes" not in row(said, "memory")
    assert "a bounce without proof that we wrote the original; sought: memory, dkim" in row(said, "unproved")
    assert "in the end, at the end of the message: 550 5.7.1" in said
    assert f"what would change it for {ANNA}" in said
    for change in (
        f"a good tag on the recipient: backstop tag sign {ANNA}",
        "proof by memory: an id that it returns or names, in our memory of sent mail",
        "proof by dkim: a signature of one of our domains on the returned header",
        "proof by correspondent: the recipient wrote lately to an address that it names or comes from",
        "its setting: backstop domain set example.com unproved observe",
    ):
        assert f"  {change}\n      accepted\n" in said
    assert "what would change it" in said
    changes = {one["change"] for one in found["recipients"][0]["judged"]["would_change"]}
    assert any(change.startswith("proof by dkim") for change in changes)
    assert found["end"]["reply"].startswith("550 5.7.1")
    assert set(sought(found).values()) == {"not found"}


def test_it_is_marked_and_copied_where_the_settings_say_so(host):
    host("domain", "set", "example.com", "unproved", "junk")
    host("domain", "set", "example.com", "copy_to", "boss@example.com")
    said, _ = host.explain(report(header(letter("forged@example.com"))))
    assert "accepted, with the header X-Backstop: junk; check=unproved" in said
    assert "a copy goes to boss@example.com" in said


def test_a_vacation_answer_to_the_header_from(host):
    host.remember("other@example.com")
    said, found = host.explain(vacation())
    assert "kind: auto reply, an automatic answer, as of somebody who is away" in said
    assert "Auto-Submitted says auto-replied" in said
    assert "returns: nothing of the original" in said
    assert "not found  the message returns and names no id" in row(said, "memory")
    assert "not found  the message returns no header that could be signed" in row(said, "dkim")
    assert f"found      whether {ANNA} wrote to {FRIEND}: yes" in row(said, "correspondent")
    assert "proof: correspondent" in row(said, "unproved")
    assert "accepted, nothing is changed" in said
    assert found["message"] | {"marks": []} == {
        "kind": "auto_reply",
        "marks": [],
        "reported": [],
        "mentioned": [],
        "returned": None,
    }


def test_an_automatic_answer_to_nobodys_letter(host):
    said, _ = host.explain(vacation())
    assert "in the end, at the end of the message: 550 5.7.1" in said
    change = "its setting: backstop domain set example.com nothing_returned ignored\n      accepted\n"
    assert change in said
    host("domain", "set", "example.com", "nothing_returned", "ignored")
    said, _ = host.explain(vacation())
    assert "accepted, nothing is changed" in said


def test_an_ordinary_message(host):
    said, found = host.explain(letter("any@far.example"), sender=FRIEND)
    assert "kind: ordinary, no report and no automatic answer" in said
    assert "marks: none" in said
    assert "returns" not in said
    assert "not sought  the message is no bounce, and not read" in row(said, "memory")
    assert "in the end, at DATA: accepted, nothing is changed" in said
    assert "what would change it" not in said
    assert found["recipients"][0]["judged"]["unread"].startswith("the message is no bounce")


def test_a_report_with_a_real_sender_is_judged_by_the_check_report(host):
    words = ("domain", "set", "example.com")
    host(*words, "report", "reject")
    forged = report(header(letter("forged@example.com")))
    said, _ = host.explain(forged, sender="mailer-daemon@mx.example")
    assert "a non-delivery report with a real sender, without proof" in row(said, "report")
    assert "in the end, at the end of the message: 550 5.7.1" in said
    host.remember("forged@example.com")
    said, _ = host.explain(forged, sender="mailer-daemon@mx.example")
    assert "a non-delivery report with a real sender, proof: memory" in row(said, "report")
    assert "accepted, nothing is changed" in said


def test_why_a_bounce_is_not_read(host):
    message = report(header(letter("forged@example.com")))
    tagged = host("tag", "sign", ANNA).split()[0]
    path = host.path.parent / "message.eml"
    path.write_bytes(message)
    said = host("explain", str(path), "--from", "<>", "--to", tagged)
    assert "its tag is good" in row(said, "tag")
    assert "not sought  the tag is proof enough; the message is not read" in row(said, "memory")
    assert "in the end, at DATA" in said or "in the end, at the end of the message" in said
    host("domain", "set", "example.com", "proof", "tag")
    said, found = host.explain(message)
    assert "not sought  the setting proof does not name it" in row(said, "dkim")
    assert "in the end, at DATA: 550 5.7.1" in said
    assert sought(found)["memory"] == "not sought"
    host("domain", "set", "example.com", "proof", "tag, memory")
    host("domain", "set", "example.com", "unproved", "off")
    said, _ = host.explain(message)
    assert "the check unproved is off" in row(said, "memory")
    assert "550 5.7.1 This is a bounce of a message that was not sent from here, unless" in said


def test_a_recipient_refused_at_rcpt(host):
    host("recipient", "add", "bert@example.org")
    path = host.path.parent / "message.eml"
    path.write_bytes(report(header(letter("forged@example.com"))))
    said = host("explain", str(path), "--from", "<>", "--to", "nobody@example.org")
    assert "the recipient is refused at RCPT, before the message comes" in row(said, "memory")
    assert "not judged" in row(said, "unproved")
    assert "in the end: no recipient is left" in said


def test_without_the_store_nobody_knows_what_is_remembered(host):
    host.write("redis://127.0.0.1:1/0")
    said = host("explain", "/dev/null", "--from", "<>", "--to", ANNA, status=os.EX_UNAVAILABLE)
    assert "--offline judges by the file alone" in said
    begun = time.monotonic()
    said, found = host.explain(report(header(letter("sent@example.com"))), "--offline")
    assert time.monotonic() - begun < 5
    assert "could not be asked  among the mail we sent: <sent@example.com>" in row(said, "memory")
    assert "could not be asked  whether" in row(said, "correspondent")
    assert "temperror" in row(said, "unproved")
    assert sought(found)["memory"] == "could not be asked"


def test_a_key_file_without_a_memory(host):
    keys = host.path.parent / "keys.toml"
    keys.chmod(0o600)
    keys.write_text(keys.read_text().partition("[memory]")[0])
    keys.chmod(0o400)
    said, _ = host.explain(report(header(letter("sent@example.com"))))
    assert "the key file has no [memory], so nothing is remembered" in row(said, "memory")
    assert "the key file has no [memory], so nothing is remembered" in row(said, "correspondent")
