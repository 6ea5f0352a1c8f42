"""Addresses as mail servers hand them over, good, odd and hostile."""

import ipaddress
import sys
import unicodedata

import pytest

from backstop.address import (
    NULL_SENDER,
    Address,
    client_network,
    fold_domain,
    is_in,
    parse,
    quoted,
    without_extension,
)

# Path, then local part, folded domain, domain as written.
ADDRESSES = [
    ("<user@example.com>", "user", "example.com", "example.com"),
    ("user@example.com", "user", "example.com", "example.com"),
    ("<User.Name@Example.COM>", "User.Name", "example.com", "Example.COM"),
    ("<user@example.com.>", "user", "example.com", "example.com."),
    ("<postmaster>", "postmaster", "", ""),
    ("bob", "bob", "", ""),
    # Source routes (RFC 5321, appendix C) are dropped.
    ("<@a.example,@b.example:user@c.example>", "user", "c.example", "c.example"),
    ("<@a.example:bob>", "bob", "", ""),
    # What other hosts would do with these is nothing to us: they are local parts.
    ("<user%other.example@example.com>", "user%other.example", "example.com", "example.com"),
    ("<other.example!user@example.com>", "other.example!user", "example.com", "example.com"),
    ("<other.example!user>", "other.example!user", "", ""),
    # Postfix takes the rightmost @ too.
    ("<a@b@example.com>", "a@b", "example.com", "example.com"),
    ("<a..b@example.com>", "a..b", "example.com", "example.com"),
    ("<.a.@example.com>", ".a.", "example.com", "example.com"),
    # Quoted strings (RFC 5321, section 4.1.2).
    ('<"a b"@example.com>', "a b", "example.com", "example.com"),
    ('<"a\\"b"@example.com>', 'a"b', "example.com", "example.com"),
    ('<"a\\\\b"@example.com>', "a\\b", "example.com", "example.com"),
    ('<"\\u\\s\\e\\r"@example.com>', "user", "example.com", "example.com"),
    ('<"a@b"@example.com>', "a@b", "example.com", "example.com"),
    ('<"user"@example.com>', "user", "example.com", "example.com"),
    ('<"prvs=0461a2ca1a=userx"@test.ex>', "prvs=0461a2ca1a=userx", "test.ex", "test.ex"),
    ('<""@example.com>', "", "example.com", "example.com"),
    ('<"a"', '<"a"', "", ""),
    # Address literals.
    ("<user@[192.0.2.1]>", "user", "[192.0.2.1]", "[192.0.2.1]"),
    ("<user@[IPv6:2001:DB8::1]>", "user", "[ipv6:2001:db8::1]", "[IPv6:2001:DB8::1]"),
    # Octets outside ASCII: UTF-8, and Latin-1 as it arrives through surrogateescape.
    ("<müller@example.com>", "müller", "example.com", "example.com"),
    ("<m\udcfcller@example.com>", "m\udcfcller", "example.com", "example.com"),
    ("<user@Bücher.example>", "user", "xn--bcher-kva.example", "Bücher.example"),
    ("<user@XN--BCHER-KVA.example>", "user", "xn--bcher-kva.example", "XN--BCHER-KVA.example"),
    ("<u\u202eser@example.com>", "u\u202eser", "example.com", "example.com"),
]

NO_ADDRESSES = [
    "<@e.org>",
    "@",
    "<@a.example:>",
    "<@a.example:@b.example>",
    "<user@>",
    "<user@.>",
    "<user@..>",
    "<user@exa mple.com>",
    "<user@example.com >",
    "<user@example.com>x",
    "<user@example,com>",
    "<user@exämple\ud800.com>",
    "<user@ex\udce4mple.com>",
    "<\ud800user@example.com>",
    "<\udd00user@example.com>",
    "<user@[192.0.2.1@]>",
    "<user@[]>",
    "<user@[192.0.2.1>",
    '<user@[a "b"]>',
    '<"a"b@example.com>',
    '<"a@example.com>',
    '<"a\\"@example.com>',
    "<us\0er@example.com>",
    "<us\rer@example.com>",
    "<us\ner@example.com>",
    "<user@example.com\r\nRCPT TO:<x@example.com>",
    "<us\ter@example.com>",
    "<us\x7fer@example.com>",
    '<"us\ner"@example.com>',
    "<user@" + "a" * 256 + ">",
    "<" + "a" * 10_000 + "@example.com>",
]


@pytest.mark.parametrize(("path", "local", "domain", "written"), ADDRESSES, ids=ascii)
def test_an_address_is_read(path, local, domain, written):
    assert parse(path) == Address(local, domain, written)


@pytest.mark.parametrize("path", NO_ADDRESSES, ids=lambda path: ascii(path[:40]))
def test_what_is_no_address_is_none_and_raises_nothing(path):
    assert parse(path) is None


@pytest.mark.parametrize("path", ["", "<>", '<"">', '""'])
def test_the_null_sender_in_each_of_its_forms(path):
    # `<"">` is empty in Postfix's eyes too: smtpd takes the quotes off before it looks.
    assert parse(path) == NULL_SENDER


def test_an_empty_local_part_with_a_domain_is_not_the_null_sender():
    address = parse('<""@example.com>')
    assert address != NULL_SENDER
    assert address.path == '""@example.com'
    assert not address.is_plain


@pytest.mark.parametrize(("path", "local", "domain", "written"), ADDRESSES, ids=ascii)
def test_a_written_path_reads_back_as_the_same_address(path, local, domain, written):
    address = Address(local, domain, written)
    assert parse(f"<{address.path}>") == address
    assert NULL_SENDER.path == ""


@pytest.mark.parametrize(
    ("local", "path"),
    [
        ("user", "user@example.com"),
        ("a b", '"a b"@example.com'),
        ('a"b\\c', '"a\\"b\\\\c"@example.com'),
        ("a@b", '"a@b"@example.com'),
        ("a\x85b", '"a\x85b"@example.com'),
        ("", '""@example.com'),
    ],
)
def test_quotes_stand_where_they_are_needed(local, path):
    assert Address(local, "example.com", "example.com").path == path
    assert parse(quoted(local) + "@example.com").local == local


@pytest.mark.parametrize("octets", [47, 48, 49, 64, 65, 300])
def test_a_long_local_part_is_never_cut(octets):
    assert parse(f"<{'a' * octets}@example.com>").local == "a" * octets


@pytest.mark.parametrize(("octets", "accepted"), [(253, True), (254, True), (255, True), (256, False)])
def test_a_domain_ends_at_255_octets(octets, accepted):
    label = "a" * 63
    domain = f"{label}.{label}.{label}." + "b" * (octets - 192)
    assert len(domain) == octets
    assert (parse(f"<user@{domain}>") is not None) is accepted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("User@Example.COM", "user@example.com"),
        ("user@bücher.example", "user@xn--bcher-kva.example"),
        ("user@BÜCHER.EXAMPLE", "user@XN--BCHER-KVA.EXAMPLE"),
        ("user@bu\u0308cher.example", "user@b\u00fccher.example"),
        ("mu\u0308ller@example.com", "m\u00fcller@example.com"),
        ("MU\u0308LLER@example.com", "m\u00fcller@example.com"),
        ("user@example.com.", "user@example.com"),
        ("user@straße.example", "user@xn--strae-oqa.example"),
        ("J\u030c@example.com", "\u01f0@example.com"),
    ],
)
def test_two_ways_of_writing_one_address_fold_to_the_same(one, other):
    assert parse(one).folded == parse(other).folded


def test_folding_is_final_for_every_character():
    characters = map(chr, range(sys.maxunicode + 1))
    for char in (c for c in characters if c != c.lower() or not unicodedata.is_normalized("NFD", c)):
        once = Address(char, "", "").folded
        assert Address(once, "", "").folded == once
        assert Address(unicodedata.normalize("NFD", char), "", "").folded == once


def test_an_address_without_a_domain_folds_without_an_at_sign():
    assert parse("<Postmaster>").folded == "postmaster"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("", None),
        (".", None),
        ("example..", None),
        ("exam ple", None),
        ("a/b", None),
        ("*", None),
        ("xn--\udce4", None),
        ("\u200d.example", None),
        ("ü" * 256, None),
        ("\u0660" * 250, None),
        ("ü" * 50 + ".example", "xn--tda" + "a" * 49 + ".example"),
    ],
)
def test_domains_fold_or_are_none(text, folded):
    assert fold_domain(text) == folded


# Each row was asked of Postfix's rules in postconf(5), recipient_delimiter and owner_request_special.
@pytest.mark.parametrize(
    ("local", "delimiters", "without"),
    [
        ("john+shop", "+", "john"),
        ("john+a+b", "+", "john"),
        ("john-a+b", "+-", "john"),
        ("john+a-b", "+-", "john"),
        ("john", "+", "john"),
        ("john+", "+", "john"),
        ("john+shop", "", "john+shop"),
        ("+shop", "+", "+shop"),
        ("+a-b", "+-", "+a-b"),
        ("postmaster", "o", "postmaster"),
        ("MAILER-DAEMON", "-", "MAILER-DAEMON"),
        ("double-bounce", "-", "double-bounce"),
        ("postmaster+x", "+", "postmaster"),
        ("Owner-list", "-", "Owner-list"),
        ("list-Request", "-", "list-Request"),
        ("owner-list+x", "+", "owner-list"),
    ],
)
def test_the_extension_is_taken_off_as_postfix_does(local, delimiters, without):
    assert without_extension(local, delimiters) == without


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("localhost", ""),
        ("unix:/socket", ""),
        ("192.0.2.1\n", ""),
    ],
)
def test_limits_count_an_ipv4_address_or_an_ipv6_64(address, network):
    assert client_network(address) == network


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.9.9.9", True),
        ("::1", True),
        ("::2", False),
        ("192.0.2.1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_whether_a_client_is_in_our_networks(address, inside):
    networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert is_in(address, networks) is inside
