"""The load that script/bench sends: its tags are what they claim to be, its verdicts those of the design."""

import importlib.util
import json
import sys
from collections import Counter

import pytest

from backstop.address import parse
from backstop.batv import Key, KeyRing, KeyState, TagState, day_of, verify
from backstop.batv import parse as parse_tag
from tests.harness.servers import ROOT

NOW = 1_793_700_000.0
SECRET = bytes(range(20))


def load_mix():
    spec = importlib.util.spec_from_file_location("bench_mix", ROOT / "script" / "bench.d" / "mix.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


mix = load_mix()
LOAD = {scenario.name: scenario for scenario in mix.mixed_load(SECRET, NOW)}


def tag_states(scenario):
    key = Key(mix.KEY_NUMBER, SECRET, KeyState.SIGN, ("*",), day_of(NOW) - 60, mix.LIFETIME_DAYS)
    tags = [parse_tag(parse(path)) for path in scenario.recipients]
    return Counter(verify(tag, KeyRing([key]), day_of(NOW)) if tag else None for tag in tags)


def test_the_mix_is_that_of_the_design():
    weights = {name: scenario.weight for name, scenario in LOAD.items()}
    assert weights == {
        "forged-tag": 20,
        "untagged": 20,
        "ordinary": 30,
        "outgoing": 20,
        "good-bounce": 5,
        "unknown": 5,
    }


def test_tags_are_good_forged_or_not_there():
    assert tag_states(LOAD["good-bounce"]) == {TagState.GOOD: mix.USERS}
    assert tag_states(LOAD["forged-tag"]) == {TagState.FORGED: mix.USERS}
    assert tag_states(LOAD["untagged"]) == {None: mix.USERS}


@pytest.mark.parametrize(
    ("name", "backstop", "empty"),
    [
        ("forged-tag", ["rcpt:550"], ["eom:accept"]),
        ("untagged", ["data:550"], ["eom:accept"]),
        ("ordinary", ["data:accept"], ["eom:accept"]),
        ("outgoing", ["eom:accept+chgfrom"], ["eom:accept"]),
        ("good-bounce", ["data:accept"], ["eom:accept"]),
        ("unknown", ["mta", "mta+rcpt:continue"], ["mta", "mta+rcpt:continue"]),
    ],
)
def test_verdicts(name, backstop, empty):
    assert list(mix.expected(LOAD[name], mix.Judge.BACKSTOP)) == backstop
    assert list(mix.expected(LOAD[name], mix.Judge.EMPTY)) == empty
    assert list(mix.expected(LOAD[name], mix.Judge.ANY)) == []


def test_both_writers_write_the_same_mail():
    scenarios = list(LOAD.values())
    written = [line.split("\t") for line in mix.as_lines(scenarios, mix.Judge.BACKSTOP).splitlines()]
    objects = json.loads(mix.as_json(scenarios, mix.Judge.BACKSTOP))
    assert [line[1] for line in written if line[0] == "scenario"] == [each["name"] for each in objects]
    assert [line[1] for line in written if line[0] == "rcpt"] == [
        to for each in objects for to in each["rcpt"]
    ]
    assert all(9 <= len(each["headers"]) <= 12 for each in objects if each["body_bytes"])


def test_a_scenario_by_itself():
    assert [each.name for each in mix.only(list(LOAD.values()), "outgoing")] == ["outgoing"]
    with pytest.raises(ValueError, match="no scenario spam; there are forged-tag, untagged"):
        mix.only(list(LOAD.values()), "spam")
