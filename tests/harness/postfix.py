"""A whole Postfix of the test's own: configuration, queue, mailboxes and log in one scratch folder.

It shares nothing with the system's Postfix but the programs, listens on free ports of 127.0.0.1, and sends
all mail for elsewhere to one next hop (`next_hop.NextHop`), so that nothing leaves the machine. It knows
nothing of pytest: the demo uses it too. It needs root, as master(8) does.

Ports: `outside` is the MX; clients there say who they are by XCLIENT (`client()`). `submission` is for own
users. `reinjection` is where a content filter gives mail back (the daemon name of its milter session is
REINJECT), `unfiltered` the same with no milter at all.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.smtp import Disconnected, SmtpClient
from tests.harness.waiting import wait_for

#: The system's own instance, of which only the list of map types is read.
_SYSTEM = Path("/etc/postfix")

#: A file of this age is read at once: Postfix waits for one that may still be written.
OLD_SECONDS = 10.0

#: Where a client on `outside` pretends to be: a network for documents (RFC 5737).
OUTSIDE_CLIENT = "192.0.2.1"


@dataclass(frozen=True, slots=True)
class Site:
    """Who receives mail: one domain of each of Postfix's address classes, and one domain of aliases.

    `users` of the local domain are local(8) aliases to maildirs, `system_users` stand in /etc/passwd.
    """

    local: str = "our.test"
    users: tuple[str, ...] = ("alice", "bob", "carol")
    system_users: tuple[str, ...] = ("games",)
    aliases: Mapping[str, str] = field(default_factory=lambda: {"staff": "alice"})
    virtual: str = "virt.test"
    virtual_users: tuple[str, ...] = ("vic", "vera")
    relay: str = "relay.test"
    relay_users: tuple[str, ...] = ("rita",)
    alias_domain: str = "alias.test"
    virtual_aliases: Mapping[str, str] = field(
        default_factory=lambda: {
            "info@our.test": "alice@our.test",
            "away@our.test": "friend@else.test",
            "sales@alias.test": "bob@our.test",
            "moved@alias.test": "friend@else.test",
        }
    )


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports it listens on, all on 127.0.0.1."""

    outside: int
    submission: int
    reinjection: int
    unfiltered: int


def why_not() -> str:
    """Why no private Postfix can run here; empty when it can."""
    if shutil.which("postconf", path=_path()) is None:
        return "Postfix is not installed"
    if os.geteuid() != 0:
        return "Postfix starts as root only"
    return ""


class PrivatePostfix:
    """One instance. `main` are lines of main.cf that follow ours, `master` those of master.cf.

    `folder` must be open to all (mode 0755, and its parents), because Postfix's daemons do not run as root:
    `scratch()` makes such a folder. The milter's socket, if there is one, is `milter_socket`; the instance
    calls it only when main.cf says so.
    """

    def __init__(
        self,
        folder: Path,
        *,
        next_hop: int,
        site: Site | None = None,
        main: Sequence[str] = (),
        master: Sequence[str] = (),
        recipient_delimiter: str = "+",
        originating: str = "ORIGINATING",
        chroot: bool = False,
    ) -> None:
        self.folder = folder
        self.site = Site() if site is None else site
        self.etc = folder / "etc"
        self.spool = folder / "spool"
        self.mail = folder / "mail"
        self.milter_socket = self.spool / "backstop" / "milter.sock"
        self.ports = Ports(*_free_ports(4))
        self._next_hop = next_hop
        self._delimiter = recipient_delimiter
        self._originating = originating
        self._chroot = chroot
        self._log = folder / "mail.log"
        self._master: subprocess.Popen[bytes] | None = None
        _must_be_open(folder)
        self._lay_out()
        self._write_maps()
        (self.etc / "main.cf").write_text("\n".join([*self._main(), *main, ""]))
        (self.etc / "master.cf").write_text("\n".join([*self._services(), *master, ""]))
        self._settle()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # The instance.

    def start(self) -> Self:
        """Start it, and return when all its ports greet. It dies with the thread that started it."""
        self._settle()
        if not (self.spool / "active").exists():
            # It makes the folders of the queue, and takes a second.
            self.command("postfix", "check")
        leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        daemon = Path(self.setting("daemon_directory")) / "master"
        with (self.folder / "master.out").open("ab") as output:
            self._master = subprocess.Popen(
                [*leash, str(daemon), "-c", str(self.etc), "-s"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(self._greets, 30, "Postfix to greet on all its ports")
        except TimeoutError as error:
            self.stop()
            raise TimeoutError(f"{error}; its log:\n{self.log()}") from error
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        if self._master is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._master.send_signal(signal.SIGTERM)
        try:
            self._master.wait(20)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()
        self._master = None
        # Its children have the sockets too, and end a moment later: a new one must not come before.
        with contextlib.suppress(TimeoutError):
            wait_for(self._is_gone, 10, "the children of Postfix to end")

    def reload(self) -> None:
        """Read the configuration again; what is being served is not cut."""
        self._settle()
        self.command("postfix", "reload")

    def restart(self) -> None:
        """Stop and start: no process goes on with the old configuration."""
        self.stop()
        self.start()

    def command(self, program: str, *arguments: str, given: bytes = b"", seconds: float = 60) -> str:
        """Run one of Postfix's programs on this instance; what it printed. It must exit with 0."""
        done = subprocess.run(
            [_program(program), "-c", str(self.etc), *arguments],
            input=given,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} {arguments} exited with {done.returncode}: {done.stderr!r}")
        return done.stdout.decode("utf-8", "surrogateescape")

    def setting(self, name: str) -> str:
        """The value of a main.cf parameter, `$` expanded."""
        return self.command("postconf", "-xh", name).strip()

    def edit(self, *assignments: str) -> None:
        """Change main.cf by `postconf -e name=value`. Call `reload` or `restart` when it runs."""
        self._settle()
        self.command("postconf", "-e", *assignments)
        self._settle()

    # Mail in.

    @contextlib.contextmanager
    def client(
        self, *, address: str = OUTSIDE_CLIENT, login: str = "", port: int = 0
    ) -> Iterator[SmtpClient]:
        """A connection that has said EHLO, by default to `outside` and as a stranger.

        An empty `address` leaves out XCLIENT: the client is 127.0.0.1.
        """
        with SmtpClient(port or self.ports.outside) as client:
            if address:
                answer = client.xclient(address, login=login)
                assert answer.code == 220, f"XCLIENT: {answer}"
            else:
                client.ehlo()
            yield client

    def own_user(self, login: str = "") -> contextlib.AbstractContextManager[SmtpClient]:
        """A connection to `submission`; with a login it is an authenticated one from outside."""
        address = OUTSIDE_CLIENT if login else ""
        return self.client(address=address, login=login, port=self.ports.submission)

    def sendmail(self, reverse_path: str, recipients: Sequence[str], message: bytes) -> None:
        """Give mail to sendmail(1), as programs on the same machine do; empty is the null sender."""
        subprocess.run(
            [_program("sendmail"), "-C", str(self.etc), "-i", "-f", reverse_path, "--", *recipients],
            input=message,
            capture_output=True,
            timeout=60,
            check=True,
        )

    def forward(self, user: str, *targets: str) -> None:
        """Give a system user a .forward file."""
        path = self.folder / "forward" / user
        path.write_text("".join(f"{target}\n" for target in targets))
        path.chmod(0o644)

    # Mail out.

    def mailbox(self, address: str) -> tuple[Message, ...]:
        """The messages delivered to `user@domain`, where domain is `local` or `virtual`, oldest first."""
        user, _, domain = address.rpartition("@")
        files = sorted(
            (self.mail / domain / user / "new").glob("*"), key=lambda file: file.stat().st_mtime_ns
        )
        return tuple(BytesParser(policy=compat32).parsebytes(file.read_bytes()) for file in files)

    def mailboxes(self) -> dict[str, tuple[Message, ...]]:
        """All mailboxes that got something, by address."""
        addresses = [f"{new.parent.name}@{new.parent.parent.name}" for new in self.mail.glob("*/*/new")]
        return {address: mail for address in sorted(addresses) if (mail := self.mailbox(address))}

    def wait_for_mail(self, address: str, count: int = 1, *, seconds: float = 30.0) -> tuple[Message, ...]:
        """Wait until so many messages lie in a mailbox; the messages."""
        wait_for(lambda: len(self.mailbox(address)) >= count, seconds, f"{count} messages to {address}")
        return self.mailbox(address)

    def queue(self) -> tuple[dict[str, object], ...]:
        """What is in the queue, as postqueue -j shows it."""
        return tuple(json.loads(line) for line in self.command("postqueue", "-j").splitlines())

    def wait_until_idle(self, *, seconds: float = 30.0) -> None:
        """Wait until the queue is empty: everything is delivered, returned or given up."""
        wait_for(lambda: not self.queue(), seconds, "an empty queue")

    def forget(self) -> None:
        """Empty queue and mailboxes, for the next test on the same instance. The log goes on."""
        with contextlib.suppress(TimeoutError):
            wait_for(self._is_idle, 5, "mail on its way")  # else it may arrive in the next test
        self.command("postsuper", "-d", "ALL")
        for folder in self.mail.glob("*/*/new"):
            for file in folder.iterdir():
                file.unlink()

    def log(self) -> str:
        """The mail log."""
        return self._log.read_text(errors="surrogateescape") if self._log.exists() else ""

    # Files.

    def _lay_out(self) -> None:
        nobody = pwd.getpwnam("nobody")
        postfix = pwd.getpwnam(_default("mail_owner"))
        for name in ("etc", "spool", "lib", "mail", "forward"):
            (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        os.chown(self.folder / "lib", postfix.pw_uid, postfix.pw_gid)
        for domain in (self.site.local, self.site.virtual):
            (self.mail / domain).mkdir(exist_ok=True)
            (self.mail / domain).chmod(0o1777)
        os.chown(self.mail / self.site.virtual, nobody.pw_uid, nobody.pw_gid)
        # As systemd-tmpfiles makes it: the daemon's, with the group of those who call.
        self.milter_socket.parent.mkdir(exist_ok=True)
        os.chown(self.milter_socket.parent, -1, postfix.pw_gid)
        self.milter_socket.parent.chmod(0o2750)
        # Which map types there are (dynamicmaps), and what `postfix check` looks at.
        for name in ("dynamicmaps.cf", "postfix-files"):
            if (_SYSTEM / name).exists():
                shutil.copy(_SYSTEM / name, self.etc)
            if (_SYSTEM / f"{name}.d").exists():
                shutil.copytree(_SYSTEM / f"{name}.d", self.etc / f"{name}.d")

    def _settle(self) -> None:
        """Make its files look older: each program of Postfix waits until one that was just written is."""
        now = time.time()
        for file in self.etc.glob("*"):
            if file.stat().st_mtime > now - OLD_SECONDS:
                os.utime(file, (now - OLD_SECONDS, now - OLD_SECONDS))

    def _write_maps(self) -> None:
        site = self.site
        box = self.mail / site.local
        aliases = {user: f"{box}/{user}/" for user in site.users} | dict(site.aliases)
        aliases |= {"postmaster": f"{box}/postmaster/", "abuse": f"{box}/postmaster/"}
        _table(self.etc / "aliases", {f"{name}:": target for name, target in aliases.items()})
        _table(self.etc / "virtual", site.virtual_aliases)
        _table(
            self.etc / "vmailbox",
            {f"{user}@{site.virtual}": f"{site.virtual}/{user}/" for user in site.virtual_users},
        )
        _table(self.etc / "relay_recipients", {f"{user}@{site.relay}": "x" for user in site.relay_users})
        (self.etc / "main.cf").write_text("compatibility_level = 3.6\n")
        (self.etc / "master.cf").write_text("")
        self.command("postalias", f"hash:{self.etc}/aliases")
        for name in ("virtual", "vmailbox", "relay_recipients"):
            self.command("postmap", f"hash:{self.etc}/{name}")

    def _main(self) -> list[str]:
        site, nobody = self.site, pwd.getpwnam("nobody")
        return [
            "compatibility_level = 3.6",
            f"queue_directory = {self.spool}",
            f"data_directory = {self.folder}/lib",
            f"maillog_file = {self._log}",
            f"maillog_file_prefixes = {self.folder}",
            "# Who we are.",
            f"myhostname = mx.{site.local}",
            f"mydomain = {site.local}",
            "myorigin = $mydomain",
            "inet_interfaces = 127.0.0.1",
            "mynetworks = 127.0.0.0/8",
            "smtpd_authorized_xclient_hosts = 127.0.0.1",
            "# Who receives mail.",
            f"mydestination = $mydomain, {site.local}.invalid",
            "alias_maps = hash:$config_directory/aliases",
            "alias_database = $alias_maps",
            f"mail_spool_directory = {self.mail}/{site.local}/",
            f"forward_path = {self.folder}/forward/$user",
            f"virtual_alias_domains = {site.alias_domain}",
            "virtual_alias_maps = hash:$config_directory/virtual",
            f"virtual_mailbox_domains = {site.virtual}",
            "virtual_mailbox_maps = hash:$config_directory/vmailbox",
            f"virtual_mailbox_base = {self.mail}",
            f"virtual_uid_maps = static:{nobody.pw_uid}",
            f"virtual_gid_maps = static:{nobody.pw_gid}",
            f"relay_domains = {site.relay}",
            "relay_recipient_maps = hash:$config_directory/relay_recipients",
            f"recipient_delimiter = {self._delimiter}",
            "smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated,",
            "    reject_unauth_destination",
            "# Nothing leaves this machine.",
            f"relayhost = [127.0.0.1]:{self._next_hop}",
            "smtp_dns_support_level = disabled",
            "smtpd_peername_lookup = no",
            "# A test does not wait, and may be wrong as often as it likes.",
            "queue_run_delay = 1s",
            "minimal_backoff_time = 1s",
            "maximal_backoff_time = 2s",
            "smtpd_error_sleep_time = 0",
            "smtpd_soft_error_limit = 100000",
            "smtpd_hard_error_limit = 100001",
            "smtpd_junk_command_limit = 100000",
            "smtpd_client_connection_count_limit = 0",
            "in_flow_delay = 0",
            "notify_classes =",
            "biff = no",
        ]

    def _services(self) -> list[str]:
        jail = "y" if self._chroot else "n"
        ports = self.ports

        def smtpd(port: int, *options: str) -> list[str]:
            return [f"127.0.0.1:{port} inet n - {jail} - - smtpd", *(f"  -o {option}" for option in options)]

        originating = [f"milter_macro_daemon_name={self._originating}"] if self._originating else []
        second_pass = [
            "content_filter=",
            "mynetworks=127.0.0.0/8",
            "smtpd_authorized_xforward_hosts=127.0.0.0/8",
        ]
        return [
            "# service type private unpriv chroot wakeup maxproc command",
            *smtpd(ports.outside),
            *smtpd(
                ports.submission,
                "syslog_name=postfix/submission",
                "smtpd_sasl_auth_enable=yes",
                "smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject",
                *originating,
            ),
            *smtpd(ports.reinjection, *second_pass, "milter_macro_daemon_name=REINJECT"),
            *smtpd(ports.unfiltered, *second_pass, "smtpd_milters="),
            "pickup unix n - n 60 1 pickup",
            f"cleanup unix n - {jail} - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "proxywrite unix - - n - 1 proxymap",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "showq unix n - n - - showq",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "local unix - n n - - local",
            "virtual unix - n n - - virtual",
            "lmtp unix - - n - - lmtp",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
        ]

    def _is_gone(self) -> bool:
        for port in (
            self.ports.outside,
            self.ports.submission,
            self.ports.reinjection,
            self.ports.unfiltered,
        ):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    return False
        return True

    def _is_idle(self) -> bool:
        return not any(any((self.spool / name).iterdir()) for name in ("maildrop", "incoming", "active"))

    def _greets(self) -> bool:
        assert self._master is not None
        if self._master.poll() is not None:
            output = (self.folder / "master.out").read_text()
            raise RuntimeError(f"Postfix does not start: {output}\n{self.log()}")
        try:
            for port in (self.ports.outside, self.ports.submission):
                SmtpClient(port).close()
        except (OSError, Disconnected):  # a server that falls at once greets nobody
            return False
        return True


def scratch() -> Path:
    """A new folder that Postfix's daemons may enter, as they may not pytest's. The caller removes it."""
    folder = Path(tempfile.mkdtemp(prefix="postfix-"))
    folder.chmod(0o755)
    return folder


def _must_be_open(folder: Path) -> None:
    for each in (folder, *folder.resolve().parents):
        if not each.stat().st_mode & 0o001:
            raise ValueError(f"{each} is closed to others; Postfix's daemons must be able to enter it")


def _table(path: Path, entries: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key} {value}\n" for key, value in entries.items()))


def _free_ports(count: int) -> tuple[int, ...]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _program(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def _default(parameter: str) -> str:
    done = subprocess.run(
        [_program("postconf"), "-dh", parameter], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()
