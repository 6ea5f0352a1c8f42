"""The journal: what is said, and how often."""

from dataclasses import dataclass
from typing import Any

from backstop.config import LogAddresses
from backstop.journal import Journal
from backstop.settings import Limit, Limits


@dataclass
class Away:
    """A store of which only the reason matters."""

    reason: str = ""


def journal(store: Any) -> Journal:
    limit = Limit(10, 60)
    return Journal(store, Limits(limit, limit, limit), LogAddresses.FULL, b"secret")


def test_an_outage_that_changes_its_reason_is_no_line_a_second() -> None:
    """`ERR max number of clients reached` and `Broken pipe` took turns, with each trial."""
    store = Away()
    one = journal(store)
    for reason in ["Connection refused", *["Broken pipe", "it is full"] * 20, ""]:
        store.reason = reason
        one._watch_store()
    assert list(one._lines) == [
        'store=away reason="Connection refused"\n',
        'trouble="the store is away for another reason: Broken pipe"\n',
        'trouble="the store is away for another reason: it is full"\n',
        "store=back\n",
    ]
