"""The configuration file: what it means, and what is said of every fault."""

import os
from pathlib import Path

import pytest

from backstop import config
from backstop.batv import TagForm
from backstop.config import Config, ConfigurationError, Layer
from backstop.settings import Action, Limit
from tests.harness.servers import need

KEYS = """\
[memory]
secret_hex = "00112233445566778899aabbccddeeff"

[[key]]
number = 1
secret = "at least 16 bytes, as text"
state = "sign"
domains = ["*"]
created = 2026-01-01
max_lifetime = "11d"
"""
NOW = 1795305600.0  # 2026-11-22


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(KEYS)
    path.chmod(0o400)
    return path


@pytest.fixture
def load(tmp_path, keys):
    def loaded(text: str) -> Config:
        path = tmp_path / "backstop.toml"
        path.write_text(text.replace("KEYS", str(keys)))
        return config.load(path)

    return loaded


def test_the_least_that_works(load):
    found = load('keys = "KEYS"\ndomains = ["Example.COM."]\n[defaults]\ntag_form = "prvs"\n')
    assert found.domains == ("example.com",)
    assert found.settings_for("example.com").tag_form is TagForm.PRVS
    assert found.settings_for("example.com").actions["tag"] is Action.OBSERVE
    assert found.store == ("redis://127.0.0.1:6379/0",)
    assert found.ring.signer("example.com").number == 1
    assert found.site.ring is found.ring


def test_a_domain_differs_from_the_defaults_only_where_it_says_so(load, tmp_path):
    found = load("""\
keys = "KEYS"
domains = ["example.com", "example.org"]
[limits]
bad_tags = "5/1m"
[defaults]
tag_form = "prvs"
actions = { tag = "reject", unproved = "junk" }
[domain."EXAMPLE.org"]
lifetime = "9d"
actions = { tag = "off" }
""")
    own, other = found.settings_for("example.org"), found.settings_for("example.com")
    assert (own.lifetime, own.actions["tag"], own.actions["unproved"]) == (9, Action.OFF, Action.JUNK)
    assert (other.lifetime, other.actions["tag"]) == (11, Action.REJECT)
    assert found.limits.bad_tags == Limit(5, 60)
    file = tmp_path / "backstop.toml"
    assert str(found.origin("example.org", "tag")) == f'{file}:10 [domain."EXAMPLE.org"]'
    assert str(found.origin("example.org", "unproved")) == f"{file}:7 [defaults]"
    assert str(found.origin("example.com", "lifetime")) == "built-in default"
    assert found.origin("example.org", "lifetime").layer is Layer.DOMAIN


def test_all_faults_come_at_once_each_on_its_line(load, tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        load('keys = "KEYS"\ndomains = [\n  "example.com",\n  "a@b"\n]\nworkers = "two"\nsocked = 1\n')
    where = tmp_path / "backstop.toml"
    assert str(raised.value).split("\n") == [
        (
            f'{where}:1: tag_form: it is missing for example.com; write tag_form = "subaddress" where'
            " the mail server's recipient_delimiter has a +, else"
            ' tag_form = "prvs" (`backstop setup postfix` tells)'
        ),
        f'{where}:4: domains: a domain is wanted, not the address "a@b"; write what stands behind its @',
        f"{where}:6: workers: a whole number from 0 to 256 is wanted, without quotes",
        f'{where}:7: socked: this version does not know this name; did you mean "socket"?',
    ]


def test_a_file_that_is_not_there():
    config_, faults, warnings = config.check(Path("/nonexistent/backstop.toml"), NOW)
    assert config_ is None
    assert faults == ("/nonexistent/backstop.toml: there is no such file; name another with --config FILE",)
    assert warnings == ()


def warned(tmp_path, keys, text, now=NOW):
    path = tmp_path / "backstop.toml"
    path.write_text(text.replace("KEYS", str(keys)))
    loaded, faults, warnings = config.check(path, now)
    assert faults == ()
    assert loaded is not None
    return [warning.removeprefix(f"{path}:") for warning in warnings]


QUIET = (
    'keys = "KEYS"\nsocket = "unix:/tmp/x.sock"\ndomains = ["example.com"]\n[defaults]\ntag_form = "prvs"\n'
)


def test_a_good_file_has_no_warning(tmp_path, keys):
    assert warned(tmp_path, keys, QUIET) == []


def test_a_domain_in_grace_is_a_warning_with_the_date_it_ends(tmp_path, keys):
    created = 1767225600.0  # 2026-01-01, as the key says
    said = (
        "3: domains: example.com is in grace until 2026-01-17: until then a missing tag is only observed"
        " (since 2026-01-01: the signing key is of that day)"
    )
    assert warned(tmp_path, keys, QUIET, created) == [said]
    assert warned(tmp_path, keys, QUIET, created + 15.9 * 86400) == [said]
    assert warned(tmp_path, keys, QUIET, created + 16 * 86400) == []
    assert warned(tmp_path, keys, QUIET + 'grace = "0d"\n', created) == []


def test_grace_that_begins_again_is_a_warning_and_of_many_domains_twenty_are_named(tmp_path, keys):
    long_after = 1767225600.0 + 200 * 86400
    again = QUIET + "grace_since = 2026-07-20\n"
    (said,) = warned(tmp_path, keys, again, long_after)
    assert "is in grace until 2026-08-05: " in said
    many = str([f"d{number}.example" for number in range(23)]).replace("'", '"')
    said = warned(tmp_path, keys, again.replace('["example.com"]', many), long_after)
    assert len(said) == 21
    assert said[-1] == "3: domains: 3 more domains are in grace; see `backstop domain list`"


def test_a_domain_without_a_key_is_a_warning(tmp_path, keys):
    keys.chmod(0o600)
    keys.write_text(KEYS.replace('"*"', '"example.org"'))
    (warning,) = warned(tmp_path, keys, QUIET)
    assert warning.startswith("3: domains: no key signs for example.com: mail goes out without tags")


def test_tcp_is_a_warning_and_beyond_this_machine_another(tmp_path, keys):
    slow, *more = warned(tmp_path, keys, QUIET.replace("unix:/tmp/x.sock", "inet:8891@127.0.0.1"))
    assert slow.startswith("2: socket: TCP is slow here")
    assert more == []
    assert len(warned(tmp_path, keys, QUIET.replace("unix:/tmp/x.sock", "inet:8891@192.0.2.1"))) == 2


def test_a_missing_recipient_file_is_a_warning(tmp_path, keys):
    (warning,) = warned(tmp_path, keys, QUIET + 'recipients = ["file:/nonexistent/list"]\n')
    assert "the file /nonexistent/list does not exist yet" in warning


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/list"])
def test_a_recipient_file_that_cannot_even_be_looked_at_is_a_warning(tmp_path, keys, name):
    """Path.is_file() raised: a traceback of check-config, and at a reload the end of the daemon."""
    (warning,) = warned(tmp_path, keys, QUIET + f'recipients = ["file:{tmp_path}/{name}"]\n')
    assert f"the file {tmp_path}/{name} does not exist yet" in warning


def test_a_folder_in_the_place_of_a_recipient_file_is_a_warning(tmp_path, keys):
    (warning,) = warned(tmp_path, keys, QUIET + f'recipients = ["file:{tmp_path}"]\n')
    assert f"the file {tmp_path} is something else" in warning


@pytest.mark.skipif(os.geteuid() == 0, reason="cannot be here: no door is closed to root")
def test_a_recipient_file_behind_a_closed_door_is_a_warning(tmp_path, keys):
    door = tmp_path / "door"
    door.mkdir(mode=0)
    (warning,) = warned(tmp_path, keys, QUIET + f'recipients = ["file:{door}/list"]\n')
    door.chmod(0o700)
    assert f"the file {door}/list is out of this user's reach" in warning


def test_a_table_of_which_nothing_shows_that_it_is_empty_is_a_warning(tmp_path, keys):
    need("postmap")
    sources = '["postfix:hash:/seen", "postfix:mysql:/etc/users.cf"]'
    (warning,) = warned(tmp_path, keys, QUIET + f"recipients = {sources}\n")
    assert warning.endswith(
        "recipients: nothing would show that postfix:mysql:/etc/users.cf is empty, and all its recipients"
        " would be refused; ldap:NAME and sql:NAME see it"
    )


def test_a_password_in_a_file_that_everybody_reads_is_a_warning_without_it(tmp_path, keys):
    text = QUIET.replace("domains", 'store = "redis://:secret-word@h:1/0"\ndomains')
    (warning,) = warned(tmp_path, keys, text)
    assert warning.startswith("3: store: it holds a password, and everybody can read")
    assert "secret-word" not in warning


def test_the_form_of_domains_that_only_redis_names(load):
    found = load(
        'keys = "KEYS"\ndomains = ["example.com"]\n[domain."example.com"]\ntag_form = "subaddress"\n'
    )
    assert found.settings_for("other.example").tag_form is TagForm.SUBADDRESS


def test_the_action_of_a_check_and_a_setting_of_the_same_name(load):
    found = load(
        'keys = "KEYS"\ndomains = ["example.com"]\n[defaults]\ntag_form = "prvs"\n'
        'receive_only = ["news@example.com"]\n[domain."example.com"]\nactions = { receive_only = "junk" }\n'
    )
    assert "[defaults]" in str(found.origin("example.com", "receive_only"))
    assert '[domain."example.com"]' in str(found.origin("example.com", "actions.receive_only"))
