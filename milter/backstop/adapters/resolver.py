"""The one resolver of a worker: what DNS says, as values, from a bounded cache or within a deadline.

Everything is remembered, also that a name does not exist and, for half a minute, that nobody could say:
a flood of bounces must not become a flood of questions (dnspython's own caches forget failures). Servers that
are silent altogether are not waited for, but tried again each second. Nothing is
opened before the first question, so a resolver may be made before the fork. How one server is asked is
`name_servers`'s business. RFC 1035, RFC 2308.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Final, Generic, TypeVar, cast

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.ttl

from backstop.adapters import name_servers
from backstop.adapters.name_servers import NameServer, NoReply
from backstop.value import value

LIFETIME: Final = 2.0
"""Seconds for one question, all servers and attempts together."""

FOUND_SECONDS: Final = (60.0, 6 * 3600.0)
"""For how long an answer is remembered, at least and at most, whatever its TTL."""

ABSENT_SECONDS: Final = (30.0, 900.0)
"""The same for "there is no such record"."""

FAILED_SECONDS: Final = 30.0
"""For how long a question that nobody could answer is not asked again."""

CACHE_OCTETS: Final = 4 * 1024 * 1024
"""What the cache may take, roughly: 4,000 answers. The ones not used for longest go."""

ENOUGH: Final = 0.4
"""Of the time for a question: if it failed in so much, it would have failed in all of it."""

MAX_ASKED: Final = 32
"""Questions under way at a time; one more waits for its turn until its deadline."""

MAX_RATE: Final = 50.0
"""Questions a second that go out, and how many at once."""

MAX_SILENCES: Final = 3
"""Questions in a row that no server answered, after which it is found out whether they are up at all."""

TRIAL_SECONDS: Final = 0.3
"""For how long each server may take to show that it is up."""

_ENTRY_OCTETS = 1000  # what an answer of one record takes with everything around it
_ROUNDS = 2
_ANY = 2**31  # no limit

_T = TypeVar("_T")


class Outcome(Enum):
    """What became of a question."""

    FOUND = "found"
    ABSENT = "absent"
    TEMPORARY = "temporary"
    """Nobody could say, or not within the limits: nothing follows from it."""

    SPENT = "spent"
    """Not asked, because the message has used up its lookups or questions."""


@value
class Answer(Generic[_T]):
    """What DNS says; `records` are empty unless something was found, and in the server's order."""

    outcome: Outcome
    records: tuple[_T, ...] = ()


@value
class Exchange:
    """An MX record."""

    preference: int
    host: str


class _Stopwatch:
    """The seconds during which at least one question is under way: those asked in parallel count once."""

    __slots__ = ("_lock", "_running", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds
        self._running = 0
        self._since = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1

    def __exit__(self, *_exception: object) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._seconds -= time.monotonic() - self._since

    @property
    def left(self) -> float:
        with self._lock:
            return self._seconds - (time.monotonic() - self._since if self._running else 0.0)


class Budget:
    """What one message may cost in DNS: the time of all its checks together, and the lookups of one of them.

    `seconds` are those spent waiting for answers, not those the client takes between RCPT and end of message.
    Every lookup counts, also one the cache answers, so that the outcome does not depend on what others asked
    before; a void is a lookup of what is absent. RFC 7208, section 4.6.4. `questions` are those that go out.
    """

    def __init__(
        self, lookups: int = 10, voids: int = 2, seconds: float = LIFETIME, *, questions: int = _ANY
    ) -> None:
        self._lock = threading.Lock()
        self._lookups = lookups
        self._voids = voids
        self._questions = questions
        self._kept = 0.0
        self.stopwatch = _Stopwatch(seconds)

    def apart(
        self, *, lookups: int = _ANY, voids: int = _ANY, questions: int = _ANY, keep: float = 0.0
    ) -> "Budget":
        """One with counts of its own that shares the time, but for `keep` seconds, which are for others.

        What a stranger's record makes one check ask must not cost another check its lookups.
        """
        other = Budget(lookups, voids, questions=questions)
        other.stopwatch = self.stopwatch
        other._kept = self._kept + keep
        return other

    def take(self) -> bool:
        """Count one lookup; whether it may be made."""
        with self._lock:
            if self._lookups <= 0 or self._voids <= 0:
                return False
            self._lookups -= 1
            return True

    def take_question(self) -> bool:
        """Count one question that goes out; whether it may."""
        with self._lock:
            if self._questions <= 0:
                return False
            self._questions -= 1
            return True

    def count_void(self) -> None:
        """Count one lookup that found nothing."""
        with self._lock:
            self._voids -= 1

    @property
    def seconds_left(self) -> float:
        """Of the time for all its questions together."""
        return self.stopwatch.left - self._kept


@value
class _Question:
    name: str
    rdtype: dns.rdatatype.RdataType


@value
class _Entry:
    answer: Answer[Any]
    since: float
    until: float
    octets: int


class _Flight:
    """A question under way, for which other threads wait too."""

    __slots__ = ("answer", "landed")

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.answer: Answer[Any] = _TEMPORARY


_TEMPORARY: Final[Answer[Any]] = Answer(Outcome.TEMPORARY)
_ABSENT: Final[Answer[Any]] = Answer(Outcome.ABSENT)
_SPENT: Final[Answer[Any]] = Answer(Outcome.SPENT)


class Resolver:
    """Asks the name servers given, or those of resolv.conf when there are none; never raises on an answer.

    `nameservers` are in the forms of `name_servers.parse`; ValueError for any other. `clock` is for the cache
    alone. Names are taken as they are: nothing is appended to them, and what can be no name is absent.
    `on_trouble` is told, again and again, while questions are not put because of the servers or of `rate`.
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        lifetime: float = LIFETIME,
        rate: float = MAX_RATE,
        cache_octets: int = CACHE_OCTETS,
        clock: Callable[[], float] = time.monotonic,
        on_trouble: Callable[[str], None] = lambda _text: None,
    ) -> None:
        parsed = [name_servers.parse(text) for text in nameservers]
        if None in parsed:
            raise ValueError(f"{nameservers[parsed.index(None)]} is no address of a name server")
        self._servers = tuple(server for server in parsed if server)
        self._lifetime = lifetime
        self._rate = rate
        self._tokens = rate
        self._tokens_at = clock()
        self._clock = clock
        self._on_trouble = on_trouble
        self._lock = threading.Lock()
        self._asked = threading.BoundedSemaphore(MAX_ASKED)
        self._flights: dict[_Question, _Flight] = {}
        self._cache: OrderedDict[_Question, _Entry] = OrderedDict()
        self._cache_octets = cache_octets
        self._octets = 0
        self._silences = 0
        self._next_trial = 0.0
        self._are_down = False

    def txt(self, name: str, budget: Budget | None = None) -> Answer[bytes]:
        """The TXT records, the strings of each joined."""
        return self._answer(name, dns.rdatatype.TXT, budget)

    def a(self, name: str, budget: Budget | None = None, max_age: float = math.inf) -> Answer[str]:
        """The IPv4 addresses; an answer older than so many seconds is asked for anew."""
        return self._answer(name, dns.rdatatype.A, budget, max_age)

    def aaaa(self, name: str, budget: Budget | None = None) -> Answer[str]:
        """The IPv6 addresses."""
        return self._answer(name, dns.rdatatype.AAAA, budget)

    def mx(self, name: str, budget: Budget | None = None) -> Answer[Exchange]:
        """The mail exchanges."""
        return self._answer(name, dns.rdatatype.MX, budget)

    def ptr(self, name: str, budget: Budget | None = None) -> Answer[str]:
        """The names that a name under in-addr.arpa or ip6.arpa points to."""
        return self._answer(name, dns.rdatatype.PTR, budget)

    def known_a(self, name: str, max_age: float = math.inf) -> Answer[str] | None:
        """The IPv4 addresses as far as the cache knows; None where it would take a question."""
        return self._known(_question(name, dns.rdatatype.A), max_age)

    def _answer(
        self, name: str, rdtype: dns.rdatatype.RdataType, budget: Budget | None, max_age: float = math.inf
    ) -> Answer[Any]:
        question = _question(name, rdtype)
        if budget is None:
            return self._known(question, max_age) or self._asked_once(question, self._lifetime, max_age)
        if not budget.take():
            return _SPENT
        answer = self._known(question, max_age)
        if answer is None:
            if not budget.take_question():
                return _SPENT
            with budget.stopwatch:
                answer = self._asked_once(question, min(self._lifetime, budget.seconds_left), max_age)
        if answer.outcome is Outcome.ABSENT:
            budget.count_void()
        return answer

    def _known(self, question: _Question, max_age: float) -> Answer[Any] | None:
        with self._lock:
            return self._find(question, max_age)

    def _find(self, question: _Question, max_age: float) -> Answer[Any] | None:
        entry = self._cache.get(question)
        if entry is None or self._clock() >= min(entry.until, entry.since + max_age):
            return None
        self._cache.move_to_end(question)
        return entry.answer

    def _asked_once(self, question: _Question, patience: float, max_age: float) -> Answer[Any]:
        with self._lock:
            answer = self._find(question, max_age)  # another thread may have asked in the meantime
            if answer is not None:
                return answer
            flight = self._flights.get(question)
            is_first = flight is None
            if flight is None:
                flight = self._flights[question] = _Flight()
        if not is_first:
            flight.landed.wait(max(patience, 0))
            return flight.answer
        try:
            flight.answer = self._asked_and_kept(question, time.monotonic() + patience)
        finally:
            with self._lock:
                del self._flights[question]
            flight.landed.set()
        return flight.answer

    def _asked_and_kept(self, question: _Question, deadline: float) -> Answer[Any]:
        name = _absolute(question.name)
        if name is None:
            return _ABSENT
        if not self._asked.acquire(timeout=max(deadline - time.monotonic(), 0)):
            return _TEMPORARY
        patience = deadline - time.monotonic()
        try:
            answer, seconds = self._from_servers(name, question.rdtype, deadline)
        finally:
            self._asked.release()
        # A failure says something only when there was time to succeed.
        if seconds and (answer.outcome is not Outcome.TEMPORARY or patience >= self._lifetime * ENOUGH):
            self._keep(question, answer, seconds)
        return answer

    def _from_servers(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType, deadline: float
    ) -> tuple[Answer[Any], float]:
        if not self._are_up(deadline):
            self._on_trouble("resolver: no name server answers, so that nothing is judged by DNS")
            return _TEMPORARY, 0
        useless: set[NameServer] = set()
        for server, until in self._attempts(deadline):
            if server in useless:
                continue
            if not self._may_send():
                text = (
                    f"resolver: over {self._rate:g} questions a second in a worker, so that some are not put"
                )
                self._on_trouble(text)
                return _TEMPORARY, 0
            try:
                reply = name_servers.ask(dns.message.make_query(name, rdtype), server, until)
            except NoReply:
                continue
            if reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                self._silences = 0
                self._prefer(server)
                return _read(reply, rdtype)
            useless.add(server)  # it says SERVFAIL or REFUSED, and would again
        with self._lock:
            self._silences = 0 if useless else self._silences + 1
        return _TEMPORARY, FAILED_SECONDS

    def _are_up(self, deadline: float) -> bool:
        """Whether it is worth asking; finds out, once a second, when there were only silences lately.

        One zone's silence says nothing about the servers, and somebody may name silent zones all day. So
        they are asked for the root, which any server answers at once, if only with a refusal.
        """
        with self._lock:
            if self._silences < MAX_SILENCES or deadline - time.monotonic() < TRIAL_SECONDS:
                return True
            now = self._clock()
            if now < self._next_trial:
                return not self._are_down
            self._next_trial = now + 1
            servers = self._servers
        is_down = not any(map(_is_up, servers))
        with self._lock:
            self._are_down = is_down
            if not is_down:
                self._silences = 0
        return not is_down

    def _attempts(self, deadline: float) -> Iterator[tuple[NameServer, float]]:
        """Each server and until when to wait for it: twice around, as a datagram may be lost."""
        with self._lock:
            if not self._servers:
                self._servers = name_servers.system_servers()
            servers = self._servers * _ROUNDS
        for number, server in enumerate(servers):
            now = time.monotonic()
            if now >= deadline:
                return
            yield server, now + (deadline - now) / (len(servers) - number)

    def _prefer(self, server: NameServer) -> None:
        """Ask the one that answered first from now on: a dead one costs each question half its time."""
        if server != self._servers[0]:
            with self._lock:
                self._servers = (server, *(other for other in self._servers if other != server))

    def _may_send(self) -> bool:
        with self._lock:
            now = self._clock()
            self._tokens = min(self._rate, self._tokens + (now - self._tokens_at) * self._rate)
            self._tokens_at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def _keep(self, question: _Question, answer: Answer[Any], seconds: float) -> None:
        octets = _ENTRY_OCTETS + sum(len(str(record)) for record in answer.records)
        with self._lock:
            if old := self._cache.pop(question, None):
                self._octets -= old.octets
            now = self._clock()
            self._cache[question] = _Entry(answer, now, now + seconds, octets)
            self._octets += octets
            while self._octets > self._cache_octets:
                self._octets -= self._cache.popitem(last=False)[1].octets


def _is_up(server: NameServer) -> bool:
    query = dns.message.make_query(dns.name.root, dns.rdatatype.SOA)
    try:
        name_servers.ask(query, server, time.monotonic() + TRIAL_SECONDS)
    except NoReply:
        return False
    return True


def _question(name: str, rdtype: dns.rdatatype.RdataType) -> _Question:
    return _Question(name.lower().removesuffix("."), rdtype)


def _absolute(name: str) -> dns.name.Name | None:
    """The name, without what dnspython's own reader does with backslashes and letters outside ASCII."""
    try:
        return dns.name.Name([*(label.encode("ascii") for label in name.split(".")), b""])
    except (dns.exception.DNSException, UnicodeError):
        return None


def _read(reply: dns.message.Message, rdtype: dns.rdatatype.RdataType) -> tuple[Answer[Any], float]:
    """The answer, and for how many seconds it is good."""
    try:
        chain = cast("dns.message.QueryMessage", reply).resolve_chaining()
    except dns.exception.DNSException:  # a chain of aliases without end, or a name that both is and is not
        return _TEMPORARY, FAILED_SECONDS
    if chain.answer is None:
        if reply.rcode() == dns.rcode.NOERROR and (reply.answer or reply.authority) and not _has_soa(reply):
            # An alias whose end was not found out, or a referral: RFC 2308, section 2.2.
            return _TEMPORARY, FAILED_SECONDS
        # Without an SOA nothing says how long this holds: RFC 2308, section 5.
        seconds = 0 if chain.minimum_ttl == dns.ttl.MAX_TTL else chain.minimum_ttl
        return _ABSENT, _between(ABSENT_SECONDS, seconds)
    records = tuple(_record(rdata, rdtype) for rdata in chain.answer)
    return Answer(Outcome.FOUND, records), _between(FOUND_SECONDS, chain.minimum_ttl)


def _has_soa(reply: dns.message.Message) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in reply.authority)


def _record(rdata: Any, rdtype: dns.rdatatype.RdataType) -> bytes | str | Exchange:
    if rdtype == dns.rdatatype.TXT:
        return b"".join(rdata.strings)
    if rdtype == dns.rdatatype.MX:
        return Exchange(rdata.preference, rdata.exchange.to_text(omit_final_dot=True))
    if rdtype == dns.rdatatype.PTR:
        return str(rdata.target.to_text(omit_final_dot=True))
    return str(rdata.address)


def _between(bounds: tuple[float, float], seconds: float) -> float:
    return min(max(seconds, bounds[0]), bounds[1])
