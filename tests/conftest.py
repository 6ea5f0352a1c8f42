"""Fixtures and options for every ring."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.harness.redis_server import PROGRAMS, RedisServer
from tests.harness.servers import need


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="also run the tests that take minutes")


def pytest_configure() -> None:
    """What is started here hears Ctrl-C, also where a shell runs the tests in the background without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the deep tests out unless asked for; they are not counted as skipped."""
    if config.getoption("--deep"):
        return
    deep = [item for item in items if item.get_closest_marker("deep")]
    if deep:
        config.hook.pytest_deselected(items=deep)
        items[:] = [item for item in items if item not in deep]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where everything is expected to be installed, a test that was skipped proves nothing: it fails.

    But for one that says, as the first words of its reason, that it cannot be here.
    """
    outcome = yield
    report = outcome.get_result()
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2]
    if not reason.startswith("Skipped: cannot be here:"):
        report.outcome = "failed"
        report.longrepr = f"where CI is set, this is a failure: {reason}"


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for one test, which may freeze or kill it."""
    need(*PROGRAMS)
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def _session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    need(*PROGRAMS)
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def shared_redis(_session_redis: RedisServer) -> RedisServer:
    """An empty Redis that many tests use one after the other: leave it running."""
    client = _session_redis.client()
    client.flushall()
    client.close()
    return _session_redis
