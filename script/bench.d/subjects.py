"""The milters that are measured, each started with what it needs.

A Redis belongs to the one daemon that uses it, so that its share of the processor can be told apart.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mix import DOMAIN, KEY_AGE_DAYS, KEY_NUMBER, LIFETIME_DAYS, Judge
from processes import cpu_seconds, pss_mb, running, tree, wait_until

from tests.harness.name_server import NameServer, txt

PROFILES: Final = {
    # No memory of sent mail, no check that asks DNS or reads a body.
    "gate": 'proof = ["tag"]\nactions = { tag = "reject", unproved = "reject" }\n',
    # Everything that is on by default: outgoing mail is remembered, untagged bounces are read.
    "full": 'actions = { tag = "reject", unproved = "reject" }\n',
    # The gate, and of every client SPF and one DNS list.
    "origin": 'proof = ["tag"]\n'
    'actions = { tag = "reject", unproved = "reject", spf = "reject", client_list = "reject" }\n',
}

LIST_ZONE: Final = "bl.example"
NO_RESOLVER: Final = "127.0.0.1:1"
"""Nobody is there, and nobody is asked."""

CONFIGURATION: Final = """\
socket = "unix:{folder}/milter.sock"
workers = {workers}
store = "unix://{folder}/redis.sock"
state_directory = "{folder}"
keys = "{folder}/keys.toml"
domains = ["{domain}"]
resolver = ["{resolver}"]

[lists]
"{zone}" = {{ of = "client" }}

[limits]  # the load comes from few hosts: the answers must not change once they are over a limit
bad_tags = "1000000/1m"
bad_tags_address = "1000000/1h"

[defaults]
tag_form = "prvs"
strip = "mta"
grace = "0d"
"""

KEYS: Final = """\
[memory]
secret_hex = "{secret}"

[[key]]
number = {number}
secret_hex = "{secret}"
state = "sign"
domains = ["*"]
created = {created:%Y-%m-%d}
max_lifetime = "{lifetime}d"
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """One milter under test, running."""

    name: str
    judge: Judge
    socket: Path
    process: subprocess.Popen[bytes]
    redis: subprocess.Popen[bytes] | None = None

    def cpu_seconds(self) -> float:
        """Processor time of the milter's process tree so far."""
        return cpu_seconds(tree(self.process.pid))

    def redis_cpu_seconds(self) -> float:
        """Processor time of its Redis so far."""
        return cpu_seconds([self.redis.pid]) if self.redis else 0.0

    def memory(self) -> list[float]:
        """Pss in MB: the first process, then its children."""
        return [pss_mb(pid) for pid in tree(self.process.pid)]


def subject_name(profile: str, workers: int) -> str:
    """What a daemon is called in the table."""
    called = "backstop" if profile != "origin" else "with SPF and a list"
    return f"{called}, {workers} worker" + ("s" if workers > 1 else "")


@contextmanager
def name_server(folder: Path) -> Iterator[str]:
    """A name server that knows the senders of the mix, and a list that names nobody; its address."""
    spf = f"@ TXT {txt('v=spf1 ip4:198.18.0.0/15 -all')}"
    zones = {
        "remote.example": f"{spf}\nmx TXT {txt('v=spf1 a ip4:198.18.0.0/15 -all')}\nmx A 198.18.0.1",
        LIST_ZONE: "",
    }
    with NameServer(folder / "nsd", zones) as server:
        yield server.address


@contextmanager
def empty_c(program: Path, mode: str, folder: Path) -> Iterator[Subject]:
    """The empty milter in C, `all` or `lean`."""
    path = folder / f"{mode}.sock"
    with running([str(program), str(path), mode], path, folder / f"{mode}.log") as process:
        yield Subject("empty C" if mode == "all" else f"empty C, {mode}", Judge.EMPTY, path, process)


@contextmanager
def empty_pymilter(folder: Path) -> Iterator[Subject]:
    """The empty milter on pymilter's classes."""
    path = folder / "pymilter.sock"
    program = Path(__file__).with_name("empty_pymilter.py")
    with running([sys.executable, str(program), str(path)], path, folder / "pymilter.log") as process:
        yield Subject("empty pymilter", Judge.EMPTY, path, process)


@contextmanager
def other(command: str, secret: bytes, folder: Path) -> Iterator[Subject]:
    """Another milter. In its command {socket} is where to listen, {key} a file that holds the secret."""
    path, key = folder / "other.sock", folder / "other.key"
    key.write_bytes(secret)
    words = [word.replace("{socket}", str(path)).replace("{key}", str(key)) for word in shlex.split(command)]
    with running(words, path, folder / "other.log") as process:
        yield Subject(Path(words[0]).name, Judge.ANY, path, process)


@contextmanager
def backstop(
    workers: int, profile: str, secret: bytes, parent: Path, resolver: str = NO_RESOLVER
) -> Iterator[Subject]:
    """The daemon, with a Redis of its own."""
    folder = parent / f"{profile}-{workers}"
    folder.mkdir(mode=0o750)
    keys, file, log = folder / "keys.toml", folder / "backstop.toml", folder / "backstop.log"
    created = datetime.now(tz=UTC) - timedelta(days=KEY_AGE_DAYS)
    keys.write_text(
        KEYS.format(number=KEY_NUMBER, secret=secret.hex(), created=created, lifetime=LIFETIME_DAYS)
    )
    keys.chmod(0o400)
    text = CONFIGURATION.format(
        folder=folder, workers=workers, domain=DOMAIN, resolver=resolver, zone=LIST_ZONE
    )
    file.write_text(text + PROFILES[profile])
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    store = f"{server} --port 0 --unixsocket {folder}/redis.sock --dir {folder} --save '' --appendonly no"
    serve = [sys.executable, "-m", "backstop", "serve", "--config", str(file)]
    with (
        running(shlex.split(store), folder / "redis.sock", folder / "redis.log") as redis,
        running(serve, folder / "milter.sock", log) as process,
    ):
        wait_until(lambda: len(tree(process.pid)) > workers, process, log)
        name = subject_name(profile, workers)
        judge = Judge.READER if profile == "full" else Judge.BACKSTOP
        yield Subject(name, judge, folder / "milter.sock", process, redis)
