"""No question about where a message comes from takes the others their time."""

import time
from typing import Final

import pytest

from backstop.adapters.resolver import Resolver
from backstop.address import parse
from backstop.authentication import Disposition, SpfResult
from backstop.facts import Need
from backstop.gather.origin import OriginAsker
from backstop.session import Origin, Origins, Signed
from backstop.settings import DnsList, ListOf
from tests.harness.odd_name_server import Odd, OddNameServer, answer

LISTS = (DnsList("clients.test", ListOf.CLIENT), DnsList("senders.test", ListOf.SENDER))
SPF = frozenset({Need.SPF})
EVERYTHING = frozenset({Need.SPF, Need.CLIENT_LISTS, Need.SENDER_LISTS})

LISTED = Odd(lambda query: [answer(query, "@ 60 A 127.0.0.2")])
NOBODY = Odd(lambda query: [answer(query)])
MAY = Odd(lambda query: [answer(query, "@ 60 TXT v=spf1\\ +all")])
SILENT = Odd()


WAIT: Final = 3.5
"""What a message has for DNS, and some room for a busy machine."""


def asker_at(server: OddNameServer) -> OriginAsker:
    return OriginAsker(Resolver([server.address]), LISTS, pytest.fail, lambda: True)


def asked(
    asker: OriginAsker, sender: str, needs: frozenset[Need] = EVERYTHING, spent: object = None
) -> Origins:
    reverse_path = parse(f"<{sender}>")
    assert reverse_path is not None
    return asker.origin(Origin("192.0.2.66", "mx.example", reverse_path, needs, spent))


@pytest.mark.parametrize("is_first", [True, False])
def test_a_forger_whose_name_server_is_silent_is_found_on_the_lists(is_first: bool) -> None:
    slow = Odd(lambda query: LISTED.udp(query) if b"\x07senders" in query else [])
    with OddNameServer({"66": LISTED, "slow": slow}, NOBODY) as server:
        asker = asker_at(server)
        began = time.monotonic()
        spent = None if is_first else asked(asker, "a@slow.test", SPF).spent
        origins = asked(asker, "a@slow.test", EVERYTHING if is_first else EVERYTHING - SPF, spent)
        assert time.monotonic() - began < WAIT
    assert origins.client_listing is not None
    assert origins.client_listing.zones == ("clients.test",)
    assert origins.sender_listing is not None
    assert origins.sender_listing.zones == ("senders.test",)


def test_lists_that_are_silent_leave_spf_its_time() -> None:
    with OddNameServer({"66": SILENT, "good": MAY}, NOBODY) as server:
        began = time.monotonic()
        origins = asked(asker_at(server), "a@good.test")
        assert time.monotonic() - began < WAIT
    assert origins.client_listing is not None
    assert origins.client_listing.unanswered == ("clients.test",)
    assert origins.spf is not None
    assert origins.spf.result is SpfResult.PASS


def test_a_message_all_of_whose_zones_are_silent_waits_two_seconds_in_all_and_its_author_is_judged() -> None:
    policy = Odd(lambda query: [answer(query, '@ 60 TXT "v=DMARC1; p=reject"')])
    alive = Odd(lambda query: [] if query[12] else [answer(query)])  # for the root it answers
    with OddNameServer({"_dmarc": policy}, alive) as server:
        asker = asker_at(server)
        began = time.monotonic()
        origins = asked(asker, "a@slow.test")
        reverse_path = parse("<a@slow.test>")
        assert reverse_path is not None
        signature = b"DKIM-Signature: v=1; a=rsa-sha256; d=slow.test; s=x; h=from; bh=eA==; b=eA==\n"
        header = b"From: a@victim.test\n" + signature
        signed = Signed(header, (b"a@victim.test",), {}, reverse_path, origins.spf, origins.spent)
        authenticity = asker.authenticity(signed, time.time())
        assert time.monotonic() - began < WAIT
    assert authenticity.dmarc is not None
    assert authenticity.dmarc.disposition is Disposition.REJECT
