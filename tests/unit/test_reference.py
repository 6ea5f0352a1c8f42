"""The reference page names everything there is, with the defaults that hold."""

import argparse
import re
import tomllib
from dataclasses import fields

import pytest

from backstop.adapters import redis_names
from backstop.adapters.callahead_target import Options
from backstop.adapters.ldap_directory import LdapOptions
from backstop.adapters.sql_database import SqlOptions
from backstop.checks import CHECKS
from backstop.cli import _parser
from backstop.cli.effective import written
from backstop.config.reader import DEFAULTS, DOMAIN_NAMES, TOP_NAMES
from backstop.config.sources import CALLAHEAD, READERS
from backstop.session import Untagged
from backstop.settings import PARSERS, Action, DomainSettings, Limits, SourceKind
from tests.harness.servers import ROOT

PAGE = (ROOT / "docs" / "reference.md").read_text()
ROWS = {
    cells[1].strip().strip("`"): [cell.strip() for cell in cells[2:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| `") and len(cells := line.split("|")) > 3
}


def commands(parser, words=()):
    """Every command with its own options, by its words."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield " ".join(words), parser
    for name, child in ((name, child) for action in below for name, child in action.choices.items()):
        yield from commands(child, (*words, name))


COMMANDS = dict(commands(_parser(["setup"])))


TABLES = ("callahead", "ldap", "sql")
SINGLE = [name for name in TOP_NAMES if name not in ("limits", "lists", *TABLES, "defaults", "domain")]


@pytest.mark.parametrize("name", [*SINGLE, *DOMAIN_NAMES])
def test_every_setting_has_a_row(name):
    assert name in ROWS


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_of_a_name_at_the_top(name):
    value = DEFAULTS[name]
    shown = f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')
    assert ROWS[name][0] == f"`{shown}`"


@pytest.mark.parametrize("name", [name for name in PARSERS if name not in ("tag_form", "receive_only")])
def test_the_default_of_a_domains_setting(name):
    (default,) = (field.default for field in fields(DomainSettings) if field.name == name)
    shown = ROWS[name][0].strip("`")
    bare = ", ".join(re.findall(r'"([^"]*)"', shown)) if shown.startswith("[") else shown.strip('"')
    assert bare == written(name, default)


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_the_default_of_a_limit(name):
    assert ROWS[name][0] == f'`"{getattr(Limits(), name)}"`'


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_check_has_a_row_with_its_default(check):
    start = f"| `{check.name}` |"
    (row,) = (line for line in PAGE.splitlines() if line.startswith(start) and line.count("|") == 6)
    assert f"`{check.default.label}`" in row.split("|")[5]
    assert f"{check.reject.code} {check.reject.status}" in row


@pytest.mark.parametrize("action", Action, ids=lambda action: action.label)
def test_every_action_has_a_row(action):
    assert action.label in ROWS or f"| `{action.label}` |" in PAGE


@pytest.mark.parametrize("reason", [one for one in Untagged if one.is_ours], ids=lambda one: one.value)
def test_every_reason_for_a_missing_tag_has_a_row(reason):
    assert f"| `untagged.{reason.value}` |" in PAGE


KEYS = [
    value.decode() for name, value in vars(redis_names).items() if name.isupper() and type(value) is bytes
]


@pytest.mark.parametrize("key", KEYS)
def test_every_redis_key_is_named(key):
    assert f"`{key}`" in PAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named_with_its_options(name):
    assert f"`{name}" in PAGE
    section = PAGE[PAGE.index("## Commands") :]
    for action in COMMANDS[name]._actions:
        long = [option for option in action.option_strings if option.startswith("--")]
        assert not long or long[-1] == "--help" or long[-1] in section, (name, long)


def section(heading):
    """The text below a heading, up to the next one."""
    return re.split(r"^#+ ", PAGE[PAGE.index(heading) + len(heading) :], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", CALLAHEAD)
def test_the_default_of_an_option_of_callahead(name):
    value = getattr(Options(), name)
    shown = f'"{value:.0f}s"' if isinstance(value, float) else f'"{value}"' if value == "" else str(value)
    assert f"| `{name}` | `{shown}` |" in section("#### `[callahead]`")


@pytest.mark.parametrize(("kind", "options"), [("ldap", LdapOptions), ("sql", SqlOptions)])
def test_the_options_of_a_directory_and_of_a_database(kind, options):
    """The example is what the reader takes, and names every option."""
    example = re.search(r"```toml\n(.*?)```", section(f"#### `[{kind}.NAME]`"), re.DOTALL)
    (table,) = tomllib.loads(example[1])[kind].values()
    READERS[kind](table)
    given = {**table, **table.get("connect", {})}
    assert {field.name for field in fields(options)} <= set(given)


@pytest.mark.parametrize("kind", SourceKind)
def test_every_kind_of_source_has_a_row(kind):
    assert f'| `"{kind.value}' in section("### Recipient sources")
