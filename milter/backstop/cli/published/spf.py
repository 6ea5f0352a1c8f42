"""SPF of a domain, followed through all that it includes: what it costs, whom it lets send, what is wrong.

The worst case is told, a client that no term names: a verifier then asks for all of them. RFC 7208.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from backstop.adapters.resolver import Outcome, Resolver
from backstop.address import Network
from backstop.cli.examinations.finding import Finding, Level, fine, note, unknown, wrong
from backstop.cli.published.spf_terms import (
    LOOKED_UP,
    Kind,
    Qualifier,
    Term,
    is_record,
    reached,
    terms,
)
from backstop.plain import plain

SUBJECT: Final = "SPF"

MAX_LOOKUPS: Final = 10
MAX_VOIDS: Final = 2
MAX_EXCHANGES: Final = 10
"""RFC 7208, section 4.6.4; the last for one `mx`."""

MAX_FOLLOWED: Final = 40
"""Terms that are asked for, whatever the records name."""

MAX_LINES: Final = 500
"""Terms that are shown."""

MAX_OCTETS: Final = 450
"""Of a record, so that its answer fits a datagram: section 3.4."""

_FAR_TOO_WIDE: Final = {4: 8, 6: 19}
_WIDE: Final = {4: 16, 6: 31}
_INSIDE: Final = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)
_LINE: Final = 200
_SHOWN: Final = 5
_KIND_NOTES: Final = {
    Kind.PTR: (
        "asks for the names of each client, which is slow, and large receivers pass over it",
        "name the addresses with `ip4:` or `a:` (RFC 7208, section 5.5)",
    ),
}
_SAYS: Final = {
    Qualifier.PASS: "may send",
    Qualifier.FAIL: "fail",
    Qualifier.SOFTFAIL: "softfail",
    Qualifier.NEUTRAL: "neutral: nothing is said",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A term of a record and what it says; `depth` is 0 for the domain's own."""

    depth: int
    term: str
    says: str


@dataclass(slots=True)
class Published:
    """What SPF of a domain comes to; `record` is empty where there is none that counts."""

    record: bytes = b""
    lines: list[Line] = field(default_factory=list)
    lookups: int = 0
    voids: int = 0
    voids_ipv6: int = 0
    others: Qualifier | None = None
    """What is said of whom no term names."""

    is_missing: bool = False
    is_void: bool = False
    """Whether checks end in permerror, some at least."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def is_endless(self) -> bool:
        """Whether it was not followed to its end."""
        return self.lookups > MAX_FOLLOWED or len(self.lines) > MAX_LINES

    @property
    def is_broken(self) -> bool:
        """Whether more is wrong with it than that it stops nobody."""
        weak = [_of_others(others) for others in (None, *Qualifier)]
        return any(one.level is Level.WRONG and one not in weak for one in self.findings)


def look(domain: str, resolver: Resolver) -> Published:
    """Follow the domain's record; `domain` is folded."""
    walk = _Walk(domain, resolver)
    walk.begin()
    return walk.published


class _Walk:
    """One domain's record and all that it leads to."""

    def __init__(self, domain: str, resolver: Resolver) -> None:
        self._domain = domain
        self._resolver = resolver
        self._noted: set[tuple[str, str]] = set()
        self.published = Published()

    def begin(self) -> None:
        """Look for the domain's own record, follow it, and judge the whole."""
        answer = self._resolver.txt(self._domain)
        if answer.outcome is Outcome.TEMPORARY:
            self._say(unknown(SUBJECT, f"DNS did not answer for {self._domain}", "try again later"))
            return
        records = [record for record in answer.records if is_record(record)]
        if not records:
            self.published.is_missing = True
            self._say(_missing(answer.records))
        elif len(records) > 1:
            self._void(
                f"there are {len(records)} records, and one may be",
                "put what is in them into one record, and delete the others",
            )
        else:
            self.published.record = records[0]
            self._follow(terms(records[0]), (self._domain,), is_granting=True)
            self._judge(terms(records[0]))

    def _follow(self, record: Sequence[Term], trail: tuple[str, ...], *, is_granting: bool) -> None:
        depth = len(trail) - 1
        wanted = list(reached(tuple(record)))
        for term in record:
            if term.fault:
                self._void(f"{_in(term, trail)} {term.fault}", "mend the term")
            elif term.is_mistaken:
                self._once(wrong(SUBJECT, f"{_in(term, trail)} is passed over", "write `:` for the `=`"))
            elif not any(term is other for other in wanted) and term.kind in (*LOOKED_UP, Kind.IP4, Kind.IP6):
                self._once(
                    note(SUBJECT, f"{_in(term, trail)} is never reached: it stands behind, or beside, `all`")
                )
        for term in wanted:
            if self.published.is_endless:
                return
            if not term.fault:
                at = len(self.published.lines)
                says = self._term(term, trail, is_granting=is_granting)
                self.published.lines.insert(at, Line(depth, plain(term.text[:_LINE]), says))

    def _term(self, term: Term, trail: tuple[str, ...], *, is_granting: bool) -> str:
        grants = is_granting and term.qualifier is Qualifier.PASS
        if term.kind in LOOKED_UP:
            self.published.lookups += 1
        if grants:
            self._widths(term, trail)
        if term.kind in _KIND_NOTES:
            text, cure = _KIND_NOTES[term.kind]
            self._once(note(SUBJECT, f"{_in(term, trail)} {text}", cure))
        if term.kind is Kind.ALL:
            return self._all(term, trail, is_granting=is_granting)
        if term.network is not None:
            return _SAYS[term.qualifier]
        if term.has_macro:
            return f"{_SAYS[term.qualifier]}; depends on the message, so it was not asked"
        if self.published.is_endless:
            return "not asked any more"
        if term.kind in (Kind.INCLUDE, Kind.REDIRECT):
            return self._record(term, trail, is_granting=grants)
        names = self._addresses(term, trail)
        return f"{_SAYS[term.qualifier]}: {names}" if names else "names nobody"

    def _all(self, term: Term, trail: tuple[str, ...], *, is_granting: bool) -> str:
        # That of a record which is included is not for others: only whether it passes counts.
        if len(trail) == 1 or self._is_redirected(trail):
            self.published.others = term.qualifier
        elif is_granting and term.qualifier is Qualifier.PASS:
            self.published.others = Qualifier.PASS
            self._once(
                wrong(
                    SUBJECT,
                    f"{_in(term, trail)} lets everybody send, and your record includes it",
                    f"take `include:{plain(trail[1])}` out",
                )
            )
            return "everybody else: may send"
        else:
            return "the rest: not by this"
        return f"everybody else: {_SAYS[term.qualifier]}"

    def _is_redirected(self, trail: tuple[str, ...]) -> bool:
        return all(name.startswith("=") for name in trail[1:])

    def _record(self, term: Term, trail: tuple[str, ...], *, is_granting: bool) -> str:
        """Follow what a record includes, or what stands in its place."""
        name = term.target.lower().removesuffix(".")
        if name in (step.removeprefix("=") for step in trail):
            self._void(f"{_in(term, trail)} leads back to itself", "take one of the two out")
            return "a circle"
        answer = self._resolver.txt(name)
        if answer.outcome is Outcome.TEMPORARY:
            self._once(unknown(SUBJECT, f"DNS did not answer for {plain(name)}", "try again later"))
            return "DNS did not answer"
        if answer.outcome is Outcome.ABSENT:
            self._found_nothing()
        records = [record for record in answer.records if is_record(record)]
        if len(records) != 1:
            self._void(
                f"{_in(term, trail)} leads to {_counted(records)}",
                "ask whoever runs that domain, or take the term out",
            )
            return f"{_counted(records)} there"
        before = self.published.lookups
        step = f"={name}" if term.kind is Kind.REDIRECT else name
        self._follow(terms(records[0]), (*trail, step), is_granting=is_granting)
        below = self.published.lookups - before
        whom = (
            "in its place"
            if term.kind is Kind.REDIRECT
            else f"{_SAYS[term.qualifier]}: whoever this lets send"
        )
        return f"{whom}; {below} lookup{'' if below == 1 else 's'} in it"

    def _addresses(self, term: Term, trail: tuple[str, ...]) -> str:
        name = (term.target or trail[-1].removeprefix("=")).lower().removesuffix(".")
        if term.kind is Kind.PTR:
            return f"clients whose name is in {plain(name)}"
        if term.kind is Kind.MX:
            return self._exchanges(term, trail, name)
        old = self._resolver.a(name)
        new = old if term.kind is Kind.EXISTS else self._resolver.aaaa(name)
        found = tuple(dict.fromkeys((*old.records, *new.records)))
        if Outcome.TEMPORARY in (old.outcome, new.outcome) and not found:
            self._once(unknown(SUBJECT, f"DNS did not answer for {plain(name)}", "try again later"))
            return "DNS did not answer"
        self.published.voids += old.outcome is Outcome.ABSENT
        self.published.voids_ipv6 += new.outcome is Outcome.ABSENT
        if not found:
            self._once(
                note(SUBJECT, f"{_in(term, trail)}: {plain(name)} has no address", "take it out, or mend it")
            )
        return _listed(found)

    def _exchanges(self, term: Term, trail: tuple[str, ...], name: str) -> str:
        answer = self._resolver.mx(name)
        if answer.outcome is Outcome.TEMPORARY:
            self._once(unknown(SUBJECT, f"DNS did not answer for the MX of {plain(name)}", "try again later"))
            return "DNS did not answer"
        if answer.outcome is Outcome.ABSENT:
            self._found_nothing()
            self._once(
                note(SUBJECT, f"{_in(term, trail)}: {plain(name)} has no MX", "take it out, or mend it")
            )
        if len(answer.records) > MAX_EXCHANGES:
            self._void(
                f"{_in(term, trail)} names {len(answer.records)} servers, and {MAX_EXCHANGES} may be",
                "name their networks with `ip4:` and `ip6:`",
            )
        return _listed([plain(record.host) for record in answer.records])

    def _widths(self, term: Term, trail: tuple[str, ...]) -> None:
        for version, bits in _prefixes(term):
            if bits <= _FAR_TOO_WIDE[version]:
                self._once(
                    wrong(
                        SUBJECT,
                        f"{_in(term, trail)} lets {_share(bits)} of IPv{version} send",
                        "name your own networks",
                    )
                )
            elif bits < _WIDE[version]:
                self._once(note(SUBJECT, f"{_in(term, trail)} is a wide network", "is all of it yours?"))
        if term.network is not None and _is_nobodys(term.network):
            self._once(
                note(
                    SUBJECT, f"{_in(term, trail)} is a network that no mail comes from outside", "take it out"
                )
            )

    def _void(self, text: str, cure: str) -> None:
        self.published.is_void = True
        self._once(wrong(SUBJECT, f"{text}: a check that comes to it ends in permerror", cure))

    def _found_nothing(self) -> None:
        self.published.voids += 1
        self.published.voids_ipv6 += 1

    def _judge(self, record: tuple[Term, ...]) -> None:
        found = self.published
        if found.lookups > MAX_LOOKUPS:
            more = " or more" if found.is_endless else ""
            self._void(
                f"takes {found.lookups}{more} lookups, and {MAX_LOOKUPS} may be",
                "take out whom you do not use any more, and name networks with `ip4:` in place of `a`, `mx`"
                " and `include`",
            )
        elif found.lookups == MAX_LOOKUPS:
            self._say(
                note(SUBJECT, f"takes {found.lookups} lookups: no more may be, here or in what it includes")
            )
        if found.is_endless and found.lookups <= MAX_LOOKUPS:
            self._say(
                unknown(SUBJECT, f"has more than {MAX_LINES} terms, the rest was not read", "shorten it")
            )
        if found.voids > MAX_VOIDS:
            self._void(f"{found.voids} lookups find nothing, and {MAX_VOIDS} may be", "take these terms out")
        elif found.voids_ipv6 > MAX_VOIDS:
            text = f"{found.voids_ipv6} lookups find nothing for clients with IPv6, and {MAX_VOIDS} may be"
            self._say(note(SUBJECT, text, "name IPv4 networks with `ip4:` in place of `a`"))
        if len(found.record) > MAX_OCTETS:
            text = f"the record has {len(found.record)} octets, and over {MAX_OCTETS} may not fit a datagram"
            self._say(note(SUBJECT, text, "shorten it"))
        for kind in (Kind.REDIRECT, Kind.EXPLANATION):
            if sum(term.kind is kind for term in record) > 1:
                self._void(f"`{kind.value}=` stands there twice", "leave one")
        is_moot = found.others is Qualifier.FAIL and found.is_broken
        if not found.is_endless and not is_moot:
            self._say(_of_others(found.others))

    def _once(self, finding: Finding) -> None:
        if (finding.subject, finding.text) not in self._noted:
            self._noted.add((finding.subject, finding.text))
            self._say(finding)

    def _say(self, finding: Finding) -> None:
        self.published.findings.append(finding)


def _missing(records: Sequence[bytes]) -> Finding:
    near = next(
        (record for record in records if record.strip(b' "').lower().startswith((b"v=spf", b"spf"))), None
    )
    if near is None:
        return wrong(SUBJECT, "there is no record: anybody may use the domain", "publish the one below")
    shown = plain(near[:80].decode("utf-8", "surrogateescape"))
    return wrong(
        SUBJECT,
        f"`{shown}` is no record of SPF",
        "it must begin with v=spf1 and a blank, without quotes of its own",
    )


def _of_others(others: Qualifier | None) -> Finding:
    if others is Qualifier.FAIL:
        return fine(SUBJECT, "who is not named may not send (-all)")
    if others is Qualifier.SOFTFAIL:
        return note(
            SUBJECT,
            "who is not named is only suspected (~all): few refuse such mail, unless DMARC asks for it",
            "`-all` as soon as all your senders are named",
        )
    if others is Qualifier.PASS:
        return wrong(SUBJECT, "everybody may send (+all): this is worse than no record", "`-all`")
    how = "?all" if others else "there is no `all`"
    return wrong(SUBJECT, f"nothing is said of who is not named ({how}): no forger is stopped", "`-all`")


def _in(term: Term, trail: tuple[str, ...]) -> str:
    where = f" in {plain(trail[-1].removeprefix('='))}" if len(trail) > 1 else ""
    return f"`{plain(term.text[:_LINE])}`{where}"


def _prefixes(term: Term) -> tuple[tuple[int, int], ...]:
    if term.network is not None:
        return ((term.network.version, term.network.prefixlen),)
    if term.kind in (Kind.A, Kind.MX):
        return (4, term.prefix4), (6, term.prefix6)
    return ()


def _is_nobodys(network: Network) -> bool:
    return any(
        isinstance(network, type(inside)) and network.subnet_of(inside)  # type: ignore[arg-type]  # of one version
        for inside in map(ipaddress.ip_network, _INSIDE)
    )


def _share(bits: int) -> str:
    return f"one in {2**bits} of all addresses" if bits else "every address"


def _counted(records: Sequence[bytes]) -> str:
    return f"{len(records)} records of SPF" if records else "no record of SPF"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
