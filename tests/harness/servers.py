"""What a test asks for by name: programs that must be installed, servers, and the command `backstop`.

A server that is not installed is a skip at home and a failure where the environment has `CI`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.redis_server import RedisServer, free_port, spawn, stop
from tests.harness.waiting import wait_for

__all__ = [
    "ROOT",
    "RedisServer",
    "backstop_environment",
    "free_port",
    "need",
    "run_backstop",
    "spawn",
    "stop",
    "wait_for",
]

ROOT = Path(__file__).resolve().parents[2]

# The mail server's programs lie where an ordinary user's PATH does not lead.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def need(*programs: str) -> str:
    """The path of the first of these programs that is installed; without any the test skips or fails."""
    for program in programs:
        if path := shutil.which(program, path=_PATH):
            return path
    missing = f"not installed: {' or '.join(programs)} (script/setup test brings it)"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def run_backstop(
    *arguments: str,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run the command `backstop` as an administrator would, with `text` as its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "backstop", *arguments],
        input=text,
        env=backstop_environment(environment),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def backstop_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment with the source root on the path of modules, and what else is given."""
    path = os.pathsep.join(filter(None, [str(ROOT / "milter"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **(more or {})}
