"""The house: what the project's own files promise to each other."""

import tomllib

import pytest

from tests.harness.redis_server import PROGRAMS
from tests.harness.servers import ROOT, RedisServer, need, wait_for

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def contract(name):
    [found] = [c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["name"] == name]
    return found


def test_the_source_root_never_becomes_a_package():
    # It would hide pymilter's C extension `milter`.
    assert not (ROOT / "milter" / "__init__.py").exists()


def test_every_module_from_session_down_is_bound_to_have_no_outside():
    floors = contract("floors")["layers"]
    pure = floors[floors.index("(session)") :]
    names = [name.strip(" ()") for floor in pure for name in floor.split("|")]
    package = ROOT / "milter" / "backstop"
    there = [n for n in names if (package / f"{n}.py").exists() or (package / n / "__init__.py").exists()]
    bound = contract("from session down there is no outside")["source_modules"]
    assert sorted(bound) == sorted(f"backstop.{name}" for name in there)


def test_every_ring_is_run():
    rings = sorted(f"tests/{f.name}" for f in (ROOT / "tests").iterdir() if list(f.glob("test_*.py")))
    assert set(rings) <= set(PROJECT["tool"]["pytest"]["ini_options"]["testpaths"])
    assert all((ROOT / ring / "__init__.py").exists() for ring in rings)


def test_a_redis_of_our_own_starts_freezes_dies_and_comes_back(tmp_path):
    need(*PROGRAMS)
    with RedisServer(tmp_path, "appendonly yes", "appendfsync always") as server:
        client = server.client()
        client.set("backstop:block", "junk")
        first = server.pid
        server.freeze()
        server.thaw()
        server.kill()
        server.start()
        assert server.pid != first
        assert wait_for(lambda: client.get("backstop:block"), 5, "the value after a restart") == "junk"
        client.close()


def test_what_never_comes_is_named():
    with pytest.raises(TimeoutError, match="in vain for a miracle"):
        wait_for(lambda: False, 0.01, "a miracle")
