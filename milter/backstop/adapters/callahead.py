"""The recipient source `callahead`: asks the next hop by SMTP whether it takes a recipient.

Only the next hop that the settings name is asked, a few times a minute and two at a time: whoever guesses
recipients at us must not press on it, or harvest it, through us. Its answers are remembered. What is not a
clear word about this recipient is UNKNOWN, and one that takes or refuses everybody is found out.
What a session is, is `callahead_session`'s business; what replies mean, `callahead_replies`'s.
"""

import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import Final

from backstop.adapters.callahead_domains import POSTMASTER, Domains, Takes
from backstop.adapters.callahead_names import InTime, places
from backstop.adapters.callahead_replies import Meaning, meaning
from backstop.adapters.callahead_session import Session, TlsFailed, Unasked
from backstop.adapters.callahead_target import NULL_PATH, Options, Path, Target, parse_target, path_of
from backstop.adapters.smtp_reply import SmtpReply
from backstop.address import parse
from backstop.facts import Existence
from backstop.value import value

__all__ = ["Callahead", "Found", "Options", "Target", "parse_target"]

TLS_PAUSE: Final = 3600.0
"""Seconds for which a next hop whose TLS failed is asked without."""

_MINUTE = 60.0
_Key = tuple[str, str]


@value
class Found:
    """What was found out, and why, for people; `seconds` says for how long it may be remembered."""

    existence: Existence
    reason: str
    seconds: float = 0.0


@value
class _Entry:
    found: Found
    until: float
    stale_until: float


class _Flight:
    """A question under way, for which other threads wait too."""

    __slots__ = ("found", "landed")

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.found = _IN_FLIGHT


_IN_FLIGHT: Final = Found(Existence.UNKNOWN, "the same question is under way")


class Callahead:
    """Asks one next hop, for any number of threads. `clock` is for what is remembered and for the limit.

    ValueError for a sender or a HELO name that cannot be said in SMTP.
    """

    def __init__(
        self, target: Target, options: Options, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._options = options
        self._clock = clock
        self._sender = _sender_path(options.sender)
        if not (options.helo.isascii() and options.helo.isprintable() and " " not in options.helo):
            raise ValueError(f'"{options.helo}" is no name for EHLO')
        self._helo = options.helo
        self._own_name = InTime(socket.getfqdn)
        self._places = InTime(partial(places, target))
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(options.connections)
        self._asked: deque[float] = deque(maxlen=options.questions)
        self._flights: dict[_Key, _Flight] = {}
        self._cache: OrderedDict[_Key, _Entry] = OrderedDict()
        self._domains = Domains(options.cache_entries)
        self._no_tls_until = float("-inf")
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why the last question came to nothing; empty when it did not."""
        return self._trouble

    def ask(self, local: str, domain: str, deadline: float) -> Existence:
        """Whether the next hop takes the recipient; `deadline` is by the monotonic clock. Never raises."""
        return self.ask_verbosely(local, domain, deadline).existence

    def ask_verbosely(self, local: str, domain: str, deadline: float) -> Found:
        """The same with the reason, whose text is ready to be shown."""
        recipient = path_of(local, domain)
        if recipient is None:
            return Found(Existence.UNKNOWN, "this address cannot be asked about")
        key = local, domain.lower().removesuffix(".")
        now = time.monotonic()
        if deadline <= now:
            return Found(Existence.UNKNOWN, "there is no time left to ask")
        deadline = min(deadline, now + self._options.timeout)
        with self._lock:
            known = self._known(key)
            if known is not None:
                return known
            flight = self._flights.get(key)
            is_first = flight is None
            if flight is None:
                if not self._may_ask():
                    limit = f"{self._options.questions} questions went to {self._target} within a minute"
                    return self._kept(key, Found(Existence.UNKNOWN, limit))
                flight = self._flights[key] = _Flight()
        if not is_first:
            # Where two systems ask each other, this is our own question come back, and whoever brings it
            # waits for us as we wait for them: time is left to tell them.
            flight.landed.wait(max(deadline - time.monotonic(), 0) / 2)
            return flight.found
        try:
            found = self._asked_in_turn(key, recipient, deadline)
            with self._lock:
                flight.found = self._kept(key, found)
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
        return flight.found

    def close(self) -> None:
        """Nothing is open between two questions."""

    def _known(self, key: _Key) -> Found | None:
        now = self._clock()
        domain = self._domains[key[1]]
        if domain.takes(now) is Takes.ANYBODY:
            return Found(Existence.ANYBODY, f"{self._target} takes every recipient of {key[1]}")
        entry = self._cache.get(key)
        if entry is None or now >= entry.until:
            return None
        self._cache.move_to_end(key)
        return entry.found

    def _may_ask(self) -> bool:
        now = self._clock()
        if len(self._asked) == self._options.questions and now - self._asked[0] < _MINUTE:
            return False
        self._asked.append(now)
        return True

    def _kept(self, key: _Key, found: Found) -> Found:
        """Remember what was found; where that is nothing, go on with a good answer that is not too old."""
        now = self._clock()
        stale_until = now
        self._trouble = ""
        if found.existence is Existence.EXISTS:
            stale_until += self._options.stale_seconds
        elif found.existence is Existence.UNKNOWN:
            self._trouble = f"{self._target}: {found.reason}"
            old = self._cache.get(key)
            if old and now < old.stale_until:
                found, stale_until = Found(Existence.EXISTS, old.found.reason, found.seconds), old.stale_until
        if found.seconds > 0:
            self._cache[key] = _Entry(found, now + found.seconds, stale_until)
            self._cache.move_to_end(key)
            while len(self._cache) > self._options.cache_entries:
                self._cache.popitem(last=False)
        return found

    def _asked_in_turn(self, key: _Key, recipient: Path, deadline: float) -> Found:
        patience = deadline - time.monotonic()
        if not self._slots.acquire(timeout=max(patience, 0)):
            return Found(Existence.UNKNOWN, f"{self._target} has enough other questions")
        try:
            return self._asked_twice(key, recipient, deadline)
        except Unasked as trouble:
            # It says something of the next hop only if there was time for an answer.
            had_time = patience >= self._options.timeout / 2
            return self._unknown(str(trouble), self._options.temporary_seconds if had_time else 0)
        finally:
            self._slots.release()

    def _asked_twice(self, key: _Key, recipient: Path, deadline: float) -> Found:
        with_tls = self._clock() >= self._no_tls_until
        try:
            return self._asked_in_session(key, recipient, deadline, with_tls=with_tls)
        except TlsFailed:
            self._no_tls_until = self._clock() + TLS_PAUSE
            return self._asked_in_session(key, recipient, deadline, with_tls=False)

    def _asked_in_session(self, key: _Key, recipient: Path, deadline: float, *, with_tls: bool) -> Found:
        there = self._places.result(deadline)
        if there is None or not there.found:
            raise Unasked(
                there.fault if there else f"the address of {self._target.host} was not found in time"
            )
        helo = self._said_helo(deadline)
        with Session(self._target, there.found, helo, deadline, with_tls=with_tls) as session:
            reply = session.ask(self._sender, recipient)
            options = self._options
            match said := meaning(reply):
                case Meaning.TAKEN:
                    return self._after_accepting(session, key, reply)
                case Meaning.NOBODY | Meaning.VAGUE:
                    return self._after_refusing(session, key, reply, said)
                case Meaning.UNSEEN:
                    return Found(Existence.ANYBODY, reply.shown, options.anybody_seconds)
                # What is taken for a full mailbox the next hop refuses in a moment, and we must return it.
                case Meaning.TEMPORARY | Meaning.FULL | Meaning.REFUSED:
                    return self._unknown(reply.shown)

    def _said_helo(self, deadline: float) -> str:
        if not self._helo:
            name = self._own_name.result(deadline - (deadline - time.monotonic()) / 2)
            if name is None:
                return socket.gethostname()
            self._helo = name
        return self._helo

    def _after_accepting(self, session: Session, key: _Key, reply: SmtpReply) -> Found:
        """It exists, unless a name that cannot exist is taken as well."""
        local, name = key
        now = self._clock()
        until = now + self._options.anybody_seconds
        with self._lock:
            domain = self._domains[name]
            takes, stranger = domain.takes(now), domain.stranger
            if takes is Takes.UNTRIED:
                domain.settle(Takes.UNDECIDED, until)  # nobody else tries it meanwhile
        if takes is Takes.UNTRIED:
            takes = self._try_stranger(session, stranger, name)
            with self._lock:
                domain.settle(takes, until)
        if takes is Takes.ANYBODY:
            reason = f"{reply.shown}; but it takes a random name as well"
            return Found(Existence.ANYBODY, reason, self._options.anybody_seconds)
        if takes is Takes.UNDECIDED:
            return Found(Existence.EXISTS, reply.shown, domain.takes_until - now)
        with self._lock:
            domain.believe(local)
        return Found(Existence.EXISTS, reply.shown, self._options.exists_seconds)

    def _try_stranger(self, session: Session, stranger: str, name: str) -> Takes:
        match self._meaning_of(session, stranger, name):
            case Meaning.TAKEN | Meaning.UNSEEN:
                return Takes.ANYBODY
            case Meaning.NOBODY | Meaning.VAGUE:
                return Takes.SOME
            case _:
                return Takes.UNDECIDED

    def _after_refusing(self, session: Session, key: _Key, reply: SmtpReply, said: Meaning) -> Found:
        """It does not exist, if somebody of the domain does, and still does in this session."""
        local, name = key
        now = self._clock()
        with self._lock:
            domain = self._domains[name]
            control = "" if domain.is_doubted(now) else domain.control(local)
        if not control:
            return self._unknown(f"{reply.shown}; but nobody is known whom it accepts")
        # Many take postmaster before they look at who asks; words that may be about us prove nothing then.
        if said is Meaning.VAGUE and control == POSTMASTER:
            return self._unknown(f"{reply.shown}; that need not mean that it does not exist")
        of_control = self._meaning_of(session, control, name)
        if of_control not in (Meaning.TAKEN, Meaning.FULL):
            if of_control is not Meaning.TEMPORARY:
                with self._lock:
                    domain.doubt(control, now)
            return self._unknown(f"{reply.shown}; but it says the same of {control}, or nothing")
        with self._lock:
            domain.forget(local)
            domain.settle(Takes.SOME, now + self._options.anybody_seconds)
        options = self._options
        seconds = options.unwitnessed_seconds if control == POSTMASTER else options.missing_seconds
        return Found(Existence.MISSING, reply.shown, seconds)

    def _meaning_of(self, session: Session, local: str, name: str) -> Meaning:
        """What it says of another recipient; whoever asks us for it meanwhile brings our question back."""
        path = path_of(local, name)
        if path is None:  # the domain is so long that only a short local part has room before it
            return Meaning.TEMPORARY
        flight = _Flight()
        with self._lock:
            is_ours = self._flights.setdefault((local, name), flight) is flight
        try:
            return meaning(session.ask(self._sender, path))
        except Unasked:
            return Meaning.TEMPORARY
        finally:
            if is_ours:
                with self._lock:
                    del self._flights[local, name]
                flight.landed.set()

    def _unknown(self, reason: str, seconds: float | None = None) -> Found:
        limit = self._options.temporary_seconds
        return Found(Existence.UNKNOWN, reason, limit if seconds is None else seconds)


def _sender_path(text: str) -> Path:
    if not text:
        return NULL_PATH
    address = parse(text)
    path = path_of(address.local, address.domain) if address else None
    if path is None:
        raise ValueError(f'"{text}" is no address that the next hop could be asked from')
    return path
