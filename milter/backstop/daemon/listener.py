"""The milter socket: who may open it, under which name, and how a worker lets go of it.

The parent opens the socket through libmilter and every worker inherits it. Three traps shape this module:

* A worker that ends as an ordinary user removes the path that libmilter knows. So the socket is opened under
  a temporary name and renamed: the path libmilter knows is never the one that mail servers use.
* libmilter cannot stop accepting without cutting its sessions. So a worker that shall take no more lays an
  idle socket over the number of the listening one.
* All workers wake up for one connection. The socket does not block, or the losers would sit in accept() and
  take another connection after they were told to take no more.
"""

import contextlib
import fcntl
import os
import pwd
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import milter

# As many mail server processes may wait at once; the kernel cuts it to net.core.somaxconn.
BACKLOG = 4096
SOCKET_MODE = 0o660
# Seconds in which the workers of a parent that died let go of the socket; a rival keeps it longer.
PATIENCE = 1.8
# Seconds in which all of them have surely noticed
ORPHANS_PAUSE = 0.5
# sun_path of unix(7), with its final NUL
LONGEST_PATH = 107


class CannotListen(Exception):
    """The socket may not or cannot be opened; the text names the cure, `status` is that of sysexits."""

    def __init__(self, text: str, status: int = os.EX_CONFIG) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, whatever its name."""

    device: int
    inode: int


def _identity(path: Path) -> Identity | None:
    """`None`: nothing is there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return Identity(found.st_dev, found.st_ino)


class Lock:
    """Keeps a second Backstop away: `<socket>.lock`, held as long as its descriptor is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = self._take()

    def _take(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise CannotListen(
                    f"another Backstop (process {holder or 'unknown'}) serves this socket already: it holds"
                    f" the lock {self.path}; stop it first, or give this one a socket of its own",
                    os.EX_TEMPFAIL,
                ) from None
            held = os.fstat(descriptor)
            # The one before us may have removed the file between our opening and our locking it.
            if _identity(self.path) == Identity(held.st_dev, held.st_ino):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
            os.close(descriptor)

    def release(self) -> None:
        """Remove the file, then let go: the other way round a successor's lock would be removed."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


class Listener:
    """The listening socket of the parent and its workers."""

    def __init__(self, target: str) -> None:
        """Open `unix:/path` or `inet:PORT@ADDRESS`; libmilter must know its callbacks already."""
        self.target = target
        kind, _, rest = target.partition(":")
        self.path = Path(rest) if kind == "unix" else None
        self.lock: Lock | None = None
        self._identity: Identity | None = None
        if self.path is None:
            self.descriptor = _open_port(target)
            return
        try:
            self.descriptor = self._open(self.path)
        except OSError as error:
            raise CannotListen(
                f"socket: {error.filename or self.path}: {error.strerror};"
                " if another user's Backstop left it behind, remove it"
            ) from None

    def _open(self, path: Path) -> int:
        _check_place(path)
        lock = Lock(Path(f"{path}.lock"))
        try:
            _check_stale(path)
            descriptor = _open_path(path)
            self._identity = _identity(path)
        except (CannotListen, OSError):
            lock.release()
            raise
        self.lock = lock
        return descriptor

    def inherited_lock(self) -> int | None:
        """What a worker closes, so that the lock ends with the parent; `None`: there is no lock."""
        return self.lock.descriptor if self.lock else None

    def close(self) -> None:
        """No new session finds us: the path goes if it is still ours, then the parent's hold on it."""
        if self.path and self._identity and _identity(self.path) == self._identity:
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def release_lock(self) -> None:
        """At the very end, when no worker is left."""
        if self.lock:
            self.lock.release()


def _check_place(path: Path) -> None:
    directory = path.parent
    if len(os.fsencode(path)) + len(".new") > LONGEST_PATH:
        raise CannotListen(
            f"socket: the path {path} is too long: at most {LONGEST_PATH - len('.new')} octets"
        )
    if not directory.is_dir():
        raise CannotListen(f"socket: the directory {directory} does not exist; {_cure(directory)}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CannotListen(f"socket: no permission to create files in {directory}; {_cure(directory)}")
    for name in (path, Path(f"{path}.new")):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(name.lstat().st_mode):
                raise CannotListen(
                    f"socket: {name} exists and is no socket, so it is left alone;"
                    " move it away, or change `socket`"
                )


def _cure(directory: Path) -> str:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return (
        "create it with\n"
        f"    install -d -o {user} -g postfix -m 2750 {directory}\n"
        "or for every boot by this line in /etc/tmpfiles.d/backstop.conf\n"
        f"    d {directory} 2750 {user} postfix -"
    )


def _check_stale(path: Path) -> None:
    """Under our lock nobody of ours is there, save for a moment the workers of a parent that was killed."""
    deadline = time.monotonic() + PATIENCE
    while _answers(path):
        if time.monotonic() > deadline:
            raise CannotListen(
                f"socket: another program listens on {path}; stop it, or change `socket`", os.EX_TEMPFAIL
            )
        time.sleep(0.05)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # somebody listens, and has a full queue
            return True
        except OSError:
            return False
    return True


def _open_path(path: Path) -> int:
    temporary = Path(f"{path}.new")
    mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        descriptor = _open(f"unix:{temporary}")
    finally:
        os.umask(mask)
    temporary.chmod(SOCKET_MODE)
    temporary.rename(path)
    return descriptor


def _open_port(target: str) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _open(target)
        except CannotListen:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _open(target: str) -> int:
    """Let libmilter open the socket, and find the descriptor, which it does not tell."""
    before = _sockets()
    milter.setbacklog(BACKLOG)
    milter.setconn(target)
    try:
        milter.opensocket(True)
    except milter.error:
        raise CannotListen(
            f"socket: cannot listen on {target}; libmilter has written the reason to syslog, most often the"
            " port is taken",
            os.EX_TEMPFAIL,
        ) from None
    (descriptor,) = (new for new in _sockets() - before if _listens(new))
    os.set_blocking(descriptor, False)
    return descriptor


def _descriptors() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def _sockets() -> set[int]:
    found = set()
    for descriptor in _descriptors():
        with contextlib.suppress(OSError):  # closed since, the directory's own for one
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                found.add(descriptor)
    return found


def _listens(descriptor: int) -> bool:
    borrowed = socket.socket(fileno=descriptor)
    try:
        return bool(borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        borrowed.detach()


# In a worker


def address(descriptor: int) -> object:
    """The name a socket is bound to; a connection accepted from it bears the same."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        name = borrowed.getsockname()
    finally:
        borrowed.detach()
    # of internet sockets the port alone: the host is the one that was called
    return name[1] if isinstance(name, tuple) else name


def let_go(descriptor: int) -> None:
    """Take no more connections, while those that are open go on: an idle socket takes the other's place.

    The poll() of libmilter that is under way keeps the old socket in being for up to five seconds, but looks
    at the new one whenever it is woken, and never accepts from the old again.
    """
    idle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    idle.bind("")  # an abstract name of the kernel's choice
    idle.listen(1)
    idle.setblocking(False)
    os.dup2(idle.fileno(), descriptor, inheritable=False)
    idle.close()


def let_go_for_all(descriptor: int) -> None:
    """The same when the parent is gone, and end the old socket, so that a new parent finds the place free.

    Not at once: the libmilter of an orphan that still listens would take the end for a fault, and stop.
    """
    with socket.socket(fileno=os.dup(descriptor)) as old:
        let_go(descriptor)
        time.sleep(ORPHANS_PAUSE)
        with contextlib.suppress(OSError):  # another orphan was faster
            old.shutdown(socket.SHUT_RDWR)
        # Who waits to be taken is told now: libmilter keeps the old socket in being for up to five seconds.
        with contextlib.suppress(OSError):
            while True:
                old.accept()[0].close()


def open_sessions(listening: object) -> int:
    """How many connections accepted from the socket of that `address` this process holds.

    Counted from the kernel's table: a connection counts from accept() on, before any callback has run.
    """
    count = 0
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            count += address(descriptor) == listening
    return count
