"""The daemon that asks next hops about recipients, where these hang, refuse, lie or say too much.

What a client is answered, and what goes out meanwhile: the two that its parts do not see together.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.harness.callahead_target import (
    HANG,
    NOBODY,
    TAKEN,
    Backlog,
    CallaheadTarget,
    Say,
    Step,
    Then,
    says,
    users,
)
from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.fake_mta import Message, Session
from tests.harness.waiting import wait_for
from tests.protocol.conftest import backstop_settings

UNKNOWN_USER = "550 5.1.1 No such user here"
LATER = "451 4.1.1 Recipient cannot be verified now, try again later"

SECONDS = 6.0
"""Until a client has its answer, whatever happens; mail servers wait for ten at least."""

STOPS: Mapping[str, Mapping[str, Step]] = {
    "silent": {"CONNECT": HANG},
    "silent-later": {"EHLO": HANG},
    "silent-at-last": {"RCPT": HANG},
    "half": {"RCPT": Say(b"250-half of", then=Then.HANG)},
    "slow": {"CONNECT": Say(b"220 " + b"x" * 60 + b"\r\n", pause=1.0, piece=1)},
    "lines": {"RCPT": Say(b"550-5.1.1 no\r\n" * 1_000_000)},
    "line": {"RCPT": Say(b"550 5.1.1 " + b"x" * 1_000_000 + b"\r\n")},
    "octets": {"RCPT": Say(b"550 5.1.1 \x00\x1b[2J no user\r\n250 2.1.5 Ok\r\n")},
}
"""Where a next hop stops answering, or how it answers what is no reply; by the domain that it has here."""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon(BACKSTOP) as daemon:
        yield daemon
        assert "bug=" not in daemon.log_text()
        assert "\x1b" not in daemon.log_text()


def start(daemon: Daemon, target: CallaheadTarget) -> None:
    """Start it; example.com asks this target."""
    daemon.configure(backstop_settings(daemon, f'recipients = ["callahead:[127.0.0.1]:{target.port}"]'))
    daemon.start()


def answered(daemon: Daemon, recipient: str) -> str:
    """What a recipient is answered; empty for one that is taken."""
    with daemon.session() as session:
        return session.send(Message("<a@remote.example>", (f"<{recipient}>",))).recipients[0][1].text


def timed(session: Session, recipient: str) -> tuple[str, float]:
    """The answer, and after how many seconds it came."""
    began = time.monotonic()
    answer = session.send(Message("<a@remote.example>", (f"<{recipient}>",))).recipients[0][1]
    return answer.text, time.monotonic() - began


def test_wherever_it_stops_mail_is_put_off_in_time(daemon: Daemon) -> None:
    """All of them at once, and one where nobody takes up connections."""
    with ExitStack() as stack:
        targets = {
            name: stack.enter_context(CallaheadTarget(others.get("RCPT", TAKEN), others))
            for name, others in STOPS.items()
        }
        ports = {name: target.port for name, target in targets.items()}
        ports["backlog"] = stack.enter_context(Backlog()).port
        domains = {f"{name}.example": port for name, port in ports.items()}
        settings = backstop_settings(daemon).replace('["example.com"]', str(list(domains)).replace("'", '"'))
        daemon.configure(
            settings
            + "".join(
                f'[domain."{domain}"]\nrecipients = ["callahead:[127.0.0.1]:{port}"]\n'
                for domain, port in domains.items()
            )
        )
        daemon.start()
        # Begun one after the other: libmilter may let one of two commands that come at once wait for a thread
        # that is busy with another.
        sessions = {domain: stack.enter_context(daemon.session()) for domain in domains}
        waiting = {}
        with ThreadPoolExecutor(len(domains)) as threads:
            for domain, session in sessions.items():
                waiting[domain] = threads.submit(timed, session, f"ann@{domain}")
                if target := targets.get(domain.removesuffix(".example")):
                    wait_for(lambda target=target: target.connections, 5, "its question")
        answers = {domain: one.result() for domain, one in waiting.items()}
    assert {domain: text for domain, (text, _) in answers.items()} == dict.fromkeys(domains, LATER)
    assert max(seconds for _, seconds in answers.values()) < SECONDS + 2


@pytest.mark.parametrize(
    "refusal",
    [
        "421 4.3.2 Shutting down",
        "450 4.2.0 Greylisted",
        "451 4.3.0 Try again later",
        "550 5.7.1 Client host [192.0.2.1] blocked",
        "554 5.7.1 Relay access denied",
    ],
)
def test_what_is_not_about_the_user_is_no_refusal_and_not_asked_again_at_once(
    daemon: Daemon, refusal: str
) -> None:
    with CallaheadTarget(says(refusal)) as target:
        start(daemon, target)
        assert [answered(daemon, "ann@example.com") for _ in range(5)] == [LATER] * 5
        assert target.connections == 1


def test_who_takes_everybody_is_found_out_by_one_name_and_not_asked_any_more(daemon: Daemon) -> None:
    with CallaheadTarget(TAKEN) as target:
        start(daemon, target)
        assert {answered(daemon, f"user{number}@example.com") for number in range(50)} == {""}
        assert target.connections == 1
        assert len([one for one in target.recipients if not one.startswith(("user", "postmaster"))]) == 1


def test_a_dictionary_reaches_it_ten_times_and_whoever_guesses_learns_nothing_more(daemon: Daemon) -> None:
    with CallaheadTarget(users("ann@example.com", others=NOBODY)) as target:
        start(daemon, target)
        assert answered(daemon, "ann@example.com") == ""
        with ThreadPoolExecutor(8) as threads:
            guesses = [f"guess{number}@example.com" for number in range(300)]
            first = list(threads.map(lambda one: answered(daemon, one), guesses))
        counts = Counter(first)
        assert set(counts) == {UNKNOWN_USER, LATER}
        assert 1 <= counts[UNKNOWN_USER] <= 9
        assert target.connections <= 10
        assert target.most_open <= 2
        # The same words for what was just asked and for what is remembered
        known = [one for one, said in zip(guesses, first, strict=True) if said == UNKNOWN_USER]
        assert {answered(daemon, one) for one in known} == {UNKNOWN_USER}
        assert answered(daemon, "ann@example.com") == ""
        assert target.connections <= 10
        assert target.said("DATA") == 0
        wait_for(lambda: target.said("QUIT") == target.connections, 5, "a QUIT in each")
