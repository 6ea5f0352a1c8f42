"""What holds for every tag and every reply, whatever the address and the day."""

import hashlib
import hmac
import random as chance
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstop.address import MAX_LOCAL_OCTETS, Address, client_network, fold_domain, parse, without_extension
from backstop.batv import (
    Key,
    KeyRing,
    KeyState,
    TagCase,
    TagForm,
    TagState,
    can_be_tagged,
    is_tagged,
    sign,
    sign_alias,
    verify,
    verify_alias,
)
from backstop.batv import parse as parse_tag
from backstop.batv import parse_alias as parse_alias_label
from backstop.reply import MAX_TEXT, Reply, header_value
from tests.harness.odd_addresses import odd_path, plain_path
from tests.harness.servers import ROOT

KEY = Key(1, b"a secret of at least sixteen octets", KeyState.SIGN, ("*",), 20000, 100)
RING = KeyRing([KEY])

randoms = st.randoms(use_true_random=False)
days = st.integers(0, 60_000)
lifetimes = st.integers(1, 100)
forms = st.sampled_from(TagForm)
cases = st.sampled_from(TagCase)


def state_of(path, today, ring=RING):
    address = parse(path)
    tag = None if address is None else parse_tag(address)
    return TagState.NONE if tag is None else verify(tag, ring, today)


def nothing_raises(path, today):
    """All that is asked of an address when it arrives."""
    fold_domain(path)
    client_network(path)
    without_extension(path, "+-")
    address = parse(path)
    if address is None:
        return None
    if len(address.path) <= 1000:
        assert parse(f"<{address.path}>") == address
    assert not set("\0\r\n").intersection(address.folded)
    is_tagged(address)
    for found, judge in (
        (parse_tag(address, "+-"), verify),
        (parse_alias_label(address, "+-"), verify_alias),
    ):
        if found is not None:
            judge(found, RING, today)
    return address


def round_trip(address, today, lifetime, form, case):
    assert can_be_tagged(address)
    assert not is_tagged(address)
    signed = parse(sign(address, KEY, today, lifetime, form, case))
    tag = parse_tag(signed)
    assert tag.inner == address
    assert is_tagged(signed)
    assert len(signed.local.encode()) <= MAX_LOCAL_OCTETS
    assert verify(tag, RING, today) is TagState.GOOD
    assert verify(tag, RING, today + lifetime) is TagState.GOOD
    if case is TagCase.FOLD and address.local.isascii():
        assert state_of(signed.path.lower(), today) is TagState.GOOD


@given(randoms, days)
@settings(max_examples=300)
def test_no_address_raises(random, today):
    nothing_raises(odd_path(random), today)


@given(st.text(), days)
def test_no_text_raises(path, today):
    nothing_raises(path, today)


@pytest.fixture
def random():
    """Chance that a failure can be repeated with: its seed stands in the report."""
    seed = chance.randrange(2**32)
    print("seed", seed)  # noqa: T201 - pytest shows it with a failure
    return chance.Random(seed)


# A million in quarters: each stays well below the time after which pytest takes a test for hung.
many = pytest.mark.parametrize(
    "count",
    [
        20_000,
        *(pytest.param(250_000, marks=pytest.mark.deep, id=f"quarter {n} of a million") for n in range(1, 5)),
    ],
)


@many
def test_addresses_raise_nothing_and_come_back_whole(random, count):
    tagged = 0
    for _ in range(count):
        today = random.randrange(60_000)
        address = nothing_raises(odd_path(random), today)
        if address is not None and can_be_tagged(address) and not is_tagged(address):
            tagged += 1
            round_trip(address, today, random.randrange(1, 101), random.choice(list(TagForm)), TagCase.FOLD)
    assert tagged > count / 10


@given(randoms, days, lifetimes, forms, cases)
@settings(max_examples=200)
def test_a_signed_address_comes_back_whole(random, today, lifetime, form, case):
    address = parse(plain_path(random))
    if address is not None and not is_tagged(address):
        round_trip(address, today, lifetime, form, case)


@given(randoms, days, lifetimes, forms, cases)
@settings(max_examples=50)
def test_a_tag_is_good_on_every_day_of_its_window_and_on_no_other(random, today, lifetime, form, case):
    key = Key(7, b"another secret of enough octets", KeyState.VERIFY, ("*",), 0, lifetime)
    address = parse(plain_path(random))
    if address is None or is_tagged(address):
        return
    tag = parse_tag(parse(sign(address, key, today, lifetime, form, case)))
    ring = KeyRing([key])
    good = [day for day in range(today - 150, today + 850) if verify(tag, ring, day) is TagState.GOOD]
    assert good == list(range(today - 1, today + lifetime + 2))


def hash_by_the_book(text, stamp):
    return hmac.new(
        KEY.secret, stamp.encode() + text.encode(errors="surrogateescape"), hashlib.sha1
    ).hexdigest()[:6]


def check_change(changed, original, today):
    """A changed path is not good, but for what folds to the original, and one guess in 16 million."""
    if state_of(changed, today) is not TagState.GOOD:
        return
    address = parse(changed)
    if address.folded == original.folded:
        return
    tag = parse_tag(address)
    stamp = f"{tag.number}{tag.day:03d}"
    local, _, domain = changed.strip("<>").rpartition("@")
    inner = local.replace(f"prvs={stamp}{tag.digest}", "").strip("+=")
    assert tag.digest.lower() in (
        hash_by_the_book(f"{inner}@{domain}", stamp),
        hash_by_the_book(f"{inner}@{domain}".lower(), stamp),
    )


def changes(random, path):
    """At every place a character replaced, removed, put in, or in the other case."""
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


@given(randoms, days, forms)
@settings(max_examples=15)
def test_no_single_change_is_good_but_of_case(random, today, form):
    address = parse(plain_path(random))
    if address is None or is_tagged(address):
        return
    signed = sign(address, KEY, today, 11, form)
    for changed in changes(random, signed):
        check_change(changed, parse(signed), today)


@many
def test_no_single_change_of_many_is_good_but_of_case(random, count):
    tried = 0
    while tried < count:
        address = parse(plain_path(random))
        if address is None or is_tagged(address):
            continue
        signed = sign(address, KEY, 20454, 11, random.choice(list(TagForm)))
        for changed in changes(random, signed):
            check_change(changed, parse(signed), 20454)
            tried += 1


@pytest.mark.deep
def test_a_million_guesses_hit_at_most_twice():
    # 2**20 tries at 24 bits: 0.06 hits expected.
    hits = 0
    for guess in range(2**20):
        hits += (
            state_of(f"user+prvs=1465{chance.getrandbits(24):06x}@example{guess}.com", 20454) is TagState.GOOD
        )
    assert hits <= 2


@given(randoms, days, st.integers(0, 500), st.sampled_from("+-_"))
def test_a_disposable_address_comes_back_whole(random, today, ahead, delimiter):
    address = parse(plain_path(random))
    if address is None:
        return
    alias = parse(sign_alias(address, KEY, today + ahead, delimiter))
    label = parse_alias_label(alias, delimiter)
    assert label.inner == address
    assert verify_alias(label, RING, today) is TagState.GOOD
    assert verify_alias(label, RING, today + ahead + 1) is TagState.EXPIRED


# ---- the table of days ----


def day_table(lifetime, todays_for):
    """Whether each tag of a thousand days is worth on a day what the circle of days says it is."""
    ring = KeyRing([Key(1, KEY.secret, KeyState.SIGN, ("*",), 0, lifetime)])
    good = {*range(lifetime + 1), lifetime + 1, 999}
    right = 0
    for day in range(1000):
        # The day of expiry is what is signed; 20,000 days after 1970 is a day 000.
        tag = parse_tag(
            parse(sign(Address("user", "example.com", "example.com"), KEY, 20_000 + day, 0, TagForm.PRVS))
        )
        assert tag.day == day
        for today in todays_for(day):
            ahead = (day - today) % 1000
            state = verify(tag, ring, today)
            right += (state is TagState.GOOD) is (ahead in good)
            right -= (state is TagState.EXPIRED) is not (ahead not in good and ahead >= 970)
    return right


def test_the_day_table_at_its_edges():
    lifetime = 11
    edges = (0, 1, 2, 10, 11, 12, 13, 14, 500, 968, 969, 970, 971, 997, 998, 999)
    assert day_table(lifetime, lambda day: [20_000 + (day - ahead) % 1000 for ahead in edges]) == 1000 * len(
        edges
    )


@pytest.mark.deep
@pytest.mark.parametrize("lifetime", [1, 7, 11, 100])
def test_the_day_table_of_a_million_cases(lifetime):
    assert day_table(lifetime, lambda _: range(20_000, 21_000)) == 1_000_000


INSTANTS = """
from backstop import address, batv

key = batv.Key(1, b"a secret of at least sixteen octets", batv.KeyState.SIGN, ("*",), 0, 11)
ring = batv.KeyRing([key])
user = address.parse("user@example.com")
# Around the turn of the year, of summer time, of the circle of days, of a leap day and of 32 bits.
for instant in (1798761600, 1774745999, 1813795200, 1835395200, 2147483648):
    signed = batv.sign(user, key, batv.day_of(instant), 11, batv.TagForm.PRVS)
    tag = batv.parse(address.parse(signed))
    for second in range(instant - 13 * 86400, instant + 13 * 86400, 9_999):
        print(second, signed, batv.verify(tag, ring, batv.day_of(second)))
"""


def test_the_time_zone_changes_nothing():
    outputs = {
        zone: subprocess.run(
            [sys.executable, "-c", INSTANTS],
            env={"TZ": zone, "PYTHONPATH": str(ROOT / "milter")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago")
    }
    assert outputs["UTC"].count("GOOD") > 500
    assert set(outputs.values()) == {outputs["UTC"]}


# ---- replies ----


@given(st.integers(), st.from_regex(r"\d\.\d{1,4}\.\d{1,3}", fullmatch=True) | st.text(), st.text())
@settings(max_examples=500)
def test_a_reply_agrees_with_itself_or_cannot_be_made(code, status, text):
    try:
        reply = Reply(code, status, text)
    except ValueError:
        return
    assert 400 <= code <= 599
    assert status.isascii()
    assert status.startswith(f"{code // 100}.")
    check_line(reply)


def check_line(reply):
    line = reply.milter_text
    assert line.isascii()
    assert line.isprintable()
    assert "%" not in line.replace("%%", "")
    assert len(line) <= 2 * MAX_TEXT
    assert str(reply) == f"{reply.code} {reply.status} {line.replace('%%', '%')}"


@given(st.sampled_from([421, 450, 452, 550, 554]), st.text(st.characters(), max_size=2000))
@settings(max_examples=500)
def test_no_text_breaks_out_of_a_reply_or_a_header(code, text):
    check_line(Reply(code, f"{code // 100}.7.1", text))
    value = header_value("junk", text)
    assert value.isascii()
    assert value.isprintable()
