"""A database server (MariaDB) of a test's own, on a free port of loopback; without pytest."""

import getpass
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import pymysql

from tests.harness.redis_server import free_port, spawn, stop
from tests.harness.waiting import wait_for

PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults")

READER = "reader"
READER_PASSWORD = "reads what is there"

_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"


class MariaDb:
    """MariaDB with a table `mail.mailbox (address)`, which `READER` may read."""

    reader = READER
    reader_password = READER_PASSWORD

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "mariadb.log"
        self.port = free_port()
        # A path of pytest's is often too long for a unix socket, which takes 107 octets.
        self._short = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self._socket = self._short / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server that runs."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> Self:
        """Start it, and return when it answers; its port and what it knows are the same each time."""
        is_new = not self.folder.exists()
        if is_new:
            self._install()
        self._socket.unlink(missing_ok=True)  # of one that was killed
        program = shutil.which("mariadbd", path=_PATH) or "mariadbd"
        self._process = spawn([program, "--no-defaults", *self._words()], self.log, folder=self.folder)
        wait_for(self._answers, 30, f"MariaDB ({self.log})")
        if is_new:
            self.run(
                "CREATE DATABASE mail CHARACTER SET utf8mb4",
                "CREATE TABLE mail.mailbox (address VARCHAR(320) PRIMARY KEY)",
                f"CREATE USER {READER}@'127.0.0.1' IDENTIFIED BY '{READER_PASSWORD}'",
                f"GRANT SELECT ON mail.* TO {READER}@'127.0.0.1'",
            )
        return self

    def know(self, *addresses: str) -> None:
        """Have these people, and nobody else."""
        self.run("DELETE FROM mail.mailbox")
        for address in addresses:
            self.run(("INSERT INTO mail.mailbox VALUES (%s)", (address,)))

    def run(self, *statements: "str | tuple[str, tuple[str, ...]]") -> None:
        """Run these as the database's administrator."""
        wait_for(self._answers, 60, f"MariaDB ({self.log})")
        with self._client() as database, database.cursor() as cursor:
            for each in statements:
                cursor.execute(*((each,) if isinstance(each, str) else each))
            database.commit()

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        if self._process is not None:
            stop(self._process, 30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        shutil.rmtree(self._short, ignore_errors=True)

    def _install(self) -> None:
        self.folder.mkdir(parents=True)
        program = shutil.which("mariadb-install-db", path=_PATH) or "mariadb-install-db"
        with self.log.open("ab") as end:
            subprocess.run(
                [
                    program,
                    "--no-defaults",
                    *self._words(),
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                ],
                stdout=end,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=120,
            )

    def _words(self) -> list[str]:
        return [
            f"--datadir={self.folder}/base",
            f"--user={getpass.getuser()}",
            f"--socket={self._socket}",
            f"--pid-file={self.folder}/pid",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--innodb-log-file-size=4M",
            "--innodb-buffer-pool-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
        ]

    def _client(self) -> Any:
        # A server that has just been frozen can take a connection and never greet it.
        return pymysql.connect(
            unix_socket=str(self._socket), user="root", connect_timeout=5, read_timeout=20, write_timeout=20
        )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"MariaDB does not start:\n{self.log.read_text()}")
        if (
            not self._socket.exists()
        ):  # where a connection fails, the driver leaves its socket to the collector
            return False
        try:
            self._client().close()
        except pymysql.err.OperationalError:
            return False
        return True
