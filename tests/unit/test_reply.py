"""Replies whose halves agree, and text that cannot break out of its line."""

import pytest

from backstop.reply import MAX_HEADER, MAX_TEXT, Reply, header_value, printable


@pytest.mark.parametrize(
    ("code", "status", "permanent"),
    [(550, "5.7.1", True), (550, "5.1.1", True), (450, "4.7.0", False), (452, "4.5.3", False)],
)
def test_code_and_status_of_one_class_make_a_reply(code, status, permanent):
    reply = Reply(code, status, "No such user here")
    assert reply.is_permanent is permanent
    assert str(reply) == f"{code} {status} No such user here"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (550, "4.7.1"),
        (450, "5.7.1"),
        (250, "2.0.0"),
        (354, "3.0.0"),
        (650, "6.0.0"),
        (55, "5.0.0"),
        (5500, "5.0.0"),
        (-550, "5.7.1"),
        (550, "5.7"),
        (550, "5.7.1.1"),
        (550, "5.7.1 "),
        (550, "5.7.1\n"),
        (550, "5.7.1000"),
        (550, ""),
        (550, "5.\u0667.1"),
    ],
)
def test_what_disagrees_cannot_be_made(code, status):
    with pytest.raises(ValueError, match="do not agree"):
        Reply(code, status, "text")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("100 % sure %s %n", "100 %% sure %%s %%n"),
        ("one\r\n250 two", "one??250 two"),
        ("bell\a, escape\x1b[31m, delete\x7f, nul\0", "bell?, escape?[31m, delete?, nul?"),
        ("müller, m\udcfcller, \u2028, \u202e", "m?ller, m?ller, ?, ?"),
        ("", ""),
    ],
)
def test_the_milter_gets_one_printable_line_with_percents_doubled(text, shown):
    assert Reply(550, "5.7.1", text).milter_text == shown


def test_a_reply_is_cut_before_the_line_is_too_long():
    reply = Reply(550, "5.7.1", "%" * 10_000)
    assert reply.milter_text == "%%" * MAX_TEXT
    assert len(f"{reply}\r\n") <= 512
    # libmilter refuses texts over 980 characters (MAXREPLYLEN).
    assert len(reply.milter_text) <= 980


def test_a_header_is_printable_one_line_and_bounded():
    assert header_value("junk", "no proof\r\nX-Spam: no", "ü%") == "junk; no proof??X-Spam: no; ?%"
    assert len(header_value("x" * 10_000)) == MAX_HEADER
    assert printable("a\tb") == "a?b"
