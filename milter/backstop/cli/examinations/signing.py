"""Domains whose mail goes out without tags, and those in grace."""

from collections.abc import Iterator, Sequence
from typing import Final

from backstop import grace
from backstop.batv import day_of
from backstop.cli.examinations.finding import Examination, Finding, fine, note, wrong
from backstop.cli.examinations.surroundings import Surroundings
from backstop.cli.times import date_text

MAX_NAMED: Final = 10
"""Domains that one finding names."""


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Look for a key that signs, and whether bounces can carry a tag by now."""
    ring, today = surroundings.config.ring, day_of(surroundings.now)
    unsigned = [domain for domain in surroundings.domains if ring.signer(domain) is None]
    if unsigned:
        yield wrong(
            "keys",
            f"no key signs for {_listed(unsigned)}: mail goes out without tags, so its bounces carry none",
            "`backstop key new`, or with --domain for these alone; then `systemctl reload backstop`",
        )
    elif surroundings.domains:
        yield fine("keys", "a key signs for every domain")
    for domain in surroundings.domains:
        found = grace.of_domain(ring, domain, surroundings.effective(domain).settings)
        if found is not None and today < found.end:
            yield note(
                domain,
                f"is in grace until {date_text(found.end)}, so a missing tag is only observed: {found.why}",
            )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


EXAMINATION = Examination("signing", examine)
