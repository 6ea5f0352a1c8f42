"""The source `callahead` against a next hop that hangs, drips, floods or lies (I4, I10, I11, T15-T17, H8)."""

import json
import random
import subprocess
import sys
import threading
import time
from socket import AF_INET

import pytest

from backstop.adapters.callahead import Callahead, Options, Target
from backstop.adapters.callahead_names import InTime, Place
from backstop.adapters.callahead_session import Session
from backstop.adapters.callahead_target import NULL_PATH, Path
from backstop.facts import Existence
from tests.harness.callahead_target import (
    CLOSE,
    HANG,
    NOBODY,
    TAKEN,
    Backlog,
    CallaheadTarget,
    Say,
    Then,
    make_certificate,
    says,
    users,
)
from tests.harness.servers import ROOT, backstop_environment, free_port, need
from tests.harness.waiting import wait_for

PATIENCE = 0.5
"""Seconds for a question to a next hop that never answers."""

SLACK = 1.0
"""Seconds that a busy machine may take beyond a deadline."""

HALF = Say(b"250-half of", then=Then.HANG)
DRIP = Say(b"250 " + b"x" * 60 + b"\r\n", pause=0.1, piece=1)
"""An octet at a time, each well within the time for one, so that it takes six seconds."""

MANY_LINES = Say(b"250-more\r\n" * 1_000_000)
LONG_LINE = Say(b"250 " + b"x" * 1_000_000 + b"\r\n")


def source_for(port: int, host: str = "127.0.0.1", **more) -> Callahead:
    return Callahead(Target(host, port), Options(**{"helo": "edge.example", "timeout": PATIENCE, **more}))


def asked(source: Callahead, local: str = "ann") -> Existence:
    """The answer, which must be there in time."""
    deadline = time.monotonic() + PATIENCE
    answer = source.ask(local, "example.com", deadline)
    assert time.monotonic() < deadline + SLACK
    return answer


def test_a_whole_question_leaves_time_for_the_answer_to_our_client():
    """I4: six seconds until our client has its 451."""
    assert Options().timeout <= 5


def test_a_next_hop_where_nobody_takes_up_connections_says_nothing():
    with Backlog() as port:
        source = source_for(port.port)
        assert asked(source) is Existence.UNKNOWN
        assert "no connection" in source.trouble


def test_a_next_hop_that_is_not_there_says_nothing():
    source = source_for(free_port())
    assert asked(source) is Existence.UNKNOWN
    assert "Connection refused" in source.trouble


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT"])
@pytest.mark.parametrize(
    "step",
    [HANG, CLOSE, HALF, DRIP, MANY_LINES, LONG_LINE],
    ids=["hangs", "hangs up", "half a reply", "drips", "a million lines", "a line of 1 MB"],
)
def test_a_next_hop_that_stops_anywhere_says_nothing(verb, step):
    with CallaheadTarget(step if verb == "RCPT" else TAKEN, {verb: step}) as target:
        source = source_for(target.port)
        assert asked(source) is Existence.UNKNOWN
        assert source.trouble
        assert len(source.trouble) < 400


def test_a_greeting_that_never_comes_is_not_met_with_quit():
    with CallaheadTarget(others={"CONNECT": HANG}) as target:
        asked(source_for(target.port))
        wait_for(lambda: not target._open, 5, "the end of the connection")
        assert target.lines == target.unanswered == []


def test_a_next_hop_that_never_says_goodbye_is_left():
    with CallaheadTarget(users("ann@example.com"), {"QUIT": HANG}) as target:
        assert asked(source_for(target.port)) is Existence.EXISTS


@pytest.mark.parametrize("verb", ["RSET", "MAIL"])
@pytest.mark.parametrize("step", [HANG, CLOSE, says("451 no"), says("550 no")])
def test_a_user_exists_although_the_second_name_was_never_taken_up(verb, step):
    steps = {"RSET": step} if verb == "RSET" else {"MAIL": _second(step)}
    with CallaheadTarget(users("ann@example.com"), steps) as target:
        assert asked(source_for(target.port)) is Existence.EXISTS


@pytest.mark.parametrize("step", [HANG, CLOSE, says("451 no")])
def test_nobody_is_unknown_where_postmaster_was_never_taken_up(step):
    with CallaheadTarget(users(), {"RSET": step}) as target:
        source = source_for(target.port)
        assert asked(source) is Existence.UNKNOWN


def test_tls_that_hangs_leaves_time_to_ask_without():
    """The next hop takes STARTTLS, and then hears nothing of it."""
    with CallaheadTarget(
        users("ann@example.com"),
        {"STARTTLS": Say(b"220 Ready\r\n", then=Then.HANG)},
        extensions=["STARTTLS"],
    ) as target:
        assert asked(source_for(target.port)) is Existence.EXISTS
        assert target.connections == 2


def test_tls_that_drips_ends_in_time(tmp_path):
    need("openssl")
    certificate = make_certificate(tmp_path)
    with CallaheadTarget(DRIP, certificate=certificate) as target:
        assert asked(source_for(target.port)) is Existence.UNKNOWN
        assert target.secured == 1


def test_a_crowd_before_a_next_hop_that_hangs_is_answered_in_time():
    """Two wait for the next hop, the others for these two, and nobody longer than his own deadline."""
    with CallaheadTarget(HANG) as target:
        source = source_for(target.port, questions=1000)
        answers: list[Existence] = []
        threads = [
            threading.Thread(target=lambda n=number: answers.append(asked(source, f"u{n}")))
            for number in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [Existence.UNKNOWN] * 12
        assert target.most_open <= 2


def test_a_question_that_had_no_time_says_nothing_of_the_next():
    with CallaheadTarget(users("ann@example.com")) as target:
        source = source_for(target.port)
        now = time.monotonic()
        assert source.ask("ann", "example.com", now - 1) is Existence.UNKNOWN
        assert target.connections == 0
        assert asked(source) is Existence.EXISTS


@pytest.mark.parametrize(("seconds", "questions"), [(0.1, 2), (PATIENCE, 1)])
def test_that_nothing_came_is_remembered_only_if_there_was_time(seconds, questions):
    with CallaheadTarget(HANG) as target:
        source = source_for(target.port)
        for _ in range(2):
            assert source.ask("ann", "example.com", time.monotonic() + seconds) is Existence.UNKNOWN
        assert target.connections == questions


@pytest.mark.parametrize(
    "reply",
    [
        b"250 fine \x1b[2J\x1b]0;x\x07\r\n",
        b"550 5.1.1 \x00\x00 no user\r\n",
        b"451 \xff\xfe\x80 \xe2\x80\xae\r\n",
        b"451 " + "\u202egnol\u2028".encode() + b"\r\n",
        b"250\x00ok\r\n",
        b"\x00\r\n",
        b"\x1b[31m250 ok\r\n",
    ],
)
def test_what_a_next_hop_says_is_escaped_and_cut(reply):
    """I10."""
    with CallaheadTarget(Say(reply)) as target:
        source = source_for(target.port)
        found = source.ask_verbosely("ann", "example.com", time.monotonic() + PATIENCE)
        for text in (found.reason, source.trouble):
            assert text.isprintable()
            assert len(text) < 400


@pytest.mark.parametrize(
    "reply",
    [
        b"250-ok\r\n550 5.1.1 no\r\n",
        b"550-5.1.1 no\r\n250 ok\r\n",
        b"550 5.1.1 no\r\n250 ok\r\n",
        b"25 ok\r\n",
        b"5500 no\r\n",
        b"999 what\r\n",
        b"550x5.1.1 no such user\r\n",
        b"\r\n",
        b"ok\r\n",
        b"150 5.1.1 no\r\n",
        b"354 go on\r\n",
    ],
)
def test_two_replies_at_once_or_none_are_no_answer(reply):
    with CallaheadTarget(Say(reply)) as target:
        assert asked(source_for(target.port)) is Existence.UNKNOWN


def test_hostile_replies_in_a_session_never_harm(request):
    """H8 with the whole session: garbage at any step; the pure readers have more of it."""
    rounds = 5000 if request.config.getoption("--deep") else 150
    chance = random.Random(4711)

    def garbage(_line: str) -> Say:
        return Say(_hostile(chance), then=chance.choice([Then.GO_ON, Then.GO_ON, Then.CLOSE]))

    for _ in range(rounds):
        verbs = chance.sample(["CONNECT", "EHLO", "MAIL", "RSET", "QUIT", "RCPT"], 2)
        steps = dict.fromkeys(verbs, garbage)
        with CallaheadTarget(steps.get("RCPT", TAKEN), steps) as target:
            source = source_for(target.port, timeout=0.05)
            assert source.ask("ann", "example.com", time.monotonic() + 0.05) in Existence


def test_a_host_without_address_says_nothing():
    source = source_for(25, host="no-such-host.invalid", timeout=2.0)
    deadline = time.monotonic() + 2
    assert source.ask("ann", "example.com", deadline) is Existence.UNKNOWN
    assert time.monotonic() < deadline + SLACK
    assert "no-such-host.invalid" in source.trouble


def test_a_name_server_that_hangs_holds_one_thread_and_nobody_longer_than_he_may_wait():
    goes_on = threading.Event()
    begun: list[int] = []

    def search() -> str:
        begun.append(1)
        goes_on.wait(10)
        return "found"

    names = InTime(search)
    for _ in range(3):
        deadline = time.monotonic() + 0.05
        assert names.result(deadline) is None
        assert time.monotonic() < deadline + SLACK
    assert len(begun) == 1
    goes_on.set()
    assert names.result(time.monotonic() + 5) == "found"


def test_the_next_address_is_tried_where_nobody_is_at_the_first():
    """`localhost` is ::1 first on most hosts, where nothing listens here."""
    with CallaheadTarget(users("ann@example.com")) as target:
        assert asked(source_for(target.port, host="localhost")) is Existence.EXISTS


def test_each_address_has_its_share_of_the_time():
    with Backlog() as hanging, CallaheadTarget() as target:
        there = [Place(AF_INET, ("127.0.0.1", port)) for port in (hanging.port, target.port)]
        deadline = time.monotonic() + PATIENCE
        next_hop = Target("127.0.0.1", target.port)
        with Session(next_hop, there, "edge.example", deadline, with_tls=False) as session:
            assert session.ask(NULL_PATH, Path("ann@example.com", True)).code == 250


def test_without_a_name_for_ehlo_it_says_this_hosts_own():
    with CallaheadTarget(users("ann@example.com")) as target:
        source = source_for(target.port, helo="", timeout=30.0)
        assert source.ask("ann", "example.com", time.monotonic() + 30) is Existence.EXISTS
        assert len(target.lines[0].split()) == 2


_WATCHED = """
import json, sys, time
from backstop.adapters.callahead import Callahead, Options, Target

seen = []
watched = "socket.connect socket.getaddrinfo socket.gethostbyname socket.sendto subprocess.Popen".split()

def watch(name, found):
    if name in watched:
        seen.append([name, repr(found[1:] if name == "socket.connect" else found)])

sys.addaudithook(watch)
source = Callahead(Target(sys.argv[1], int(sys.argv[2])), Options(helo="edge.example"))
answers = [source.ask("ann", domain, time.monotonic() + 5).name for domain in sys.argv[3:]]
print(json.dumps({"answers": answers, "seen": seen, "dns": "dns" in sys.modules}))
"""


def test_nobody_but_the_configured_next_hop_is_contacted():
    """I11, T15, T17: the domain of an address, its MX and its null MX are nothing to us."""
    domains = ["example.com", "null-mx.example", "localhost", "10.0.0.1.example", "[127.0.0.2]"]
    with CallaheadTarget(lambda address: TAKEN if address.startswith("ann@") else NOBODY) as target:
        run = subprocess.run(
            [sys.executable, "-c", _WATCHED, target.host, str(target.port), *domains],
            env=backstop_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        told = json.loads(run.stdout)
        assert told["answers"] == ["EXISTS"] * len(domains)
        assert target.connections == len(domains)
        assert {tuple(each) for each in told["seen"] if each[0] == "socket.connect"} == {
            ("socket.connect", f"(('{target.host}', {target.port}),)")
        }
        looked_up = [found for name, found in told["seen"] if name != "socket.connect"]
        assert all(found.startswith(f"('{target.host}', {target.port},") for found in looked_up)
        assert not told["dns"]


def _second(step: Say):
    """The usual at the first time, and this at the second."""
    said = iter([says("250 2.1.0 Ok")])
    return lambda _line: next(said, step)


def _hostile(chance: random.Random) -> bytes:
    codes = [
        b"220",
        b"250",
        b"251",
        b"252",
        b"354",
        b"421",
        b"451",
        b"550",
        b"552",
        b"553",
        b"554",
        b"-1",
        b"",
    ]
    texts = [
        b"5.1.1 User unknown",
        b"ok",
        b"\x00\x1b",
        b"\xff" * 9,
        b"9" * 600,
        b"STARTTLS",
        b"5.1.1",
        b"AUTH=",
    ]
    return b"".join(
        chance.choice(codes)
        + chance.choice([b" ", b"-", b"", b"\t"])
        + chance.choice(texts)
        + chance.choice([b"\r\n", b"\r\n", b"\n", b"\r", b""])
        for _ in range(chance.randrange(1, 5))
    )
