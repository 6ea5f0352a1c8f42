"""The three records that stop a forger, ready for the zone, where they are missing or weak."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from backstop.adapters.dkim_keys import Fault, PublicKey
from backstop.adapters.resolver import Outcome, Resolver
from backstop.authentication import Disposition
from backstop.cli.examinations.finding import Level
from backstop.cli.published import dkim, dmarc, spf
from backstop.cli.published.spf_terms import Qualifier

_PIECE: Final = 255
_WEAK: Final = re.compile(rb"[?~+]?all", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """A TXT record to publish, `name` without its final dot, and what to know before."""

    name: str
    value: bytes
    why: str

    @property
    def line(self) -> str:
        """As a zone file wants it: strings of at most 255 octets, RFC 1035, section 5.1."""
        pieces = [self.value[at : at + _PIECE] for at in range(0, len(self.value), _PIECE)]
        strings = " ".join('"' + "".join(map(_escaped, piece)) + '"' for piece in pieces)
        return f"{self.name}. IN TXT {f'( {strings} )' if len(pieces) > 1 else strings}"


def of_spf(domain: str, published: spf.Published, resolver: Resolver, client: str) -> Iterator[Record]:
    """A record where there is none or it stops nobody."""
    if published.is_missing:
        yield _new_spf(domain, resolver, client)
    elif (
        published.record
        and published.others is not Qualifier.FAIL
        and not (published.is_broken or published.is_endless)
        and not re.search(
            rb" redirect=", published.record, re.IGNORECASE
        )  # then it is another's that is weak
    ):
        yield _stricter_spf(domain, published.record, resolver, client)


def _stricter_spf(domain: str, record: bytes, resolver: Resolver, client: str) -> Record:
    kept = [word for word in record.split() if not _WEAK.fullmatch(word)]
    if len(kept) == 1:  # it names nobody
        return _new_spf(domain, resolver, client)
    why = "in place of the one there is, as soon as all your senders are in it"
    return Record(domain, b" ".join([*kept, b"-all"]), why)


def _new_spf(domain: str, resolver: Resolver, client: str) -> Record:
    address = f" ip{6 if ':' in client else 4}:{client}" if client else ""
    answer = resolver.mx(domain)
    hosts = [record.host for record in answer.records if record.host not in ("", ".")]
    if hosts:
        named = f"the servers that take its mail ({', '.join(hosts[:3])})"
        if address:
            named += f" and {client}"
        why = f"if {named} are all that send it; else add who does, `ip4:` or `include:`, before -all"
        return Record(domain, f"v=spf1 mx{address} -all".encode(), why)
    if address:
        return Record(domain, f"v=spf1{address} -all".encode(), "add who else sends its mail before -all")
    if answer.outcome is Outcome.TEMPORARY:
        return Record(domain, b"v=spf1 mx -all", "DNS did not say who takes its mail; add who sends it")
    return Record(
        domain, b"v=spf1 -all", "it takes no mail (no MX), so it is taken to send none; else add who does"
    )


def of_dkim(
    domain: str, published: dkim.Published, local: Mapping[str, PublicKey | Fault]
) -> Iterator[Record]:
    """The keys of this server that are not in DNS, or are there as others."""
    for selector in published.selectors:
        key = local.get(selector.name)
        if not isinstance(key, PublicKey) or selector.published is Fault.REVOKED:
            continue
        if not isinstance(selector.published, PublicKey) or not dkim.is_same(selector.published, key):
            name = f"{selector.name}._domainkey.{domain}"
            yield Record(name, dkim.record(key), "if the signer uses the key in the file of this server")


def of_dmarc(domain: str, published: dmarc.Published) -> Iterator[Record]:
    """One that asks for reports, or the next step."""
    if published.is_missing:
        value = f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}"
        yield Record(
            f"_dmarc.{domain}",
            value.encode(),
            "it changes nothing yet, and brings reports of who sends in your name to rua=, an address that"
            " must take mail. When those of two to four weeks show that all your own mail passes:"
            " p=quarantine, some weeks later p=reject",
        )
    elif published.at == domain and published.asked is Disposition.NONE and not _is_broken(published):
        value = re.sub(
            r"(?i)(;\s*p\s*=\s*)none", r"\1quarantine", published.record.decode("latin-1"), count=1
        )
        why = (
            "in place of the one there is, when the reports show that all your own mail passes; then p=reject"
        )
        yield Record(f"_dmarc.{domain}", value.encode("latin-1"), why)


def _is_broken(published: dmarc.Published) -> bool:
    return any(finding.level is Level.WRONG for finding in published.findings)


def _escaped(octet: int) -> str:
    return chr(octet) if 32 <= octet < 127 and octet not in b'"\\' else f"\\{octet:03d}"
