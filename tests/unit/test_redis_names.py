"""Keys of Redis: those of the public interface, and what hostile names make of them."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstop.adapters import redis_names as names

NOON = datetime(2026, 11, 21, 12, 34, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (names.BLOCK_ALL, b"backstop:block"),
        (names.block("example.com"), b"backstop:block:example.com"),
        (names.block("bob@example.com"), b"backstop:block:bob@example.com"),
        (names.BLOCK_ALL_INFO, b"backstop:block-info"),
        (names.block_info("example.com"), b"backstop:block-info:example.com"),
        (names.DOMAINS, b"backstop:domains"),
        (names.domain("example.com"), b"backstop:domain:example.com"),
        (names.recipients("example.com"), b"backstop:recipients:example.com"),
        (names.count("example.com"), b"backstop:count:example.com"),
        (names.count(names.COUNTERS), b"backstop:count:-"),
        (names.count_day("example.com", date(2026, 11, 21)), b"backstop:count:example.com:2026-11-21"),
        (names.count_day("example.com", NOON), b"backstop:count:example.com:2026-11-21"),
        (names.count_hour("example.com", NOON), b"backstop:count:example.com:2026-11-21T12"),
        (names.UNTAGGED, b"backstop:untagged"),
        (names.client("192.0.2.1", "bad_tags"), b"backstop:client:192.0.2.1:bad_tags"),
        (names.client("2001:db8:1:2::", "bad_tags"), b"backstop:client:2001_db8_1_2__:bad_tags"),
        (names.alias("bob+d-1484abcdef@example.com"), b"backstop:alias:bob+d-1484abcdef@example.com"),
        (names.EVENTS, b"backstop:events"),
    ],
)
def test_the_keys_are_those_of_the_public_interface(key, wanted):
    assert key == wanted


def test_octets_of_the_wire_come_out_as_they_came():
    assert names.block("b\udcf6b@example.com") == b"backstop:block:b\xf6b@example.com"
    assert names.block("bö@example.com") == "backstop:block:bö@example.com".encode()


def test_control_characters_are_octets_like_others():
    assert names.block("a\r\n\0b@example.com") == b"backstop:block:a\r\n\0b@example.com"


def test_no_domain_passes_for_the_counters_of_another_one_on_some_day():
    forged = names.count("example.com:2026-11-21")
    assert forged == b"backstop:count:example.com_2026-11-21"
    assert forged != names.count_day("example.com", date(2026, 11, 21))


def test_a_long_name_is_cut_and_still_told_from_its_neighbours():
    long = ["a" * 600 + "@example.com", "a" * 601 + "@example.com", "a" * 600 + "@example.org"]
    keys = {names.block(name) for name in long}
    assert len(keys) == 3
    assert all(len(key) == names.MAX_KEY_OCTETS for key in keys)
    assert len(names.block("a" * 497)) == names.MAX_KEY_OCTETS
    assert b"~" not in names.block("a" * 497)


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=700), st.text(max_size=30))
def test_whatever_is_named_a_key_of_its_kind_comes_out(name, what):
    made = {
        b"backstop:block:": names.block(name),
        b"backstop:block-info:": names.block_info(name),
        b"backstop:domain:": names.domain(name),
        b"backstop:recipients:": names.recipients(name),
        b"backstop:count:": names.count_hour(name, NOON),
        b"backstop:client:": names.client(name, what),
    }
    for prefix, key in made.items():
        assert key.startswith(prefix)
        assert len(key) <= names.MAX_KEY_OCTETS
