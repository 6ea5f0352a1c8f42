"""Tags against published vectors, the circle of a thousand days, and everything that is no tag of ours."""

import hashlib
import hmac
from dataclasses import replace

import pytest

from backstop.address import Address, parse
from backstop.batv import (
    Key,
    KeyRing,
    KeyState,
    Tag,
    TagCase,
    TagForm,
    TagState,
    alias_last_day,
    can_be_tagged,
    day_of,
    is_tagged,
    sign,
    sign_alias,
    verify,
    verify_alias,
)
from backstop.batv import parse as parse_tag
from backstop.batv import parse_alias as parse_alias_label

LONG_SECRET = b"another long key with spaces 0123456789"
SECRET = b"a secret of at least sixteen octets"
TODAY = 20454  # 2026-01-01


def key_with(
    number=1,
    secret=SECRET,
    *,
    state=KeyState.SIGN,
    domains=("*",),
    created=TODAY - 100,
    max_lifetime=11,
):
    return Key(number, secret, state, domains, created, max_lifetime)


def address_of(text):
    address = parse(text)
    assert address is not None
    return address


def state_of(path, ring, today=TODAY):
    tag = parse_tag(address_of(path))
    return TagState.NONE if tag is None else verify(tag, ring, today)


# Day of signing, key number, secret, address, the same signed. Made by Exim 4.96 with its lifetime of 7 days;
# those with number 0 by batv-tools 0.8 too.
EXIM = [
    (20454, 1, b"secret", "userx@test.ex", "prvs=1461ceb0c9=userx@test.ex"),
    (20454, 0, b"secret", "userx@test.ex", "prvs=0461a2ca1a=userx@test.ex"),
    (20454, 1, b"secret", "Andrew@Example.COM", "prvs=1461a4961f=Andrew@Example.COM"),
    (20454, 1, b"secret", "andrew@example.com", "prvs=1461466cea=andrew@example.com"),
    (20454, 1, b"secret", "john.doe+tag@example.com", "prvs=1461ecc39c=john.doe+tag@example.com"),
    (20997, 1, b"secret", "userx@test.ex", "prvs=1004952ddf=userx@test.ex"),
    (20997, 9, b"secret", "userx@test.ex", "prvs=9004f181b2=userx@test.ex"),
    (20454, 0, b"secretkey", "user@example.com", "prvs=0461b7db8d=user@example.com"),
    (20454, 1, b"secretkey", "User@Example.COM", "prvs=1461d1e3cc=User@Example.COM"),
    (20628, 7, LONG_SECRET, "o.hara+list@sub.example.org", "prvs=76351ce42e=o.hara+list@sub.example.org"),
    (20892, 0, b"secretkey", "user@example.com", "prvs=089917ff3d=user@example.com"),
    (20893, 0, b"secretkey", "user@example.com", "prvs=09005c41f3=user@example.com"),
    (20992, 3, b"secretkey", "user@example.com", "prvs=3999f2a815=user@example.com"),
    (20993, 3, b"secretkey", "user@example.com", "prvs=3000748d38=user@example.com"),
]


@pytest.mark.parametrize(("day", "number", "secret", "address", "signed"), EXIM)
def test_we_sign_as_exim_does(day, number, secret, address, signed):
    key = key_with(number, secret)
    assert sign(address_of(address), key, day, 7, TagForm.PRVS, TagCase.AS_WRITTEN) == signed


@pytest.mark.parametrize(("day", "number", "secret", "address", "signed"), EXIM)
def test_what_exim_signed_is_good_here_to_its_last_day(day, number, secret, address, signed):
    ring = KeyRing([key_with(number, secret, max_lifetime=7)])
    for today in range(day - 1, day + 9):
        assert state_of(signed, ring, today) is TagState.GOOD
    assert state_of(signed, ring, day + 9) is TagState.EXPIRED
    assert parse_tag(address_of(signed)).inner == address_of(address)


def test_the_plus_syntax_of_batv_tools():
    signed = "userx+prvs=0461a2ca1a@test.ex"
    assert sign(address_of("userx@test.ex"), key_with(0, b"secret"), 20454, 7, TagForm.SUBADDRESS) == signed
    assert state_of(signed, KeyRing([key_with(0, b"secret")])) is TagState.GOOD


def test_other_hashes_are_forgeries_here():
    # indimail: MD5, and the day of signing where the expiry belongs.
    ring = KeyRing([key_with(0, b"1632203830")])
    assert state_of("prvs=0891a9abd5=test@example.com", ring, 18891) is TagState.FORGED


def test_an_expired_tag_of_january_2026_stays_refused_in_july_2027():
    # Exim takes this one for valid again from 2027-07-01 (day 21000) to 2028-09-27 (day 21454).
    ring = KeyRing([key_with(1, b"secret", max_lifetime=7)])
    states = {state_of("prvs=1461ceb0c9=userx@test.ex", ring, day) for day in range(21000, 21453)}
    assert states == {TagState.FORGED}


def test_a_tag_dated_far_ahead_is_refused():
    # Exim takes tags dated 100 to 400 days ahead.
    key = key_with()
    ring = KeyRing([key])
    for ahead in (13, 100, 400, 900):
        assert (
            state_of(sign(address_of("user@example.com"), key, TODAY, ahead, TagForm.PRVS), ring)
            is TagState.FORGED
        )


@pytest.mark.parametrize("lifetime", [1, 7, 11, 100])
def test_the_states_of_a_tag_through_its_life(lifetime):
    key = key_with(max_lifetime=lifetime)
    ring = KeyRing([key])
    path = sign(address_of("user@example.com"), key, TODAY, lifetime, TagForm.SUBADDRESS)
    last = TODAY + lifetime
    for today in range(TODAY - 1, last + 2):
        assert state_of(path, ring, today) is TagState.GOOD
    for today in range(last + 2, last + 31):
        assert state_of(path, ring, today) is TagState.EXPIRED
    for today in (TODAY - 2, TODAY - 30, last + 31, last + 500):
        assert state_of(path, ring, today) is TagState.FORGED


def test_a_shortened_lifetime_keeps_what_was_signed_before():
    key = key_with(max_lifetime=20)
    path = sign(address_of("user@example.com"), key, TODAY, 20, TagForm.PRVS)
    assert state_of(path, KeyRing([key]), TODAY + 1) is TagState.GOOD


@pytest.mark.parametrize("skew", [-1, 0, 1])
def test_two_clocks_may_differ_by_a_day(skew):
    key = key_with()
    path = sign(address_of("user@example.com"), key, TODAY, 11, TagForm.PRVS)
    assert state_of(path, KeyRing([key]), TODAY + skew) is TagState.GOOD


def test_two_days_ahead_is_more_than_a_clock_may_differ():
    key = key_with()
    path = sign(address_of("user@example.com"), key, TODAY, 11, TagForm.PRVS)
    assert state_of(path, KeyRing([key]), TODAY - 2) is TagState.FORGED


GOOD_FORMS = [
    "prvs={0}=user@example.com",
    "PRVS={0}=user@example.com",
    "PrVs={0}=USER@EXAMPLE.COM",
    "user+prvs={0}@example.com",
    "User+PRVS={0}@Example.com",
    "prvs=user={0}@example.com",
    "PRVS=USER={0}@EXAMPLE.COM",
    "<@relay.example:user+prvs={0}@example.com>",
    '"prvs={0}=user"@example.com',
    "user+prvs={0}@example.com.",
]


@pytest.mark.parametrize("form", GOOD_FORMS)
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_every_order_and_case_verifies(form, case):
    signed = sign(address_of("user@example.com"), key_with(), TODAY, 11, TagForm.PRVS)
    value = signed.split("=")[1]
    assert state_of(form.format(case(value)), KeyRing([key_with()])) is TagState.GOOD


def test_a_tag_survives_a_server_that_folds_all_it_returns():
    address = address_of("John.Doe+Shop@Example.COM")
    for form in TagForm:
        signed = sign(address, key_with(), TODAY, 11, form)
        assert "John.Doe+Shop" in signed
        assert signed.endswith("@Example.COM")
        for change in (str.lower, str.upper, str.swapcase):
            assert state_of(change(signed), KeyRing([key_with()])) is TagState.GOOD


def test_a_tag_signed_as_written_does_not_survive_a_change_of_case():
    address = address_of("John@Example.COM")
    signed = sign(address, key_with(), TODAY, 11, TagForm.PRVS, TagCase.AS_WRITTEN)
    ring = KeyRing([key_with()])
    assert state_of(signed, ring) is TagState.GOOD
    assert state_of(signed.lower(), ring) is TagState.FORGED


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("user@bücher.example", "user@xn--bcher-kva.example"),
        ("user@xn--bcher-kva.example", "user@BÜCHER.example"),
        ("mu\u0308ller@example.com", "m\u00fcller@example.com"),
        ("m\u00fcller@example.com", "MU\u0308LLER@example.com"),
        ("user@example.com", "user@example.com."),
    ],
)
def test_a_tag_holds_for_every_way_of_writing_its_address(sent, returned):
    signed = address_of(sign(address_of(sent), key_with(), TODAY, 11, TagForm.SUBADDRESS))
    tag = parse_tag(signed)
    changed = Tag(tag.number, tag.day, tag.digest, address_of(returned))
    assert verify(changed, KeyRing([key_with()]), TODAY) is TagState.GOOD


def test_latin_1_octets_verify_as_the_octets_they_are():
    stamp = "1465"
    digest = hmac.new(SECRET, stamp.encode() + b"m\xfcller@example.com", hashlib.sha1).hexdigest()[:6]
    assert state_of(f"prvs={stamp}{digest}=m\udcfcller@example.com", KeyRing([key_with()])) is TagState.GOOD


NO_TAGS = [
    "user@example.com",
    "a=b@example.com",
    "user+shop@example.com",
    "prvs=146146dcb1user@example.com",
    "prvs=146146dcb1=@example.com",
    "prvs=14614dcb1=user@example.com",
    "prvs=1461466dcb1=user@example.com",
    "prvs=146146xyzq=user@example.com",
    "prvs=146\u0661466cea=user@example.com",
    "prv\u017f=1461466cea=user@example.com",
    "+prvs=1461466cea@example.com",
    "userprvs=1461466cea@example.com",
    "user-prvs=1461466cea@example.com",
    "user+prvs=1461466cea+x@example.com",
    "btv1==1461466cea==user@example.com",
    "msprvs1=1461466cea=user@example.com",
    "SRS0=HHH=TT=example.org=user@example.com",
    "SRS1=HHH=example.org==HHH=TT=example.org=user@example.com",
    "prvs=10=user@example.com",
]


@pytest.mark.parametrize("path", NO_TAGS, ids=ascii)
def test_what_carries_no_tag_of_this_kind(path):
    assert parse_tag(address_of(path)) is None


def test_the_delimiter_is_the_domains_own():
    assert parse_tag(address_of("user-prvs=1461466cea@example.com"), "-").inner.local == "user"
    assert parse_tag(address_of("user+prvs=1461466cea@example.com"), "-") is None
    assert parse_tag(address_of("user+prvs=1461466cea@example.com"), "") is None
    assert parse_tag(address_of("prvs=1461466cea=user@example.com"), "") is not None


def test_the_last_delimiter_divides_so_that_extensions_live_on():
    assert parse_tag(address_of("john+a+b+prvs=1461466cea@example.com")).inner.local == "john+a+b"


def test_a_tag_within_a_tag_is_taken_off_once():
    tag = parse_tag(address_of("prvs=1461466cea=prvs=1461466cea=user@example.com"))
    assert tag.inner.local == "prvs=1461466cea=user"


@pytest.mark.parametrize(
    ("local", "tagged"),
    [
        ("prvs=1461466cea=user", True),
        ("PRVS=1461466cea=user", True),
        ("prvs=10=user", True),
        ("prvs=user=ANYTHING", True),
        ("prvs=x", True),
        ("user+prvs=1461466cea", True),
        ("user-PRVS=1461466CEA", True),
        ("btv1==abc==user", True),
        ("BTV1==abc==user", True),
        ("msprvs1=20000abc=user", True),
        ("SRS0=HHH=TT=example.org=user", True),
        ("srs0+HHH=TT=example.org=user", True),
        ("SRS1-HHH=example.org==HHH=TT=example.org=user", True),
        ("user", False),
        ("srs0", False),
        ("srs0man", False),
        ("prvs", False),
        ("user+prvs", False),
        ("user+d-1461466cea", False),
        ("list-bounces+user=example.org", False),
        ("prv\u017f=x", False),
    ],
)
def test_what_is_tagged_already_ours_or_anothers(local, tagged):
    assert is_tagged(Address(local, "example.com", "example.com")) is tagged


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("a" * 47 + "@example.com", True),
        ("a" * 48 + "@example.com", True),
        ("a" * 49 + "@example.com", False),
        ("a" * 64 + "@example.com", False),
        ("a" * 65 + "@example.com", False),
        ("a" * 300 + "@example.com", False),
        ("ü" * 24 + "@example.com", True),
        ("ü" * 25 + "@example.com", False),
        ("<>", False),
        ("<postmaster>", False),
        ('""@example.com', False),
        ('"a b"@example.com', False),
        ('"a@b"@example.com', False),
        ('"a\\"b"@example.com', False),
        ('"user"@example.com', True),
        ("a..b@example.com", True),
        (".a@example.com", True),
        ("user%other.example@example.com", True),
        ("<@relay.example:user@example.com>", True),
        ("user@[192.0.2.1]", True),
        ("user@example.com.", True),
        ("m\udcfcller@example.com", False),
        ("a\u2028b@example.com", False),
        ("a\x85b@example.com", False),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_a_tag_fits_on_and_what_goes_out_as_it_is(path, fits):
    address = address_of(path)
    assert can_be_tagged(address) is fits
    if fits:
        for form in TagForm:
            signed = address_of(sign(address, key_with(), TODAY, 11, form))
            assert len(signed.local.encode()) == len(address.local.encode()) + 16 <= 64
            assert parse_tag(signed).inner == address
            assert verify(parse_tag(signed), KeyRing([key_with()]), TODAY) is TagState.GOOD


def test_the_number_selects_one_key_never_a_search():
    one, two = key_with(1), key_with(2, b"quite another secret of ours")
    forged = sign(address_of("user@example.com"), two, TODAY, 11, TagForm.PRVS).replace("prvs=2", "prvs=1")
    assert state_of(forged, KeyRing([one, two])) is TagState.FORGED


@pytest.mark.parametrize("number", range(10))
def test_every_number_from_0_to_9(number):
    signed = sign(address_of("user@example.com"), key_with(number), TODAY, 11, TagForm.PRVS)
    assert state_of(signed, KeyRing([key_with(number)])) is TagState.GOOD
    assert state_of(signed, KeyRing([key_with((number + 1) % 10)])) is TagState.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("state", "worth"),
    [
        (KeyState.SIGN, TagState.GOOD),
        (KeyState.VERIFY, TagState.GOOD),
        (KeyState.RETIRED, TagState.UNKNOWN_KEY),
    ],
)
def test_what_a_key_is_used_for(state, worth):
    key = key_with(state=state)
    ring = KeyRing([key])
    assert state_of(sign(address_of("user@example.com"), key, TODAY, 11, TagForm.PRVS), ring) is worth
    assert ring.signer("example.com") is (key if state is KeyState.SIGN else None)


def test_a_key_that_names_the_domain_comes_before_one_for_all():
    everybody, own = key_with(1), key_with(2, b"for example.com alone", domains=("example.com",))
    ring = KeyRing([own, everybody])
    assert ring.signer("example.com") is own
    assert ring.signer("example.org") is everybody
    assert ring.key(1, "example.com") is everybody
    assert ring.key(2, "example.org") is None
    assert KeyRing([own]).signer("example.org") is None


def test_since_when_tags_may_have_been_issued():
    old = key_with(1, state=KeyState.VERIFY, created=TODAY - 50)
    new = key_with(2, b"the key after the old one", created=TODAY - 1)
    gone = key_with(3, b"the key before the old one", state=KeyState.RETIRED, created=TODAY - 500)
    assert KeyRing([old, new, gone]).oldest_day("example.com") == TODAY - 50
    assert KeyRing([new]).oldest_day("example.com") == TODAY - 1
    assert KeyRing([old]).oldest_day("example.com") is None
    assert KeyRing([]).oldest_day("example.com") is None


def test_retiring_a_key_begins_no_new_grace():
    retired = replace(key_with(1, state=KeyState.RETIRED, created=TODAY - 500), verify_since=TODAY - 13)
    signing = key_with(2, b"the key after the old one", created=TODAY - 13)
    assert KeyRing([retired, signing]).oldest_day("example.com") == TODAY - 500
    before = replace(key_with(3, state=KeyState.RETIRED, created=TODAY - 900), verify_since=TODAY - 500)
    assert KeyRing([signing, retired, before]).oldest_day("example.com") == TODAY - 900


def test_after_a_time_without_tags_they_are_new_again():
    for state in (KeyState.RETIRED, KeyState.VERIFY):
        rested = replace(key_with(1, state=state, created=TODAY - 500), verify_since=TODAY - 20)
        signing = key_with(2, b"the key after the old one", created=TODAY - 13)
        assert KeyRing([rested, signing]).oldest_day("example.com") == TODAY - 13


def test_a_secret_is_never_shown():
    key = key_with()
    assert SECRET.decode() not in f"{key!r} {KeyRing([key])!r} {key.fingerprint}"
    assert key.fingerprint != key_with(1, b"quite another secret of ours").fingerprint
    assert len(key.fingerprint) == 8


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (0.0, 0),
        (86399.999, 0),
        (86400.0, 1),
        (1767225599.9, TODAY - 1),
        (1767225600.0, TODAY),
        (2**31, 24855),
    ],
)
def test_a_day_changes_at_midnight_utc(now, day):
    assert day_of(now) == day


def test_only_made_up_tags_are_bad():
    assert [state for state in TagState if state.is_bad] == [TagState.FORGED, TagState.UNKNOWN_KEY]


def alias_state(path, ring, today, delimiters="+"):
    tag = parse_alias_label(address_of(path), delimiters)
    return None if tag is None else verify_alias(tag, ring, today)


@pytest.mark.parametrize("days", [0, 1, 30, 499, 500])
def test_a_disposable_address_is_good_to_its_last_day_and_then_for_ever_dead(days):
    key = key_with()
    ring = KeyRing([key])
    path = sign_alias(address_of("john@example.com"), key, TODAY + days)
    for today in (TODAY, TODAY + days):
        assert alias_state(path, ring, today) is TagState.GOOD
    # Three digits alone would bring it back to life 500 days after its end.
    for today in range(TODAY + days + 1, TODAY + days + 3000, 7):
        assert alias_state(path, ring, today) is TagState.EXPIRED


def test_a_disposable_address_in_any_case_and_with_the_domains_delimiter():
    key = key_with()
    ring = KeyRing([key])
    path = sign_alias(address_of("John@Example.com"), key, TODAY + 30, "-")
    assert path.startswith("John-d-1484")
    for change in (str.lower, str.upper):
        assert alias_state(change(path), ring, TODAY, "-") is TagState.GOOD
    assert alias_state(path, ring, TODAY, "+") is None
    assert parse_alias_label(address_of(path), "-").inner == address_of("John@Example.com")


def test_a_retired_key_still_knows_its_disposable_addresses():
    made = key_with(1)
    path = sign_alias(address_of("john@example.com"), made, TODAY + 500)
    ring = KeyRing([replace(made, state=KeyState.RETIRED, verify_since=TODAY), key_with(2, b"x" * 16)])
    assert alias_state(path, ring, TODAY + 500) is TagState.GOOD
    assert alias_state(path, ring, TODAY + 501) is TagState.EXPIRED
    assert alias_state(path, KeyRing([key_with(2, b"x" * 16)]), TODAY) is TagState.UNKNOWN_KEY
    assert state_of(sign(address_of("john@example.com"), made, TODAY, 11, TagForm.PRVS), ring) is (
        TagState.UNKNOWN_KEY
    )


def test_where_a_number_was_given_again_each_key_that_had_it_is_asked():
    retired = replace(key_with(1), state=KeyState.RETIRED)
    older = replace(key_with(1, b"the first key of that number"), state=KeyState.RETIRED)
    living = key_with(1, b"the newest key of that number")
    ring = KeyRing([older, retired, living])
    for key, days in ((older, 30), (retired, 60), (living, 90)):
        path = sign_alias(address_of("john@example.com"), key, TODAY + days)
        assert alias_state(path, ring, TODAY) is TagState.GOOD
        assert alias_last_day(parse_alias_label(address_of(path)), ring, TODAY) == TODAY + days
    assert ring.key(1, "example.com") is living
    stranger = key_with(1, b"a key that nobody here has ever had")
    path = sign_alias(address_of("john@example.com"), stranger, TODAY + 30)
    assert alias_state(path, ring, TODAY) is TagState.FORGED
    assert alias_last_day(parse_alias_label(address_of(path)), ring, TODAY) is None


def test_a_key_makes_disposable_addresses_for_its_domains_alone():
    retired = replace(key_with(1, domains=("example.com",)), state=KeyState.RETIRED)
    path = sign_alias(address_of("john@example.org"), retired, TODAY + 30)
    assert alias_state(path, KeyRing([retired]), TODAY) is TagState.UNKNOWN_KEY


def test_an_extension_that_only_looks_like_a_disposable_address_is_the_users_own():
    ring = KeyRing([key_with()])
    assert alias_state("john+d-1484aaaaaa@example.com", ring, TODAY) is TagState.FORGED
    assert alias_state("john+d-2484aaaaaa@example.com", ring, TODAY) is TagState.UNKNOWN_KEY
    for path in (
        "john+d-day@example.com",
        "john+d-1484aaaaa@example.com",
        "john@example.com",
        "d-1484aaaaaa@a.b",
    ):
        assert alias_state(path, ring, TODAY) is None


def test_a_tag_and_a_disposable_address_are_not_worth_each_others_hash():
    key = key_with()
    ring = KeyRing([key])
    alias = sign_alias(address_of("john@example.com"), key, TODAY + 11)
    assert state_of(alias.replace("+d-", "+prvs="), ring) is TagState.FORGED
    tagged = sign(address_of("john@example.com"), key, TODAY, 11, TagForm.SUBADDRESS)
    assert alias_state(tagged.replace("+prvs=", "+d-"), ring, TODAY) is TagState.FORGED


def test_a_disposable_address_that_sends_is_tagged_like_any_other():
    key = key_with()
    alias = address_of(sign_alias(address_of("john@example.com"), key, TODAY + 30))
    assert not is_tagged(alias)
    signed = address_of(sign(alias, key, TODAY, 11, TagForm.SUBADDRESS))
    assert parse_tag(signed).inner == alias
