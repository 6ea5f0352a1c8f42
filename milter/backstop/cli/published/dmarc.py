"""The DMARC record of a domain: where it is, what it asks for, and what is wrong with it. RFC 7489."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from backstop import dmarc
from backstop.adapters.dmarc_checker import DmarcChecker, Found
from backstop.adapters.public_suffixes import PublicSuffixes
from backstop.adapters.resolver import Budget, Outcome, Resolver
from backstop.address import fold_domain
from backstop.authentication import Disposition, DmarcResult
from backstop.cli.examinations.finding import Finding, fine, note, unknown, wrong
from backstop.dmarc import Alignment, Policy
from backstop.plain import plain

SUBJECT: Final = "DMARC"
SECONDS: Final = 10.0

_WAIT: Final = (
    "when the reports of two to four weeks show that all your own mail passes, `p=quarantine`, and some weeks"
    " later `p=reject`"
)
_VALUES: Final = {
    "p": "none|quarantine|reject",
    "sp": "none|quarantine|reject",
    "np": "none|quarantine|reject",
    "adkim": "r|s",
    "aspf": "r|s",
    "pct": "100|[0-9]{1,2}",
    "t": "y|n",
}
_MAILTO: Final = re.compile(r"mailto:[^\s@]+@([^\s@!]+)(?:![0-9]+[kmgt]?)?", re.IGNORECASE)
_MAX_REPORTED: Final = 5


@dataclass(slots=True)
class Published:
    """What DMARC of a domain comes to; `at` is the domain that has the record, empty if none has."""

    at: str = ""
    record: bytes = b""
    policy: Policy | None = None
    asked: Disposition = Disposition.NONE
    """What holds for this domain: `p`, or `sp` of the domain above."""

    is_missing: bool = False
    findings: list[Finding] = field(default_factory=list)


def look(domain: str, resolver: Resolver, suffixes: PublicSuffixes) -> Published:
    """Look for the record that speaks for a folded domain."""
    try:
        found = DmarcChecker(resolver, suffixes).find(domain, Budget(lookups=5, voids=5, seconds=SECONDS))
    except LookupError as error:
        return Published(findings=[unknown(SUBJECT, "was not looked for", str(error))])
    if not isinstance(found, Found):
        return _nothing(domain, found.result, found.reason, resolver)
    policy = found.policy
    published = Published(
        found.at, found.record, policy, policy.own if found.at == domain else policy.subdomain
    )
    tags = dmarc.tags(found.record) or {}
    published.findings.extend(_of_tags(tags))
    published.findings.extend(_of_no_tags(found.record))
    published.findings.extend(_of_policy(published, domain))
    published.findings.extend(_of_reports(published.at, tags.get("rua"), resolver, suffixes))
    return published


def _nothing(domain: str, result: DmarcResult, reason: str, resolver: Resolver) -> Published:
    if result is DmarcResult.TEMPERROR:
        return Published(findings=[unknown(SUBJECT, reason, "try again later")])
    if result is DmarcResult.PERMERROR:
        cure = "it must say p=none, p=quarantine or p=reject, and sp= one of these, if it is there"
        return Published(is_missing=True, findings=[wrong(SUBJECT, reason, cure)])
    published = Published(is_missing=True)
    near = [one for one in resolver.txt(f"_dmarc.{domain}").records if not dmarc.is_record(one)]
    if near and reason == "there is no record":
        shown = plain(near[0][:80].decode("utf-8", "surrogateescape"))
        cure = "it must begin with v=DMARC1; in these letters"
        published.findings.append(wrong(SUBJECT, f"`{shown}` is no record of DMARC", cure))
    elif reason == "there is no record":
        text = f"{reason}: who writes in the name of {domain} in a header From is not stopped"
        published.findings.append(wrong(SUBJECT, text, "publish the one below"))
    else:
        published.findings.append(wrong(SUBJECT, f"{reason}, so none counts", "leave one"))
    return published


def _of_tags(tags: Mapping[str, str]) -> Iterator[Finding]:
    for name, pattern in _VALUES.items():
        if name in tags and not re.fullmatch(pattern, tags[name], re.IGNORECASE):
            shown = plain(f"{name}={tags[name]}"[:80])
            meant = pattern.replace("[0-9]{1,2}", "0 to 99").replace("|", ", ")
            yield wrong(
                SUBJECT, f"`{shown}` is wrong or stands there twice, and does not count", f"one of {meant}"
            )
    if "p" not in tags:
        yield wrong(SUBJECT, "has no p=, and so counts as p=none", "`p=none` or stricter, behind v=DMARC1;")


def _of_no_tags(record: bytes) -> Iterator[Finding]:
    rest = dict.fromkeys(spec.strip() for spec in record.split(b";") if b"=" not in spec and spec.strip())
    for spec in list(rest)[:_MAX_REPORTED]:
        shown = plain(spec[:80].decode("utf-8", "surrogateescape"))
        cure = "NAME=VALUE is wanted between semicolons; the addresses of one rua= have commas between them"
        yield wrong(SUBJECT, f"`{shown}` is no tag, and does not count", cure)


def _of_policy(published: Published, domain: str) -> Iterator[Finding]:
    policy, asked = published.policy, published.asked
    assert policy is not None  # there is a record
    where = "" if published.at == domain else f", by the record of {published.at}"
    if asked is Disposition.NONE:
        yield note(SUBJECT, f"asks for nothing yet (p=none{where}): no forger is stopped", _WAIT)
    elif policy.per_cent < 100:
        yield note(
            SUBJECT,
            f"asks for {asked.label}{where}, but of {policy.per_cent} % of the mail only (pct, t)",
            "take pct= or t= out when the reports show no mail of yours",
        )
    else:
        yield fine(SUBJECT, f"asks for {asked.label}{where}")
    for whom, milder, cure in (
        ("subdomains", policy.subdomain, "take sp= out"),
        ("subdomains that do not exist", policy.nonexistent, f"np={policy.own.label}"),
    ):
        if published.at == domain and milder < policy.own:
            yield note(SUBJECT, f"for {whom} it asks for {milder.label} only", cure)
    strict = [
        name
        for name, alignment in (("SPF", policy.spf), ("DKIM", policy.dkim))
        if alignment is Alignment.STRICT
    ]
    if strict:
        yield note(
            SUBJECT, f"alignment of {' and '.join(strict)} is strict: a subdomain that sends does not count"
        )


def _of_reports(
    domain: str, written: str | None, resolver: Resolver, suffixes: PublicSuffixes
) -> Iterator[Finding]:
    if written is None:
        text = "nobody is told who fails (no rua=), so nobody can know when it is safe to be stricter"
        yield note(SUBJECT, text, f"rua=mailto:ADDRESS, postmaster@{domain} say")
        return
    valid = dmarc.reporting(written)
    if len(valid) < len(written.split(",")):
        text = f"`rua={plain(written[:80])}` holds what is no address for reports"
        yield wrong(SUBJECT, text, f"rua=mailto:postmaster@{domain}, several with commas between them")
    for uri in valid[:_MAX_REPORTED]:
        target = _target(uri)
        if target and suffixes.organizational(target) != suffixes.organizational(domain):
            yield from _of_stranger(domain, target, resolver)


def _of_stranger(domain: str, target: str, resolver: Resolver) -> Iterator[Finding]:
    """Another's address gets reports only if its domain says that it wants them: section 7.1."""
    name = f"{domain}._report._dmarc.{target}"
    answer = resolver.txt(name)
    if answer.outcome is Outcome.TEMPORARY:
        yield unknown(SUBJECT, f"DNS did not answer for {plain(name)}", "try again later")
    elif not any(record.startswith(b"v=DMARC1") for record in answer.records):
        yield wrong(
            SUBJECT,
            f"reports go to {plain(target)}, which does not say that it takes them: they are not sent",
            f'there must be: {name}. IN TXT "v=DMARC1"; or use an address of {domain}',
        )


def _target(uri: str) -> str:
    match = _MAILTO.fullmatch(uri)
    return (fold_domain(match[1]) or "") if match else ""
