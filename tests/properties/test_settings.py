"""Whatever stands in Redis, a domain keeps settings that make sense."""

from hypothesis import example, given
from hypothesis import strategies as st

from backstop.address import parse
from backstop.batv import MAX_LIFETIME_DAYS, TagForm
from backstop.checks import CHECKS
from backstop.settings import (
    PARSERS,
    Action,
    DomainSettings,
    duration_text,
    override,
    parse_action,
    parse_block,
    parse_duration,
    parse_limit,
)
from tests.harness.engine import settings

NAMES = [*PARSERS, *(check.name for check in CHECKS)]
WORDS = [
    *("TRUE ", "yes", "2", "-1", "on", "off", "abc", "", "auto", "0d", "11d", "prvs", "subaddress", "mta"),
    *("+", "-", "tag", "tag,tag", "redis file:/etc/passwd", "*@x.example", "@x.example", "reject", "Junk\n"),
]
TEXTS = st.text(st.characters(), max_size=40) | st.sampled_from(WORDS) | st.from_regex(r"[0-9]{1,12}[smhdw]?")


def make_sense(one: DomainSettings) -> bool:
    return (
        1 <= one.lifetime <= MAX_LIFETIME_DAYS
        and (one.grace is None or 0 <= one.grace <= 365)
        and 0 <= one.quarantine_max <= 10**8
        and bool(one.proof)
        and (one.tag_form is TagForm.PRVS or "+" in one.recipient_delimiter)
        and set(one.actions) == {check.name for check in CHECKS}
        and all(isinstance(action, Action) for action in one.actions.values())
    )


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=12), TEXTS, max_size=8))
@example({"tag_form": "subaddress", "recipient_delimiter": "-"})
def test_every_hash_gives_settings_that_make_sense_and_every_field_counts_or_is_named(fields):
    base = settings({"tag_form": TagForm.PRVS})
    result, faults = override(base, fields)
    assert make_sense(result)
    named = [fault.partition(":")[0] for fault in faults]
    assert len(set(fields)) >= len(named)
    for name in fields.keys() & set(NAMES) - set(named):
        assert override(result, {name: fields[name]}) == (result, ())
    assert override(result, {}) == (result, ())
    if not fields.keys() - set(named):
        assert result is base


@given(TEXTS)
def test_a_block_is_an_action_or_nothing_in_any_case_and_with_any_blanks(text):
    action = parse_block(text)
    assert action is None or isinstance(action, Action)
    if text.isascii():
        assert parse_block(f" {text.swapcase()}\n") is action


@given(TEXTS | st.none() | st.integers() | st.lists(TEXTS))
def test_a_parser_returns_or_says_what_is_wanted(value):
    for parser in (*PARSERS.values(), parse_action, parse_duration, parse_limit):
        try:
            parser(value)
        except ValueError as error:
            wanted = str(error)
        else:
            wanted = "nothing"
        assert wanted


@given(st.integers(0, 10**9 - 1))
def test_a_duration_is_read_as_it_was_written(seconds):
    assert parse_duration(duration_text(seconds)) == seconds


@given(st.lists(st.emails(), max_size=5), st.emails())
def test_a_set_of_addresses_holds_what_it_names(entries, other):
    entries = [entry for entry in entries if not {"*", "?"} & set(entry)]
    found = PARSERS["exempt_senders"](entries)
    assert all(parse(entry) in found for entry in entries)
    assert (parse(other) in found) is (parse(other).folded in {parse(entry).folded for entry in entries})
