"""What holds for every disposable address, whatever the user and the day."""

import hashlib
import hmac
import random as chance
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstop.address import Address, parse
from backstop.batv import (
    ALIAS_MEMORY_DAYS,
    MAX_ALIAS_DAYS,
    Key,
    KeyRing,
    KeyState,
    TagState,
    alias_last_day,
    parse_alias,
    sign_alias,
    verify_alias,
)
from tests.harness.odd_addresses import odd_path, plain_path

KEY = Key(1, b"a secret of at least sixteen octets", KeyState.SIGN, ("*",), 20000, 100)
RING = KeyRing([KEY])
USER = Address("user", "example.com", "example.com")
EDGES = (0, 1, 2, 29, 30, 31, 498, 499, 500, 501, 502, 997, 998, 999)
"""Days from a day to the next one with the same three digits."""

randoms = st.randoms(use_true_random=False)
days = st.integers(0, 60_000)
lifetimes = st.integers(1, MAX_ALIAS_DAYS)
delimiters = st.sampled_from("+-_.=")


def known(path, ring=RING, today=20_000, delimiter="+"):
    """State and last day of what may be a disposable address."""
    address = parse(path)
    label = None if address is None else parse_alias(address, delimiter)
    if label is None:
        return TagState.NONE, None
    return verify_alias(label, ring, today), alias_last_day(label, ring, today)


@given(randoms, days, lifetimes, delimiters)
@settings(max_examples=300)
def test_it_is_good_from_its_making_to_its_last_day_and_never_after(random, today, lifetime, delimiter):
    user = parse(plain_path(random))
    if user is None:
        return
    last = today + lifetime
    path = sign_alias(user, KEY, last, delimiter)
    for at in (today, today + lifetime // 2, last):
        assert known(path, today=at, delimiter=delimiter) == (TagState.GOOD, last)
    for after in (1, 499, 500, 501, 999, 1000, 1001, 1500, 2000, 3001, ALIAS_MEMORY_DAYS):
        assert known(path, today=last + after, delimiter=delimiter) == (TagState.EXPIRED, last)
    assert known(path, today=last + ALIAS_MEMORY_DAYS + 1, delimiter=delimiter) == (TagState.FORGED, None)


@given(randoms, days, lifetimes, delimiters)
@settings(max_examples=200)
def test_it_survives_every_change_of_case_and_the_retirement_of_its_key(random, today, lifetime, delimiter):
    user = parse(plain_path(random))
    if user is None or not user.path.isascii():  # other letters have several upper cases
        return
    path = sign_alias(user, KEY, today + lifetime, delimiter)
    ring = KeyRing([replace(KEY, state=KeyState.RETIRED), replace(KEY, secret=b"of the same number now")])
    for change in (str, str.lower, str.upper, str.swapcase, str.title):
        assert known(change(path), ring, today, delimiter) == (TagState.GOOD, today + lifetime)


@given(randoms, randoms, days, lifetimes)
@settings(max_examples=200)
def test_its_label_is_worth_nothing_on_another_user_or_domain(random, other, today, lifetime):
    user, stranger = parse(plain_path(random)), parse(plain_path(other))
    if user is None or stranger is None:
        return
    label = sign_alias(user, KEY, today + lifetime)[len(user.local) :].partition("@")[0]
    for local, domain in (
        (stranger.local, stranger.domain),
        (stranger.local, user.domain),
        (user.local, stranger.domain),
        (user.local, f"x.{user.domain}"),
    ):
        moved = Address(local, domain, domain)
        if moved.folded != user.folded:
            check_guess(f"{local}{label}@{domain}", today)


@given(randoms, days)
@settings(max_examples=300)
def test_no_odd_address_raises(random, today):
    path = odd_path(random)
    known(path, today=today, delimiter="+-")
    local, at, domain = path.rpartition("@")
    known(f"{local}+d-1{today % 1000:03d}abcdef{at}{domain}", today=today)


def hash_by_the_book(label, last_day, text):
    stamp = f"d{last_day // 1000}-{label.number}{last_day % 1000:03d}"
    digest = hmac.new(KEY.secret, stamp.encode() + text.encode(errors="surrogateescape"), hashlib.sha1)
    return digest.hexdigest()[:6]


def check_guess(changed, today):
    """A changed path is not ours, but for one guess in 16 million that hits."""
    state, last_day = known(changed, today=today)
    if last_day is None:
        assert state in (TagState.NONE, TagState.FORGED, TagState.UNKNOWN_KEY)
        return
    label = parse_alias(parse(changed))
    assert label.digest.lower() == hash_by_the_book(label, last_day, label.inner.folded)


def changes(random, path):
    """At every place a character replaced, removed, put in, or in the other case; and two exchanged."""
    for at, char in enumerate(path):
        others = {
            chr(ord(char) ^ 1),
            char.swapcase(),
            *random.sample('0123456789abcdefz=+-.@%"\\ ü\0\u0130\uff0e', 4),
        }
        for other in sorted(others - {char}):
            yield path[:at] + other + path[at + 1 :]
        yield path[:at] + path[at + 1 :]
        yield path[:at] + random.choice("0aA=+.@") + path[at:]
        yield path[:at] + path[at + 1 : at + 2] + char + path[at + 2 :]


# Many in pieces: each stays well below the time after which pytest takes a test for hung.
@pytest.mark.parametrize(
    "count",
    [20_000, *(pytest.param(250_000, marks=pytest.mark.deep, id=f"piece {n}") for n in range(1, 3))],
)
def test_no_single_change_is_ours_but_of_case(count):
    seed = chance.randrange(2**32)
    print("seed", seed)  # noqa: T201 - pytest shows it with a failure
    random = chance.Random(seed)
    tried = 0
    while tried < count:
        user = parse(plain_path(random))
        if user is None:
            continue
        today = random.randrange(60_000)
        path = sign_alias(user, KEY, today + random.randrange(1, 501))
        folded = parse(path).folded
        for changed in changes(random, path):
            address = parse(changed)
            tried += 1
            if address is None or address.folded != folded:
                check_guess(changed, today)


def day_table(todays_for):
    """How many cases of a thousand last days are worth on a day what the calendar says."""
    right = 0
    for last in range(20_000, 21_000):
        label = parse_alias(parse(sign_alias(USER, KEY, last)))
        for today in todays_for(last):
            good = last - MAX_ALIAS_DAYS - 1 <= today <= last
            right += verify_alias(label, RING, today) is (TagState.GOOD if good else TagState.EXPIRED)
    return right


def test_the_day_table_at_its_edges():
    """Three digits come round every 1000 days, the address does not."""

    def around(last):
        return [last - ahead for ahead in EDGES] + [
            last + 1000 * turn - e for turn in (1, 2, 3) for e in EDGES
        ]

    assert day_table(around) == 1000 * 4 * len(EDGES)


@pytest.mark.deep
@pytest.mark.parametrize("turn", range(2))
def test_the_day_table_of_a_million_cases(turn):
    assert day_table(lambda last: range(last - 999 + 1000 * turn, last + 1 + 1000 * turn)) == 1_000_000
