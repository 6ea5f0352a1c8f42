"""`explain` of messages whose sender may be forged, with the names that a name server of the tests gives."""

import pytest

from tests.contract.test_cli_commands import Site
from tests.harness.origin_host import ID, LISTED, World

ANNA = "anna@example.com"
CLIENT = "198.51.100.25"
LISTS = '[lists]\n"bl.test" = { of = "client" }\n'


class Host(Site):
    """With all checks of origin, and a header of results."""

    def __init__(self, folder, server, capsys, world):
        self._world = world
        super().__init__(folder, server, capsys)
        for check in ("spf", "client_list", "dmarc"):
            self("domain", "set", "example.com", check, "reject", "--force")

    def write(self, store, more=""):
        top = f'authserv_id = "{ID}"\nresolver = ["{self._world.address}"]\n'
        super().write(store, f"{top}{more}{LISTS}")

    def explain(self, sender, author="", client=CLIENT):
        """What is said of a stranger's letter, for people and for programs."""
        path = self.path.parent / "message.eml"
        path.write_bytes(
            f"From: <{author or sender}>\r\nTo: {ANNA}\r\nSubject: hello\r\n"
            f"Authentication-Results: {ID}; spf=pass smtp.mailfrom=forged.test\r\n\r\nHello.\r\n".encode()
        )
        words = ("explain", str(path), "--from", sender, "--to", ANNA, "--client", client)
        return self(*words), self.json(*words)


@pytest.fixture
def host(tmp_path, shared_redis, capsys):
    with World() as world:
        site = Host(tmp_path, shared_redis, capsys, world)
        yield site
        site.redis.close()


def row(said, check):
    """The line of the table of checks."""
    return next(line for line in said.splitlines() if line.split()[:1] == [check])


def test_a_sender_whose_domain_sends_from_elsewhere(host):
    said, found = host.explain("bob@fail.test")
    assert "reject" in row(said, "spf")
    assert "SPF fail of mailfrom fail.test" in row(said, "spf")
    assert "at RCPT: 550 5.7.23" in said
    assert "domain set example.com spf observe" in said
    assert found["recipients"][0]["at_rcpt"].startswith("550 5.7.23")
    assert found["end"] is None


def test_a_client_on_a_list(host):
    said, _ = host.explain("bob@pass.test", client=LISTED)
    assert "bl.test" in row(said, "client_list")
    assert "at RCPT: 550 5.7.1" in said


def test_a_forged_author_whose_domain_says_reject(host):
    said, found = host.explain("bob@elsewhere.example", author="boss@pass.test")
    assert "its owner wants reject" in row(said, "dmarc")
    assert "in the end, at the end of the message: 550 5.7.1" in said
    assert found["end"]["stage"] == "at the end of the message"


def test_good_mail_gets_the_results_and_loses_the_forged_ones(host):
    said, _ = host.explain("bob@pass.test")
    assert "pass" in row(said, "spf")
    assert "pass" in row(said, "dmarc")
    assert f"accepted, with the header Authentication-Results: {ID};" in said
    assert "spf=pass" in said
    assert "dmarc=pass" in said
    assert "the forged header Authentication-Results (number 1) is removed" in said


@pytest.mark.parametrize("fault", ["silence", "servfail"])
def test_names_that_cannot_be_asked_for_refuse_nobody(host, fault):
    said, found = host.explain(f"bob@{fault}.test")
    assert "temperror" in row(said, "spf")
    assert "temperror" in row(said, "dmarc")
    assert found["recipients"][0]["at_rcpt"] == "taken"
    assert found["end"]["verb"] == "accept"
    assert "550" not in said
