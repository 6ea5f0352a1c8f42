"""When a missing tag is only observed, and which changes begin that again."""

from dataclasses import replace
from datetime import date

import pytest

from backstop import grace
from backstop.batv import Key, KeyRing, KeyState, TagForm
from backstop.grace import Grace, Seen
from backstop.settings import Addresses, GraceSince, override
from tests.harness.engine import settings

TODAY = (date(2026, 11, 21) - date(1970, 1, 1)).days
DOMAIN = "example.com"


def ring(age):
    return KeyRing([Key(1, b"a secret for the tests", KeyState.SIGN, ("*",), TODAY - age, 11)])


def since(age, why=""):
    return settings({"grace_since": GraceSince(TODAY - age, why)})


@pytest.mark.parametrize(
    ("key_age", "again", "held"),
    [
        (0, None, True),
        (15, None, True),
        (16, None, False),
        (500, None, False),
        (500, 0, True),
        (500, 15, True),
        (500, 16, False),
        (3, 400, True),  # the key is younger
    ],
)
def test_it_lasts_from_the_later_of_key_and_change(key_age, again, held):
    known = settings() if again is None else since(again)
    assert grace.holds(ring(key_age), DOMAIN, known, TODAY) is held
    found = grace.of_domain(ring(key_age), DOMAIN, known)
    assert found is not None
    assert (found.end > TODAY) is held


def test_without_a_key_it_has_no_end():
    assert grace.holds(KeyRing([]), DOMAIN, since(400), TODAY)
    assert grace.of_domain(KeyRing([]), DOMAIN, since(400)) is None


def test_it_follows_lifetime_and_setting():
    assert grace.of_domain(ring(30), DOMAIN, replace(since(2, "so"), lifetime=20)) == Grace(
        TODAY - 2, TODAY + 23, "so"
    )
    assert not grace.holds(ring(0), DOMAIN, replace(since(0), grace=0), TODAY)


@pytest.mark.parametrize(
    ("key_age", "again", "why"),
    [
        (9, GraceSince(TODAY - 3, "exempt no more: a@example.com"), "exempt no more: a@example.com"),
        (9, GraceSince(TODAY - 3), "grace_since says so"),
        (9, GraceSince(TODAY - 10, "long ago"), "the signing key is of that day"),
        (9, None, "the signing key is of that day"),
    ],
)
def test_it_says_why(key_age, again, why):
    found = grace.of_domain(ring(key_age), DOMAIN, settings({"grace_since": again}))
    assert found is not None
    assert found.why == why


@pytest.mark.parametrize(
    ("text", "day", "why"),
    [("2026-11-21", TODAY, ""), (" 2026-11-20  moved house ", TODAY - 1, "moved house")],
)
def test_a_start_is_written_as_a_date_and_words(text, day, why):
    result, faults = override(settings(), {"grace_since": text})
    assert faults == ()
    assert result.grace_since == GraceSince(day, why)
    assert override(settings(), {"grace_since": str(result.grace_since)})[0] == result
    assert override(result, {"grace_since": " None "})[0].grace_since is None


@pytest.mark.parametrize("text", ["soon", "21.11.2026", "1969-12-31", "2026-11-21T12:00", "9" * 400])
def test_what_is_no_start_is_named(text):
    result, (fault,) = override(settings(), {"grace_since": text})
    assert result.grace_since is None
    assert fault.startswith("grace_since: ")


def look(*exempt, day=TODAY, **more):
    return grace.see(DOMAIN, settings({"exempt_senders": Addresses(exempt), **more}), day)


NEWS, ROBOT = "news@example.com", "robot-1@example.com"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ((), (), ""),
        ((NEWS,), (NEWS,), ""),
        ((), (NEWS,), ""),
        ((NEWS,), (), f"exempt no more: {NEWS}"),
        ((NEWS, ROBOT), (NEWS,), f"exempt no more: {ROBOT}"),
        ((NEWS,), ("@example.com",), ""),
        ((ROBOT,), ("robot-*@example.com",), ""),
        (("robot-*@example.com",), ("@example.com",), ""),
        (("robot-*@example.com",), (ROBOT,), "exempt no more: robot-*@example.com"),
        (("@example.com",), (NEWS,), "exempt no more: @example.com"),
        (("news@example.org", "@example.org", "x-*@example.org"), (), ""),  # another domain's
        (("news-*",), (), "exempt no more: news-*"),
        (("*@*.com",), (), "exempt no more: *@*.com"),
        (
            tuple(f"a{number}@example.com" for number in range(5)),
            (),
            "exempt no more: a0@example.com, a1@example.com, a2@example.com and 2 more",
        ),
    ],
)
def test_an_exemption_that_ends_begins_it_again(before, after, why):
    assert grace.begins_again(look(*before), look(*after), TODAY) == why


def test_a_lost_delimiter_begins_it_again():
    plain = look(tag_form=TagForm.PRVS, recipient_delimiter="-")
    assert grace.begins_again(look(), plain, TODAY) == '"+" is no recipient_delimiter any more'
    assert grace.begins_again(plain, look(), TODAY) == ""
    assert grace.begins_again(plain, plain, TODAY) == ""


@pytest.mark.parametrize("change", [{"lifetime": 3}, {"lifetime": 30}, {"tag_form": TagForm.PRVS}])
def test_other_changes_do_not(change):
    assert grace.begins_again(look(), look(**change), TODAY) == ""


@pytest.mark.parametrize(("days", "again"), [(0, False), (1, False), (2, True), (900, True)])
def test_a_time_without_protection_begins_it_again(days, again):
    why = grace.begins_again(look(day=TODAY - days), look(), TODAY)
    assert bool(why) is again
    # Who was here all the time has only not been able to look.
    assert grace.begins_again(look(day=TODAY - days), look(), TODAY - days) == ""


def test_what_was_seen_is_kept_as_text():
    kept = look(NEWS, "r\u00f6b-*@example.com")
    assert grace.seen(kept.text()) == kept
    assert kept.text().isascii()


@pytest.mark.parametrize(
    "text", ["", "x", "1", "[]", "{}", '{"day": "1"}', '{"day": 1, "exempt": 2}', "[" * 9000]
)
def test_what_nobody_wrote_was_not_seen(text):
    assert grace.seen(text) is None


def test_odd_entries_are_left_out():
    assert grace.seen('{"day": 1, "exempt": ["a@b", 1], "plus": false}') == Seen(1, ("a@b",), plus=False)
