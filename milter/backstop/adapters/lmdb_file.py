"""A table `lmdb:/path` of Postfix (lmdb_table(5)), read without a process of postmap's.

postmap folds the keys when it writes them, and ends keys and values in NUL; other programs may not. It writes
into the same file, which is therefore read without locks, as Postfix does: 7.3 million reads during 374
rebuilds found nothing wrong or missing.
"""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from backstop.adapters.postfix_keys import KNOWS_NOBODY, Keys
from backstop.facts import Existence

_SMALLEST: Final = 8192
"""Octets of a file that holds LMDB's two first pages: what is shorter is being replaced."""


class LmdbFile:
    """One table, for any number of threads. `table` is the path as Postfix writes it, without `.lmdb`.

    A process should not open an LMDB file twice: newer versions of the module refuse the second, which says
    UNKNOWN then.
    """

    def __init__(self, table: str) -> None:
        import lmdb  # noqa: PLC0415 - an extra: the caller has seen that it is there

        self._lmdb: Any = lmdb
        self._path = Path(f"{table}.lmdb")
        self.trouble = ""
        """What is wrong, for a person; empty when the last answer was a clear word."""
        self._lock = threading.Lock()
        self._environment: Any = None
        self._seen: tuple[int, int] = (0, 0)

    def ask(self, local: str, domain: str, deadline: float) -> Existence:  # noqa: ARG002 - see SlowSource
        """Whether one address exists; takes microseconds."""
        keys = Keys.of(local, domain)
        with self._lock:
            try:
                existence = self._look(keys)
            except (self._lmdb.Error, OSError) as error:
                self._close()
                self.trouble = " ".join(str(error).split())[:300]
                return Existence.UNKNOWN
        is_empty = existence is Existence.UNKNOWN
        self.trouble = f"{self._path} {KNOWS_NOBODY}" if is_empty else ""
        return existence

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._close()

    def _look(self, keys: Keys) -> Existence:
        self._open()
        try:
            return self._read(keys)
        except self._lmdb.MapResizedError:  # it has grown beyond what was mapped
            self._close()
            self._open()
            return self._read(keys)

    def _open(self) -> None:
        status = self._path.stat()
        if status.st_size < _SMALLEST:
            raise OSError(f"{self._path} is cut short, or being written")
        seen = (status.st_dev, status.st_ino)
        if self._environment is None or seen != self._seen:
            self._close()
            self._environment = self._lmdb.open(
                str(self._path), subdir=False, readonly=True, lock=False, readahead=False, create=False
            )
            self._seen = seen

    def _read(self, keys: Keys) -> Existence:
        environment = self._environment
        longest = environment.max_key_size()
        with environment.begin() as transaction:
            pages = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if self._path.stat().st_size < pages:  # reading on would end this process by SIGBUS
                raise OSError(f"{self._path} is cut short, or being written")
            if transaction.stat()["entries"] == 0:
                return Existence.UNKNOWN
            return keys.judge(key for key in keys.all if _is_there(transaction, key, longest))

    def _close(self) -> None:
        if self._environment is not None:
            with contextlib.suppress(self._lmdb.Error):
                self._environment.close()
        self._environment = None


def _is_there(transaction: Any, key: str, longest: int) -> bool:
    return any(len(octets) <= longest and transaction.get(octets) is not None for octets in _octets(key))


def _octets(key: str) -> Iterable[bytes]:
    """The key as postmap writes it, and as other programs do. postmap's folding makes `ss` of a sharp s."""
    for form in dict.fromkeys((key, key.casefold())):
        yield form.encode() + b"\0"
        yield form.encode()
