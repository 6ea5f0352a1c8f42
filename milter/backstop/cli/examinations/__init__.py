"""What `backstop doctor` looks at: one file an examination, and one line here, in the order of the report.

Each only looks. None changes anything, sends a message, or is sure of what it could not see.
"""

from typing import Final

from backstop.cli.examinations import daemon, lists, postfix, resolver, signing, store, toggles, unknown_users
from backstop.cli.examinations.finding import Examination

EXAMINATIONS: Final[tuple[Examination, ...]] = (
    daemon.EXAMINATION,
    store.EXAMINATION,
    toggles.EXAMINATION,
    signing.EXAMINATION,
    resolver.EXAMINATION,
    lists.EXAMINATION,
    postfix.EXAMINATION,
    unknown_users.EXAMINATION,
)
"""All of them. What the later ones lean on is looked at first."""
