"""The buffer of counters: what is kept, what is given up, and that nothing is counted twice."""

from collections import Counter

import pytest

from backstop.adapters.redis_store import ReplyError, StoreUnavailable
from backstop.adapters.write_behind import MOST_EVENTS, WriteBehind

NOON = 1795262400.0  # 2026-11-21T12:00Z
KEYS = [
    "backstop:count:example.com",
    "backstop:count:example.com:2026-11-21",
    "backstop:count:example.com:2026-11-21T12",
]


def words(packed):
    """The words of one packed command."""
    pieces = packed.split(b"\r\n")
    return [piece.decode() for piece in pieces[2::2]]


class Script:
    """Stands where the store stands: carries out HINCRBY in memory, or fails as the test wants."""

    def __init__(self):
        self.counts = Counter()
        self.seen = []
        self.available = True
        self.fail = None
        self.answered = 10**9
        self.away = False

    def write(self, commands):
        if self.away:
            raise StoreUnavailable("away")
        replies = []
        for packed in commands[: self.answered]:
            said = words(packed)
            self.seen.append(said)
            if self.fail and (error := self.fail(said)):
                replies.append(error)
                continue
            if said[0] == "HINCRBY":
                self.counts[said[1], said[2]] += int(said[3])
            replies.append(1)
        return replies

    def ask(self, commands):
        return [[] for _ in commands]

    def probe(self):
        return self.available


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def told():
    return []


@pytest.fixture
def behind(script, told):
    return WriteBehind(script, on_trouble=told.append)


def test_one_count_goes_to_three_hashes_of_which_two_expire(script, behind):
    behind.count("example.com", ["tag.fail", "action.reject"], NOON)
    behind.count("example.com", ["tag.fail"], NOON + 3599)
    behind.flush()
    assert script.counts == {(key, "tag.fail"): 2 for key in KEYS} | {
        (key, "action.reject"): 1 for key in KEYS
    }
    expiries = [said for said in script.seen if said[0] == "EXPIRE"]
    assert sorted(expiries) == [["EXPIRE", KEYS[1], "34560000"], ["EXPIRE", KEYS[2], "691200"]]
    script.seen.clear()
    behind.flush()
    assert [said for said in script.seen if said[0] in {"HINCRBY", "EXPIRE"}] == []


def test_an_hour_that_has_passed_is_counted_where_it_belongs(script, behind):
    behind.count("example.com", ["tag.fail"], NOON - 1)
    behind.count("example.com", ["tag.fail"], NOON)
    behind.flush()
    assert script.counts["backstop:count:example.com:2026-11-21T11", "tag.fail"] == 1
    assert script.counts[KEYS[2], "tag.fail"] == 1


def test_what_surely_failed_is_added_later_and_once(script, behind):
    script.away = True
    for _ in range(5):
        behind.count("example.com", ["tag.fail"], NOON)
        behind.flush()
    assert behind.unwritten == 15
    script.away = False
    behind.flush()
    behind.flush()
    assert script.counts == {(key, "tag.fail"): 5 for key in KEYS}
    assert (behind.uncertain, behind.lost, behind.dropped, behind.unwritten) == (0, 0, 0, 0)


def test_what_nobody_knows_about_is_never_sent_again_but_stands_among_the_uncertain(script, behind, told):
    behind.count("example.com", ["tag.fail"], NOON)
    script.answered = 1
    behind.flush()
    assert behind.uncertain == 2
    script.answered = 10**9
    behind.flush()
    assert script.counts == {(KEYS[0], "tag.fail"): 1, ("backstop:count:-", "counters.uncertain"): 2}
    assert any("counters.uncertain" in text for text in told)


@pytest.mark.parametrize(
    "text",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOPERM this user has no permissions to run the 'hincrby' command",
        "LOADING Redis is loading the dataset in memory",
    ],
)
def test_a_refusal_that_may_pass_keeps_the_count(script, behind, told, text):
    script.fail = lambda said: ReplyError.of(text) if said[0] == "HINCRBY" else None
    behind.count("example.com", ["tag.fail"], NOON)
    behind.flush()
    assert behind.unwritten == 3
    assert told == [f"counts are kept for later: {text}"]
    script.fail = None
    behind.flush()
    assert script.counts == {}, "it is left alone for a second"
    behind._pause_until = 0
    behind.flush()
    assert script.counts == {(key, "tag.fail"): 1 for key in KEYS}


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR hash value is not an integer",
        "ERR increment or decrement would overflow",
    ],
)
def test_a_refusal_that_never_passes_gives_the_count_up_and_names_the_key(script, behind, told, text):
    script.fail = lambda said: ReplyError.of(text) if said[:2] == ["HINCRBY", KEYS[1]] else None
    for _ in range(3):
        behind.count("example.com", ["tag.fail"], NOON)
        behind.flush()
    assert script.counts[KEYS[0], "tag.fail"] == script.counts[KEYS[2], "tag.fail"] == 3
    assert (behind.lost, behind.unwritten) == (3, 0)
    behind.flush()
    assert script.counts["backstop:count:-", "counters.lost"] == 3
    assert [text for text in told if KEYS[1] in text] == [f"a count of {KEYS[1]} is lost: {text}"]


def test_losses_that_cannot_be_written_down_do_not_breed(script, behind):
    script.fail = lambda said: ReplyError.of("WRONGTYPE wrong") if said[0] == "HINCRBY" else None
    behind.count("example.com", ["tag.fail"], NOON)
    for _ in range(10):
        behind.flush()
    assert (behind.lost, behind.unwritten) == (3, 0)


def test_the_buffer_is_bounded_and_what_does_not_fit_is_counted(script, told):
    behind = WriteBehind(script, most_keys=100, on_trouble=told.append)
    script.away = True
    for number in range(150):
        behind.count("example.com", [f"name{number}"], NOON)
    assert behind.dropped == 150
    behind.flush()
    for number in range(200, 300):
        behind.count("example.com", [f"name{number}"], NOON)
    behind.flush()
    assert behind.dropped == 450
    behind.count("example.com", ["name0"], NOON)  # what is in it already still counts
    script.away = False
    behind.flush()
    behind.flush()
    assert script.counts[KEYS[0], "name0"] == 2
    kept = sum(amount for (key, _), amount in script.counts.items() if key in KEYS)
    assert kept + behind.dropped == 3 * 251
    assert script.counts["backstop:count:-", "counters.dropped"] > 0
    assert sum("counters.dropped" in text for text in told) == 1


def test_of_a_flood_of_events_the_newest_are_shown(script, behind):
    for number in range(1000):
        behind.event({"queue_id": str(number)})
    behind.flush()
    shown = [said for said in script.seen if said[0] == "XADD"]
    assert len(shown) == MOST_EVENTS
    assert shown[-1] == ["XADD", "backstop:events", "MAXLEN", "~", "1000", "*", "queue_id", "999"]


def test_senders_of_untagged_mail_are_written_with_the_latest_time(script, behind):
    behind.untagged("bob@example.com", NOON)
    behind.untagged("bob@example.com", NOON + 10)
    behind.untagged("bob@example.com", NOON + 5)
    script.away = True
    behind.flush()
    script.away = False
    behind.flush()
    behind.flush()
    assert [said for said in script.seen if said[0] == "HSET"] == [
        ["HSET", "backstop:untagged", "bob@example.com", str(int(NOON + 10))]
    ]


def test_at_the_end_all_is_written_and_what_cannot_be_is_told(script, behind, told):
    behind.count("example.com", ["tag.fail"], NOON)
    behind.stop(0)
    assert script.counts == {(key, "tag.fail"): 1 for key in KEYS}
    assert told == []
    script.away = True
    behind.count("example.com", ["tag.fail"], NOON)
    behind.stop(0)
    assert behind.lost == 3
    assert "lost" in told[-1]
