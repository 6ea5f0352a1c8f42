"""Text for people: what a terminal, a log or a reader's eye would obey is shown instead.

Control characters, line and paragraph separators, bidirectional controls and other invisible formats, and
the surrogates that stand for octets outside UTF-8: all of them are written as Python writes them in a text.
"""


def plain(text: str) -> str:
    """The text on one line and without anything invisible; what is printable stays as it is."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # an octet that was no UTF-8, as Python reads it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
