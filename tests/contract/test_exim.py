"""Tags both ways with a real Exim: `exim4 -be` is a calculator, no mail server runs.

`prvs` and `prvscheck` are in Exim's specification, chapter 11.5; its lifetime is seven days.
"""

import random as chance
import subprocess
import time

import pytest

from backstop.address import parse
from backstop.batv import DAY, Key, KeyRing, KeyState, TagCase, TagForm, TagState, day_of, sign, verify
from backstop.batv import parse as parse_tag
from tests.harness.servers import ROOT, need, wait_for

LIFETIME = 7
ATOM = "abcdefghijklmnopqrstuvwxyz0123456789_"


@pytest.fixture(scope="module")
def exim():
    """Asks Exim for many expansions in one go; the answers come in order."""
    program = need(str(ROOT / ".state/exim/run"), "exim4", "exim")

    def expand(expressions):
        ended = subprocess.run(
            [program, "-be"],
            input="\n".join(expressions) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        # One prompt for each line read, and one for the end of the input.
        return [answer.removeprefix("> ") for answer in ended.stdout.split("\n")[:-2]]

    return expand


@pytest.fixture(scope="module")
def random():
    seed = chance.randrange(2**32)
    print("seed", seed)  # noqa: T201 - pytest shows it with a failure
    return chance.Random(seed)


@pytest.fixture(scope="module")
def keys(random):
    return [
        Key(
            number,
            random.randbytes(random.choice((8, 16, 31))).hex().encode(),
            KeyState.SIGN,
            ("*",),
            0,
            LIFETIME,
        )
        for number in range(10)
    ]


@pytest.fixture
def today():
    """A day that does not end before the test does."""
    wait_for(lambda: time.time() % DAY < DAY - 30, 60, "midnight UTC to pass")
    return day_of(time.time())


def random_case(random, text):
    return "".join(random.choice((char.lower(), char.upper())) for char in text)


def random_address(random, *, lower):
    atoms = ["".join(random.choices(ATOM, k=random.randrange(1, 10))) for _ in range(random.randrange(1, 4))]
    local = "".join(atom + random.choice(".+-=!%&'") for atom in atoms)[:-1]
    domain = ".".join(random.choice(("example", "sub", "test", "mail-1", "x")) for _ in range(2)) + ".org"
    address = f"{local}@{domain}"
    return parse(address if lower else random_case(random, address))


def quoted(address):
    """An address within an Exim expansion; some of its characters mean something there."""
    return "".join("\\" + char if char in "\\${}," else char for char in address)


def test_what_exim_signs_is_good_here(exim, random, keys, today):
    addresses = [random_address(random, lower=random.random() < 0.3) for _ in range(1000)]
    chosen = [random.choice(keys) for _ in addresses]
    signed = exim(
        f"${{prvs{{{quoted(address.path)}}}{{{key.secret.decode()}}}{{{key.number}}}}}"
        for address, key in zip(addresses, chosen, strict=True)
    )
    ring = KeyRing(keys)
    for address, key, path in zip(addresses, chosen, signed, strict=True):
        tag = parse_tag(parse(path))
        assert tag.inner == address
        assert verify(tag, ring, today) is TagState.GOOD
        assert sign(address, key, today, LIFETIME, TagForm.PRVS, TagCase.AS_WRITTEN) == path
        assert [verify(tag, ring, today + d) for d in (-1, 8, 9)] == [
            TagState.GOOD,
            TagState.GOOD,
            TagState.EXPIRED,
        ]


@pytest.mark.parametrize(
    ("lower", "case"), [(True, TagCase.FOLD), (True, TagCase.AS_WRITTEN), (False, TagCase.AS_WRITTEN)]
)
def test_what_we_sign_is_good_in_exim(exim, random, keys, today, lower, case):
    addresses = [random_address(random, lower=lower) for _ in range(1000)]
    chosen = [random.choice(keys) for _ in addresses]
    expressions = []
    for address, key in zip(addresses, chosen, strict=True):
        signed = sign(address, key, today, LIFETIME, TagForm.PRVS, case)
        expressions.append(
            f"${{prvscheck{{{quoted(signed)}}}{{{key.secret.decode()}}}"
            "{$prvscheck_result $prvscheck_keynum $prvscheck_address}}"
        )
    assert exim(expressions) == [f"1 {key.number} {a.path}" for a, key in zip(addresses, chosen, strict=True)]


def test_exim_refuses_what_we_sign_folded_where_the_address_is_not(exim, keys, today):
    # The documented price of surviving a change of case; tag_case = "as-written" is for a shared key.
    signed = sign(parse("User@Example.org"), keys[0], today, LIFETIME, TagForm.PRVS)
    check = "[${prvscheck{%s}{%s}{$prvscheck_result.}}]"
    assert exim([check % (signed, keys[0].secret.decode())]) == ["[.]"]
    assert exim([check % (signed.lower(), keys[0].secret.decode())]) == ["[1.]"]
