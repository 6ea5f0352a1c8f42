"""Replies of a mail server: how they are read."""

from collections.abc import Iterable

import pytest

from backstop.adapters.smtp_reply import MAX_REPLY_OCTETS, BadReply, ReplyReader, SmtpReply


def reader(pieces: Iterable[bytes]) -> ReplyReader:
    left = iter(pieces)
    return ReplyReader(lambda _size: next(left, b""))


def read(octets: bytes, piece: int = 4096) -> SmtpReply:
    return reader(octets[at : at + piece] for at in range(0, len(octets), piece)).read()


@pytest.mark.parametrize("piece", [1, 2, 5, 4096])
@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 ok\r\n", SmtpReply(250, "ok")),
        (b"250 ok\n", SmtpReply(250, "ok")),
        (b"250\r\n", SmtpReply(250, "")),
        (b"250-a\r\n250-b\r\n250 c\r\n", SmtpReply(250, "a\nb\nc")),
        (b"250-\r\n250 \r\n", SmtpReply(250, "\n")),
        (b"550 \xff\xc3\xbc\r\n", SmtpReply(550, "\udcffü")),
    ],
)
def test_a_reply_is_read(octets, reply, piece):
    assert read(octets, piece) == reply


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"250",
        b"250-more\r\n",
        b"250 no end",
        b"100 odd\r\n",
        b"600 odd\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b" 250 ok\r\n",
        b"250-a\r\n251 b\r\n",
        b"\xd9\xa2\xd9\xa5\xd9\xa0 ok\r\n",
    ],
)
def test_what_is_no_reply_is_refused(octets):
    with pytest.raises(BadReply):
        read(octets)


@pytest.mark.parametrize(
    "octets", [b"250-x\r\n" * 1_000_000, b"250 " + b"x" * 1_000_000 + b"\r\n", b"x" * 1_000_000]
)
def test_a_reply_without_end_is_cut_at_8_kb(octets):
    """I10: nothing more is read once it is too long."""
    given = 0

    def receive(size: int) -> bytes:
        nonlocal given
        given += size
        return octets[given - size : given]

    with pytest.raises(BadReply, match="8192 octets"):
        ReplyReader(receive).read()
    assert given <= MAX_REPLY_OCTETS + 2 * 4096


def test_a_reply_of_8_kb_is_read_and_one_octet_more_is_not():
    fits = b"250 " + b"x" * (MAX_REPLY_OCTETS - 6) + b"\r\n"
    assert len(read(fits).text) == MAX_REPLY_OCTETS - 6
    with pytest.raises(BadReply):
        read(b"250 x" + fits[4:])


def test_one_reply_follows_the_other():
    both = reader([b"250 a\r\n2", b"51 b\r\n"])
    assert both.read().text == "a"
    assert both.has_more
    assert both.read() == SmtpReply(251, "b")
    assert not both.has_more


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("5.1.1 no", "550 5.1.1 no"),
        ("a\n  b", "550 a b"),
        ("\x1b[2J\x00", "550 \\x1b[2J\\x00"),
        ("", "550"),
        ("x" * 500, "550 " + "x" * 160 + "..."),
    ],
)
def test_a_reply_is_shown_on_one_line_escaped_and_cut(text, shown):
    assert SmtpReply(550, text).shown == shown


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.1.1 User unknown", "5.1.1"),
        ("#5.1.0 Address rejected.", "5.1.0"),
        ("sorry, no mailbox here by that name. (#5.1.1)", "5.1.1"),
        ("User unknown", ""),
        ("5.1.1", "5.1.1"),
        ("5.1.10 RESOLVER.ADR.RecipientNotFound", "5.1.10"),
        ("5.1.1234 odd", ""),
        ("192.0.2.1 is blocked", ""),
        ("", ""),
    ],
)
def test_the_enhanced_status_is_found(text, status):
    assert SmtpReply(550, text).status == status
