"""Header From and records of DMARC and SPF hold what anybody wrote: nothing raises, and time is linear."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstop import dmarc
from backstop.address import fold_domain
from backstop.cli.published import spf_terms
from backstop.dmarc.author import MAX_FROM_OCTETS, domains

PIECES = [b'"', b"(", b")", b"<", b">", b"@", b",", b";", b":", b".", b"\\", b"[", b"]", b" ", b"\r\n ", b"a"]
PIECES += [b"\xff", b"\xc3\xbc", b"\x00", b"a@example.com", b"<b@example.net>", b"=?utf-8?q?x?="]
FIELDS = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join) | st.binary(max_size=60)


@given(FIELDS)
def test_domains_of_any_field_are_folded(field):
    for domain in domains(field):
        assert fold_domain(domain) == domain


@given(FIELDS)
def test_one_good_address_behind_any_closed_name_is_found(name):
    quoted = b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    assert domains(quoted + b" <a@example.org>") == ("example.org",)
    comment = b"(" + name.translate(None, b"\\()") + b")"
    assert domains(comment + b"a@example.org" + comment) == ("example.org",)


@pytest.mark.parametrize("piece", [*PIECES, b"(\\", b'"\\', b"<a", b",a@b.c", b"a."], ids=repr)
def test_a_field_of_one_mark_alone_takes_little_time(piece):
    field = (piece * MAX_FROM_OCTETS)[:MAX_FROM_OCTETS]
    started = time.thread_time()
    domains(field)
    assert time.thread_time() - started < 0.2  # 10 ms; by the square it were minutes


WORDS = [
    "v=DMARC1",
    "p",
    "sp",
    "np",
    "=",
    ";",
    "reject",
    "none",
    " ",
    "pct",
    "100",
    "rua",
    "mailto:a@b.c",
    "\xff",
]


@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
def test_no_record_of_dmarc_raises(text):
    record = b"v=DMARC1;" + text.encode("latin-1")
    policy = dmarc.parse(record)
    assert policy is None or 0 <= policy.per_cent <= 100


MARKS = [
    "+",
    "-",
    "all",
    "a",
    "mx",
    "ip4",
    "ip6",
    ":",
    "/",
    "//",
    "24",
    "include",
    "redirect",
    "=",
    "%{i}",
    " ",
]


@given(
    st.lists(st.sampled_from([*MARKS, "example.com", "192.0.2.1", "\xff", "\x00"]), max_size=30).map("".join)
)
def test_no_record_of_spf_raises(text):
    found = spf_terms.terms(b"v=spf1 " + text.encode("latin-1"))
    assert len(list(spf_terms.reached(found))) <= len(found) + 1
