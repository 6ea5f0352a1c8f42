"""All three together: what is published, what this server would need, what to mend and what to publish."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backstop.adapters.dkim_keys import Fault, PublicKey
from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.adapters.resolver import Budget, Outcome, Resolver
from backstop.adapters.spf import SpfChecker
from backstop.address import Address
from backstop.authentication import Disposition, SpfResult
from backstop.cli.examinations.finding import Finding, Level, fine, note, unknown, wrong
from backstop.cli.published import dkim, dmarc, proposal, spf
from backstop.cli.published.proposal import Record
from backstop.plain import plain

_CLIENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class View:
    """A domain, as the world sees it."""

    domain: str
    spf: spf.Published
    dkim: dkim.Published
    dmarc: dmarc.Published
    findings: tuple[Finding, ...]
    records: tuple[Record, ...]

    def count(self, level: Level) -> int:
        """How many findings are of that level."""
        return sum(finding.level is level for finding in self.findings)

    def spf_lines(self) -> Iterator[str]:
        """The record of SPF, term by term."""
        if not self.spf.record:
            return
        yield f"SPF of {self.domain}: {_text(self.spf.record)}"
        width = max((2 * line.depth + len(line.term) for line in self.spf.lines), default=0)
        for line in self.spf.lines:
            term = "  " * line.depth + line.term
            yield f"  {term:<{min(width, 60)}}  {line.says}"
        yield f"lookups in the worst case: {self.spf.lookups} of 10; that find nothing: {self.spf.voids} of 2"
        yield ""

    def spf_as_json(self) -> dict[str, Any]:
        """What SPF comes to, for programs."""
        found = self.spf
        return {
            "record": _text(found.record) or None,
            "lookups": found.lookups,
            "voids": found.voids,
            "voids_ipv6": found.voids_ipv6,
            "others": found.others.name.lower() if found.others else None,
            "terms": [{"depth": one.depth, "term": one.term, "says": one.says} for one in found.lines],
        }

    def dkim_as_json(self) -> list[dict[str, Any]]:
        """The selectors, for programs."""
        return [
            {
                "selector": one.name,
                "published": _key(one.published),
                "file": _key(one.local),
            }
            for one in self.dkim.selectors
        ]

    def dmarc_as_json(self) -> dict[str, Any]:
        """What DMARC comes to, for programs."""
        found = self.dmarc
        policy = found.policy
        return {
            "record": _text(found.record) or None,
            "at": found.at or None,
            "asks_for": found.asked.label if policy else None,
            "percent": policy.per_cent if policy else None,
        }


def look(
    domain: str,
    resolver: Resolver,
    *,
    selectors: tuple[str, ...],
    local: Mapping[str, PublicKey | Fault],
    client: str,
) -> View:
    """Ask for everything; `client` is an IP address that sends for the domain, or empty."""
    spf_found = spf.look(domain, resolver)
    dkim_found = dkim.look(domain, selectors, local, resolver)
    dmarc_found = dmarc.look(domain, resolver, PublicSuffixes())
    if client and not spf_found.is_missing:
        spf_found.findings.append(_of_client(domain, client, resolver))
    findings = (
        *_of_domain(domain, resolver),
        *spf_found.findings,
        *dkim_found.findings,
        *dmarc_found.findings,
        *_of_alignment(spf_found, dkim_found, dmarc_found),
    )
    records = (
        *proposal.of_spf(domain, spf_found, resolver, client),
        *proposal.of_dkim(domain, dkim_found, local),
        *proposal.of_dmarc(domain, dmarc_found),
    )
    return View(domain, spf_found, dkim_found, dmarc_found, findings, records)


def _of_domain(domain: str, resolver: Resolver) -> Iterator[Finding]:
    answers = (resolver.mx(domain), resolver.a(domain), resolver.aaaa(domain))
    if all(answer.outcome is Outcome.ABSENT for answer in answers):
        yield note(domain, "has neither MX nor address: nobody can answer mail from it, and it may not exist")


def _of_client(domain: str, client: str, resolver: Resolver) -> Finding:
    address = Address("postmaster", domain, domain)
    found = SpfChecker(resolver).check(client, domain, address, Budget(seconds=_CLIENT_SECONDS))
    subject, said = f"SPF for {client}", found.result.value
    if found.result is SpfResult.PASS:
        return fine(subject, f"passes, by {plain(found.reason)}")
    if found.result is SpfResult.TEMPERROR:
        return unknown(subject, plain(found.reason), "try again later")
    kind = 6 if ":" in client else 4
    why = f" ({plain(found.reason)})" if found.reason else ""
    return wrong(
        subject, f"does not pass: {said}{why}", f"add `ip{kind}:{client}` before `all`, if it is yours"
    )


def _of_alignment(
    spf_found: spf.Published, dkim_found: dkim.Published, dmarc_found: dmarc.Published
) -> Iterator[Finding]:
    """Whether what this server sends can pass: a tag leaves the domain of the reverse-path as it is."""
    is_known = bool(dmarc_found.policy)
    has_spf = bool(spf_found.record) and not spf_found.is_void
    cannot = spf_found.is_missing or spf_found.is_void
    if is_known and has_spf:
        yield fine(
            "alignment",
            "a tag changes the local part of the reverse-path alone: SPF still speaks for the header From"
            " when that is in the same domain",
        )
    if is_known and has_spf and dmarc_found.asked > Disposition.NONE and not dkim_found.is_signed:
        yield note(
            "alignment",
            "forwarded mail passes DMARC by its DKIM signature alone, and no good key is known here",
            "sign with DKIM; where you do, name the selector with --selector",
        )
    if is_known and cannot and not dkim_found.is_signed and dmarc_found.asked > Disposition.NONE:
        yield wrong(
            "alignment",
            f"DMARC asks for {dmarc_found.asked.label}, and neither SPF nor a DKIM key known here can pass",
            "mend SPF, or name the selector with --selector; until then p=none",
        )


def _text(record: bytes) -> str:
    return plain(record.decode("utf-8", "surrogateescape"))


def _key(key: PublicKey | Fault | None) -> str | None:
    if key is None:
        return None
    return dkim.bits(key) if isinstance(key, PublicKey) else key.value
