"""The commands `key` and `tag` as an administrator gives them."""

import hashlib
import hmac
import json
import os
import stat
import time

import pytest

from backstop.batv import day_of
from tests.harness.servers import run_backstop

SECRET = "correct horse battery staple"


@pytest.fixture
def site(tmp_path):
    """A configuration whose key file is not there yet."""
    config = tmp_path / "backstop.toml"
    config.write_text(f"""\
keys = "{tmp_path}/keys.toml"
state_directory = "{tmp_path}"
domains = ["example.com", "example.org"]
[defaults]
tag_form = "subaddress"
recipient_delimiter = "+"
[domain."example.org"]
tag_form = "prvs"
tag_case = "as-written"
lifetime = "20d"
""")
    return config


@pytest.fixture
def backstop(site):
    def run(*words, text="", status=0):
        ended = run_backstop(*words, "--config", str(site), text=text)
        assert ended.returncode == status, ended.stderr
        assert "Traceback" not in ended.stderr
        assert SECRET not in ended.stdout + ended.stderr
        return ended.stdout if status == 0 else ended.stdout + ended.stderr

    return run


def listed(backstop):
    return json.loads(backstop("key", "list", "--json"))


def test_the_life_of_the_keys(backstop, site):
    said = backstop("key", "new")
    assert "key 1 signs for all domains" in said
    assert "systemctl reload backstop" in said
    keys = site.parent / "keys.toml"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o400
    # The longest lifetime configured is known to the key, so that the configuration is in order now.
    assert listed(backstop)[0]["max_lifetime"] == "20d"
    assert "in order" in backstop("check-config")

    assert "rotate" in backstop("key", "new", status=os.EX_USAGE)
    tagged = backstop("tag", "sign", "User@example.com").strip()
    assert tagged.startswith("User+prvs=1")
    said = backstop("key", "rotate")
    assert "key 1 verifies" in said
    assert "key 2 signs" in said
    assert backstop("tag", "sign", "user@example.com").startswith("user+prvs=2")
    assert "good: tag of User@example.com, key 1" in backstop("tag", "check", tagged)
    assert "can come back up to" in backstop("key", "retire", "1", status=os.EX_USAGE)
    assert "rotate" in backstop("key", "retire", "2", status=os.EX_USAGE)
    assert "key 1 is retired" in backstop("key", "retire", "1", "--force")
    assert "unknown-key" in backstop("tag", "check", tagged, status=1)
    assert [key["state"] for key in listed(backstop)] == ["retired", "sign"]
    fingerprint = listed(backstop)[1]["fingerprint"]
    assert fingerprint in backstop("key", "list")
    assert [file.name for file in sorted(site.parent.iterdir())] == ["backstop.toml", "keys.toml"]


def test_a_key_for_one_domain(backstop):
    backstop("key", "new", "--number", "0")
    backstop("key", "new", "--domain", "Example.ORG", "--domain", "bücher.example")
    assert listed(backstop)[1]["domains"] == ["example.org", "xn--bcher-kva.example"]
    assert "several keys sign" in backstop("key", "rotate", status=os.EX_USAGE)
    backstop("key", "rotate", "--domain", "example.org")
    assert [(key["number"], key["state"]) for key in listed(backstop)] == [
        (0, "sign"),
        (1, "verify"),
        (2, "sign"),
    ]


def test_a_secret_shared_with_exim(backstop):
    backstop("key", "new", "--secret-stdin", "--number", "0", text=f"{SECRET}\n")
    signed = backstop("tag", "sign", "User@Example.org", "--at", "2027-06-28T12:00Z").strip()
    digest = hmac.new(SECRET.encode(), b"0017User@Example.org", hashlib.sha1).hexdigest()[:6]
    assert signed == f"prvs=0017{digest}=User@Example.org"
    assert "last day 2027-07-18" in backstop("tag", "check", signed, "--at", "2027-07-18")


def test_a_key_of_another_server_only_verifies(backstop):
    backstop("key", "new")
    said = backstop("key", "new", "--secret-stdin", "--verify-only", text=f"{SECRET}\r\n")
    assert "key 2 verifies for all domains" in said
    assert "verify_since" in backstop("key", "retire", "2", status=os.EX_USAGE)
    assert "nobody knows" in backstop("key", "new", "--verify-only", status=os.EX_USAGE)


@pytest.mark.parametrize("text", ["", "short\n", "x" * 20_000])
def test_a_bad_secret_changes_nothing(backstop, site, text):
    ended = run_backstop("key", "new", "--secret-stdin", "--config", str(site), text=text)
    assert ended.returncode in (os.EX_USAGE, os.EX_DATAERR)
    assert not (site.parent / "keys.toml").exists()


def test_a_longer_lifetime_is_told_to_the_keys_first(backstop, site):
    backstop("key", "new", "--lifetime", "11d")
    said = backstop("check-config", status=os.EX_CONFIG)
    assert "backstop key lifetime 20d" in said
    assert "know 20d" in backstop("key", "lifetime", "20d")
    backstop("check-config")
    assert "nothing to do" in backstop("key", "lifetime", "5d")
    assert listed(backstop)[0]["max_lifetime"] == "20d"


def test_tags_with_a_key_file_and_no_configuration(tmp_path, backstop):
    backstop("key", "new", "--keys", str(tmp_path / "other.toml"))
    words = ("--keys", str(tmp_path / "other.toml"), "--config", str(tmp_path / "none.toml"))
    ended = run_backstop("tag", "sign", "user@example.net", *words, "--json")
    made = json.loads(ended.stdout)
    day = (day_of(time.time()) + 11) % 1000
    assert made["tagged"].startswith(f"prvs=1{day:03d}")
    ended = run_backstop("tag", "check", made["tagged"], *words, "--json")
    assert json.loads(ended.stdout)["state"] == "good"
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("prvs=1461ceb0c9=user@example.com", os.EX_DATAERR),
        ("a" * 49 + "@example.com", os.EX_DATAERR),
        ('"a b"@example.com', os.EX_DATAERR),
        ("", os.EX_USAGE),
        ("user", os.EX_USAGE),
        ("us\ner@example.com", os.EX_USAGE),
    ],
)
def test_what_is_not_tagged(backstop, address, status):
    backstop("key", "new")
    backstop("tag", "sign", address, status=status)


def test_what_is_no_good_tag(backstop):
    backstop("key", "new")
    assert "carries no tag" in backstop("tag", "check", "user@example.com", status=1)
    assert "forged" in backstop("tag", "check", "prvs=1461ceb0c9=user@example.com", status=1)
    assert "forged: disposable address" in backstop("tag", "check", "user+d-1461ceb0c9@example.com", status=1)
    assert '"nonsense"' in backstop(
        "tag", "check", "user@example.com", "--at", "nonsense", status=os.EX_USAGE
    )


def test_a_faulty_key_file_is_told_line_by_line(backstop, site):
    keys = site.parent / "keys.toml"
    keys.write_text(f'[[key]]\nnumber = 10\nsecret = "{SECRET}"\nstate = "x"\n')
    keys.chmod(0o644)
    for words in (("key", "list"), ("key", "rotate"), ("key", "new"), ("tag", "sign", "user@example.com")):
        said = backstop(*words, status=os.EX_CONFIG)
        assert "mode 0644" in said
        assert "keys.toml:2: number" in said
    assert "keys.toml:4: state" in said


def test_a_folder_that_is_not_there(backstop, tmp_path):
    said = backstop("key", "new", "--keys", str(tmp_path / "none" / "keys.toml"), status=os.EX_CANTCREAT)
    assert "nothing is changed" in said
