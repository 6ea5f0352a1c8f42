"""From counters to a date: when a domain may refuse bounces without proof, and what is said of it."""

from dataclasses import replace
from datetime import date

import pytest

from backstop.cli import ready
from backstop.cli.ready import Figures, Known, Sender, judge
from backstop.grace import Grace
from backstop.settings import Action
from tests.harness.engine import settings

TODAY = (date(2026, 11, 21) - date(1970, 1, 1)).days  # a Saturday
DOMAIN = "example.com"
LONG_AGO = Grace(TODAY - 100, TODAY - 84, "the signing key is of that day")


def known(counts=None, grace=LONG_AGO, fields=None, **more):
    by_day = {TODAY - ago: names for ago, names in (counts or {}).items()}
    return Known(DOMAIN, replace(settings(), **(fields or {})), grace, by_day, **more)


def sent(ago, **more):
    return {ago: {"outgoing.tagged": 10, "proof.tag": 2, **more}}


def untagged(ago, count=1):
    return {ago: {"bounce.untagged": count}}


YOUNG = Grace(TODAY - 3, TODAY + 13, "the signing key is of that day")
AGAIN = Grace(TODAY - 1, TODAY + 15, "exempt no more: news@example.com")
OFF = Grace(TODAY - 3, TODAY - 3, "the signing key is of that day")


NONE_SEEN = "and no genuine bounce without one was seen"


@pytest.mark.parametrize(
    ("site", "in_days", "reason"),
    [
        (known(sent(99)), -83, f"mail has gone out with tags since 2026-08-14, {NONE_SEEN}"),
        (
            known(sent(99) | untagged(40)),
            -29,
            (
                "mail has gone out with tags since 2026-08-14, and the last genuine bounce without one came"
                " on 2026-10-12"
            ),
        ),
        (
            known(sent(99) | untagged(11)),
            0,
            (
                "mail has gone out with tags since 2026-08-14, and the last genuine bounce without one came"
                " on 2026-11-10"
            ),
        ),
        (
            known(sent(99) | untagged(10)),
            1,
            (
                "a genuine bounce without a tag came on 2026-11-11, so some mail goes out untagged; wait"
                " until none has come for 11 days"
            ),
        ),
        (
            known(sent(99) | untagged(10), fields={"lifetime": 20}),
            10,
            (
                "a genuine bounce without a tag came on 2026-11-11, so some mail goes out untagged; wait"
                " until none has come for 20 days"
            ),
        ),
        (
            known(sent(3), YOUNG),
            13,
            (
                "bounces of mail from before 2026-11-18 carry no tag and may come for 16 days (the"
                " signing key is of that day)"
            ),
        ),
        (
            known(sent(99), AGAIN),
            15,
            (
                "bounces of mail from before 2026-11-20 carry no tag and may come for 16 days (exempt no"
                " more: news@example.com)"
            ),
        ),
        (
            known(sent(2)),  # the key is old, the milter new
            14,
            (
                "the first message with a tag went out on 2026-11-19, and bounces of older mail may come for"
                " 16 days"
            ),
        ),
        (known(sent(2), OFF, {"grace": 0}), -2, f"mail has gone out with tags since 2026-11-19, {NONE_SEEN}"),
    ],
)
def test_the_sentence_names_the_latest_date_and_its_reason(site, in_days, reason):
    result = judge(site, TODAY)
    day = date.fromordinal(date(2026, 11, 21).toordinal() + in_days)
    assert result.sentence == f"Enforcing is safe from {day} on, because {reason}."
    assert result.safe_from == TODAY + in_days
    assert result.is_safe is (in_days <= 0)
    assert bool(result.against) is not result.is_safe


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        (
            known(sent(99), None),
            "no key signs for it, so all its mail goes out without a tag (`backstop key new`)",
        ),
        (
            known(untagged(50)),
            "no message has gone out with a tag yet, as if outgoing mail did not pass the milter",
        ),
    ],
)
def test_without_tags_there_is_no_date(site, reason):
    result = judge(site, TODAY)
    assert result.sentence == f"Nobody can say yet from when on enforcing is safe, because {reason}."
    assert (result.safe_from, result.is_safe, result.against) == (None, False, (reason,))


def test_everything_that_stands_against_it_is_said():
    result = judge(known(sent(2) | untagged(0), YOUNG), TODAY)
    assert result.safe_from == TODAY + 14
    assert [text.split(",")[0][:40] for text in result.against] == [
        "bounces of mail from before 2026-11-18 c",
        "the first message with a tag went out on",
        "a genuine bounce without a tag came on 2",
    ]


def advice(site):
    return " | ".join(judge(site, TODAY).advice)


def test_what_should_be_known_besides():
    good = known(sent(99), fields={"actions": {**settings().actions, "unproved": Action.OFF}})
    assert "`unproved` is off" in advice(good)
    assert "only a tag counts as proof" in advice(known(sent(99), fields={"proof": ()}))
    assert "no bounce to a good tag has come back yet" in advice(known({9: {"outgoing.tagged": 1}}))
    assert "mail leave through this server" in advice(
        known(sent(99), elsewhere=(Sender("news@example.com", 1.0),))
    )
    assert "grace is switched off" in advice(known(sent(2), OFF, {"grace": 0}))


def test_figures_by_week_end_with_the_first_that_has_any():
    site = known(
        {
            0: {"proof.tag": 3, "bounce.untagged": 1, "unproved.fail": 7},  # Saturday
            5: {"proof.tag": 1},  # Monday
            6: {"proof.tag": 4},  # Sunday of the week before
            30: {"outgoing.tagged": 9},
            300: {"proof.tag": 100},
        }
    )
    assert ready.by_week(site, TODAY, 56) == [
        Figures(TODAY - 5, 4, 1, 7),
        Figures(TODAY - 12, 4, 0, 0),
    ]
    assert [week.per_cent for week in ready.by_week(site, TODAY, 56)] == [80.0, 100.0]
    assert ready.by_week(site, TODAY, 1) == [Figures(TODAY, 3, 1, 7)]
    assert len(ready.by_week(site, TODAY, 400)) == 44
    assert ready.by_week(known(), TODAY, 400) == []
    assert ready.figures(site, TODAY - 5, TODAY) == Figures(TODAY - 5, 4, 1, 7)
    assert Figures(0, 0, 0, 5).per_cent is None


def test_no_day_is_counted_twice_or_left_out():
    for days in range(1, 40):
        site = known({ago: {"proof.tag": 1} for ago in range(60)})
        assert sum(week.tagged for week in ready.by_week(site, TODAY, days)) == days


def test_what_was_sent_by_reason():
    site = known(
        {
            1: {"outgoing.tagged": 5, "outgoing.untagged": 3, "untagged.forward": 3, "tag.fail": 9},
            2: {"outgoing.tagged": 2},
            7: {"outgoing.tagged": 100},
        }
    )
    assert ready.sent(site, TODAY, 7) == {"outgoing.tagged": 7, "outgoing.untagged": 3, "untagged.forward": 3}
