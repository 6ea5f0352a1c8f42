"""A milter in Python that decides nothing, on pymilter's classes: what Python itself costs.

usage: empty_pymilter.py SOCKET
"""

import sys

import Milter


class Empty(Milter.Base):  # type: ignore[misc]  # pymilter carries no types
    """Every step but the body is taken, and answered."""

    def answer(self, *_arguments: object) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    connect = hello = envfrom = envrcpt = data = header = eoh = eom = abort = close = answer


if __name__ == "__main__":
    Milter.factory = Empty
    Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGFROM)
    Milter.runmilter("empty", sys.argv[1], 0)
