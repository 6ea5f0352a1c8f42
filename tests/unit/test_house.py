"""The house: what the project's own files promise to each other."""

import re
import tomllib

import pytest

from tests.harness.redis_server import PROGRAMS
from tests.harness.servers import ROOT, RedisServer, need, wait_for

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def contract(name):
    [found] = [c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["name"] == name]
    return found


def pins(name):
    """What a file of pins holds: name -> version; it holds nothing but pins with hashes."""
    text = (ROOT / "constraints" / name).read_text()
    found = {}
    for entry in re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes), entry
        distribution, version = requirement.partition(";")[0].split("==")
        found.setdefault(distribution, set()).add(version.strip())
    return found


@pytest.mark.parametrize("name", ["build.txt", "run.txt", "demo.txt", "test.txt", "deep.txt", "floor.txt"])
def test_every_pin_has_a_hash_and_no_address(name):
    assert pins(name)
    assert "://" not in (ROOT / "constraints" / name).read_text()


def test_tests_run_with_the_libraries_the_daemon_is_pinned_to():
    assert pins("run.txt").items() <= pins("test.txt").items()
    assert pins("demo.txt").items() <= pins("test.txt").items()
    deep, test = pins("deep.txt"), pins("test.txt")
    assert all(deep[name] == test[name] for name in deep.keys() & test.keys())


def test_the_daemon_needs_no_redis_py():
    """14 MB a worker, and 30 us instead of 17 for the eight commands of a bounce."""
    assert not [
        path for path in ROOT.glob("milter/**/*.py") if re.search(r"import redis\b", path.read_text())
    ]
    assert "redis" not in pins("run.txt")


def test_the_lower_bounds_are_the_floor_that_is_tested():
    bounds = dict(each.split(">=") for each in PROJECT["project"]["dependencies"])
    assert {name: pins("floor.txt")[name] for name in bounds} == {name: {low} for name, low in bounds.items()}


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
