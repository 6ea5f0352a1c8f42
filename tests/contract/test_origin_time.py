"""No question about where a message comes from takes the others their time."""

import time

import pytest

from backstop.adapters.resolver import Budget, Resolver
from backstop.address import parse
from backstop.authentication import SpfResult
from backstop.facts import Need
from backstop.gather.origin import OriginAsker
from backstop.session import Origin, Origins
from backstop.settings import DnsList, ListOf
from tests.harness.odd_name_server import Odd, OddNameServer, answer

LISTS = (DnsList("clients.test", ListOf.CLIENT), DnsList("senders.test", ListOf.SENDER))
EVERYTHING = frozenset({Need.SPF, Need.CLIENT_LISTS, Need.SENDER_LISTS})

LISTED = Odd(lambda query: [answer(query, "@ 60 A 127.0.0.2")])
NOBODY = Odd(lambda query: [answer(query)])
MAY = Odd(lambda query: [answer(query, "@ 60 TXT v=spf1\\ +all")])
SILENT = Odd()


def asked(server: OddNameServer, sender: str, spent: Budget | None = None) -> Origins:
    asker = OriginAsker(Resolver([server.address]), LISTS, pytest.fail)
    reverse_path = parse(f"<{sender}>")
    assert reverse_path is not None
    return asker.origin(Origin("192.0.2.66", "mx.example", reverse_path, EVERYTHING, spent))


@pytest.mark.parametrize("spent", [None, Budget(seconds=0)], ids=["at first", "when all was spent"])
def test_a_forger_whose_name_server_is_silent_is_found_on_the_lists(spent: Budget | None) -> None:
    slow = Odd(lambda query: LISTED.udp(query) if b"\x07senders" in query else [])
    with OddNameServer({"66": LISTED, "slow": slow}, NOBODY) as server:
        origins = asked(server, "a@slow.test", spent)
    assert origins.spf is not None
    assert origins.spf.result is SpfResult.TEMPERROR
    assert origins.client_listing is not None
    assert origins.client_listing.zones == ("clients.test",)
    assert origins.sender_listing is not None
    assert origins.sender_listing.zones == ("senders.test",)


def test_lists_that_are_silent_leave_spf_its_time_and_all_of_it_ends_within_three_seconds() -> None:
    with OddNameServer({"66": SILENT, "good": MAY}, NOBODY) as server:
        began = time.monotonic()
        origins = asked(server, "a@good.test")
        assert time.monotonic() - began < 3.5
    assert origins.client_listing is not None
    assert origins.client_listing.unanswered == ("clients.test",)
    assert origins.spf is not None
    assert origins.spf.result is SpfResult.PASS
