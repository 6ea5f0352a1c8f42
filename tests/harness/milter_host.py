"""The daemon with a Redis and a key, and no mail server: what the tests of faults at the wire run on."""

import contextlib
import time
from types import TracebackType
from typing import Final, Self

from backstop import batv
from backstop.address import parse
from backstop.batv import Key, KeyRing, KeyState, TagForm
from tests.harness.daemon import BACKSTOP, Daemon
from tests.harness.ledger import ENFORCED, Ledger
from tests.harness.load import Load
from tests.harness.redis_server import RedisServer
from tests.harness.waiting import wait_for
from tests.harness.wire_load import MOST_PER_SESSION, WireCourier

DOMAIN: Final = "our.example"
LIFETIME: Final = 11
SECRET: Final = "a secret for the load"
REJECTING: Final = 'actions = { tag = "reject", unproved = "reject" }'

_CONFIGURATION: Final = """
socket = "{socket}"
workers = {workers}
store = "{store}"
state_directory = "{folder}"
keys = "{folder}/keys.toml"
dkim_keys = "{folder}/dkim.d"
resolver = ["127.0.0.1:1"]
domains = ["{domain}"]
[limits]
bad_tags = "1000000/1m"
bad_tags_address = "1000000/1h"
unknown_recipients = "1000000/1m"
[defaults]
tag_form = "prvs"
proof = {proof}
grace = "0d"
{settings}
"""

_KEYS: Final = f"""
[memory]
secret = "a secret for the memory"

[[key]]
number = 1
secret = "{SECRET}"
state = "sign"
domains = ["*"]
created = 2026-01-01
max_lifetime = "{LIFETIME}d"
"""


class MilterHost:
    """A daemon that runs with this Redis until the block ends. Its limits are out of reach.

    `proof` names what counts as such, as in the file.
    """

    def __init__(self, redis: RedisServer, *, prefix: tuple[str, ...] = (), proof: str = '["tag"]') -> None:
        self.redis = redis
        self._proof = proof
        self.daemon = Daemon(BACKSTOP, prefix=prefix)
        self.ring = KeyRing([Key(1, SECRET.encode(), KeyState.SIGN, ("*",), 0, LIFETIME)])
        self._key = self.ring.keys[0]

    def __enter__(self) -> Self:
        keys = self.daemon.folder / "keys.toml"
        keys.write_text(_KEYS)
        keys.chmod(0o400)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lines = self.daemon.log_text().splitlines() if self.daemon.log.exists() else []
        print("the daemon's log, but for its decisions:")
        print("\n".join(line for line in lines if not line.startswith("queue_id=")))
        self.daemon.__exit__(kind, error, trace)

    def configure(self, settings: str = REJECTING, *, workers: int = 2) -> None:
        """Write the configuration file; `settings` are lines of [defaults]."""
        self.daemon.configure(
            _CONFIGURATION.format(
                socket=self.daemon.target,
                workers=workers,
                store=self.redis.unix_url,
                folder=self.daemon.folder,
                domain=DOMAIN,
                proof=self._proof,
                settings=settings,
            )
        )

    def start(self, settings: str = REJECTING, *, workers: int = 2) -> Self:
        """Configure and start it."""
        self.configure(settings, workers=workers)
        self.daemon.start()
        return self

    def load(
        self,
        seed: int,
        *,
        rate: float = 100.0,
        couriers: int = 10,
        most_per_session: int = MOST_PER_SESSION,
        ledger: Ledger | None = None,
    ) -> Load:
        """A load on it, with a ledger of its own unless one is given."""
        ledger = ledger or Ledger(self.ring, ENFORCED)
        target = self.daemon.target
        return Load(
            ledger,
            lambda chance: WireCourier(
                target, self.tagged, chance, domain=DOMAIN, most_per_session=most_per_session
            ),
            seed=seed,
            rate=rate,
            couriers=couriers,
        )

    def tagged(self, address: str) -> str:
        """The address with a good tag of today."""
        parsed = parse(address)
        assert parsed is not None
        return batv.sign(parsed, self._key, batv.day_of(time.time()), LIFETIME, TagForm.PRVS)

    def counters(self, name: str = DOMAIN) -> dict[str, int]:
        """The counters of the domain since ever; `-` has those about the counters themselves."""
        with contextlib.closing(self.redis.client()) as client:
            return {str(field): int(n) for field, n in client.hgetall(f"backstop:count:{name}").items()}

    def settled_counters(self, ledger: Ledger, *, missing: int = 0, seconds: float = 5.0) -> list[str]:
        """What the counters still show wrong once everything is written behind; see `Ledger.miscounted`.

        What the daemon itself says is missing from them may be missing.
        """

        def wrong() -> list[str]:
            admitted = sum(self.counters("-").values())
            return ledger.miscounted(self.counters(), missing=missing + admitted)

        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not wrong(), seconds, "the counters")
        print(f"counters about counters: {self.counters('-')}")
        return wrong()
