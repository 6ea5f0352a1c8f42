"""A milter in Python that decides nothing, written with pymilter's classes as its manual does: what Python costs.

usage: empty_pymilter.py SOCKET
"""

import sys

import Milter


class Empty(Milter.Base):
    """Every step but the body is taken and answered."""

    def connect(self, _name: str, _family: int, _address: object) -> int:
        return Milter.CONTINUE

    def hello(self, _name: str) -> int:
        return Milter.CONTINUE

    def envfrom(self, _address: str, *_parameters: str) -> int:
        return Milter.CONTINUE

    def envrcpt(self, _address: str, *_parameters: str) -> int:
        return Milter.CONTINUE

    def data(self) -> int:
        return Milter.CONTINUE

    def header(self, _name: str, _value: str) -> int:
        return Milter.CONTINUE

    def eoh(self) -> int:
        return Milter.CONTINUE

    def eom(self) -> int:
        return Milter.CONTINUE

    def abort(self) -> int:
        return Milter.CONTINUE

    def close(self) -> int:
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Empty
    Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGFROM)
    Milter.runmilter("empty", sys.argv[1], 0)
