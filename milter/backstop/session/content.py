"""A message while it comes in, within bounds. Only what may be proved by its content is kept."""

from typing import Final

from backstop import dkim_body
from backstop.dkim_body import BodyCanonicalization, BodyHash

MAX_OCTETS: Final = 1_000_000
MAX_HEADER_OCTETS: Final = 256_000
MAX_HEADER_LINES: Final = 2000


MAX_SIGNED_LINES: Final = 20_000
"""Of a header that is read for its signatures: thousands of recipients may stand there, one a line. What is
beyond counts as missing, so a header is not made too long to be judged."""

MAX_AUTHORS: Final = 10
"""Fields From that are kept, the last always: of several, programs show the first or the last."""


class Content:
    """Header fields and body, in the order in which they come; what is beyond the bounds is left out.

    With `signatures` the body is hashed as its DKIM signatures want, however long it is, and the spaces
    before the fields' values are kept. Without `keeps` nothing else of the body is kept.
    """

    __slots__ = (
        "_chunks",
        "_fields",
        "_hashes",
        "_header_left",
        "_keeps",
        "_left",
        "_lines_left",
        "_signatures",
        "author",
        "authors",
    )

    def __init__(self, *, keeps: bool = True, signatures: bool = False) -> None:
        self._fields: list[bytes] = []
        self._chunks: list[bytes] = []
        self._lines_left = MAX_SIGNED_LINES if signatures else MAX_HEADER_LINES
        self._header_left = MAX_OCTETS if signatures else MAX_HEADER_OCTETS
        self._left = MAX_OCTETS
        self._keeps = keeps
        self._signatures: list[bytes] | None = [] if signatures else None
        self._hashes: dict[BodyCanonicalization, BodyHash] | None = None
        self.author = b""
        """The field From as it came."""
        self.authors: list[bytes] = []
        """All of that name."""

    def header(self, name: str, value: bytes, gap: bytes = b" ") -> None:
        """Keep a field; `gap` is what stands between its colon and its value."""
        folded = name.lower()
        if folded == "from":  # kept beyond the bounds, or a forger would write more than them above it
            self._note_author(value)
        line = b"%b:%b%b\n" % (name.encode(errors="surrogateescape"), gap, value)
        self._lines_left -= line.count(b"\n")
        self._header_left -= len(line)
        if self._lines_left < 0 or self._header_left < 0:
            self._lines_left = self._header_left = 0
            return
        self._left = max(self._left - len(line), 0)
        self._fields.append(line)
        if folded == "dkim-signature" and self._signatures is not None:
            self._signatures.append(value)

    def _note_author(self, value: bytes) -> None:
        self.author = self.author or value
        if len(self.authors) == MAX_AUTHORS:
            self.authors.pop()
        self.authors.append(value)

    def body(self, chunk: bytes) -> bool:
        """Keep a part of the body; whether more is wanted."""
        for one in self._wanted_hashes().values():
            one.update(chunk)
        if self._keeps:
            self._chunks.append(chunk if len(chunk) <= self._left else chunk[: self._left])
            self._left -= len(self._chunks[-1])
        return bool(self._hashes) or (self._keeps and self._left > 0)

    def message(self) -> bytes:
        """All of it that was kept."""
        return b"".join((*self._fields, b"\n", *self._chunks))

    def header_block(self) -> bytes:
        """The fields."""
        return b"".join(self._fields)

    def body_hashes(self) -> dict[BodyCanonicalization, bytes]:
        """The body's hash in each canonicalisation that a signature names; at the end, once."""
        return {name: one.digest() for name, one in self._wanted_hashes().items()}

    def _wanted_hashes(self) -> dict[BodyCanonicalization, BodyHash]:
        if self._hashes is None:
            signatures = self._signatures or ()
            self._hashes = {one: BodyHash(one) for one in dkim_body.wanted(signatures)} if signatures else {}
        return self._hashes
