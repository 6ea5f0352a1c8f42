"""Whether the store answers, keeps what it is given, and drops nothing."""

from collections.abc import Iterator, Mapping
from typing import Final

from backstop.adapters.redis_store import Reply, ReplyError, pack
from backstop.cli.examinations.finding import Examination, Finding, fine, unknown, wrong
from backstop.cli.examinations.surroundings import Surroundings
from backstop.cli.output import CommandFailed
from backstop.cli.store import Toggles, pairs, text

_OWN: Final = "the shipped backstop-redis.service is a server of Backstop's own that keeps everything"


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Read INFO and two settings; nothing is written."""
    if surroundings.away:
        yield wrong(
            "store",
            f"{surroundings.away}; mail goes on by the last answers read, then by the file, and nothing is"
            " counted or remembered",
            f"start it, or mend `store` in {surroundings.config.path}; `redis-cli ping` should say PONG",
        )
        return
    info, settings = _information(surroundings), pairs(_asked(surroundings, "CONFIG", "GET", "save"))
    if not info:
        yield unknown(
            "store",
            f"{surroundings.toggles} answers, but does not say how it is kept",
            "give its user the right to the command INFO",
        )
        return
    findings = [*_evicts(info), *_forgets(info, settings), *_fails(info)]
    if not findings:
        findings = [
            fine("store", f"{surroundings.toggles} answers, keeps what it is given and drops nothing")
        ]
    yield from findings


def _information(surroundings: Surroundings) -> dict[str, str]:
    lines = text(_asked(surroundings, "INFO")).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _asked(surroundings: Surroundings, *words: str) -> Reply:
    """The reply to a command that the daemon never gives, and that its user may have no right to."""
    toggles = Toggles(surroundings.config)  # a refusal ends the connection: not the one of the others
    try:
        (reply,) = toggles.ask(pack(*words))
    except CommandFailed:
        return None
    finally:
        toggles.close()
    return None if isinstance(reply, ReplyError) else reply


def _evicts(info: Mapping[str, str]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", "0") != "0":
        yield wrong(
            "store",
            f"it drops keys when its memory is full (maxmemory-policy {policy}): blocks, recipients and the"
            " memory of sent mail would vanish, so that genuine bounces look forged",
            f"set `maxmemory-policy noeviction` in its configuration; {_OWN}",
        )


def _forgets(info: Mapping[str, str], settings: Mapping[str, str]) -> Iterator[Finding]:
    if info.get("aof_enabled") == "1" or settings.get("save"):
        return
    if "save" not in settings:
        yield unknown(
            "store",
            "whether it keeps its content over a restart cannot be seen: it has no append-only file, and"
            " CONFIG GET is refused",
            "see that `appendonly yes` or `save` is set in its configuration",
        )
        return
    yield wrong(
        "store",
        "it keeps nothing over a restart: settings, blocks, recipients, counters and the memory of sent mail"
        " would be gone",
        f"set `appendonly yes` in its configuration; {_OWN}",
    )


def _fails(info: Mapping[str, str]) -> Iterator[Finding]:
    if info.get("role", "master") != "master":
        yield wrong(
            "store",
            "it is a replica and takes no changes",
            "name the master, or its Sentinels, in `store`",
        )
    if "err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status")):
        yield wrong(
            "store",
            "it could not write to its disk the last time it tried",
            "its own log tells why: a full disk, or a directory that is not its own",
        )


EXAMINATION = Examination("store", examine)
