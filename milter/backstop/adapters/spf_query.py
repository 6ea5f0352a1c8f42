"""One SPF evaluation: pyspf, with our resolver and our limits in place of its own.

Importing this imports pyspf, which a worker that checks no SPF need not pay for. What pyspf reads too loosely
or spends too freely is set right here; results are remembered by `spf`. RFC 7208.
"""

import re
import socket
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final

from backstop.adapters.resolver import Answer, Budget, Exchange, Outcome, Resolver
from backstop.address import MAX_DOMAIN_OCTETS, MAX_LOCAL_OCTETS
from backstop.authentication import SpfResult
from backstop.value import value

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its docstrings have escapes that newer Pythons warn of
    import spf

MAX_QUESTIONS: Final = 12
"""That one evaluation sends out, whatever its records name. One that needs more is a temporary error; the
next gets further, as what was answered is known by then."""

MAX_RECORD: Final = 4096
"""Octets of one record; RFC 7208, section 3.4, asks for 450."""

MAX_TERM: Final = 320
"""Octets of one term of it: a name of 255 with macros."""

MAX_MACROS: Final = 100
"""Macros of one evaluation. Some records have six; each costs time by what is put in."""

_MAX_NAME: Final = 253
_MAX_REASON: Final = 200
_VERSION: Final = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_MODIFIER: Final = re.compile(r"(?<= )(?:redirect|exp)=", re.IGNORECASE)
_END: Final = re.compile(
    r"(?:\.(?=[0-9a-z-]*[a-z-])[0-9a-z](?:[0-9a-z-]*[0-9a-z])?\.?|%(?:[%_-]|\{[^}]*\}))\Z", re.IGNORECASE
)
_MACRO_STRING: Final = re.compile(
    r"(?:[^%]|%[%_-]|%\{[a-z](?!0+[^0-9])[0-9]{0,3}r?[-.+,/_=]*\})*", re.IGNORECASE | re.DOTALL
)


@value
class Client:
    """Who is asked about: the address of the client, and the identity it claims."""

    address: str
    helo: str
    local: str
    domain: str


@value
class Evaluation:
    """The outcome; `is_personal` says that it holds for this local part and this HELO name alone."""

    result: SpfResult
    reason: str
    is_personal: bool


def evaluate(client: Client, resolver: Resolver, budget: Budget) -> Evaluation:
    """Ask and judge; never raises, whatever the records hold."""
    answer = resolver.txt(client.domain, budget)
    if answer.outcome in (Outcome.TEMPORARY, Outcome.SPENT):
        return Evaluation(SpfResult.TEMPERROR, f"nobody could say what {client.domain} publishes", False)
    if not any(map(_VERSION.match, answer.records)):
        return Evaluation(SpfResult.NONE, "", False)
    try:
        query = _Query(client, resolver, budget)
        word, _code, why = query.check()
    # None is known to come out; these are what its reading of text would raise.
    except (spf.PermError, ValueError, IndexError) as error:
        return Evaluation(SpfResult.PERMERROR, f"{type(error).__name__}: {error}"[:_MAX_REASON], True)
    if word not in ("temperror", "permerror"):
        why = query.mechanism or "default"
    return Evaluation(SpfResult(word), why[:_MAX_REASON], query.is_personal)


class _Query(spf.query):  # type: ignore[misc]  # pyspf has no types
    """pyspf's, which follows a record's terms; it asks through `dns`."""

    is_personal = False

    def __init__(self, client: Client, resolver: Resolver, budget: Budget) -> None:
        # pyspf would cut a quoted local part at its first @, and so take the domain from it.
        super().__init__(client.address, f"postmaster@{client.domain}", client.helo)
        local = client.local.encode("utf-8", "replace").decode()[-MAX_LOCAL_OCTETS:] or "postmaster"
        helo = client.helo[-MAX_DOMAIN_OCTETS:]
        self._personal = {"l": local, "s": f"{local}@{client.domain}", "h": helo}
        self._budget = budget
        self._macros = 0
        self._voids: set[int] = set()
        self._ask: dict[str, Callable[[str, Budget], Answer[Any]]] = {
            "TXT": resolver.txt,
            "A": resolver.a,
            "AAAA": resolver.aaaa,
            "MX": resolver.mx,
            "PTR": resolver.ptr,
        }

    # Macros read these three as attributes, and nothing else does.
    l = property(lambda self: self._told("l"), lambda _self, _value: None)  # noqa: E741 - pyspf's name
    s = property(lambda self: self._told("s"), lambda _self, _value: None)
    h = property(lambda self: self._told("h"), lambda _self, _value: None)

    def _told(self, letter: str) -> str:
        self.is_personal = True
        if not self._personal[letter]:  # it was never said, or before the worker wanted to hear it
            raise spf.TempError("its record asks for the HELO name, which is not known")
        return self._personal[letter]

    def dns(
        self,
        name: str,
        qtype: str,
        cnames: object = None,  # noqa: ARG002 - pyspf's signature
        ignore_void: bool = False,  # noqa: ARG002, FBT001, FBT002 - pyspf's signature
    ) -> list[Any]:
        """The records, in the form in which pyspf takes them."""
        name = name.removesuffix(".")
        if not name.isascii() or not all(0 < len(label) < 64 for label in name.split(".")):
            return []  # no name, so there is nothing to ask for: RFC 7208, section 4.8; RFC 8616, section 4
        answer = self._ask[qtype](name, self._budget)
        if answer.outcome is Outcome.SPENT:
            raise spf.TempError(f"it takes more than {MAX_QUESTIONS} questions")
        if answer.outcome is Outcome.TEMPORARY:
            raise spf.TempError(f"nobody could say: {qtype} of {name}")
        if answer.outcome is Outcome.ABSENT:
            self._count_void()
        return list(map(_record, answer.records))

    def note_error(self, *msg: str) -> None:
        """PermError, but for a modifier that nobody knows and that is there twice: RFC 7208, section 6."""
        if not msg[0].endswith("= MUST appear at most once") or msg[0].startswith("exp="):
            super().note_error(*msg)

    def _count_void(self) -> None:
        # Terms are counted and not questions: mail exchanges without IPv6 are no error of their domain's.
        self._voids.add(self.lookups)
        if len(self._voids) > spf.MAX_VOID_LOOKUPS:
            raise spf.PermError(f"Void lookup limit of {spf.MAX_VOID_LOOKUPS} exceeded")

    def dns_spf(self, domain: str) -> str | None:
        """The domain's record, if it has one; PermError for one that is beyond our limits."""
        record: str | None = super().dns_spf(domain)
        if record is None:
            return None
        if len(record) > MAX_RECORD or max(map(len, record.split(" "))) > MAX_TERM:
            raise spf.PermError(f"the record of {domain} is too long")
        return _MODIFIER.sub(lambda match: match[0].lower(), record)

    def expand_domain(self, arg: str) -> str:
        """A domain-spec, looked at and with its macros put in. pyspf's own look takes time by the square."""
        if not _END.search(arg):
            raise spf.PermError("no domain", arg)
        return self.expand(arg)

    def expand(self, s: str, stripdot: bool = True) -> str:  # noqa: FBT001, FBT002 - pyspf's signature
        """Macros put in; RFC 7208, section 7."""
        if "%" in s:
            self._macros += s.count("%")
            if self._macros > MAX_MACROS or not _MACRO_STRING.fullmatch(s):
                raise spf.PermError("an invalid macro, or too many", s)
        text: str = super().expand(s, stripdot)
        while len(text) > _MAX_NAME and "." in text:
            text = text.partition(".")[2]
        return text

    def cidrmatch(self, ipaddrs: Iterable[str], n: int) -> bool:
        """Whether the client is in the same network of n bits as one of the addresses."""
        family, bits = (socket.AF_INET6, 128 - n) if self.v == "ip6" else (socket.AF_INET, 32 - n)
        client = int(self.ipaddr) >> bits
        return any(
            int.from_bytes(socket.inet_pton(family, text), "big") >> bits == client for text in ipaddrs
        )

    def get_explanation(self, spec: str) -> None:  # noqa: ARG002 - pyspf's signature
        """Not fetched: it is text for the client, and a stranger's."""
        return


def _record(record: bytes | str | Exchange) -> Any:
    if isinstance(record, bytes):
        return (record,)
    return (record.preference, record.host) if isinstance(record, Exchange) else record
