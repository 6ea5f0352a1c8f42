"""The octets of a message, cut to size, with lines that end alike."""

from dataclasses import dataclass
from typing import Final

MAX_OCTETS: Final = 1_000_000
"""How much of a message is read, and how much a message may decode to."""


@dataclass(frozen=True, slots=True)
class Text:
    """Octets as they came in `raw`; in `lines` every line ends with LF or CR LF. Offsets hold in both."""

    raw: bytes
    lines: bytes


def text_of(raw: bytes) -> Text:
    r"""Level the line ends: a lone CR counts as one, and so does CR CR LF.

    Two octets which do not occur in mail stand in for the moment, so that nothing moves.
    """
    if b"\r" not in raw or raw.count(b"\r") == raw.count(b"\r\n"):
        return Text(raw, raw)
    if b"\n" not in raw:
        return Text(raw, raw.replace(b"\r", b"\n"))
    lines = raw.replace(b"\r\r\n", b"\x00\x00\n").replace(b"\r\n", b"\x00\n").replace(b"\r", b"\n")
    return Text(raw, lines.replace(b"\x00\x00\n", b"\r\r\n").replace(b"\x00\n", b"\r\n"))
