"""Questions to slow sources: how they are written, who is asked, and what is logged of it."""

import json
import random

import pytest

from backstop.adapters.asker_client import Question, pack_answer, pack_question, read_answer, read_question
from backstop.adapters.slow_source import KeptAnswers
from backstop.adapters.slow_sources import SlowSources
from backstop.daemon.asker import BETWEEN_LINES, HIDDEN, Report
from backstop.facts import Existence
from backstop.settings import parse_source


@pytest.mark.parametrize("local", ["alice", "", "a\x00b", "\udce9", "ü", '","', "\n", "x" * 1000])
def test_a_question_comes_through_as_it_is(local):
    question = Question("sql:x", "ours.test", (local, "y"), 12.25)
    assert read_question(pack_question(question)) == question


@pytest.mark.parametrize("existence", Existence)
def test_an_answer_comes_through_as_it_is(existence):
    assert read_answer(pack_answer(existence)) is existence


@pytest.mark.parametrize(
    "packet",
    [
        *(b"", b"\x00", b"null", b"1", b'"x"', b"{}", b"[]", b"[[[[", b"\xff", b"[" * 65_536, b"9" * 65_536),
        *(
            json.dumps(one).encode()
            for one in (["s", "d", [], 1.0], ["s", "d", [1], 1.0], ["s", "d", "x", 1.0])
        ),
        *(
            json.dumps(one).encode()
            for one in (["s", "d", ["x"], "1"], ["s", 1, ["x"], 1.0], ["s", "d", ["x"]])
        ),
    ],
)
def test_what_is_no_question(packet):
    assert read_question(packet) is None


def test_octets_at_random_are_no_question_and_no_answer():
    chance = random.Random(4)
    for _ in range(2000):
        packet = chance.randbytes(chance.randrange(40))
        assert read_question(packet) is None
        assert read_answer(packet) is None


class Source:
    def __init__(self, people):
        self.people = people
        self.asked = []
        self.trouble = "down"

    def ask(self, local, _domain, _deadline):
        self.asked.append(local)
        return self.people.get(local, Existence.MISSING)


def asked(people, *locals_):
    """The answer, whom the source was asked about, and what was told of it."""
    source, told = Source(people), []
    opened = []

    def open_source(name):
        opened.append(name)
        return KeptAnswers(source)

    sources = SlowSources([parse_source("sql:x")], open_source, lambda *words: told.append(words))
    question = Question("sql:x", "ours.test", locals_, 0.0)
    assert sources.known(question) is None
    answer = sources.ask(question)
    assert sources.ask(question) is answer
    assert sources.known(question) is answer
    assert len(opened) == 1
    return answer, source.asked, told[0]


@pytest.mark.parametrize(
    ("people", "answer", "about"),
    [
        ({"a": Existence.EXISTS}, Existence.EXISTS, ["a"]),
        ({"a+b": Existence.EXISTS}, Existence.EXISTS, ["a", "a+b"]),
        ({}, Existence.MISSING, ["a", "a+b"]),
        ({"a": Existence.UNKNOWN}, Existence.UNKNOWN, ["a"]),
        ({"a+b": Existence.UNKNOWN}, Existence.UNKNOWN, ["a", "a+b"]),
        ({"a": Existence.ANYBODY}, Existence.ANYBODY, ["a"]),
    ],
)
def test_the_wider_local_part_is_asked_first(people, answer, about):
    assert asked(people, "a+b", "a") == (answer, about, ("sql:x", "down"))


def test_only_named_sources_are_opened():
    sources = SlowSources([parse_source("sql:x")], lambda _: pytest.fail("opened"), lambda *_: None)
    for name in ("sql:y", "x", "", "ldap:x"):
        question = Question(name, "ours.test", ("a",), 0.0)
        assert sources.known(question) is None
        assert sources.ask(question) is Existence.UNKNOWN


def test_a_next_hop_that_is_written_in_several_ways_is_one_source():
    """Each way had its own limit, and its own answers."""
    names = [
        "callahead:[mx.test]",
        "callahead:[mx.test]:25",
        "callahead:[MX.test]",
        "callahead:[mx.test]:2525",
    ]
    opened = []

    def open_source(name):
        opened.append(str(name))
        return KeptAnswers(Source({}))

    sources = SlowSources([parse_source(name) for name in names], open_source, lambda *_: None)
    for name in names:
        assert sources.ask(Question(name, "ours.test", ("a",), 0.0)) is Existence.MISSING
        assert sources.known(Question(name, "ours.test", ("a",), 0.0)) is Existence.MISSING
    assert opened == [names[0], names[-1]]


class Lines:
    def __init__(self):
        self.lines = []

    def info(self, event, **fields):
        self.lines.append((event, fields["source"], ""))

    def warning(self, event, **fields):
        self.lines.append((event, fields["source"], fields["reason"]))


def test_a_source_that_comes_and_goes_is_told_once_a_minute():
    console, now = Lines(), [0.0]
    report = Report(console, clock=lambda: now[0])
    report.note("sql:x", "")
    assert not console.lines
    for _ in range(50):
        report.note("sql:x", "down")
        report.note("sql:x", "")
        report.note("sql:y", "away")
    assert console.lines == [
        ("source_does_not_know", "sql:x", "down"),
        ("source_does_not_know", "sql:y", "away"),
    ]
    now[0] += BETWEEN_LINES
    for _ in range(3):
        report.note("sql:x", "")
        report.note("sql:y", "still away")
    assert console.lines[2:] == [
        ("source_knows_again", "sql:x", ""),
        ("source_does_not_know", "sql:y", "still away"),
    ]


@pytest.mark.parametrize(
    ("source", "trouble", "shown"),
    [
        ("callahead:[mx]", "[mx]:25: 451 <bob.x@ours.test>: later", "451"),
        ("callahead:[mx]", '[mx]:25: 450 4.2.0 <"john doe"@ours.test>: Greylisted', "450 4.2.0"),
        ("callahead:[mx]", "[mx]:25: 550 mailbox john.doe locked", "550"),
        ("callahead:[mx]", "[mx]:25: 550 5.1.1 no; but it says the same of ann, or nothing", "550 5.1.1"),
        ("callahead:[mx]", "[mx]:25: 550 sorry, john.doe (#5.1.1)", "550"),
        ("callahead:[mx]", "[mx]:25: to MAIL it says 554 5.7.1 no", "554 5.7.1"),
        ("callahead:[200.1.1.1]:450", "[200.1.1.1]:450: no connection: Connection refused", "no connection"),
        ("callahead:[mx]", '[mx]:25: "john.doe" is no reply', HIDDEN),
        ("sql:x", 'DataError: invalid input syntax for type integer: "john.doe"', "DataError"),
        ("sql:x", "OperationalError: 555 john", "OperationalError"),
        ("sql:x", "no answer in time", "no answer in time"),
        ("ldap:x", "ldap://host: Can't contact LDAP server john.doe", "Can't contact LDAP server"),
        ("ldap:x", "ldap://host: Operations error uid=john.doe", HIDDEN),
        ("postfix:pcre:/x", "warning: john.doe 555: bad", HIDDEN),
        ("postfix:hash:/x", "john: bad", HIDDEN),
    ],
)
def test_a_reason_shows_nothing_of_addresses_where_logs_show_none(source, trouble, shown):
    """A name in quotes, or one that stands alone in a complaint, was shown."""
    console = Lines()
    Report(console, shows_addresses=False).note(source, trouble)
    assert console.lines == [("source_does_not_know", source, shown)]
    Report(console).note(source, trouble)
    assert console.lines[1][2] == trouble
