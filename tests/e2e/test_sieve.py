"""The shipped Sieve script, run by Dovecot's own interpreter."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.harness.servers import ROOT, need

SCRIPT = ROOT / "packaging/sieve/backstop.sieve"


@pytest.fixture
def folder():
    """The interpreter works as nobody when root starts it: a folder that everybody can read."""
    with tempfile.TemporaryDirectory(prefix="sieve-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def filed_in(folder, *fields):
    """The folder in which the script files a message with these header fields."""
    sieve_test = need(str(ROOT / ".state/sieve/run"))
    shutil.copy(SCRIPT, folder)
    message = folder / "message"
    message.write_text(
        "\n".join(["From: <robot@far.example>", "To: <user@example.com>", *fields, "", "Text.", ""])
    )
    words = [sieve_test, str(folder / SCRIPT.name), str(message)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if run.returncode == os.EX_UNAVAILABLE:
        pytest.skip(f"cannot be here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    [filed] = [line for line in run.stdout.splitlines() if "store message in folder" in line]
    return filed.rpartition(": ")[2]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "field",
    [
        "X-Backstop: junk",
        "X-Backstop: junk; unproved=fail",
        "x-backstop:  Junk; block",
        "X-Backstop: junk;\n\tunproved",
    ],
)
def test_what_is_marked_as_junk_is_filed_in_junk(folder, field):
    assert filed_in(folder, "Subject: Undelivered", field) == "Junk"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "field",
    ["Subject: junk", "X-Backstop: quarantine; unproved", "X-Backstop: junkyard", "X-Backstop-Was: junk"],
)
def test_all_else_stays_in_the_inbox(folder, field):
    assert filed_in(folder, field) == "INBOX"
