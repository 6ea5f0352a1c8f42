"""The story of the README, told by a real Postfix, a real Redis and the milter.

Everything runs in a scratch folder on free ports of 127.0.0.1 and ends with the story; `--keep` leaves it
running until Enter or Ctrl-C. The exit status is 0 only if every step came out as the story says.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "milter")]

from tests.harness.mail_host import MailHost, bounce  # noqa: E402 - found by the path just set
from tests.harness.smtp import SmtpClient, SmtpReply, deliver  # noqa: E402 - the same

Said = tuple[str, SmtpReply]
ENDS = {signal.SIGINT, signal.SIGTERM}
ALICE = "alice@our.test"
FRIEND = "friend@else.test"
FORGED = {"subaddress": "alice+prvs=1234abcdef@our.test", "prvs": "prvs=1234abcdef=alice@our.test"}


def envelope(client: SmtpClient, reverse_path: str, recipient: str) -> list[Said]:
    """MAIL and RCPT."""
    return [
        (f"MAIL FROM:<{reverse_path}>", client.mail(reverse_path)),
        (f"RCPT TO:<{recipient}>", client.rcpt(recipient)),
    ]


class Story:
    """Tells what happens, and remembers whether all of it was true."""

    def __init__(self, host: MailHost) -> None:
        self.host = host
        self.true = True

    def chapter(self, title: str) -> None:
        """A heading."""
        print(f"\n{title}\n{'-' * len(title)}")

    def say(self, text: str) -> None:
        """A line of the story."""
        print(f"  {text}")

    def claim(self, claim: str, *, holds: bool) -> None:
        """A line that must be true."""
        self.true &= holds
        print(f"  {'ok  ' if holds else 'NOT '} {claim}")

    def session(self, title: str, talk: Callable[[SmtpClient], list[Said]], expected: int) -> None:
        """An SMTP dialogue from outside; its last reply must have the expected code."""
        print(f"  {title}")
        with self.host.outside() as client:
            said = talk(client)
        for command, reply in said:
            print(f"      {command:60} {reply}")
        self.claim(f"answered {expected}", holds=said[-1][1].code == expected)

    def run(self) -> bool:
        """All chapters."""
        self.a_letter_goes_out()
        self.its_bounce_comes_home()
        self.forged_bounces()
        self.never_a_source()
        self.the_switch()
        self.the_counters()
        return self.true

    def a_letter_goes_out(self) -> None:
        """Tagging."""
        self.chapter("A letter goes out with a tag")
        with self.host.postfix.own_user() as client:
            deliver(client, ALICE, (FRIEND,), b"Subject: hello\r\n\r\nHow are you?\r\n")
        (letter,) = self.host.next_hop.wait_for_letters(1)
        self.say(f"alice writes to {FRIEND}; on the wire it says")
        self.say(f"    MAIL FROM:<{letter.reverse_path}>")
        self.claim("the envelope sender carries a tag", holds="prvs=" in letter.reverse_path)
        self.tagged = letter.reverse_path

    def its_bounce_comes_home(self) -> None:
        """A genuine bounce from outside, and one that our own Postfix writes."""
        self.chapter("A genuine bounce is delivered")

        def talk(client: SmtpClient) -> list[Said]:
            result = deliver(client, "", (self.tagged,), bounce(self.tagged, "Genuine report from outside"))
            assert result.end is not None, "the recipient was refused"
            return [(f"MAIL FROM:<> RCPT TO:<{self.tagged}> DATA", result.end)]

        self.session("a stranger returns it:", talk, 250)
        self.host.next_hop.answer("RCPT", "nobody@*", "550 5.1.1 no such user")
        with self.host.postfix.own_user() as client:
            deliver(client, ALICE, ("nobody@else.test",), b"Subject: lost\r\n\r\nHello?\r\n")
        mail = self.host.postfix.wait_for_mail(ALICE, 2)
        self.say(
            "a letter to a user who does not exist is refused by the next hop; Postfix reports it to alice"
        )
        for message in mail:
            self.say(f"    in alice's mailbox: {message['Subject']}")
        self.claim("both reports arrived", holds=len(mail) == 2)

    def forged_bounces(self) -> None:
        """What the product is for."""
        self.chapter("Forged bounces are refused in the session")
        forged = FORGED[self.host.form]

        def to(recipient: str) -> Callable[[SmtpClient], list[Said]]:
            return lambda client: envelope(client, "", recipient)

        def no_tag(client: SmtpClient) -> list[Said]:
            return [*envelope(client, "", ALICE), ("DATA", client.command("DATA"))]

        self.session("a bounce to a forged tag:", to(forged), 550)
        self.session("a bounce without a tag:", no_tag, 550)
        self.session("a server that only asks whether alice exists is never refused:", to(ALICE), 250)

    def never_a_source(self) -> None:
        """Unknown users are refused, tagged or not."""
        self.chapter("This server accepts nothing that it would have to bounce")
        unknown = self.host.tagged("nosuch@our.test")
        self.session(
            "a good tag of a user who does not exist:",
            lambda client: envelope(client, "a@b.test", unknown),
            550,
        )

    def the_switch(self) -> None:
        """One key in Redis."""
        self.chapter("The switch: bounces without proof go to junk while it lasts")
        command = "SET backstop:block:our.test junk EX 172800"
        words = ["redis-cli", "-s", str(self.host.redis.socket), *command.split()]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        self.say(f"$ redis-cli {command}")
        self.say(answer)
        before = len(self.host.postfix.mailbox(ALICE))
        with self.host.outside() as client:
            deliver(client, "", (ALICE,), bounce(ALICE, "Forged report, switch on"))
            deliver(client, "", (self.tagged,), bounce(ALICE, "Genuine report, switch on"))
        for message in self.host.postfix.wait_for_mail(ALICE, before + 2)[before:]:
            self.say(
                f"in alice's mailbox: {message['Subject']:30} X-Backstop: {message['X-Backstop'] or '-'}"
            )
        marks = {m["Subject"]: m["X-Backstop"] or "" for m in self.host.postfix.mailbox(ALICE)[before:]}
        self.claim(
            "the forged one is marked as junk", holds=marks["Forged report, switch on"].startswith("junk")
        )
        self.claim("the genuine one is not", holds=not marks["Genuine report, switch on"])

    def the_counters(self) -> None:
        """What happened, and why."""
        self.chapter("The counters")
        self.host.wait_for_counter("action.junk", 1)
        self.host.wait_for_counter("action.reject", 2)
        self.say("$ backstop stats our.test")
        for line in self.host.backstop("stats", "our.test").splitlines():
            self.say(line)
        counters = self.host.counters()
        self.claim("one forged tag and one missing one were refused", holds=counters["action.reject"] >= 2)
        self.claim("one bounce was junked", holds=counters["action.junk"] == 1)


def main() -> int:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Enter or Ctrl-C")
    parser.add_argument("--form", choices=["subaddress", "prvs"], default="subaddress", help="of the tags")
    arguments = parser.parse_args()
    print("Starting a private Postfix, a Redis and Backstop ...")
    with MailHost(arguments.form) as host:
        true = Story(host).run()
        print(f"\n{'Everything happened as told.' if true else 'NOT everything happened as told.'}")
        if arguments.keep:
            keep(host)
    return 0 if true else 1


def keep(host: MailHost) -> None:
    """Say where everything is, and wait."""
    print(f"""
Still running:
  SMTP from outside   127.0.0.1:{host.postfix.ports.outside}   (XCLIENT allowed)
  SMTP from inside    127.0.0.1:{host.postfix.ports.submission}
  Redis               redis-cli -s {host.redis.socket}
  configuration       {host.config}
  mailboxes           {host.postfix.mail}
  log of Backstop     {host.daemon.log}
  log of Postfix      {host.folder / "mail.log"}
Enter or Ctrl-C stops everything.""")
    try:
        if sys.stdin.isatty():
            sys.stdin.readline()
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
            signal.sigwait(ENDS)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
