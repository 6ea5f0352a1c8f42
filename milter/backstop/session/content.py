"""A message while it comes in, within bounds. Only what may be proved by its content is kept."""

from typing import Final

MAX_OCTETS: Final = 1_000_000
MAX_HEADER_OCTETS: Final = 256_000
MAX_HEADER_LINES: Final = 2000


class Content:
    """Header fields and body, in the order in which they come; what is beyond the bounds is left out."""

    __slots__ = ("_chunks", "_fields", "_header_left", "_left", "_lines_left", "author")

    def __init__(self) -> None:
        self._fields: list[bytes] = []
        self._chunks: list[bytes] = []
        self._lines_left = MAX_HEADER_LINES
        self._header_left = MAX_HEADER_OCTETS
        self._left = MAX_OCTETS
        self.author = b""
        """The field From as it came."""

    def header(self, name: str, value: bytes) -> None:
        """Keep a field."""
        line = b"%b: %b\n" % (name.encode(errors="surrogateescape"), value)
        self._lines_left -= line.count(b"\n")
        self._header_left -= len(line)
        if self._lines_left < 0 or self._header_left < 0:
            self._lines_left = self._header_left = 0
            return
        self._left -= len(line)
        self._fields.append(line)
        if not self.author and name.lower() == "from":
            self.author = value

    def body(self, chunk: bytes) -> bool:
        """Keep a part of the body; whether more is wanted."""
        self._chunks.append(chunk if len(chunk) <= self._left else chunk[: self._left])
        self._left -= len(self._chunks[-1])
        return self._left > 0

    def message(self) -> bytes:
        """All of it."""
        return b"".join((*self._fields, b"\n", *self._chunks))
