"""What DNS lists say of a client or of a sender's domain, asked in parallel within the message's time.

An answer counts when it lies in 127.0.0.0/8. One in 127.255.255.0/24, or 127.0.0.1, says that the list does
not serve us, and one elsewhere comes from a zone that is gone, whose name now leads everybody to some page. A
list that names its own test point, which no list may name, names everybody: it counts as unanswered. RFC
5782.
"""

import ipaddress
import math
import threading
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from queue import Full, Queue
from typing import Final

from backstop.adapters.resolver import Answer, Budget, Outcome, Resolver
from backstop.authentication import Listing
from backstop.settings import DnsList, ListOf

MAX_THREADS: Final = 16
"""That ask what the cache does not know. Each is started when it is first needed."""

MAX_WAITING: Final = 64
"""Questions that wait for one of them. More are not asked, and count as unanswered."""

PRIVATE_NETWORKS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3", "::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)
"""Clients that no list is asked about: none may name them, and who they are is nobody's business."""

TEST_SECONDS: Final = 60.0
"""How old what a list says of its test point may be: from one minute to the next it may name everybody."""

_TEST_POINTS: Final = {4: "1.0.0.127", 6: "1.0.0.0.0.0.f.7.f.f.f.f" + 20 * ".0"}
_TEST_DOMAIN: Final = "invalid"


class _Word(Enum):
    """What a list says."""

    LISTED = "listed"
    ABSENT = "not listed"
    UNANSWERED = "unanswered"


class DnsLists:
    """Asks the lists for one worker, from any of its threads.

    `on_trouble` is told, once for each list, of one that serves us no more.
    """

    def __init__(
        self, resolver: Resolver, lists: tuple[DnsList, ...], on_trouble: Callable[[str], None]
    ) -> None:
        self._resolver = resolver
        self._on_trouble = on_trouble
        self._told: set[tuple[str, str]] = set()
        self._shown = {one.zone: one.shown_as for one in lists if one.shown_as}
        self._askers = _Askers(resolver)
        self._of_bounces = _zones(lists, ListOf.CLIENT)
        self._of_clients = _zones([one for one in lists if not one.bounces_only], ListOf.CLIENT)
        self._of_senders = _zones([one for one in lists if not one.bounces_only], ListOf.SENDER)

    def client(self, address: str, *, null_sender: bool, budget: Budget) -> Listing:
        """The lists of clients; those for bounces only where the null sender is written. Never raises."""
        zones = self._of_bounces if null_sender else self._of_clients
        name, version = _reversed(address)
        return self._listing(name, _TEST_POINTS[version], zones, budget) if name and zones else _NOTHING

    def sender(self, domain: str, budget: Budget) -> Listing:
        """The lists of domains; `domain` is folded. Never raises."""
        if not self._of_senders or "." not in domain or "[" in domain:
            return _NOTHING
        return self._listing(domain, _TEST_DOMAIN, self._of_senders, budget)

    def _listing(self, name: str, test_point: str, zones: tuple[str, ...], budget: Budget) -> Listing:
        words = self._words(name, zones, budget)
        if all(word is _Word.ABSENT for word in words):
            return _NOTHING
        listed = [zone for zone, word in zip(zones, words, strict=True) if word is _Word.LISTED]
        unanswered = [zone for zone, word in zip(zones, words, strict=True) if word is _Word.UNANSWERED]
        # Asked only where it matters.
        tests = self._words(test_point, listed, budget, TEST_SECONDS)
        for zone, word in zip(listed, tests, strict=True):
            if word is _Word.LISTED:
                self._tell(zone, "names its own test point, and so everybody")
            if word is not _Word.ABSENT:
                unanswered.append(zone)
        return Listing(
            tuple(self._name(zone) for zone in listed if zone not in unanswered),
            tuple(map(self._name, unanswered)),
        )

    def _words(
        self, name: str, zones: Sequence[str], budget: Budget, max_age: float = math.inf
    ) -> list[_Word]:
        answers = self._askers.ask([f"{name}.{zone}" for zone in zones], budget, max_age)
        return [self._word(zone, answer) for zone, answer in zip(zones, answers, strict=True)]

    def _word(self, zone: str, answer: Answer[str]) -> _Word:
        if answer.outcome is Outcome.ABSENT:
            return _Word.ABSENT
        if answer.outcome is not Outcome.FOUND:
            return _Word.UNANSWERED
        ours = [record for record in answer.records if record.startswith("127.")]
        refusals = [one for one in ours if one.startswith("127.255.255.") or one == "127.0.0.1"]
        if refusals:
            self._tell(zone, f"does not serve this resolver: it answers {refusals[0]}")
            return _Word.UNANSWERED
        if not ours:
            self._tell(zone, f"is no list any more: it answers {answer.records[0]}")
            return _Word.ABSENT
        return _Word.LISTED

    def _tell(self, zone: str, what: str) -> None:
        kind = what.partition(":")[0]
        if (zone, kind) not in self._told:
            self._told.add((zone, kind))
            self._on_trouble(f"the DNS list {self._name(zone)} {what}")

    def _name(self, zone: str) -> str:
        return self._shown.get(zone, zone)


class _Question:
    """A question that another thread asks."""

    __slots__ = ("answer", "answered", "budget", "max_age", "name")

    def __init__(self, name: str, budget: Budget, max_age: float) -> None:
        self.name = name
        self.budget = budget
        self.max_age = max_age
        self.answer: Answer[str] = _TEMPORARY
        self.answered = threading.Event()


class _Askers:
    """Asks several questions at once. Threads are only handed what the cache does not know."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._waiting: Queue[_Question] = Queue(MAX_WAITING)
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = 0

    def ask(self, names: Sequence[str], budget: Budget, max_age: float) -> list[Answer[str]]:
        """The answers in the order of the names, none older than so many seconds."""
        answers = [self._resolver.known_a(name, max_age) for name in names]
        unknown = [at for at, answer in enumerate(answers) if answer is None]
        if unknown:
            own = budget.apart()
            with own.stopwatch:
                handed = [(at, self._hand(names[at], own, max_age)) for at in unknown[1:]]
                answers[unknown[0]] = self._resolver.a(names[unknown[0]], own, max_age)
                for at, question in handed:
                    question.answered.wait(max(own.seconds_left, 0))
                    answers[at] = question.answer
        return [answer or _TEMPORARY for answer in answers]

    def _hand(self, name: str, budget: Budget, max_age: float) -> _Question:
        question = _Question(name, budget, max_age)
        try:
            self._waiting.put_nowait(question)
        except Full:
            question.answered.set()
        else:
            self._start_if_wanted()
        return question

    def _start_if_wanted(self) -> None:
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            starts = self._threads < MAX_THREADS
            self._threads += starts
        if not starts:
            return
        try:
            threading.Thread(target=self._serve, name="dns-lists", daemon=True).start()
        except RuntimeError:  # no more threads: those that are there take its turn
            with self._lock:
                self._threads -= 1

    def _serve(self) -> None:
        while True:
            question = self._waiting.get()
            try:
                if question.budget.seconds_left > 0:
                    question.answer = self._resolver.a(question.name, question.budget, question.max_age)
            finally:
                question.answered.set()
            self._idle.release()


_TEMPORARY: Final[Answer[str]] = Answer(Outcome.TEMPORARY)
_NOTHING: Final = Listing()


def _zones(lists: Sequence[DnsList], of: ListOf) -> tuple[str, ...]:
    return tuple(one.zone for one in lists if one.of is of)


@lru_cache(maxsize=1024)  # many clients come again, and reversing an IPv6 address takes 10 us
def _reversed(address: str) -> tuple[str, int]:
    """The labels under which lists keep an address, and its version; none for one nobody is asked about."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "", 4
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    if any(ip in network for network in PRIVATE_NETWORKS):
        return "", ip.version
    return ip.reverse_pointer.rsplit(".", 2)[0], ip.version
