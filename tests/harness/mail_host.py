"""A whole mail host: a private Postfix, Redis, next hop and daemon, wired by `backstop setup postfix`.

The end-to-end tests and the demo run on it. Nothing listens outside 127.0.0.1, everything lies in one
scratch folder, and all of it ends with the block.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from backstop import batv
from backstop.address import parse
from backstop.batv import Key
from backstop.keyfile import load as load_keys
from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.next_hop import NextHop
from tests.harness.postfix import PrivatePostfix, Site, scratch
from tests.harness.redis_server import RedisServer
from tests.harness.smtp import SmtpClient
from tests.harness.waiting import wait_for

LIFETIME = 11
DOMAINS = ("our.test", "virt.test", "relay.test")
"""Those of `Site` that this host protects."""


NO_RESOLVER = "127.0.0.1:1"
"""Nobody is there: no test asks the world."""


class MailHost:
    """Everything together. `settings` are lines of `[defaults]`, `top` lines before it.

    `actions` are those of [defaults], `proof` names its kinds, `resolver` is the one name server; grace is
    off, because every key is new.
    """

    def __init__(
        self,
        form: str = "subaddress",
        *,
        actions: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        top: Sequence[str] = (),
        site: Site | None = None,
        workers: int = 2,
        proof: Sequence[str] = ("tag",),
        resolver: str = NO_RESOLVER,
    ) -> None:
        self.form = form
        self._resolver = resolver
        self._proof = tuple(proof)
        self.folder = scratch()
        self.stack = contextlib.ExitStack()
        self._actions = {"tag": "reject", "unproved": "reject"} if actions is None else dict(actions)
        self._settings = tuple(settings)
        self._top = tuple(top)
        self._workers = workers
        self.redis = RedisServer(self.folder / "redis")
        self.next_hop = NextHop()
        delimiter = "+" if form == "subaddress" else ""
        self.postfix = PrivatePostfix(
            self.folder, next_hop=self.next_hop.port, site=site, recipient_delimiter=delimiter
        )
        self.daemon = Daemon(BACKSTOP)
        self.config = self.daemon.config
        self.keys = self.daemon.folder / "keys.toml"
        self.dkim_keys = self.daemon.folder / "dkim.d"

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def _begin(self) -> None:
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.stack.enter_context(self.next_hop)
        self.stack.enter_context(self.redis)
        self.stack.enter_context(self.daemon)
        self.configure()
        self.backstop("key", "new")
        self.backstop("setup", "postfix", "--postfix-config", str(self.postfix.etc), "--write")
        self._open_socket_folder()
        self.daemon.start()
        self.stack.enter_context(self.postfix)

    def configure(
        self, *, actions: Mapping[str, str] | None = None, settings: Sequence[str] | None = None
    ) -> None:
        """Write the configuration file; `reload` makes it count."""
        if actions is not None:
            self._actions = dict(actions)
        if settings is not None:
            self._settings = tuple(settings)
        delimiter = "+" if self.form == "subaddress" else ""
        domains = ", ".join(f'"{domain}"' for domain in DOMAINS)
        actions_set = ", ".join(f'{name} = "{action}"' for name, action in self._actions.items())
        lines = [
            f'socket = "unix:{self.postfix.milter_socket}"',
            f"workers = {self._workers}",
            f'store = "{self.redis.unix_url}"',
            f'state_directory = "{self.daemon.folder}"',
            f'keys = "{self.keys}"',
            f'dkim_keys = "{self.dkim_keys}"',
            f'resolver = ["{self._resolver}"]',
            f"domains = [{domains}]",
            *self._top,
            "[defaults]",
            f'tag_form = "{self.form}"',
            f'recipient_delimiter = "{delimiter}"',
            'grace = "0d"',
            f"proof = {json.dumps(self._proof)}",
            *self._settings,
            f"actions = {{ {actions_set} }}",
        ]
        self.daemon.configure("\n".join([*lines, ""]))

    def backstop(self, *words: str) -> str:
        """Run a command of ours with this configuration; what it printed. It must exit with 0."""
        done = subprocess.run(
            [sys.executable, "-m", "backstop", *words, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "milter")},
        )
        if done.returncode != 0:
            raise RuntimeError(f"backstop {words} exited with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def reload(self) -> None:
        """SIGHUP, and wait until the new configuration counts."""
        self.daemon.reload()

    def outside(self, address: str = "192.0.2.1") -> contextlib.AbstractContextManager[SmtpClient]:
        """A stranger's connection."""
        return self.postfix.client(address=address)

    def tagged(self, address: str) -> str:
        """The address with a tag of today, as `backstop tag sign` makes it."""
        return self.backstop("tag", "sign", address).strip()

    def signing_key(self) -> Key:
        """The key that signs, read from the key file."""
        key = load_keys(self.keys).signer(DOMAINS[0])
        assert key is not None
        return key

    def sign(self, address: str, key: Key, age: int = 0) -> str:
        """The address as it was tagged `age` days ago, without a process for each."""
        parsed = parse(address)
        assert parsed is not None
        today = batv.day_of(time.time()) - age
        return batv.sign(parsed, key, today, LIFETIME, batv.TagForm(self.form))

    def counters(self, domain: str = "our.test") -> dict[str, int]:
        """The domain's counters since ever."""
        with self.redis.client() as client:
            return {name: int(value) for name, value in client.hgetall(f"backstop:count:{domain}").items()}

    def wait_for_counter(self, name: str, count: int, domain: str = "our.test") -> None:
        """Counters are written behind: wait until one has come so far."""
        wait_for(lambda: self.counters(domain).get(name, 0) >= count, 10, f"{name} at {count}")

    def remembered(self, what: str = "sent") -> int:
        """How many ids of sent mail (or pairs, `wrote`) are remembered."""
        with self.redis.client() as client:
            return sum(int(client.scard(key)) for key in client.scan_iter(f"backstop:{what}:*"))

    def wait_for_memory(self, count: int, what: str = "sent") -> None:
        """The memory is written behind: wait until it holds so many."""
        wait_for(lambda: self.remembered(what) >= count, 10, f"{count} remembered as {what}")

    def _open_socket_folder(self) -> None:
        folder = self.postfix.milter_socket.parent
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, group="postfix")
        folder.chmod(0o2750)


def bounce(to: str, subject: str = "Undelivered Mail Returned to Sender") -> bytes:
    """A plain report, as other systems write them."""
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@victim.test>\r\nTo: {to}\r\nSubject: {subject}\r\n"
        "Auto-Submitted: auto-replied\r\n\r\nThe following message could not be delivered.\r\n"
    ).encode()
