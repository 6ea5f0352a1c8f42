"""The tables [ldap.NAME] and [sql.NAME], queries, passwords, and the keys of Postfix's tables."""

import re
from pathlib import Path

import pytest

from backstop.adapters import password_file, postfix_table
from backstop.adapters.ldap_directory import LdapOptions, Scope, escaped, read_ldap
from backstop.adapters.postfix_keys import Keys
from backstop.adapters.sql_database import read_sql
from backstop.adapters.sql_query import STYLES, parse_query
from backstop.facts import Existence

LDAP = {"uri": "ldaps://directory.test", "base": "dc=ours,dc=test", "filter": "(mail={address})"}
SQL = {"driver": "pymysql", "query": "SELECT 1 FROM t WHERE a = {address}", "anybody": "SELECT 1 FROM t"}


def test_a_directory_in_short():
    assert read_ldap(LDAP) == LdapOptions(("ldaps://directory.test",), "dc=ours,dc=test", "(mail={address})")


def test_a_directory_in_full():
    options = read_ldap(
        {
            "uri": ["ldap://one.test", "ldap://two.test:1389"],
            "base": "dc=ours,dc=test",
            "filter": "(&(uid={local})(associatedDomain={domain}))",
            "scope": "one",
            "bind_dn": "cn=reader",
            "password_file": "/etc/backstop/ldap",
            "starttls": True,
            "ca_file": "/etc/ssl/ca.pem",
            "timeout": "3s",
        }
    )
    assert (options.uri, options.scope, options.timeout) == (
        ("ldap://one.test", "ldap://two.test:1389"),
        Scope.ONE,
        3,
    )
    assert (options.password_file, options.ca_file) == (Path("/etc/backstop/ldap"), Path("/etc/ssl/ca.pem"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"uri": ""}, "uri: "),
        ({"uri": []}, "uri: "),
        ({"uri": [1]}, "uri: "),
        ({"uri": "http://directory.test"}, "uri: "),
        ({"uri": "ldap://one.test ldap://two.test"}, "uri: "),
        ({"base": 1}, "base: "),
        ({"filter": "mail={address}"}, "filter: it stands in parentheses"),
        ({"filter": "(mail=someone)"}, "filter: {address} or {local}"),
        ({"filter": "(mail={adress})"}, "filter: {address} or {local}"),
        ({"filter": "(&(mail={address})(o={company}))"}, "filter: {company} means nothing"),
        ({"scope": "subtree"}, 'scope: wanted is one of "base", "one", "sub"'),
        ({"bind_dn": "cn=reader"}, "bind_dn: bind_dn and password_file"),
        ({"password_file": "/etc/backstop/ldap"}, "bind_dn: bind_dn and password_file"),
        ({"bind_dn": "cn=reader", "password_file": "ldap"}, "password_file: a path"),
        ({"bind_password": "secret"}, "bind_password: there is no such option; known are base, bind_dn"),
        ({"starttls": True}, "starttls: only ldap://"),
        ({"starttls": "yes"}, "starttls: true or false"),
        ({"timeout": 5}, "timeout: a duration"),
        ({"timeout": "0s"}, "timeout: a duration"),
        ({"timeout": "1h"}, "timeout: a duration"),
    ],
)
def test_a_wrong_directory_is_refused_by_the_name_of_the_option(change, said):
    with pytest.raises(ValueError, match="^" + re.escape(said)):
        read_ldap({**LDAP, **change})


def test_a_missing_option_is_named():
    with pytest.raises(ValueError, match=r"^base: "):
        read_ldap({"uri": "ldap://x", "filter": "(mail={address})"})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("alice+x@ours.test", "alice+x@ours.test"),
        ("a)(uid=*", r"a\29\28uid=\2a"),
        ("\\", r"\5c"),
        ("\0", r"\00"),
        ("ß", r"\c3\9f"),
        ("\udce9", r"\e9"),
        (" #,;<>", r"\20\23\2c\3b\3c\3e"),
    ],
)
def test_nothing_of_an_address_means_anything_in_a_filter(text, written):
    assert escaped(text) == written


def test_a_database_keeps_its_password_elsewhere():
    options = read_sql(
        {**SQL, "connect": {"host": "::1", "port": 3306, "password_file": "/etc/backstop/sql"}}
    )
    assert dict(options.connect) == {"host": "::1", "port": 3306}
    assert (options.password_file, options.timeout) == (Path("/etc/backstop/sql"), 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"driver": "os; import"}, "driver: "),
        ({"driver": "../x"}, "driver: "),
        ({"driver": ""}, "driver: "),
        ({"query": "SELECT 1"}, "query: {address} or {local}"),
        ({"anybody": ""}, "anybody: a query is wanted"),
        ({"query": "SELECT 1 FROM t WHERE a = '{address}'"}, "query: no quotes"),
        ({"query": "SELECT 1 FROM t WHERE a LIKE '%{local}@ours.test'"}, "query: no quotes"),
        ({"query": "SELECT 1 FROM t WHERE a = {address} AND b = {user}"}, "query: {user} means nothing"),
        ({"anybody": "SELECT 1 FROM t WHERE a = {address}"}, "anybody: it asks for nobody in particular"),
        ({"anybody": ""}, "anybody: "),
        ({"connect": "host=x"}, "connect: a table"),
        ({"connect": {"password": "x"}}, "connect: password may hold a password"),
        ({"connect": {"passwd": "x"}}, "connect: passwd may hold a password"),
        ({"connect": {"conninfo": "x"}}, "connect: conninfo may hold a password"),
        ({"connect": {"ssl": {"ca": "/x"}}}, "connect: ssl is to be"),
        ({"connect": {"password_file": "x"}}, "password_file: a path"),
        ({"timeout": "2m"}, "timeout: a duration"),
        ({"any": "SELECT 1"}, "any: there is no such option"),
    ],
)
def test_a_wrong_database_is_refused_by_the_name_of_the_option(change, said):
    with pytest.raises(ValueError, match="^" + re.escape(said)):
        read_sql({**SQL, **change})


@pytest.mark.parametrize(
    ("style", "text", "parameters"),
    [
        ("qmark", "SELECT 1 FROM t WHERE a = ? AND d = ? OR a = ? AND x LIKE '%'", ("a@d", "d", "a@d")),
        ("numeric", "SELECT 1 FROM t WHERE a = :1 AND d = :2 OR a = :3 AND x LIKE '%'", ("a@d", "d", "a@d")),
        (
            "named",
            "SELECT 1 FROM t WHERE a = :address AND d = :domain OR a = :address AND x LIKE '%'",
            {"address": "a@d", "domain": "d"},
        ),
        ("format", "SELECT 1 FROM t WHERE a = %s AND d = %s OR a = %s AND x LIKE '%%'", ("a@d", "d", "a@d")),
        (
            "pyformat",
            "SELECT 1 FROM t WHERE a = %(address)s AND d = %(domain)s OR a = %(address)s AND x LIKE '%%'",
            {"address": "a@d", "domain": "d"},
        ),
    ],
)
def test_a_query_is_written_in_the_style_of_the_driver(style, text, parameters):
    query = parse_query(
        "SELECT 1 FROM t WHERE a = {address} AND d = {domain} OR a = {address} AND x LIKE '%'"
    )
    values = {"address": "a@d", "local": "a", "domain": "d"}
    assert query.written(STYLES[style], values) == (text, (parameters,))


@pytest.mark.parametrize("style", STYLES)
def test_a_query_without_parameters_stays_as_it_is(style):
    text = "SELECT 1 FROM t WHERE a LIKE '%@ours.test' AND b = '{1,2}'"
    assert parse_query(text).written(STYLES[style], {}) == (text, ())


@pytest.mark.parametrize(
    ("octets", "mode", "said"),
    [
        (b"secret\n", 0o604, "chmod o="),
        (b"", 0o400, "empty"),
        (b"\n", 0o400, "empty"),
        (b"\xff\n", 0o400, "UTF-8"),
        (b"x" * 5000, 0o400, "4096"),
    ],
)
def test_a_password_file_of_no_use_is_refused_without_being_shown(tmp_path, octets, mode, said):
    path = tmp_path / "password"
    path.write_bytes(octets)
    path.chmod(mode)
    with pytest.raises(password_file.PasswordUnreadable, match=said) as found:
        password_file.read(path)
    assert "secret" not in str(found.value)


def test_a_password_is_what_the_file_holds_without_the_end_of_its_line(tmp_path):
    path = tmp_path / "password"
    for octets, password in ((b" a b \n", " a b "), (b"x", "x"), (b"x\r\n", "x"), ("ß\n".encode(), "ß")):
        path.write_bytes(octets)
        path.chmod(0o440)
        assert password_file.read(path) == password


@pytest.mark.parametrize("gone", ["none", "."])
def test_a_password_that_is_no_file_is_refused(tmp_path, gone):
    with pytest.raises(password_file.PasswordUnreadable):
        password_file.read(tmp_path / gone)


@pytest.mark.parametrize(
    ("local", "addresses", "locals_"),
    [
        ("alice", ("alice@ours.test",), ("alice",)),
        ("a.b", ("a.b@ours.test",), ("a.b",)),
        ("john..doe", ('"john..doe"@ours.test', "john..doe@ours.test"), ('"john..doe"', "john..doe")),
        (".john", ('".john"@ours.test', ".john@ours.test"), ('".john"', ".john")),
        ("john.", ('"john."@ours.test', "john.@ours.test"), ('"john."', "john.")),
        ("m\u00fcller", ("m\u00fcller@ours.test", "mu\u0308ller@ours.test"), ("m\u00fcller", "mu\u0308ller")),
        ("-q", ("-q@ours.test",), ("-q",)),
        ("two words", ('"two words"@ours.test', "two words@ours.test"), ('"two words"', "two words")),
        (" alice", ('" alice"@ours.test',), ('" alice"',)),
        ("a\nb", (), ()),
        ("a\0", (), ()),
        ("\udce9", (), ()),
    ],
)
def test_what_a_table_is_asked(local, addresses, locals_):
    assert Keys.of(local, "ours.test") == Keys(addresses, locals_, ("@ours.test",))


def test_a_table_may_hold_a_domain_in_its_own_letters():
    keys = Keys.of("bob", "mail_1.xn--bcher-kva.example")
    assert keys.judge({"bob@mail_1.b\u00fccher.example"}) is Existence.EXISTS
    assert keys.judge({"bob@mail_1.bu\u0308cher.example"}) is Existence.EXISTS
    assert keys.judge({"@mail_1.b\u00fccher.example"}) is Existence.ANYBODY
    assert keys.judge({"alice@mail_1.b\u00fccher.example"}) is Existence.MISSING


def test_a_domain_that_has_no_letters_of_its_own_is_asked_for_as_it_is():
    assert Keys.of("bob", "xn--a.example").all == ("bob@xn--a.example", "bob", "@xn--a.example")


@pytest.mark.parametrize(
    ("table", "can_be_seen_empty"),
    [
        *((f"{kind}:/table", True) for kind in ("hash", "lmdb", "texthash", "pcre", "cidr", "proxy:btree")),
        ("inline:{ a=b, c=d }", True),
        ("static:x", True),
        ("unionmap:{hash:/one, pcre:/two}", True),
        ("unionmap:{hash:/one,mysql:/two}", False),
        ("pipemap:{hash:/one,hash:/two}", False),
        *((f"{kind}:/table", False) for kind in ("mysql", "proxy:pgsql", "ldap", "sqlite", "memcache")),
        ("tcp:127.0.0.1:1", False),
    ],
)
def test_which_tables_can_be_seen_to_be_empty(table, can_be_seen_empty):
    assert postfix_table.can_be_seen_empty(table) is can_be_seen_empty


@pytest.mark.parametrize(
    ("there", "existence"),
    [
        ({"alice@ours.test"}, Existence.EXISTS),
        ({"alice"}, Existence.EXISTS),
        ({"alice@ours.test", "@ours.test"}, Existence.EXISTS),
        ({"@ours.test"}, Existence.ANYBODY),
        ({"ours.test", "bob"}, Existence.MISSING),
        ((), Existence.MISSING),
    ],
)
def test_what_follows_from_the_keys_that_are_there(there, existence):
    assert Keys.of("alice", "ours.test").judge(there) is existence
