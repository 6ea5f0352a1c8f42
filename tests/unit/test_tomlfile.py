"""The line of every value in a TOML file, and files that are none."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstop import config
from backstop.tomlfile import TomlFault, parse
from tests.unit.test_config import KEYS

TEXT = '''\
# a comment with = and [brackets]
first = "one"   # another
"quoted = name" = 'x # y'
a.b."c.d" = { e = 1, "f g" = [ 2, 3 ] }
text = """
[not.a.table]
also = "not"
"""
list = [ # a comment ]
  "x", "y",
  [ "nested",
    { deep = true } ],
  \'\'\'
  z = 1\'\'\',
]
day = 2026-11-21
[table]
under = 1
[ table . "in.ner" ]
under = 2
[[many]]
n = 1
[[many]]
n = 2
[other.implied]
'''

PLACES = {
    ("first",): 2,
    ("quoted = name",): 3,
    ("a",): 4,
    ("a", "b", "c.d", "e"): 4,
    ("a", "b", "c.d", "f g", 1): 4,
    ("text",): 5,
    ("list",): 9,
    ("list", 1): 10,
    ("list", 2): 11,
    ("list", 2, 1, "deep"): 12,
    ("list", 3): 13,
    ("day",): 16,
    ("table",): 17,
    ("table", "under"): 18,
    ("table", "in.ner"): 19,
    ("table", "in.ner", "under"): 20,
    ("many", 0): 21,
    ("many", 0, "n"): 22,
    ("many", 1, "n"): 24,
    ("other",): 25,
    ("other", "implied"): 25,
}


def test_the_line_of_every_value():
    file = parse(TEXT.encode())
    assert {place: file.line(*place) for place in PLACES} == PLACES
    assert parse(TEXT.replace("\n", "\r\n").encode()).lines == file.lines


def test_the_line_of_what_is_not_there_is_that_around_it():
    file = parse(TEXT.encode())
    assert file.line("table", "nothing") == 17
    assert file.line("nothing") == 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abc-_", min_size=1, max_size=3), st.text(max_size=8)), unique_by=lambda x: x[0]
    )
)
def test_lines_of_texts_of_any_kind(pairs):
    lines = []
    for name, value in pairs:
        escaped = "".join(f"\\U{ord(char):08x}" for char in value if not "\ud800" <= char <= "\udfff")
        lines += [f'{name} = "{escaped}"', ""]
    file = parse("\n".join(lines).encode())
    for number, (name, _) in enumerate(pairs):
        assert file.line(name) == 2 * number + 1


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_octets_raise_anything_but_a_fault(octets):
    with contextlib.suppress(TomlFault):
        parse(octets)


BASE = (
    'keys = "KEYS"\nsocket = "unix:/x"\nworkers = 2\nstore = "redis://h:1/0"\nrelays = ["10.0.0.0/8"]\n'
    'domains = ["example.com"]\n[limits]\nbad_tags = "5/1m"\n[defaults]\ntag_form = "prvs"\nlifetime = "9d"\n'
    'recipients = ["redis", "file:/x"]\nactions = { tag = "junk" }\n[domain."example.com"]\ngrace = "0d"\n'
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    keys = folder / "keys.toml"
    keys.write_text(KEYS)
    keys.chmod(0o400)
    path = folder / "backstop.toml"
    path.write_text(BASE.replace("KEYS", str(keys)))
    assert config.check(path)[0] is not None
    return path


_VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "1.5",
        "inf",
        "true",
        '""',
        '"x"',
        '"1d"',
        "[]",
        "[1]",
        '["x"]',
        "{}",
        "{ x = 1 }",
        "2026-11-21",
        "[[]]",
    ]
)


@settings(deadline=None)
@given(st.data())
def test_a_value_of_any_type_anywhere_is_taken_or_told(file, data):
    lines = file.read_text().split("\n")
    number = data.draw(st.sampled_from([at for at, line in enumerate(lines) if " = " in line]))
    lines[number] = f"{lines[number].partition(' = ')[0]} = {data.draw(_VALUES)}"
    other = file.with_name("other.toml")
    other.write_text("\n".join(lines))
    loaded, faults, _ = config.check(other)
    assert (loaded is None) == bool(faults)
    about_others = ("tag_form", "is not protected")  # what the change took from them
    for fault in faults:
        assert fault.startswith(f"{other}:{number + 1}: ") or any(text in fault for text in about_others)
