"""DMARC without its questions: records, whose address a message shows, and what follows. RFC 7489.

Of what came after it (RFC 9091 and its successors) `np` and `t` are understood, because both only make the
outcome milder or as the owner wrote it. Records are fetched by an adapter, which also knows public suffixes.
"""

from backstop.dmarc.author import NoAuthor, authors
from backstop.dmarc.evaluation import Scope, evaluate, is_aligned
from backstop.dmarc.record import Alignment, Policy, is_record, parse, reporting, tags

__all__ = [
    "Alignment",
    "NoAuthor",
    "Policy",
    "Scope",
    "authors",
    "evaluate",
    "is_aligned",
    "is_record",
    "parse",
    "reporting",
    "tags",
]
