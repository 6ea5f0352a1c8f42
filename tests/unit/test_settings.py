"""What can be set, how it is written, and what becomes of what means nothing."""

import time

import pytest

from backstop.address import parse
from backstop.batv import TagCase, TagForm
from backstop.checks import CHECKS
from backstop.proof import Proof
from backstop.settings import (
    PARSERS,
    Action,
    Addresses,
    DomainSettings,
    Limit,
    NothingReturned,
    ReportScope,
    SourceDown,
    SourceKind,
    SourceName,
    Strip,
    duration_text,
    override,
    parse_action,
    parse_block,
    parse_duration,
    parse_limit,
    parse_source,
)
from tests.harness.engine import settings

BASE = settings({"tag_form": TagForm.PRVS, "receive_only": Addresses(["no-reply@our.example"])})

# -- The block --------------------------------------------------------------------------------------------

BLOCKS = [
    *[(word, Action.JUNK) for word in ("1", "on", "yes", "true", "TRUE ", " Yes\n", "ON\r\n", "\ttrue")],
    *[(word, Action.OFF) for word in ("0", "off", "no", "false", "OFF", " No ", "False\n")],
    *[(action.label, action) for action in Action],
    *[(f" {action.name}\n", action) for action in Action],
    *[
        (word, None)
        for word in ("", " ", "2", "-1", "01", "1.0", "junk!", "junk reject", "jnuk", "y", "t", "None")
    ],
    *[
        (word, None)
        for word in ("\x00", "on\x00", "\ufffd", "\udcff", "\uff2f\uff2e", "ja", "[]", "{}", "null", '"on"')
    ],
    ("x" * 10_000_000, None),
]


@pytest.mark.parametrize(("text", "action"), BLOCKS, ids=lambda value: ascii(value)[:20])
def test_the_table_of_what_the_value_of_a_block_means(text, action):
    assert parse_block(text) is action


# -- Single values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("12h", 43200),
        ("2d", 172800),
        ("1w", 604800),
        ("2D", 172800),
        (" 2d\n", 172800),
        ("0d", 0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2",
        "d",
        "-1d",
        "1.5h",
        "2 d",
        "2d3h",
        "1e3s",
        "\u0662d",
        "9999999999s",
        2,
        2.0,
        True,
        None,
        ["2d"],
    ],
)
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match="wanted"):
        parse_duration(value)


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 90, 3600, 5400, 86400, 604800, 172800, 172801])
def test_a_duration_is_written_as_it_is_read(seconds):
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "limit"),
    [("20/10m", Limit(20, 600)), ("1/1s", Limit(1, 1)), ("1000000/1d", Limit(1_000_000, 86400))],
)
def test_limits(text, limit):
    assert parse_limit(text) == limit
    assert parse_limit(str(limit)) == limit


@pytest.mark.parametrize(
    "value",
    [
        "",
        "20",
        "20/",
        "/10m",
        "0/10m",
        "-1/10m",
        "20/10",
        "20/0m",
        "20/2d",
        "1000001/1h",
        "\u0662/1h",
        "1/1h/1h",
        20,
        "000000001" + "0" * 20 + "/1h",
        "000000001" + "0" * 5000 + "/1h",
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_no_limit(value):
    with pytest.raises(ValueError, match=r"wanted|window"):
        parse_limit(value)


@pytest.mark.parametrize("action", Action)
def test_actions(action):
    for text in (action.label, action.name, f" {action.label}\n"):
        assert parse_action(text) is action


@pytest.mark.parametrize("value", ["", "1", "on", "rejects", "re ject", "\x00", 6, Action.REJECT, True, None])
def test_what_is_no_action(value):
    with pytest.raises(ValueError, match="wanted"):
        parse_action(value)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("mta", SourceName(SourceKind.MTA)),
        (" redis ", SourceName(SourceKind.REDIS)),
        ("file:/etc/a:b", SourceName(SourceKind.FILE, "/etc/a:b")),
        ("callahead:[192.0.2.1]:25", SourceName(SourceKind.CALLAHEAD, "[192.0.2.1]:25")),
        ("callahead:[2001:db8::1]:25", SourceName(SourceKind.CALLAHEAD, "[2001:db8::1]:25")),
        ("callahead:[mx.example.com]", SourceName(SourceKind.CALLAHEAD, "[mx.example.com]")),
        ("postfix:lmdb:/etc/postfix/x", SourceName(SourceKind.POSTFIX, "lmdb:/etc/postfix/x")),
        ("postfix:proxy:mysql:/x.cf", SourceName(SourceKind.POSTFIX, "proxy:mysql:/x.cf")),
        ("ldap:staff", SourceName(SourceKind.LDAP, "staff")),
        ("sql:all-of_them2", SourceName(SourceKind.SQL, "all-of_them2")),
    ],
)
def test_recipient_sources(text, source):
    assert parse_source(text) == source
    assert str(source) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        *("", "MTA", "mta:", "mta:x", "redis:x", "file", "file:", "file:etc", "\x00", "nis:x"),
        *("callahead:", "callahead:mx:25", "callahead:[]:25", "callahead:[a b]", "callahead:[mx]:"),
        *("postfix:", "postfix:/x", "postfix:lmdb:", "postfix:lmdb:a b", "ldap:", "ldap:a.b", "sql:ä"),
    ],
)
def test_what_is_no_recipient_source(text):
    if text == "mta:":
        assert parse_source(text) == SourceName(SourceKind.MTA)
        return
    with pytest.raises(ValueError, match=r"wanted|must begin"):
        parse_source(text)


# -- Sets of addresses ------------------------------------------------------------------------------------


def addresses(*entries):
    return PARSERS["exempt_senders"](list(entries))


@pytest.mark.parametrize(
    ("entry", "address", "is_in"),
    [
        ("Alice@Our.Example", "aLICE@oUR.example", True),
        ("alice@our.example", "alice+x@our.example", False),
        ("@our.example", "anyone@OUR.example", True),
        ("@our.example", "x@sub.our.example", False),
        ("@our.example", "our.example@else.example", False),
        ("bounce-*@our.example", "Bounce-7@our.example", True),
        ("bounce-*@our.example", "bounce@our.example", False),
        ("bounce-?@our.example", "bounce-77@our.example", False),
        ("*@*.our.example", "x@a.our.example", True),
        ("@b\u00fccher.example", "x@xn--bcher-kva.example", True),
        ("*@B\u00fccher.example", "x@xn--bcher-kva.example", True),
        ("m\u00fcller@our.example", "mu\u0308ller@our.example", True),
        ('"a b"@our.example', '"a b"@our.example', True),
        ("a.c@our.example", "abc@our.example", False),
    ],
)
def test_who_is_in_a_set_of_addresses(entry, address, is_in):
    assert (parse(address) in addresses(entry)) is is_in


def test_who_is_in_no_set_of_addresses():
    assert parse("alice@our.example") not in Addresses()
    assert parse("<>") not in addresses("*@our.example", "@our.example", "x@our.example")


@pytest.mark.parametrize("entry", ["", "alice", "@", "@@", "alice@", "@a b", "a@b@", "\x00@x", "a@x\n"])
def test_what_is_no_address_for_a_set(entry):
    if entry == "a@x\n":  # blanks around an entry are forgiven
        assert addresses(entry) == Addresses(["a@x"])
        return
    with pytest.raises(ValueError, match="wanted"):
        addresses(entry)


def test_a_long_list_of_addresses_is_read_and_searched_in_short_time():
    entries = [f"user{number}@our.example" for number in range(5000)]
    patterns = [f"list{number}-*@our.example" for number in range(5000)]
    before = time.process_time()
    found = addresses(*entries, *patterns)
    assert time.process_time() - before < 2  # comparing each with each took eight times that
    assert parse("user4999@our.example") in found


# -- What is laid over in Redis ---------------------------------------------------------------------------

RIGHT = [
    ("tag_form", "subaddress", TagForm.SUBADDRESS),
    ("tag_form", " PRVS ", TagForm.PRVS),
    ("tag_case", "as-written", TagCase.AS_WRITTEN),
    ("tag_internal", "yes", True),
    ("tag_internal", "0", False),
    ("lifetime", "20d", 20),
    ("lifetime", " 2W ", 14),
    ("grace", "auto", None),
    ("grace", "0d", 0),
    ("strip", "milter", Strip.MILTER),
    ("recipient_delimiter", "-", "-"),
    ("recipient_delimiter", "+-", "+-"),
    ("recipient_delimiter", "", ""),
    ("proof", "tag", (Proof.TAG,)),
    ("recipients", "redis, mta", (SourceName(SourceKind.REDIS), SourceName(SourceKind.MTA))),
    ("recipients", "", ()),
    ("source_down", "continue", SourceDown.CONTINUE),
    ("receive_only", "a@x.example b@x.example", Addresses(["a@x.example", "b@x.example"])),
    ("exempt_senders", "@x.example,*@y.example", Addresses(["@x.example", "*@y.example"])),
    ("exempt_destinations", "X.example, @y.example.", frozenset({"x.example", "y.example"})),
    ("quarantine_max", " 7 ", 7),
    ("quarantine_max", "0", 0),
    ("quarantine_max", "0000000015", 15),
]


@pytest.mark.parametrize(("name", "text", "value"), RIGHT)
def test_a_field_of_the_hash_is_laid_over_the_file(name, text, value):
    result, faults = override(BASE, {name: text})
    assert faults == ()
    assert getattr(result, name) == value
    assert override(result, {}) == (result, ())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("action", Action)
def test_the_name_of_a_check_gives_its_action(check, action):
    result, faults = override(BASE, {check.name: f" {action.name}\n"})
    assert faults == ()
    assert result.actions == {**BASE.actions, check.name: action}


def test_receive_only_is_an_action_or_a_list_by_its_value():
    result, faults = override(BASE, {"receive_only": "observe"})
    assert (result.receive_only, result.actions["receive_only"], faults) == (
        BASE.receive_only,
        Action.OBSERVE,
        (),
    )
    result, faults = override(BASE, {"receive_only": "a@x.example"})
    assert (result.receive_only, result.actions, faults) == (Addresses(["a@x.example"]), BASE.actions, ())


#: Values that mean nothing for most fields: what somebody's hand or another program may have left there.
WRONG = [
    "TRUE ",
    "yes",
    "2",
    "-1",
    "abc",
    "",
    " ",
    "9223372036854775807",
    "\ufffd\ufffd",
    "\udcff",
    "\x00",
    "\r\n",
]
WRONG += ["[]", "{}", "null", "1.5", "%n%s", "\x1b[2J", "\u202e", "x" * 10_000_000, "a " * 1_000_000]

#: The few of them that do mean something there.
SENSIBLE = {
    "tag_internal": {"TRUE ", "yes"},
    "quarantine_max": {"2"},
    "copy_to": {"", " ", "\r\n"},
    "robot_senders": {
        "",
        " ",
        "\r\n",
        "yes",
        "2",
        "abc",
        "9223372036854775807",
        "null",
        "1.5",
        "-1",
        "TRUE ",
        "{}",
        "%n%s",
    },
    "recipient_delimiter": {"", "{}"},
    "recipients": {"", " ", "\r\n"},
    "receive_only": {"", " ", "\r\n"},
    "exempt_senders": {"", " ", "\r\n"},
    "exempt_destinations": {
        "",
        " ",
        "\r\n",
        "yes",
        "2",
        "abc",
        "9223372036854775807",
        "null",
        "1.5",
        "-1",
        "TRUE ",
    },
}


@pytest.mark.parametrize("name", [*PARSERS, *(check.name for check in CHECKS)])
@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text)[:20])
def test_a_value_that_means_nothing_leaves_the_files_and_is_named(name, text):
    before = time.process_time()
    result, faults = override(BASE, {name: text})
    assert time.process_time() - before < 1
    if text in SENSIBLE.get(name, ()):
        assert faults == ()
        return
    assert result is BASE
    [fault] = faults
    assert fault.startswith(f"{name}: ")
    assert len(fault) < 400


def test_all_faults_are_named_and_the_rest_counts():
    result, faults = override(
        BASE, {"lifetime": "soon", "tag": "reject", "unproved": "2", "nonsense": "1", "strip": "milter"}
    )
    assert [fault.partition(":")[0] for fault in faults] == ["lifetime", "unproved", "nonsense"]
    assert result.strip is Strip.MILTER
    assert result.actions == {**BASE.actions, "tag": Action.REJECT}
    assert (result.lifetime, result.tag_form) == (BASE.lifetime, BASE.tag_form)


@pytest.mark.parametrize(
    "name", ["", "actions", "Tag", "tag ", "limits", "x" * 10_000_000, "\x00\x1b", "\udcff"]
)
def test_a_field_that_nothing_is_called_is_named(name):
    result, [fault] = override(BASE, {name: "reject"})
    assert result is BASE
    assert "no setting and no check has this name" in fault
    assert len(fault) < 200


@pytest.mark.parametrize(
    "source", ["file:/etc/shadow", "callahead:[192.0.2.1]:22", "postfix:texthash:/x", "ldap:x", "sql:x"]
)
def test_redis_never_makes_us_read_a_file_or_connect_somewhere(source):
    result, [fault] = override(BASE, {"recipients": f"redis {source}"})
    assert result is BASE
    assert fault == f'recipients: "{source}" is named in the configuration file only'


@pytest.mark.parametrize(
    "fields", [{"tag_form": "subaddress", "recipient_delimiter": "-"}, {"tag_form": "subaddress"}]
)
def test_a_tag_form_that_the_delimiter_cannot_bear_is_named(fields):
    # Sub-address tags are written with a "+": their bounces would be for unknown users.
    base = settings({"tag_form": TagForm.PRVS, "recipient_delimiter": "-"})
    result, faults = override(base, {**fields, "strip": "milter"})
    assert (result.tag_form, result.recipient_delimiter, result.strip) == (TagForm.PRVS, "-", Strip.MILTER)
    assert [fault.partition(":")[0] for fault in faults] == list(fields)
    result, [fault] = override(settings(), {"recipient_delimiter": "-"})
    assert result.recipient_delimiter == "+"
    assert fault.startswith("recipient_delimiter: ")


def test_nothing_laid_over_is_the_file_itself():
    assert override(BASE, {}) == (BASE, ())
    assert override(BASE, {})[0] is BASE


# -- What follows from settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "days"), [({}, 16), ({"lifetime": 20}, 25), ({"grace": 0}, 0), ({"grace": 3}, 3)]
)
def test_how_long_grace_is(fields, days):
    assert settings(fields).grace_days == days


def test_the_defaults_are_the_designs():
    assert (BASE.tag_case, BASE.tag_internal, BASE.lifetime, BASE.grace) == (TagCase.FOLD, False, 11, None)
    assert (BASE.strip, BASE.source_down, BASE.quarantine_max) == (Strip.MTA, SourceDown.TEMPFAIL, 500)
    assert (BASE.recipients, BASE.exempt_destinations, BASE.recipient_delimiter) == ((), frozenset(), "+")
    assert BASE.actions == {
        "recipient": Action.REJECT,
        "alias": Action.REJECT,
        "receive_only": Action.REJECT,
        "tag": Action.OBSERVE,
        "harvest": Action.OBSERVE,
        "forged_sender": Action.OBSERVE,
        "spf": Action.OFF,
        "client_list": Action.OFF,
        "sender_list": Action.OFF,
        "unproved": Action.OBSERVE,
        "report": Action.OFF,
        "dmarc": Action.OFF,
    }
    assert DomainSettings(TagForm.PRVS, {}).proof == (
        Proof.TAG,
        Proof.MEMORY,
        Proof.DKIM,
        Proof.CORRESPONDENT,
    )
    assert (BASE.nothing_returned, BASE.report_scope) == (NothingReturned.UNPROVED, ReportScope.ROBOTS)
    assert (BASE.robot_senders, BASE.copy_to) == ({"mailer-daemon", "postmaster"}, None)
