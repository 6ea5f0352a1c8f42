"""What is kept of a slow source's answers, and for how long."""

import pytest

from backstop.adapters.slow_source import (
    CLEAR_WORDS,
    MAX_KEY,
    NOTHING_KEPT,
    SECONDS,
    STALE_SECONDS,
    KeptAnswers,
)
from backstop.facts import Existence

EXISTS, MISSING, UNKNOWN, ANYBODY = (
    Existence.EXISTS,
    Existence.MISSING,
    Existence.UNKNOWN,
    Existence.ANYBODY,
)


class Source:
    """Says what it is told to."""

    def __init__(self, says=EXISTS):
        self.says = says
        self.asked = []
        self.trouble = ""

    def ask(self, local, domain, deadline):
        self.asked.append((local, domain, deadline))
        return self.says


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def kept(source, clock):
    return KeptAnswers(source, clock=clock)


@pytest.mark.parametrize("says", SECONDS)
def test_an_answer_is_kept_for_its_time(kept, source, clock, says):
    source.says = says
    assert kept.known("alice", "ours.test") is None
    assert kept.ask("alice", "ours.test", 7.0) is says
    clock.now += SECONDS[says] - 0.01
    assert kept.known("alice", "ours.test") is says
    assert kept.ask("alice", "ours.test", 8.0) is says
    assert source.asked == [("alice", "ours.test", 7.0)]
    clock.now += 0.02
    assert kept.known("alice", "ours.test") is None
    assert kept.ask("alice", "ours.test", 9.0) is says
    assert len(source.asked) == 2


def test_that_somebody_exists_is_kept_long_and_that_nobody_could_say_for_seconds():
    assert SECONDS[EXISTS] > 5 * SECONDS[MISSING]
    assert SECONDS[UNKNOWN] < 5


def test_other_addresses_are_others(kept, source):
    kept.ask("alice", "ours.test", 0.0)
    for local, domain in [("bob", "ours.test"), ("alice", "else.test"), ("alice@ours", "test")]:
        assert kept.known(local, domain) is None


def test_a_new_user_is_seen_when_the_time_is_over(kept, source, clock):
    source.says = MISSING
    assert kept.ask("carol", "ours.test", 0.0) is MISSING
    source.says = EXISTS
    clock.now += SECONDS[MISSING]
    assert kept.ask("carol", "ours.test", 0.0) is EXISTS
    assert kept.known("carol", "ours.test") is EXISTS


class TestWhileTheSourceIsAway:
    def test_who_existed_exists_for_a_day(self, kept, source, clock):
        kept.ask("alice", "ours.test", 0.0)
        source.says = UNKNOWN
        end = clock.now + STALE_SECONDS
        clock.now += SECONDS[EXISTS]
        while clock.now < end:
            assert kept.ask("alice", "ours.test", 0.0) is EXISTS
            clock.now += 3600
        assert kept.ask("alice", "ours.test", 0.0) is UNKNOWN

    def test_it_is_asked_again_after_seconds(self, kept, source, clock):
        kept.ask("alice", "ours.test", 0.0)
        source.says = UNKNOWN
        clock.now += SECONDS[EXISTS]
        kept.ask("alice", "ours.test", 0.0)
        source.says = MISSING
        assert kept.ask("alice", "ours.test", 0.0) is EXISTS
        clock.now += SECONDS[UNKNOWN]
        assert kept.ask("alice", "ours.test", 0.0) is MISSING
        source.says = UNKNOWN
        clock.now += SECONDS[MISSING]
        assert kept.ask("alice", "ours.test", 0.0) is UNKNOWN

    def test_who_did_not_exist_is_unknown(self, kept, source, clock):
        source.says = MISSING
        kept.ask("alice", "ours.test", 0.0)
        source.says = UNKNOWN
        clock.now += SECONDS[MISSING]
        assert kept.ask("alice", "ours.test", 0.0) is UNKNOWN


class TestBounds:
    def test_so_many_answers_and_no_more(self, source, clock):
        kept = KeptAnswers(source, clock=clock, most=10)
        source.says = MISSING
        for number in range(100):
            kept.ask(f"u{number}", "ours.test", 0.0)
        assert [number for number in range(100) if kept.known(f"u{number}", "ours.test")] == [*range(90, 100)]

    def test_a_search_through_all_names_pushes_out_nobody_who_exists(self, source, clock):
        kept = KeptAnswers(source, clock=clock, most=10)
        kept.ask("alice", "ours.test", 0.0)
        source.says = MISSING
        for number in range(100):
            kept.ask(f"u{number}", "ours.test", 0.0)
        assert kept.known("alice", "ours.test") is EXISTS

    def test_what_is_too_long_for_an_address_is_not_kept(self, kept):
        long = "x" * MAX_KEY
        assert kept.ask(long, "ours.test", 0.0) is EXISTS
        assert kept.known(long, "ours.test") is None


def test_a_source_with_a_memory_of_its_own_is_asked_each_time(source, clock):
    kept = KeptAnswers(source, NOTHING_KEPT, clock)
    for _ in range(3):
        assert kept.ask("alice", "ours.test", 0.0) is EXISTS
    assert len(source.asked) == 3
    assert kept.known("alice", "ours.test") is None


def test_what_a_source_keeps_itself_is_kept_here_but_for_what_it_could_not_say(source, clock):
    kept = KeptAnswers(source, CLEAR_WORDS, clock)
    assert kept.ask("alice", "ours.test", 0.0) is EXISTS
    assert kept.known("alice", "ours.test") is EXISTS
    source.says = UNKNOWN
    assert kept.ask("bob", "ours.test", 0.0) is UNKNOWN
    assert kept.known("bob", "ours.test") is None
    clock.now += SECONDS[EXISTS]
    assert kept.ask("alice", "ours.test", 0.0) is UNKNOWN  # whether it is stale is for the source to say


def test_its_trouble_is_the_sources(kept, source):
    source.trouble = "it is down"
    assert kept.trouble == "it is down"
