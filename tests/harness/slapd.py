"""A directory (OpenLDAP's slapd) of a test's own, on a free port of loopback; without pytest."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import ldap
import ldap.controls.simple
import ldap.filter

from tests.harness.redis_server import free_port, spawn, stop
from tests.harness.waiting import wait_for

PROGRAM = "slapd"

_SUFFIX = "dc=ours,dc=test"
BASE = f"ou=people,{_SUFFIX}"
READER = f"cn=reader,{_SUFFIX}"
READER_PASSWORD = "reads what is there"

_PATH = "/usr/sbin:/usr/local/sbin:/usr/lib/openldap:/usr/bin:/bin"
_ROOT = "cn=root,dc=ours,dc=test"
_ROOT_PASSWORD = "writes it"


class Slapd:
    """slapd with the people of ours.test below `BASE`, which only `READER` may see.

    With a `certificate` and its `key` it speaks TLS where it is asked to.
    """

    base = BASE
    reader = READER
    reader_password = READER_PASSWORD

    def __init__(self, folder: Path, certificate: Path | None = None, key: Path | None = None) -> None:
        self.folder = folder
        self.log = folder / "slapd.log"
        self.port = free_port()
        self._tls = f"TLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\n" if certificate else ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As the option `uri` takes it."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the server that runs."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start it, and return when it answers; its port and what it knows are the same each time."""
        is_new = not self.folder.exists()
        (self.folder / "base").mkdir(parents=True, exist_ok=True)
        program = shutil.which(PROGRAM, path=_PATH) or PROGRAM
        conf = self.folder / "slapd.conf"
        conf.write_text(_CONF.format(folder=self.folder, tls=self._tls))
        self._process = spawn(
            [program, "-f", str(conf), "-h", self.url, "-d", "0"], self.log, folder=self.folder
        )
        wait_for(self._answers, 20, f"slapd ({self.log})")
        if is_new:
            self._fill()
        return self

    def know(self, *addresses: str) -> None:
        """Have these people, and nobody else."""
        directory = self._client()
        for name, _ in directory.search_s(BASE, ldap.SCOPE_ONELEVEL, "(objectClass=*)", ["1.1"]):
            directory.delete_s(name)
        for address in addresses:
            entry = {"objectClass": "inetOrgPerson", "cn": address, "sn": "x", "mail": address}
            self._add(directory, f"cn={ldap.dn.escape_dn_chars(address)},{BASE}", entry)
        directory.unbind_s()

    def refer(self, *urls: str) -> None:
        """Keep these parts beside `BASE`, below dc=ours,dc=test, elsewhere: all of them, and no others."""
        directory = self._client()
        directory.set_option(ldap.OPT_REFERRALS, 0)
        directory.set_option(ldap.OPT_SERVER_CONTROLS, [ldap.controls.simple.ManageDSAITControl()])
        for name, _ in directory.search_s(_SUFFIX, ldap.SCOPE_ONELEVEL, "(objectClass=referral)", ["1.1"]):
            directory.delete_s(name)
        for number, url in enumerate(urls):
            entry = {"objectClass": ["referral", "extensibleObject"], "ou": f"part{number}", "ref": url}
            self._add(directory, f"ou=part{number},{_SUFFIX}", entry)
        directory.unbind_s()

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        if self._process is not None:
            stop(self._process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _fill(self) -> None:
        directory = self._client()
        people = {"objectClass": "organizationalUnit", "ou": "people"}
        reader = {
            "objectClass": ["applicationProcess", "simpleSecurityObject"],
            "cn": "reader",
            "userPassword": READER_PASSWORD,
        }
        ours = {"objectClass": ["dcObject", "organization"], "dc": "ours", "o": "ours"}
        for name, entry in (("dc=ours,dc=test", ours), (BASE, people), (READER, reader)):
            self._add(directory, name, entry)
        directory.unbind_s()

    def _add(self, directory: Any, name: str, entry: dict[str, Any]) -> None:
        lists = {key: value if isinstance(value, list) else [value] for key, value in entry.items()}
        directory.add_s(name, [(key, [each.encode() for each in values]) for key, values in lists.items()])

    def _client(self) -> Any:
        directory = ldap.initialize(self.url)
        directory.set_option(ldap.OPT_NETWORK_TIMEOUT, 5)
        directory.simple_bind_s(_ROOT, _ROOT_PASSWORD)
        return directory

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"slapd does not start:\n{self.log.read_text()}")
        try:
            self._client().unbind_s()
        except ldap.SERVER_DOWN:
            return False
        return True


_CONF = f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {{folder}}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
{{tls}}
database mdb
suffix "dc=ours,dc=test"
directory {{folder}}/base
rootdn "{_ROOT}"
rootpw "{_ROOT_PASSWORD}"
index mail eq,pres
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{READER}" read by * none
"""
