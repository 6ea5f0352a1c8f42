"""A whole mail host for the end-to-end tests, one for each form of the tag."""

import shutil
from collections.abc import Iterator

import pytest

from tests.harness.mail_host import MailHost
from tests.harness.postfix import why_not
from tests.harness.servers import need


@pytest.fixture(scope="module", params=["subaddress", "prvs"])
def _whole_host(request: pytest.FixtureRequest) -> Iterator[MailHost]:
    need("redis-server", "valkey-server")
    need("postconf")
    if reason := why_not():
        pytest.skip(reason)
    with MailHost(request.param) as host:
        yield host


@pytest.fixture
def host(_whole_host: MailHost) -> MailHost:
    """The host as it was at the beginning: no mail, no keys in Redis, no rules at the next hop."""
    _whole_host.postfix.forget()
    _whole_host.next_hop.forget()
    with _whole_host.redis.client() as client:
        client.flushall()
    for file in (_whole_host.folder / "forward").glob("*"):
        file.unlink() if file.is_file() else shutil.rmtree(file)
    return _whole_host
