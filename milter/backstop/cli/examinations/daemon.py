"""Whether the daemon runs and answers the mail server."""

from collections.abc import Iterator

from backstop.adapters.milter_caller import MilterCaller, MilterUnreachable
from backstop.cli.examinations.finding import Examination, Finding, fine, wrong
from backstop.cli.examinations.surroundings import PATIENCE, Surroundings


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Begin a session of the milter protocol, and end it."""
    target = surroundings.config.socket
    try:
        with MilterCaller(target, PATIENCE):
            yield fine("daemon", f"answers on {target}")
    except MilterUnreachable as error:
        yield wrong(
            "daemon",
            f"does not answer on {target}: {error}; until it does, the mail server puts all mail off (451)",
            "`systemctl status backstop` and `journalctl -u backstop` tell why; `backstop check-config` tells"
            " what is wrong in the configuration",
        )


EXAMINATION = Examination("daemon", examine)
