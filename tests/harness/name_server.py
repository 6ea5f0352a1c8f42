"""A real name server (NSD) of a test's own, on a free port of loopback; without pytest, for the demo too."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import dns.exception
import dns.message
import dns.query

from tests.harness.redis_server import free_port, spawn, stop
from tests.harness.waiting import wait_for

PROGRAM = "nsd"

_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"


def txt(text: str | bytes) -> str:
    """The value of a TXT record as a zone file wants it: strings of at most 255 octets."""
    octets = text.encode() if isinstance(text, str) else text
    pieces = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(map(_escaped, piece)) + '"' for piece in pieces)


class NameServer:
    """NSD with zones: of each the lines after SOA and NS, names relative to it, TTL 300 if none is given."""

    def __init__(self, folder: Path, zones: Mapping[str, str]) -> None:
        self.folder = folder
        self.log = folder / "nsd.log"
        self.port = free_port()
        self._zones = dict(zones)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """As the setting `resolver` takes it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, and return when it answers."""
        program = shutil.which(PROGRAM, path=_PATH) or PROGRAM
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, lines in self._zones.items():
            self._zone_file(name).write_text(_HEAD.format(zone=name) + lines + "\n")
        for _ in range(5):
            conf = self.folder / "nsd.conf"
            conf.write_text(self._conf())
            self._process = spawn([program, "-d", "-c", str(conf)], self.log, folder=self.folder)
            if wait_for(self._settled, 20, f"NSD ({self.log})") == "up":
                return self
            if "can't bind" not in self.log.read_text():
                break
            self.port = free_port()
        raise RuntimeError(f"NSD does not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        if self._process is not None:
            stop(self._process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _settled(self) -> str:
        assert self._process is not None
        if self._process.poll() is not None:
            return "ended"
        zone = next(iter(self._zones))
        try:
            dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", 0.2, self.port)
        except (dns.exception.DNSException, OSError):
            return ""
        return "up"

    def _zone_file(self, name: str) -> Path:
        return self.folder / f"{name}.zone"

    def _conf(self) -> str:
        zones = "".join(
            f'zone:\n  name: "{name}"\n  zonefile: "{self._zone_file(name)}"\n' for name in self._zones
        )
        return _CONF.format(folder=self.folder, port=self.port) + zones


_HEAD = """\
$ORIGIN {zone}.
$TTL 300
@ SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 120
@ NS ns.{zone}.
ns A 127.0.0.1
"""

# rrl-ratelimit: tests ask fast. An empty username: it stays who started it.
_CONF = """\
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/nsd.pid"
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  logfile: "{folder}/nsd.log"
  rrl-ratelimit: 0
  refuse-any: no
remote-control:
  control-enable: no
"""


def _escaped(octet: int) -> str:
    return chr(octet) if 32 <= octet < 127 and octet not in b'"\\;' else f"\\{octet:03d}"
