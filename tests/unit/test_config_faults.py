"""Every broken configuration is refused with file, line, what is wrong and what is meant; never a traceback.

The table goes by what stands in the file: the fault's line and a piece of its text. `GOOD` is put before.
"""

import os
import re
import time

import pytest

from backstop import config
from backstop.checks import CHECKS
from tests.unit.test_config import KEYS

GOOD = 'keys = "KEYS"\ndomains = ["example.com"]\n'
FORM = '[defaults]\ntag_form = "prvs"\n'

AT_THE_TOP = [
    ('socket = "/run/backstop.sock"', 3, 'socket: "unix:/path" or "inet:PORT@ADDRESS" is wanted'),
    ('socket = "unix:backstop.sock"', 3, "socket: a path that begins with / is wanted"),
    ('socket = "unix:/' + "x" * 110 + '"', 3, "socket: the path is too long for a socket: 111 octets"),
    ('socket = "unix:/run/backstop/"', 3, "socket: this is a directory"),
    ('socket = "inet:8891"', 3, "socket: "),
    ('socket = "inet:0@127.0.0.1"', 3, "socket: "),
    ('socket = "inet:70000@127.0.0.1"', 3, "socket: "),
    ('socket = "local:/run/x"', 3, "socket: "),
    ("socket = 8891", 3, "socket: a text in quotes is wanted"),
    ("socket = []", 3, "socket: a text in quotes is wanted"),
    ('socket = ""', 3, "socket: a text in quotes is wanted"),
    ('workers = "4"', 3, "workers: a whole number from 0 to 256 is wanted, without quotes"),
    ("workers = -1", 3, "workers: a whole number from 0 to 256"),
    ("workers = 257", 3, "workers: a whole number from 0 to 256"),
    ("workers = 1.5", 3, "workers: a whole number from 0 to 256"),
    ("workers = true", 3, "workers: a whole number from 0 to 256"),
    ('store = "http://127.0.0.1"', 3, "store: a store is redis://, rediss://, unix://"),
    ('store = "redis://"', 3, "store: the store's URL has no HOST:PORT"),
    ("store = []", 3, "store: a URL such as"),
    ("store = 6379", 3, "store: a URL such as"),
    ('store = ["redis://a:1/0", "redis://b:1/0"]', 3, "store: several stores: only Sentinels"),
    ('store = "unix://relative"', 3, "store: unix: wants an absolute path"),
    (  # each worker fell over it, and was replaced to fall again
        'store = "rediss://localhost/0?ssl_ca_certs=/nonexistent/ca.pem"',
        3,
        "store: the store's TLS files cannot be used (/nonexistent/ca.pem): No such file or directory",
    ),
    ('state_directory = "var"', 3, "state_directory: a path that begins with / is wanted"),
    ('internal_networks = "127.0.0.0/8"', 3, "internal_networks: a list in brackets is wanted"),
    ('internal_networks = ["10.0.0.1/8"]', 3, 'write "10.0.0.0/8", or the address alone'),
    ('relays = ["mx.example.com"]', 3, 'relays: a network such as "192.0.2.0/24" is wanted'),
    ('relays = [\n  "192.0.2.1",\n  "192.0.2.0/33",\n]', 5, "relays: a network such as"),
    ('relays = ["::/0"]', 3, "relays: ", "is the whole world"),
    ("relays = [1]", 3, "relays: a text in quotes is wanted"),
    ('originating_daemons = ["two words"]', 3, "originating_daemons: a daemon's name is one word"),
    ('reinjecting_daemons = [""]', 3, "reinjecting_daemons: a daemon's name is one word"),
    ('log_addresses = "none"', 3, 'log_addresses: wanted is one of "full", "domain", "hash"'),
    ("log_addresses = [1]", 3, "log_addresses: wanted is one of"),
    ('sockets = "x"', 3, 'sockets: this version does not know this name; did you mean "socket"?'),
    ("authserv_id = 5", 3, 'authserv_id: the name of this server such as "mx.example.com" is wanted, or ""'),
    ('authserv_id = "mx; spf=pass"', 3, "authserv_id: the name of this server such as"),
    ("lists = 5", 3, "lists: a table is wanted: [lists], and below it"),
    ('dkim_keys = "etc"', 3, "dkim_keys: a path that begins with / is wanted"),
    ('resolver = ["ns.example.com"]', 3, "resolver: the address of a name server such as"),
    ('resolver = "192.0.2.53"', 3, "resolver: a list in brackets is wanted"),
    ("memory_max = 0", 3, "memory_max: a whole number from 1 to"),
    ('memory_max = "5"', 3, "memory_max: a whole number from 1 to"),
    ('tag_form = "prvs"', 3, "tag_form: this stands under [defaults], or under [domain."),
    ('tag = "reject"', 3, "tag: the action of a check stands in actions"),
    ('include = "/etc/backstop/*.toml"', 3, "include: this version does not know this name"),
    ('"\\u001b[2J" = 1', 3, '"\\x1b[2J": this version does not know this name'),
]

IN_TABLES = [
    (
        '[lists]\n"bl.example" = "client"',
        6,
        'lists."bl.example": { of = "client" } or { of = "sender" } is wanted',
    ),
    ('[lists]\n"bl.example" = { of = "ip" }', 6, 'of = "client" or of = "sender" is wanted'),
    ('[lists]\n"bl.example" = { of = "client", name = 1 }', 6, '"name" is not known here; known are of,'),
    (
        '[lists]\n"bl.example" = { of = "client", bounces_only = 1 }',
        6,
        "bounces_only = true or false is wanted",
    ),
    ('[lists]\n"bl.example" = { of = "sender", bounces_only = true }', 6, "bounces have no sender"),
    ('[lists]\n"bl.example" = { of = "client", shown_as = "a b" }', 6, 'shown_as = "zen.example.org" or'),
    ('[lists]\n"bl.example" = { of = "client", shown_as = 5 }', 6, 'shown_as = "zen.example.org" or'),
    ('[lists]\n"no zone" = { of = "client" }', 6, 'lists."no zone": '),
    ("[limit]\n", 5, 'limit: this version does not know this name; did you mean "limits"?'),
    ('[limits]\nbad_tags = "ten"', 6, 'limits.bad_tags: a limit such as "20/10m" is wanted'),
    ('[limits]\nbad_tags = "0/1m"', 6, "limits.bad_tags: a limit such as"),
    ('[limits]\nbad_tags = "10/2d"', 6, "limits.bad_tags: the window of a limit is between 1s and 1d"),
    ("[limits]\nbad_tags = 10", 6, "limits.bad_tags: "),
    (
        '[limits]\nbadtags = "10/1m"',
        6,
        'limits.badtags: this version does not know this name; did you mean "bad_tags"?',
    ),
    ("lifetime = 11", 5, "defaults.lifetime: a text in quotes is wanted"),
    ('lifetime = "36h"', 5, "defaults.lifetime: whole days from 1d to"),
    ('lifetime = "200d"', 5, "defaults.lifetime: whole days from 1d to"),
    ('lifetime = "20d"', 5, "lifetime: 20d is longer than the 11d key 1 knows"),
    ('grace = "never"', 5, "defaults.grace: "),
    ('strip = "both"', 5, "defaults.strip: wanted is one of mta, milter"),
    ('tag_case = "upper"', 5, "defaults.tag_case: wanted is one of fold, as-written"),
    ('tag_internal = "perhaps"', 5, "defaults.tag_internal: true or false is wanted"),
    ('proof = ["tag", "magic"]', 5, "defaults.proof: wanted is one of tag"),
    ('recipients = ["nis:x"]', 5, "defaults.recipients: a recipient source is wanted", '"callahead:['),
    ('recipients = ["file"]', 5, 'recipients: "file:/path" is wanted, a path that begins with /'),
    ('recipients = ["file:relative"]', 5, 'a path that begins with /, not "file:relative"'),
    ('recipients = ["mta:x"]', 5, '"mta" alone is wanted, not "mta:x"'),
    ('recipients = ["callahead:mx.example.com:25"]', 5, '"callahead:[host]:port" is wanted'),
    ('recipients = ["postfix:/etc/postfix/x"]', 5, '"postfix:lmdb:/path" is wanted'),
    ('recipients = ["sql:two words"]', 5, '"sql:name" is wanted, the name of a table [sql.name]'),
    (
        'recipients = [\n  "redis",\n  "ldap:x",\n]',
        7,
        "defaults.recipients: there is no [ldap.x] in this file",
    ),
    ('recipients = ["sql:x"]\n[sql]\nx = 5', 6, "sql: each of them has a heading with a name of its own"),
    ('recipients = ["sql:x"]\nsql = 5', 5, "there is no [sql.x]"),
    ('recipients = ["callahead:[a.example]:70000"]', 5, "70000 is no port: it is from 1 to 65535"),
    ('recipients = ["callahead:[10.1.1]"]', 5, '"10.1.1" is neither a host name nor an IP address'),
    (
        (
            'recipients = ["sql:x"]\n[sql.x]\ndriver = "nosuch"\nconnect = {}\nquery = "SELECT {local}"\n'
            'anybody = "SELECT 1"'
        ),
        5,
        "defaults.recipients: the driver nosuch is not installed",
    ),
    ('[ldap.x]\nuri = "http://x"\nbase = "b"\nfilter = "(mail={local})"', 6, 'ldap.x.uri: "ldap://HOST"'),
    ('[ldap.x]\nuri = "ldap://x"\nbase = "b"', 5, "ldap.x.filter: this is wanted"),
    (
        '[sql.x]\ndriver = "sqlite3"\nconnect = {}\nquery = "SELECT 1"\nanybody = "SELECT 1"',
        8,
        "sql.x.query: {address} or",
    ),
    (
        '[sql.x]\ndriver = "sqlite3"\nconnect = {}\nquery = "SELECT {local}"',
        5,
        "sql.x.anybody: a query is wanted",
    ),
    ('[sql.x]\ndriver = "sqlite3"\nconnect = { password = "x" }\nquery = "{local}"', 7, "sql.x.connect: "),
    ('[sql."two words"]\ndriver = "x"', 5, "a name of letters, digits, - and _ is wanted: [sql.name]"),
    ("[callahead]\nconnections = 0", 6, "callahead.connections: a whole number from 1 to 20 is wanted"),
    ('[callahead]\nquestions = "10"', 6, "callahead.questions: a whole number from 1 to 10,000 is wanted"),
    ('[callahead]\ntimeout = "6s"', 6, "callahead.timeout: from 1s to 5s are wanted"),
    ('[callahead]\nhelo = "a b"', 6, "callahead.helo: the name of this host is wanted"),
    ('[callahead]\nsender = "me"', 6, "callahead.sender: an address is wanted"),
    ("[callahead]\nport = 25", 6, "callahead.port: this version does not know this name"),
    ('source_down = "reject"', 5, "defaults.source_down: wanted is one of tempfail, continue"),
    ('receive_only = ["nobody"]', 5, "defaults.receive_only: an address"),
    ("exempt_senders = 3", 5, "defaults.exempt_senders: a list of texts is wanted"),
    ('exempt_destinations = ["a b"]', 5, "defaults.exempt_destinations: a domain is wanted"),
    ("quarantine_max = -1", 5, "defaults.quarantine_max: a whole number from 0 on is wanted"),
    ('recipient_delimiter = "@"', 5, "defaults.recipient_delimiter: the delimiter characters"),
    ('tag_form = "batv"', 5, "tag_form"),
    (
        'tag_from = "prvs"',
        5,
        'defaults.tag_from: this version does not know this name; did you mean "tag_form"?',
    ),
    ('robot_senders = ["x@y.example"]', 5, "defaults.robot_senders: what stands before the @ is wanted"),
    ('report_scope = "some"', 5, "defaults.report_scope: wanted is one of robots, all"),
    ('nothing_returned = "junk"', 5, "defaults.nothing_returned: wanted is one of unproved, ignored"),
    ('copy_to = "nobody"', 5, "defaults.copy_to: an address"),
    ('copy_to = "admin@strange.example"', 5, "defaults.copy_to: strange.example is not protected"),
    ('socket = "unix:/x"', 5, "defaults.socket: this stands at the top of the file"),
    ('unproved = "junk"', 5, "defaults.unproved: the action of a check stands in actions"),
    ('actions = "reject"', 5, "defaults.actions: checks and their actions are wanted"),
    (
        'actions = { tagg = "reject" }',
        5,
        'defaults.actions.tagg: no check has this name; did you mean "tag"?',
    ),
    ('actions = { virus = "reject" }', 5, "defaults.actions.virus: no check has this name; known here: "),
    ('actions = { tag = "refuse" }', 5, "defaults.actions.tag: an action is wanted: off, observe, junk"),
    ("actions.tag = true", 5, "defaults.actions.tag: a text in quotes is wanted"),
    (
        '[domain."example.net"]',
        5,
        'domain."example.net": the domain is not protected; add "example.net" to domains',
    ),
    (
        '[domain.example.com]\nlifetime = "3d"',
        5,
        'domain.example: a domain stands in quotes here: [domain."example.com"]',
    ),
    ('[domain."a@b"]', 5, "a domain is wanted, not the address"),
    ('[domain."example.com"]\n[domain."EXAMPLE.COM"]', 6, "another heading is for example.com too"),
    ('[domain."example.com"]\nkeys = "/x"', 6, "this stands at the top of the file"),
    ('[domain."example.com"]\nactions = { unproved = "bin" }', 6, "an action is wanted"),
    (
        '[domain."example.com"]\ntag_form = "subaddress"\nrecipient_delimiter = "-"',
        7,
        'sub-address tags are written with "+"',
    ),
    ("[[domain]]\n", 5, "domain: "),
    ("[[limits]]\n", 5, "limits: a table is wanted: a heading [limits]"),
]

WHOLE_FILES = [
    ("", 1, "keys: the key file is missing"),
    ("", 1, "domains: the protected domains are missing"),
    ("# nothing\n", 1, "domains: the protected domains are missing"),
    ('keys = "KEYS"\ndomains = []\n' + FORM, 2, "domains: at least one domain is wanted"),
    ('keys = "KEYS"\ndomains = "example.com"\n' + FORM, 2, "domains: a list in brackets is wanted"),
    (
        'keys = "KEYS"\ndomain = "example.com"\n' + FORM,
        2,
        'domain: the domains are named in domains = ["example.com"]',
    ),
    ('keys = "KEYS"\ndomains = ["*"]\n' + FORM, 2, 'domains: "*" is a pattern; name each domain'),
    ('keys = "KEYS"\ndomains = ["example..com"]\n' + FORM, 2, "domains: a domain such as"),
    ('keys = "KEYS"\ndomains = ["[192.0.2.1]"]\n' + FORM, 2, "domains: a domain such as"),
    (
        'keys = "KEYS"\ndomains = [\n "a.example",\n "b.example",\n "A.example."]\n' + FORM,
        5,
        "stands there twice, first in line 3",
    ),
    ('keys = "KEYS"\ndomains = ["x.example", 3]\n' + FORM, 2, "domains: a text in quotes is wanted"),
    (
        'keys = "keys.toml"\ndomains = ["example.com"]\n' + FORM,
        1,
        "keys: a path that begins with / is wanted",
    ),
    (
        'keys = "/nonexistent/keys.toml"\ndomains = ["example.com"]\n' + FORM,
        0,
        "/nonexistent/keys.toml: there is no such file",
    ),
    (GOOD, 1, "tag_form: it is missing for example.com"),
    (GOOD + "[defaults\n", 3, "not TOML: "),
    (GOOD + "workers 4\n", 3, "not TOML: "),
    (
        GOOD + "workers = 4\nworkers = 5\n",
        4,
        "not TOML: Cannot overwrite a value; the same name is set twice",
    ),
    (GOOD + FORM + FORM, 5, "not TOML: "),
    (GOOD + 'socket = "unix:/x\n', 3, "not TOML: "),
    (GOOD + "store = redis://localhost\n", 3, "not TOML: Invalid value; a text stands in quotes"),
    (GOOD + 'relays = ["192.0.2.1"\n', 3, "not TOML: Unclosed array; a closing ] is missing"),
    (GOOD + "workers = " + "9" * 5000, 0, "a number there is far too long"),
    (GOOD + "relays = " + "[" * 5000, 0, "brackets within brackets"),
    (GOOD + ".".join("a" * 5000) + " = 1\n", 3, "a name of so many parts is never meant"),
    (GOOD + "\0\n", 3, "this is no text: it holds a NUL"),
    ("\ufeff" + GOOD + FORM, 1, "the file begins with a byte order mark"),
]


@pytest.fixture
def faults(tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    keys.chmod(0o400)

    def found(text: str | bytes) -> tuple[str, ...]:
        path = tmp_path / "backstop.toml"
        octets = text.replace("KEYS", str(keys)).encode() if isinstance(text, str) else text
        path.write_bytes(octets)
        begun = time.process_time()
        loaded, faults, warnings = config.check(path)
        assert time.process_time() - begun < 2
        assert loaded is None
        assert faults
        assert warnings == ()
        with pytest.raises(config.ConfigurationError) as raised:
            config.load(path)
        assert str(raised.value) == "\n".join(faults)
        assert str(raised.value).isprintable() or set(re.sub(r"[\x20-\x7e]", "", str(raised.value))) <= {"\n"}
        return faults

    return found


def stands(faults, path, line, *pieces):
    """Whether one of the faults is on this line and says all this."""
    start = f"{path}:{line}: " if line else ""
    return any(fault.startswith(start) and all(piece in fault for piece in pieces) for fault in faults)


@pytest.mark.parametrize(("text", "line", "pieces"), [(one[0], one[1], one[2:]) for one in AT_THE_TOP])
def test_a_fault_at_the_top_of_the_file(faults, tmp_path, text, line, pieces):
    found = faults(GOOD + text + "\n" + FORM)
    assert stands(found, tmp_path / "backstop.toml", line, *pieces), found
    assert len(found) == 1


@pytest.mark.parametrize(("text", "line", "pieces"), [(one[0], one[1], one[2:]) for one in IN_TABLES])
def test_a_fault_in_a_table(faults, tmp_path, text, line, pieces):
    form = "[defaults]\n" if "tag_form" in text else FORM
    found = faults(GOOD + ("\n" if form != FORM else "") + form + text + "\n")
    assert stands(found, tmp_path / "backstop.toml", line, *pieces), found


@pytest.mark.parametrize(("text", "line", "piece"), WHOLE_FILES)
def test_a_file_that_is_wrong_as_a_whole(faults, tmp_path, text, line, piece):
    found = faults(text)
    assert stands(found, tmp_path / "backstop.toml", line, piece), found


def test_the_table_is_long_enough():
    assert len(AT_THE_TOP) + len(IN_TABLES) + len(WHOLE_FILES) >= 60


@pytest.mark.parametrize(
    ("octets", "piece"),
    [
        (b"\xff\xfek\0e\0", ":1: this is UTF-16; save the file as UTF-8"),
        (b'keys = "x"\n\xe9 = 1\n', ":2: this is no UTF-8: octet 0xe9"),
        (bytes(range(256)) * 40, ": "),
        (b"\x7fELF\x02\x01\x01" + bytes(2000), ": "),
        (b"# x\n" * 2_500_000, ": the file is larger than 1,000,000 octets"),
        (b"\r\r\r", ": "),
        (b'keys = "\x1b[2J"\n', ":1: "),
    ],
)
def test_a_file_of_anything(faults, octets, piece):
    assert any(piece in fault for fault in faults(octets))


def test_what_is_no_file(tmp_path):
    for path, piece in ((tmp_path, "this is a directory"), (tmp_path / "none", "there is no such file")):
        assert piece in config.check(path)[1][0]
    assert "cannot be opened" in config.check(tmp_path / ("y" * 300))[1][0]


def test_a_pipe_does_not_make_it_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "this is no ordinary file" in config.check(tmp_path / "pipe")[1][0]


def test_the_faults_of_the_key_file_are_faults(faults, tmp_path):
    (tmp_path / "keys.toml").chmod(0o644)
    (found,) = faults(GOOD + FORM)
    assert found.startswith(f"{tmp_path}/keys.toml: ")
    assert "chmod 0400" in found


def test_many_faults_come_in_the_order_of_the_file(faults, tmp_path):
    text = "workers = -1\n" + GOOD + 'relays = ["x"]\n' + FORM + 'lifetime = "x"\nactions = { no = "junk" }\n'
    lines = [int(fault.split(":")[1]) for fault in faults(text)]
    assert lines == [1, 4, 7, 8]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (GOOD + FORM + "\n".join(f"[t{number}]" for number in range(30_000)), 101),
        (GOOD + FORM + "\n".join(f"socket{number}=1" for number in range(25_000)), 101),
        (GOOD + FORM + "\n".join(f'[domain."d{number}.example"]' for number in range(18_000)), 101),
        (GOOD + "relays = [" + "'x'," * 100_000 + "]\n" + FORM, 1),
        ('keys = "KEYS"\ndomains = [' + "'@'," * 100_000 + "]\n" + FORM, 1),
    ],
    ids=["tables", "names", "domains", "relays", "list of domains"],
)
def test_a_file_of_faults_alone_is_told_soon(faults, text, count):
    found = faults(text)
    assert len(found) == count
    assert count == 1 or found[-1].endswith(" more")


def test_each_check_can_be_named_in_actions(tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    keys.chmod(0o400)
    path = tmp_path / "backstop.toml"
    actions = ", ".join(f'{check.name} = "junk"' for check in CHECKS)
    path.write_text(GOOD.replace("KEYS", str(keys)) + FORM + f"actions = {{ {actions} }}\n")
    assert {action.label for action in config.load(path).defaults.actions.values()} == {"junk"}
