"""The source `callahead` against a real Postfix as the next hop, and what that says."""

import re
import shutil
import time
from collections.abc import Iterator

import pytest

from backstop.adapters.callahead import Callahead, Found, Options, Target
from backstop.facts import Existence
from tests.harness.next_hop import NextHop
from tests.harness.postfix import PrivatePostfix, scratch, why_not
from tests.harness.servers import need

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def postfix() -> Iterator[PrivatePostfix]:
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    folder = scratch()
    try:
        with NextHop() as outside:
            # Nobody may relay, and of one domain it takes everybody.
            main = ["mynetworks = 192.0.2.0/24", "virtual_alias_domains = alias.test catch.test"]
            server = PrivatePostfix(folder, next_hop=outside.port, main=main)
            table = server.etc / "virtual"
            table.write_text(f"{table.read_text()}\n@catch.test alice@our.test\n")
            server.command("postmap", f"hash:{table}")
            with server:
                yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def source(postfix: PrivatePostfix) -> Callahead:
    return Callahead(Target("127.0.0.1", postfix.ports.outside), Options(helo="edge.example", timeout=20.0))


def asked(source: Callahead, address: str) -> Found:
    local, _, domain = address.partition("@")
    return source.ask_verbosely(local, domain, time.monotonic() + 20)


@pytest.mark.parametrize(
    ("address", "existence", "says"),
    [
        ("alice@our.test", Existence.EXISTS, "250 2.1.5"),
        ("alice+shop@our.test", Existence.EXISTS, "250 2.1.5"),
        ("nobody-here@our.test", Existence.MISSING, "unknown in local recipient table"),
        ("vic@virt.test", Existence.EXISTS, "250 2.1.5"),
        ("rita@relay.test", Existence.EXISTS, "250 2.1.5"),
        ("anybody@catch.test", Existence.ANYBODY, "random name"),
        ("who@elsewhere.test", Existence.UNKNOWN, "Relay access denied"),
        ('"@our.test', Existence.MISSING, "550 5.1.1"),
    ],
)
def test_what_postfix_says_of_a_recipient(source, address, existence, says):
    found = asked(source, address)
    assert (found.existence, says in found.reason) == (existence, True), found


@pytest.mark.parametrize("domain", ["virt.test", "relay.test"])
def test_a_domain_without_postmaster_is_believed_once_it_took_somebody(source, domain):
    """Postfix refuses postmaster of these, as no map has one: its maps might as well be empty."""
    known = {"virt.test": "vic", "relay.test": "rita"}[domain]
    assert asked(source, f"nobody-here@{domain}").existence is Existence.UNKNOWN
    assert asked(source, f"{known}@{domain}").existence is Existence.EXISTS
    assert asked(source, f"nor-here@{domain}").existence is Existence.MISSING


def test_postfix_saw_nothing_begun(postfix, source):
    asked(source, "bob@our.test")
    assert postfix.queue() == ()
    assert not re.search("lost connection after (EHLO|MAIL|RCPT|RSET)", postfix.log())
