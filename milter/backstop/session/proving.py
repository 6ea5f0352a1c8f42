"""A message that was read: what it says of the original, and what that proves about each recipient."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from backstop import policy
from backstop.address import parse
from backstop.authentication import Authenticity
from backstop.checks import CHECKS
from backstop.facts import Need
from backstop.proof import Proof
from backstop.report import Report, read
from backstop.session import origin
from backstop.session.content import Content
from backstop.session.questions import Evidence, Gather, Proofs
from backstop.session.transaction import Accepted, Transaction

MAX_IDS: Final = 6
"""The returned id, and the first of those mentioned."""

MAX_ADDRESSES: Final = 10
MAX_PAIRS: Final = 30
"""A message that is asked about has one recipient nearly always."""

_MAX_FIELD: Final = 2000
_ADDRESS = re.compile(r"(?<![^\s<>()\[\],;:\"])[^\s<>()\[\],;:\"@]{1,64}@[^\s<>()\[\],;:\"@]{1,255}")


def wants_report(transaction: Transaction) -> bool:
    """Whether the message must be read for what it says of an original."""
    return any(_wants_report(one) for one in transaction.accepted)


def judge_read(transaction: Transaction, content: Content, gather: Gather, now: float) -> None:
    """Judge again, by what the message says, the recipients about whom it had to be read."""
    report, proofs = None, Proofs()
    if wants_report(transaction):
        sender = transaction.reverse_path
        report = read(content.message(), sender.path if sender else None)
        evidence = _evidence(transaction, content, report)
        if _is_worth_asking(evidence):
            proofs = gather.proofs(evidence, now)
    if origin.wants_signatures(transaction):
        origin.read_signatures(transaction, content, gather, now)
    transaction.accepted = [
        _judged(one, report, proofs, transaction.authenticity) if one.waiting else one
        for one in transaction.accepted
    ]


def _wants_report(one: Accepted) -> bool:
    return any(Need.DMARC not in check.needs for check in one.waiting)


def addresses_in(texts: Iterable[str]) -> Iterator[str]:
    """The addresses in fields of a header, folded."""
    for text in texts:
        for match in _ADDRESS.finditer(text[:_MAX_FIELD]):
            address = parse(match[0])
            if address is not None and address.domain:
                yield address.folded


def _evidence(transaction: Transaction, content: Content, report: Report) -> Evidence:
    waiting = [one for one in transaction.accepted if _wants_report(one)]
    kinds = frozenset(proof for one in waiting for proof in one.settings.proof)
    returned = report.returned
    ids: tuple[str, ...] = ()
    if Proof.MEMORY in kinds:
        every = (returned.message_id if returned else "", *report.mentioned)
        ids = tuple(dict.fromkeys(one for one in every if one))[:MAX_IDS]
    pairs: tuple[tuple[str, str], ...] = ()
    if Proof.CORRESPONDENT in kinds:
        named = _named(content, report)
        pairs = tuple((one.facts.base, address) for one in waiting for address in named)[:MAX_PAIRS]
    block = returned.block if returned and Proof.DKIM in kinds else b""
    return Evidence(ids, pairs, block, transaction.origin.spent)


def _named(content: Content, report: Report) -> tuple[str, ...]:
    """The addresses that a message reports, comes from, or returns as those written to."""
    fields = [one.address for one in report.recipients[:MAX_ADDRESSES]]
    fields.append(content.author[:_MAX_FIELD].decode(errors="replace"))
    if report.returned:
        fields.append(report.returned.to)
    unique = dict.fromkeys(islice(addresses_in(fields), 5 * MAX_ADDRESSES))
    return tuple(unique)[:MAX_ADDRESSES]


def _is_worth_asking(evidence: Evidence) -> bool:
    return bool(evidence.ids or evidence.pairs or evidence.block)


def _judged(
    one: Accepted, report: Report | None, proofs: Proofs, authenticity: Authenticity | None
) -> Accepted:
    facts, settings = one.facts, one.settings
    if report is not None and _wants_report(one):
        found = proofs.found
        if facts.base in proofs.correspondents:
            found |= {Proof.CORRESPONDENT}
        facts = replace(
            facts,
            report=report,
            proofs=facts.proofs | found.intersection(settings.proof),
            unanswered=proofs.unanswered.intersection(settings.proof),
        )
    if authenticity is not None:
        facts = replace(facts, dmarc=authenticity.dmarc)
    judgements = policy.judge(CHECKS, facts, settings, one.block)
    return replace(one, facts=facts, judgements=judgements, decision=policy.decide(judgements))
