"""The source `callahead` against a next hop that says what it is told (reliability, I5-I9, I12, T15)."""

import threading
import time
from collections.abc import Callable

import pytest

from backstop.adapters.callahead import Callahead, Found, Options, Target
from backstop.adapters.callahead_domains import DOUBTED_SECONDS
from backstop.facts import Existence
from tests.harness.callahead_target import (
    CLOSE,
    NOBODY,
    OK,
    TAKEN,
    CallaheadTarget,
    in_turn,
    make_certificate,
    says,
    users,
)
from tests.harness.servers import need
from tests.harness.waiting import wait_for

DOMAIN = "example.com"
HELO = "edge.example.net"
HOUR = 3600.0
DAY = 24 * HOUR

TEMPORARY = says("451 4.3.0 Try again later")
POLICY = says("550 5.7.1 Client host blocked")


class Clock:
    """The time of what is remembered, and of the limit."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def asker(target: CallaheadTarget, clock: Callable[[], float] = time.monotonic, **more) -> Callahead:
    place = Target(target.host, target.port)
    return Callahead(place, Options(**{"helo": HELO, "questions": 1000, **more}), clock=clock)


def ask(source: Callahead, local: str, domain: str = DOMAIN, seconds: float = 5.0) -> Existence:
    return source.ask(local, domain, time.monotonic() + seconds)


def why(source: Callahead, local: str) -> Found:
    return source.ask_verbosely(local, DOMAIN, time.monotonic() + 5)


def strangers(target: CallaheadTarget, *known: str) -> list[str]:
    return [each for each in target.recipients if each.partition("@")[0] not in (*known, "postmaster")]


def test_a_user_exists_and_another_does_not():
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target)
        assert ask(source, "ann") is Existence.EXISTS
        assert ask(source, "bob") is Existence.MISSING
        assert why(source, "bob").reason == "550 5.1.1 User unknown"
        assert source.trouble == ""


def test_an_answer_is_the_same_when_it_is_remembered(clock):
    """T15: whoever guesses learns nothing from the second time, and the next hop hears of it once."""
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target, clock)
        first = [why(source, local) for local in ("ann", "bob")]
        assert [why(source, local) for local in ("ann", "bob")] == first
        assert target.connections == 2


@pytest.mark.parametrize(
    ("local", "seconds"), [("ann", Options().exists_seconds), ("bob", Options().unwitnessed_seconds)]
)
def test_an_answer_is_remembered_for_its_time(clock, local, seconds):
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target, clock)
        first = ask(source, local)
        clock.now += seconds - 1
        assert ask(source, local) is first
        assert target.connections == 1
        clock.now += 2
        assert ask(source, local) is first
        assert target.connections == 2


def test_a_refusal_beside_somebody_who_was_taken_before_is_remembered_longer(clock):
    seconds = Options().missing_seconds
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target, clock)
        assert [ask(source, each) for each in ("ann", "bob")] == [Existence.EXISTS, Existence.MISSING]
        clock.now += seconds - 1
        assert ask(source, "bob") is Existence.MISSING
        assert target.connections == 2
        clock.now += 2
        assert ask(source, "bob") is Existence.MISSING
        assert target.connections == 3


def test_that_somebody_is_unknown_is_forgotten_sooner_than_that_somebody_exists():
    options = Options()
    assert options.temporary_seconds <= 60
    assert options.temporary_seconds < options.missing_seconds < options.exists_seconds


def test_no_more_is_remembered_than_was_allowed(clock):
    with CallaheadTarget(users(*(f"u{n}@{DOMAIN}" for n in range(20)))) as target:
        source = asker(target, clock, cache_entries=5)
        for number in range(20):
            ask(source, f"u{number}")
        assert len(source._cache) == 5
        asked = target.connections
        assert ask(source, "u19") is Existence.EXISTS
        assert target.connections == asked
        assert ask(source, "u0") is Existence.EXISTS
        assert target.connections == asked + 1


# Temporary answers: I5


@pytest.mark.parametrize(
    "refusal",
    ["421 4.3.2 Shutting down", "450 4.2.0 Greylisted", "451 4.3.0 Try again later", "452 4.2.2 Full"],
)
def test_after_a_temporary_answer_the_second_try_tells(clock, refusal):
    with CallaheadTarget(in_turn(says(refusal), users(f"ann@{DOMAIN}"))) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.UNKNOWN
        assert refusal[:9] in source.trouble
        clock.now += 60
        assert ask(source, "ann") is Existence.EXISTS
        assert source.trouble == ""


def test_a_temporary_answer_is_not_asked_for_again_at_once(clock):
    with CallaheadTarget(TEMPORARY) as target:
        source = asker(target, clock)
        assert [ask(source, "ann") for _ in range(5)] == [Existence.UNKNOWN] * 5
        assert target.connections == 1


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL"])
@pytest.mark.parametrize(
    "refusal", [TEMPORARY, POLICY, says("554 5.7.1 Go away"), says("521 No mail"), CLOSE]
)
def test_who_does_not_let_us_ask_says_nothing(verb, refusal):
    others = {verb: refusal, "HELO": refusal}
    with CallaheadTarget(NOBODY, others) as target:
        source = asker(target)
        assert ask(source, "ann") is Existence.UNKNOWN
        assert source.trouble
        assert target.said("RCPT") == 0


def test_who_exists_goes_on_existing_while_the_next_hop_is_away(clock):
    with CallaheadTarget(in_turn(TAKEN, NOBODY, TEMPORARY)) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += DAY + 1
        assert ask(source, "ann") is Existence.EXISTS
        assert ask(source, "ann") is Existence.EXISTS
        assert target.connections == 2
        clock.now += 6 * DAY
        assert ask(source, "ann") is Existence.UNKNOWN


def test_who_is_deleted_is_not_believed_to_exist_for_longer(clock):
    with CallaheadTarget(in_turn(TAKEN, NOBODY, users())) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += DAY + 1
        assert ask(source, "ann") is Existence.MISSING
        assert target.recipients[2:] == [f"ann@{DOMAIN}", f"postmaster@{DOMAIN}"]


# Refusals that are not about the recipient: I6, T16


@pytest.mark.parametrize(
    "refusal",
    [
        "550 5.7.1 Client host [192.0.2.1] blocked using dnsbl.example",
        "550 5.7.1 <ann@example.com>: Relay access denied",
        "550 Your IP is on our blacklist",
        "550 Rejected by policy",
        "550 Relaying denied",
        "554 5.7.1 Spam",
        "521 5.3.2 Host does not accept mail",
        "553 5.1.8 Domain of sender address does not exist",
        "550 5.1.1 Access denied: poor reputation",
        "503 5.5.1 Bad sequence of commands",
    ],
)
def test_a_refusal_by_policy_is_no_unknown_user(clock, refusal):
    with CallaheadTarget(in_turn(says(refusal), users(f"ann@{DOMAIN}"))) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.UNKNOWN
        clock.now += 60
        assert ask(source, "ann") is Existence.EXISTS


def test_who_refuses_everybody_knows_nobody(clock):
    with CallaheadTarget(NOBODY) as target:
        source = asker(target, clock)
        answers = [ask(source, f"user{number}") for number in range(5)]
        assert answers == [Existence.UNKNOWN] * 5
        assert target.recipients.count(f"postmaster@{DOMAIN}") == 1


def test_who_refused_everybody_is_believed_again_once_it_takes_somebody(clock):
    with CallaheadTarget(in_turn(NOBODY, NOBODY, users(f"ann@{DOMAIN}"))) as target:
        source = asker(target, clock)
        assert ask(source, "bob") is Existence.UNKNOWN
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += 60
        assert ask(source, "bob") is Existence.MISSING


def test_a_directory_that_goes_away_later_makes_nobody_unknown(clock):
    """The user who was there a while ago is tried too, and as he is refused nothing is believed."""
    with CallaheadTarget(in_turn(TAKEN, NOBODY, says("550 5.1.1 User unknown"))) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += HOUR
        assert [ask(source, local) for local in ("bob", "eve")] == [Existence.UNKNOWN] * 2
        assert target.recipients[2:] == [f"{each}@{DOMAIN}" for each in ("bob", "ann", "eve")]


@pytest.mark.parametrize("seconds", [1, 20, 290, 310])
def test_a_directory_that_goes_away_makes_nobody_unknown_however_soon(clock, seconds):
    """A refusal is believed only if somebody is taken right after it, and no refusal speaks for the next."""
    with CallaheadTarget(in_turn(TAKEN, NOBODY, says("550 5.1.1 User unknown"))) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.EXISTS
        for number in range(10):
            clock.now += seconds
            assert ask(source, f"user{number}") is Existence.UNKNOWN


def test_a_directory_that_goes_away_between_two_unknown_users_makes_nobody_unknown(clock):
    there = users(f"ann@{DOMAIN}")
    with CallaheadTarget(in_turn(there, there, there, there, says("550 5.1.1 User unknown"))) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("ann", "bob")] == [Existence.EXISTS, Existence.MISSING]
        clock.now += 1
        assert [ask(source, local) for local in ("eve", "joe")] == [Existence.UNKNOWN] * 2


def test_a_postmaster_apart_from_the_directory_does_not_stand_for_it_while_users_are_known(clock):
    """Once one user was refused, postmaster stood for all, and when the doubt ended nobody existed."""
    people = [f"u{number}@{DOMAIN}" for number in range(4)]
    is_away = []

    def answer(address: str):
        return TAKEN if address.startswith("postmaster@") or (address in people and not is_away) else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target, clock)
        assert [ask(source, each.partition("@")[0]) for each in people] == [Existence.EXISTS] * 4
        is_away.append(True)
        for number in range(4):
            assert ask(source, f"other{number}") is Existence.UNKNOWN
            clock.now += DOUBTED_SECONDS
        assert f"postmaster@{DOMAIN}" not in target.recipients
        is_away.clear()
        assert ask(source, "nobody") is Existence.MISSING


def test_a_user_who_does_not_exist_any_more_is_not_tried_for_others(clock):
    both, ann = users(f"ann@{DOMAIN}", f"bob@{DOMAIN}"), users(f"ann@{DOMAIN}")
    with CallaheadTarget(in_turn(both, both, both, ann)) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("ann", "bob")] == [Existence.EXISTS] * 2
        clock.now += DAY + 1
        assert [ask(source, local) for local in ("bob", "eve")] == [Existence.MISSING] * 2


def test_a_postmaster_who_is_taken_does_not_end_the_doubt(clock):
    """He may well be an alias of the host, while the directory is still away."""
    away = users(others=NOBODY)
    with CallaheadTarget(in_turn(TAKEN, NOBODY, NOBODY, NOBODY, away)) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("ann", "bob")] == [Existence.EXISTS, Existence.UNKNOWN]
        clock.now += 60
        assert ask(source, "postmaster") is Existence.EXISTS
        assert ask(source, "bob") is Existence.UNKNOWN


@pytest.mark.parametrize(
    "refusal",
    [
        "550 5.1.1 Temporary lookup failure, try again later",
        "550 5.1.1 Directory unavailable",
        "550 5.1.1 LDAP error",
        "550 5.1.1 rate limit exceeded",
        "550 5.1.1 mailbox full",
        "550 5.1.1 Mailbox temporarily disabled",
    ],
)
def test_a_fault_with_the_status_of_an_unknown_user_is_none(clock, refusal):
    with CallaheadTarget(users(f"ann@{DOMAIN}", others=says(refusal))) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("ann", "bob")] == [Existence.EXISTS, Existence.UNKNOWN]


@pytest.mark.parametrize("refusal", ["550 Zugriff verweigert", "550 Acceso denegado"])
def test_words_in_another_language_need_a_user_who_is_taken_beside_them(clock, refusal):
    """As policies stand after postmaster in many a configuration, he proves nothing against one."""
    with CallaheadTarget(users(f"ann@{DOMAIN}", others=says(refusal))) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("bob", "ann")] == [Existence.UNKNOWN, Existence.EXISTS]
        clock.now += 60
        assert ask(source, "bob") is Existence.MISSING
    with CallaheadTarget(in_turn(TAKEN, NOBODY, says(refusal))) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("ann", "bob")] == [Existence.EXISTS, Existence.UNKNOWN]


def test_a_domain_without_postmaster_is_believed_by_a_user_who_was_there(clock):
    def answer(address: str):
        return TAKEN if address == f"ann@{DOMAIN}" else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target, clock)
        assert ask(source, "bob") is Existence.UNKNOWN
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += HOUR
        assert ask(source, "bob") is Existence.MISSING


def test_a_user_who_was_deleted_does_not_stand_for_the_directory_for_ever(clock):
    with CallaheadTarget(in_turn(TAKEN, NOBODY, users())) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += HOUR
        assert ask(source, "bob") is Existence.UNKNOWN
        clock.now += DOUBTED_SECONDS
        assert ask(source, "bob") is Existence.MISSING


def test_postmaster_does_not_stand_for_the_directory_while_a_user_can(clock):
    """Many have it apart from the directory, as an alias of the host."""
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("ann", "postmaster")] == [Existence.EXISTS] * 2
        clock.now += HOUR
        assert ask(source, "bob") is Existence.MISSING
        assert target.recipients[-2:] == [f"bob@{DOMAIN}", f"ann@{DOMAIN}"]


def test_postmaster_and_the_user_come_in_transactions_of_their_own():
    """Many take one recipient from the null sender, Backstop among them."""
    with CallaheadTarget(users()) as target:
        assert ask(asker(target), "bob") is Existence.MISSING
        verbs = [line.split(" ")[0].upper() for line in target.lines]
        assert verbs == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "QUIT"]


@pytest.mark.parametrize("reply", ["552 5.2.2 Mailbox full", "552 Quota", "550 5.2.2 Over quota"])
def test_mail_for_a_full_mailbox_waits_where_it_is(reply):
    with CallaheadTarget(says(reply)) as target:
        assert ask(asker(target), "ann") is Existence.UNKNOWN


# Who takes everybody: I7


def test_who_takes_everybody_is_found_out_at_the_first_message(clock):
    with CallaheadTarget(TAKEN) as target:
        source = asker(target, clock)
        assert [ask(source, f"user{number}") for number in range(50)] == [Existence.ANYBODY] * 50
        assert target.connections == 1
        assert len(strangers(target, "user0")) == 1


def test_a_random_name_goes_out_once_an_hour(clock):
    with CallaheadTarget(TAKEN) as target:
        source = asker(target, clock)
        began = clock.now
        number = 0
        while clock.now < began + 5 * HOUR - 1:
            assert ask(source, f"user{number}") is Existence.ANYBODY
            clock.now += 97
            number += 1
        random = [each for each in target.recipients if not each.startswith("user")]
        assert len(random) == len(set(random)) == 5
        assert target.connections == 5


def test_two_questions_at_once_try_one_random_name():
    def answer(address: str):
        time.sleep(0.1)
        return TAKEN if address.startswith("user") else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target)
        threads = [threading.Thread(target=ask, args=(source, f"user{n}")) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(strangers(target, "user0", "user1")) == 1


def test_who_refused_somebody_needs_no_random_name(clock):
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target, clock)
        assert [ask(source, local) for local in ("bob", "ann")] == [Existence.MISSING, Existence.EXISTS]
        assert strangers(target, "ann", "bob") == []


def test_one_domain_may_take_everybody_and_another_not():
    def answer(address: str):
        return TAKEN if address.endswith("@open.example") or address == f"ann@{DOMAIN}" else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target)
        assert ask(source, "ann", "open.example") is Existence.ANYBODY
        assert ask(source, "ann") is Existence.EXISTS
        assert ask(source, "bob") is Existence.MISSING


def test_a_random_name_that_is_put_off_decides_nothing(clock):
    """It is tried again an hour later, by the same name: a greylist has seen it then."""
    waiting = {}

    def answer(address: str):
        if address.startswith("ann@") or waiting.setdefault(address, clock.now) < clock.now:
            return TAKEN
        return TEMPORARY

    with CallaheadTarget(answer) as target:
        source = asker(target, clock)
        assert ask(source, "ann") is Existence.EXISTS
        clock.now += HOUR + 1
        assert ask(source, "ann") is Existence.ANYBODY
        assert len(set(strangers(target, "ann"))) == 1


def test_252_says_that_the_next_hop_does_not_know():
    with CallaheadTarget(says("252 2.0.0 Cannot say, will try")) as target:
        source = asker(target)
        assert ask(source, "ann") is Existence.ANYBODY
        assert target.said("RCPT") == 1


# Etiquette and limits: I8, I9, I12


def test_an_unknown_crowd_reaches_the_next_hop_ten_times_a_minute(clock):
    """I8: ten thousand in a minute, by many threads; the rest is answered without it."""
    with CallaheadTarget(users(others=says("550 5.1.1 User unknown"))) as target:
        source = asker(target, clock, questions=10)
        answers = []

        def guess(first: int) -> None:
            for number in range(first, 10_000, 4):
                clock.now = max(clock.now, 1000 + number * 0.0059)
                answers.append(ask(source, f"guess{number}", seconds=30))

        threads = [threading.Thread(target=guess, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 10_000
        assert target.connections <= 10
        assert target.most_open <= 2
        assert answers.count(Existence.MISSING) <= 10
        assert set(answers) <= {Existence.MISSING, Existence.UNKNOWN}
        assert "10 questions" in source.trouble
        clock.now += 60
        assert ask(source, "guess-again") is Existence.MISSING


def test_no_minute_has_more_than_ten_questions(clock):
    times = []

    def answer(address: str):
        times.append(clock.now)
        return TAKEN if address.startswith("postmaster@") else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target, clock, questions=10)
        for number in range(600):
            ask(source, f"guess{number}")
            clock.now += 0.5
        asked = sorted(set(times))
        assert 40 <= len(asked) <= 50
        assert all(sum(at <= each < at + 60 for each in asked) <= 10 for at in asked)


@pytest.mark.parametrize("postmaster", [TAKEN, NOBODY, says("450 4.2.0 Greylisted")])
def test_a_question_names_two_recipients_at_most(clock, postmaster):
    """So the next hop hears of twenty a minute, whatever it says of whom it is asked about beside them."""
    with CallaheadTarget(lambda local: postmaster if local.startswith("postmaster@") else NOBODY) as target:
        source = asker(target, clock, questions=10)
        for number in range(200):
            ask(source, f"guess{number}")
            clock.now += 0.29
        assert target.connections == 10
        assert target.said("RCPT") <= 20


def test_two_connections_are_open_at_a_time():
    slowly = says("250 2.1.5 Ok")

    def answer(address: str):
        time.sleep(0.05)
        return slowly if address.startswith("user") else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target)
        answers: list[Existence] = []
        threads = [
            threading.Thread(target=lambda n=number: answers.append(ask(source, f"user{n}")))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [Existence.EXISTS] * 8
        assert target.most_open <= 2
        assert target.connections == 8


def test_many_who_want_to_know_the_same_ask_once():
    began = threading.Barrier(6)

    def answer(address: str):
        time.sleep(0.2)
        return TAKEN if address.startswith("ann@") else NOBODY

    with CallaheadTarget(answer) as target:
        source = asker(target)
        answers: list[Existence] = []

        def want() -> None:
            began.wait()
            answers.append(ask(source, "ann"))

        threads = [threading.Thread(target=want) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [Existence.EXISTS] * 6
        assert target.connections == 1


@pytest.mark.parametrize("knows", ["nothing", "the user is there", "the user is unknown"])
def test_two_systems_that_ask_each_other_do_not_go_round(knows):
    """I9: two connections in all, and both are answered within the time of the first question."""
    sources: dict[str, Callahead] = {}
    replies = {
        Existence.EXISTS: TAKEN,
        Existence.ANYBODY: TAKEN,
        Existence.MISSING: NOBODY,
        Existence.UNKNOWN: TEMPORARY,
    }
    own = {"the user is there": TAKEN, "the user is unknown": NOBODY}

    def system(name: str):
        def answer(address: str):
            if address.startswith("ann@") and name == "right" and knows in own:
                return own[knows]
            local, _, domain = address.partition("@")
            return replies[sources[name].ask(local, domain, time.monotonic() + 5)]

        return answer

    with CallaheadTarget(system("left")) as left, CallaheadTarget(system("right")) as right:
        sources["left"] = asker(right, timeout=2.0)
        sources["right"] = asker(left, timeout=2.0)
        began = time.monotonic()
        answer = sources["left"].ask("ann", DOMAIN, began + 2)
        assert time.monotonic() < began + 3
        assert answer is (Existence.EXISTS if knows == "the user is there" else Existence.UNKNOWN)
        assert left.connections + right.connections <= 2
        if knows == "nothing":
            assert "451" in sources["left"].trouble  # an answer, and no deadline that passed


def test_it_says_quit_and_never_data():
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        source = asker(target)
        ask(source, "ann")
        ask(source, "bob")
        assert target.said("QUIT") == target.connections == 2
        assert target.said("DATA") == target.said("BDAT") == target.said("VRFY") == 0
        assert all(line.startswith("ehlo edge.example.net") for line in target.lines if line[:4] == "ehlo")


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT"])
def test_it_says_quit_after_a_refusal_too(verb):
    refused = {} if verb == "RCPT" else {verb: TEMPORARY}
    with CallaheadTarget(TEMPORARY, refused) as target:
        ask(asker(target), "ann")
        assert target.said("QUIT") == 1


@pytest.mark.parametrize(
    ("sender", "said"), [("", "MAIL FROM:<>"), ("probe@example.net", "MAIL FROM:<probe@example.net>")]
)
def test_the_sender_is_as_configured(sender, said):
    with CallaheadTarget(users(f"ann@{DOMAIN}")) as target:
        ask(asker(target, sender=sender), "ann")
        assert said in target.lines


def test_a_server_that_knows_helo_alone_is_asked():
    with CallaheadTarget(users(f"ann@{DOMAIN}"), {"EHLO": says("502 Command unknown")}) as target:
        assert ask(asker(target), "ann") is Existence.EXISTS
        assert f"helo {HELO}" in target.lines


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    need("openssl")
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_tls_is_used_where_it_is_offered(certificate):
    """With a certificate that proves nothing, as Postfix does at level `may`."""
    with CallaheadTarget(users(f"ann@{DOMAIN}"), certificate=certificate) as target:
        source = asker(target)
        assert [ask(source, local) for local in ("ann", "bob")] == [Existence.EXISTS, Existence.MISSING]
        assert target.secured == target.connections == 2
        assert target.said("EHLO") == 4
        assert target.said("QUIT") == 2


@pytest.mark.parametrize(
    "start",
    [says("220 2.0.0 Ready"), CLOSE, says("220 2.0.0 Ready\r\n250 put in before")],
    ids=["no TLS comes", "it hangs up", "something was put in before"],
)
def test_where_tls_fails_it_is_asked_once_more_without(start):
    with CallaheadTarget(users(f"ann@{DOMAIN}"), {"STARTTLS": start}, extensions=["STARTTLS"]) as target:
        source = asker(target)
        assert ask(source, "ann") is Existence.EXISTS
        assert target.connections == 2
        assert ask(source, "bob") is Existence.MISSING
        assert target.connections == 3


def test_what_was_put_in_before_tls_does_not_count_in_it(certificate):
    """CVE-2011-0411: whoever sits between may not answer our first question in TLS."""
    start = {"STARTTLS": says("220 2.0.0 Ready\r\n250 SMTPUTF8")}
    with CallaheadTarget(users(f"ann@{DOMAIN}"), start, certificate=certificate) as target:
        assert ask(asker(target), "ann") is Existence.EXISTS
        assert target.connections == 2
        wait_for(lambda: target.secured == 1, 5, "TLS at the first of them")


def test_where_tls_is_put_off_the_session_goes_on():
    refusal = {"STARTTLS": says("454 4.7.0 TLS not available")}
    with CallaheadTarget(users(f"ann@{DOMAIN}"), refusal, extensions=["STARTTLS"]) as target:
        assert ask(asker(target), "ann") is Existence.EXISTS
        assert target.connections == 1


# Addresses


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ("ann+shop", "ann+shop"),
        ("b.o'brien=x", "b.o'brien=x"),
        ("two words", '"two words"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a..b", '"a..b"'),
        ("a@b.example> SIZE=1", '"a@b.example> SIZE=1"'),
        ("-option", "-option"),
    ],
)
def test_an_odd_address_is_asked_about_as_it_is(local, said):
    with CallaheadTarget(OK) as target:
        ask(asker(target), local)
        assert f"RCPT TO:<{said}@{DOMAIN}>" in target.lines


@pytest.mark.parametrize(
    ("local", "domain"),
    [
        ("", DOMAIN),
        ("ann", ""),
        ("ann\r\nDATA", DOMAIN),
        ("ann\nQUIT", DOMAIN),
        ("ann\x00", DOMAIN),
        ("ann\x1b[2J", DOMAIN),
        ("ann\udcff", DOMAIN),
        ("ann\u2028", DOMAIN),
        ("a" * 65, DOMAIN),
        ("ann", "exa mple.com"),
        ("ann", "example.com>\r\nDATA"),
        ("ann", "-.com"),
        ("ann", "a..com"),
        ("ann", ".".join(["a" * 60] * 5)),
        ("ann", "[192.0.2.1] x"),
    ],
)
def test_what_is_no_address_goes_nowhere(local, domain):
    with CallaheadTarget(TAKEN) as target:
        assert ask(asker(target), local, domain) is Existence.UNKNOWN
        assert target.connections == 0


def test_a_domain_that_has_room_for_short_names_only_is_asked_about():
    """The random name did not fit, and the question died of it."""
    domain = ".".join(["a" * 60] * 4)
    with CallaheadTarget(in_turn(TAKEN, NOBODY)) as target:
        source = asker(target)
        assert ask(source, "ann", domain) is Existence.EXISTS
        assert ask(source, "bob", domain) is Existence.UNKNOWN


def test_letters_outside_ascii_need_smtputf8():
    with CallaheadTarget(users(f"jürgen@{DOMAIN}"), extensions=["SMTPUTF8"]) as target:
        assert ask(asker(target), "jürgen") is Existence.EXISTS
        assert "MAIL FROM:<> SMTPUTF8" in target.lines
    with CallaheadTarget(TAKEN) as target:
        source = asker(target)
        assert ask(source, "jürgen") is Existence.UNKNOWN
        assert "SMTPUTF8" in source.trouble
        assert target.said("MAIL") == 0


def test_a_domain_of_letters_outside_ascii_is_asked_about_in_a_labels():
    with CallaheadTarget(TAKEN) as target:
        ask(asker(target), "ann", "bücher.example")
        assert "ann@xn--bcher-kva.example" in target.recipients


@pytest.mark.parametrize(
    "options", [{"sender": "no address"}, {"sender": "a\r\n@b.example"}, {"helo": "a b"}]
)
def test_what_cannot_be_said_is_refused_at_the_start(options):
    with pytest.raises(ValueError, match="no "):
        Callahead(Target("127.0.0.1"), Options(**options))
