"""Reading a Postfix: its parameters by postconf(1), its tables by postmap(1), its two files as text."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from backstop.setup.postfix.plan import LookupFailed, View
from backstop.setup.postfix.words import DomainClass, listed

_SECONDS = 30.0

#: Far above what postconf prints (60 kB); a table may answer with anything.
_LONGEST = 4_000_000


def is_installed() -> bool:
    """Whether this host has a Postfix."""
    return shutil.which("postconf", path=_path()) is not None


class PostfixUnavailable(Exception):
    """A program of Postfix is missing, failed or hung; the text says which and what it said."""


class Postfix:
    """The programs of one Postfix instance; an empty folder means the system's own."""

    def __init__(self, folder: str = "") -> None:
        self._folder = folder

    def run(self, program: str, *arguments: str) -> str:
        """Run a program on this instance; what it prints. It must exit with 0."""
        status, output, errors = self._run(program, arguments)
        if status != os.EX_OK:
            raise PostfixUnavailable(f"{program} {' '.join(arguments)}: {errors.strip() or f'exit {status}'}")
        return output

    def complaint(self) -> str:
        """What is wrong with its configuration in its own words; empty when nothing is."""
        for program, *arguments in (["postconf"], ["postconf", "-M"], ["postfix", "check"]):
            status, _, errors = self._run(program, tuple(arguments))
            if status != os.EX_OK or "fatal:" in errors:
                return (
                    errors.strip() or f"{program} {' '.join(arguments)} exits with {status}; see the mail log"
                )
        return ""

    def lookup(self, table: str, key: str) -> str:
        """What a table says of a key, empty when it has no such key. Raises LookupFailed."""
        # proxymap(8) answers only while Postfix runs, and for its daemons' sake: the table itself is asked.
        direct = re.sub(r"(?<![a-z])proxy:(?=[a-z]+:)", "", table)
        try:
            status, output, errors = self._run("postmap", ("-q", key, direct))
        except PostfixUnavailable as error:
            raise LookupFailed(f"{table}: {error}") from None
        if status == os.EX_OK:
            return output.rstrip("\n")
        if errors.strip():
            raise LookupFailed(f"{table}: {errors.strip()}")
        return ""

    def view(self, domains: Iterable[str]) -> View:
        """Read everything that planning needs, for these domains."""
        raw, expanded = (_assignments(self.run("postconf", *options)) for options in ((), ("-x",)))
        folder = Path(expanded["config_directory"])
        return View(
            main=_text(folder / "main.cf"),
            master=_text(folder / "master.cf"),
            raw=raw,
            expanded=expanded,
            named=frozenset(_assignments(self.run("postconf", "-n"))),
            map_types=frozenset(self.run("postconf", "-m").split()),
            classes=self._classes(domains, expanded),
            lookup=self.lookup,
        )

    def folder(self) -> Path:
        """Where its main.cf is."""
        return Path(self.run("postconf", "-h", "config_directory").strip())

    def _classes(self, domains: Iterable[str], expanded: dict[str, str]) -> dict[str, DomainClass]:
        view = View("", "", {}, expanded, frozenset(), frozenset(), {}, self.lookup)
        parents = view.list("parent_domain_matches_subdomains")
        classes = {}
        for domain in domains:
            for kind in DomainClass:
                # `.domain` in the list is meant where the parameter does not match subdomains by itself.
                if listed(
                    domain,
                    view.list(kind.value),
                    lookup=self.lookup,
                    read=lambda path: _text(Path(path)),
                    with_subdomains=kind.value in parents,
                ):
                    classes[domain] = kind
                    break
        return classes

    def _run(self, program: str, arguments: tuple[str, ...]) -> tuple[int, str, str]:
        path = _path()
        found = shutil.which(program, path=path)
        if found is None:
            raise PostfixUnavailable(f"{program} is not installed, or not on PATH")
        where = ("-c", self._folder) if self._folder else ()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                done = subprocess.run(  # noqa: S603 - a list of words, no shell; the program comes from PATH
                    [found, *where, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    timeout=_SECONDS,
                    check=False,
                    env={**os.environ, "LC_ALL": "C", "PATH": path},
                )
            except subprocess.TimeoutExpired:
                raise PostfixUnavailable(f"{program} gave no answer within {_SECONDS:g} s") from None
            output.seek(0)
            errors.seek(0)
            said, complained = output.read(_LONGEST + 1), errors.read(_LONGEST)
        if len(said) > _LONGEST:
            raise PostfixUnavailable(f"{program} prints more than {_LONGEST} octets")
        return done.returncode, said.decode("utf-8", "surrogateescape"), complained.decode("utf-8", "replace")


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _assignments(text: str) -> dict[str, str]:
    """What postconf prints, one `name = value` a line."""
    pairs = re.findall(r"^([^\s=]+) = ?(.*)$", text, re.MULTILINE)
    return {name: value.strip() for name, value in pairs}


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise PostfixUnavailable(f"{path}: {error.strerror}") from None
