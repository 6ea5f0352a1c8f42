"""The command `backstop setup postfix`: the diff on standard output, everything else on standard error."""

import argparse
import os
import re
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from backstop.batv import TagForm
from backstop.config import ConfigurationError, load
from backstop.settings import Action, DomainSettings, SourceKind
from backstop.setup.changes import ChangedSince, FileChange, NothingToUndo, Rejected, diff, undo, write
from backstop.setup.postfix.maps import STRIP
from backstop.setup.postfix.plan import LookupFailed, Wanted
from backstop.setup.postfix.planning import changes, plan
from backstop.setup.postfix.reading import Postfix, PostfixUnavailable

#: What every write did, beside main.cf: it belongs to the instance, of which one machine may have several.
RECORD = "backstop-setup.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `backstop setup postfix` takes, `--config` aside when the whole command has it."""
    if "--config" not in parser._option_string_actions:  # noqa: SLF001 - argparse has no question for it
        parser.add_argument("--config", metavar="FILE", default="/etc/backstop/backstop.toml")
    parser.add_argument(
        "--postfix-config",
        metavar="DIR",
        default="",
        help="the folder of main.cf, when it is not the system's own",
    )
    parser.add_argument(
        "--form",
        choices=[form.value for form in TagForm],
        help="the form of tags, in place of the configuration's tag_form",
    )
    parser.add_argument("--write", action="store_true", help="write it, with a backup beside each file")
    parser.add_argument("--undo", action="store_true", help="take the last --write back")
    parser.add_argument(
        "--force", action="store_true", help="with --undo: also where files were changed since"
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out; the exit status, one of sysexits.h."""
    postfix = Postfix(arguments.postfix_config)
    try:
        if arguments.undo:
            return _undo(postfix, force=arguments.force)
        return _setup(postfix, wanted(Path(arguments.config), arguments.form), write_it=arguments.write)
    except ConfigurationError as error:
        return _fail(os.EX_CONFIG, str(error))
    except (PostfixUnavailable, LookupFailed) as error:
        return _fail(os.EX_UNAVAILABLE, str(error))
    except PermissionError as error:
        return _fail(os.EX_NOPERM, f"{error.filename}: {error.strerror}; run this as root")
    except OSError as error:
        return _fail(os.EX_IOERR, f"{error.filename}: {error.strerror}")


def wanted(path: Path, form: str | None) -> Wanted:
    """What a configuration asks of Postfix. `form`, when given, is put over its tag_form.

    A file that only lacks tag_form is good enough: `setup` is where it is chosen.
    """
    given = None if form is None else TagForm(form)
    try:
        config = load(path)
    except ConfigurationError as error:
        if len(error.faults) == 1 and re.search("tag_form.* missing", error.faults[0]):
            return _without_form(path, given)
        raise
    settings = {domain: config.settings_for(domain) for domain in config.domains}
    site = config.site
    return Wanted(
        forms={domain: given or each.tag_form for domain, each in settings.items()},
        socket=config.socket,
        originating=min(site.originating_daemons, default="ORIGINATING"),
        reinjecting=min(site.reinjecting_daemons, default="REINJECT"),
        delimiters=frozenset(each.recipient_delimiter for each in settings.values()),
        internal_networks=(*site.internal_networks, *site.relays),
        validated=frozenset(domain for domain, each in settings.items() if validates(each)),
        replaces=any(each.replaces_recipients for each in settings.values()),
    )


def validates(settings: DomainSettings) -> bool:
    """Whether Backstop itself refuses the unknown users of a domain with these settings."""
    knows = any(source.kind is not SourceKind.MTA for source in settings.recipients)
    return knows and settings.actions["recipient"] >= Action.TEMPFAIL


def _without_form(path: Path, given: TagForm | None) -> Wanted:
    """Read a file that has no other fault than that its form is missing."""
    written = tomllib.loads(path.read_text("utf-8"))
    default = Wanted({}, "unix:/var/spool/postfix/backstop/milter.sock")
    return Wanted(
        forms={str(domain).lower(): given for domain in written.get("domains", [])},
        socket=str(written.get("socket", default.socket)),
        originating=min(written.get("originating_daemons", []), default=default.originating),
        reinjecting=min(written.get("reinjecting_daemons", []), default=default.reinjecting),
    )


def _setup(postfix: Postfix, asked: Wanted, *, write_it: bool) -> int:
    view = postfix.view(asked.forms)
    chosen = plan(view, asked)
    for remark in chosen.remarks:
        _say(f"{remark.level.value}: {remark.text}")
    if chosen.is_refused:
        return os.EX_CONFIG
    folder = postfix.folder()
    present = {each.name: text for each in chosen.maps if (text := _present(folder / each.name)) is not None}
    todo = changes(view, chosen, folder, present)
    if not todo:
        _say("nothing to do: Postfix is set up for Backstop")
        return os.EX_OK
    if not write_it:
        sys.stdout.write(diff(todo))
        _say("nothing is written yet: `--write` does it")
        return os.EX_OK
    return _write(postfix, folder, todo, tuple(view.classes))


def _write(postfix: Postfix, folder: Path, todo: tuple[FileChange, ...], domains: tuple[str, ...]) -> int:
    if not os.access(folder, os.W_OK):
        return _fail(os.EX_NOPERM, f"{folder} is not yours to write: run this as root")
    if trouble := postfix.complaint():
        return _fail(
            os.EX_CONFIG, f"Postfix complains of its configuration as it is; nothing is written: {trouble}"
        )
    try:
        backups = write(todo, folder / RECORD, datetime.now(UTC), lambda: _trouble(postfix, folder, domains))
    except Rejected as error:
        return _fail(os.EX_SOFTWARE, f"Postfix does not take it; the files are as they were: {error}")
    for change in todo:
        _say(f"written: {change.path}")
    for backup in backups:
        _say(f"backup: {backup}")
    _say("it counts after `postfix reload`; `backstop setup postfix --undo` takes it back")
    return os.EX_OK


def _trouble(postfix: Postfix, folder: Path, domains: tuple[str, ...]) -> str:
    """What Postfix has against the new files; empty when nothing."""
    table = f"regexp:{folder / STRIP}"
    for domain in domains:
        # A pattern that does not compile is a warning in the log and matches nothing: ask for a match.
        for address in (f"prvs=0000abcdef=nobody@{domain}", f"nobody+prvs=0000abcdef@{domain}"):
            if postfix.lookup(table, address) != f"nobody@{domain}":
                return f"{table} does not take the tag off {address}"
    return postfix.complaint()


def _undo(postfix: Postfix, *, force: bool) -> int:
    try:
        touched = undo(postfix.folder() / RECORD, force=force)
    except NothingToUndo as error:
        return _fail(os.EX_NOINPUT, str(error))
    except ChangedSince as error:
        return _fail(
            os.EX_DATAERR,
            f"changed since `--write`, and so left alone: {error}; --force restores all the same",
        )
    for path in touched:
        _say(f"restored: {path}")
    _say("it counts after `postfix reload`")
    return os.EX_OK


def _present(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _fail(status: int, text: str) -> int:
    _say(f"backstop setup postfix: {text}")
    return status
