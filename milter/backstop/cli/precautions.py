"""What stands between a wish to change a setting and the change: refused, warned of, or made safe.

A change that the configuration file would be refused for is refused here as well; enforcing before it is
safe wants to be insisted on; and what begins grace again is written in the same step.
"""

import os
import time
from dataclasses import replace

from backstop import grace
from backstop.batv import TagForm, day_of
from backstop.cli import readiness, ready
from backstop.cli.effective import Effective
from backstop.cli.output import CommandFailed
from backstop.cli.store import Toggles
from backstop.cli.times import date_text
from backstop.config import Config
from backstop.settings import Action, DomainSettings, GraceSince


def does_not_fit(config: Config, domain: str, settings: DomainSettings) -> str:
    """What the configuration file would be refused for as well."""
    if settings.tag_form is TagForm.SUBADDRESS and "+" not in settings.recipient_delimiter:
        return 'tag_form "subaddress" needs a "+" in recipient_delimiter'
    key = config.ring.signer(domain)
    if key is not None and settings.lifetime > key.max_lifetime:
        return (
            f"lifetime {settings.lifetime}d is longer than the {key.max_lifetime}d key {key.number} knows;"
            f" give `backstop key lifetime {settings.lifetime}d` first"
        )
    return ""


def too_early(
    config: Config, toggles: Toggles, before: Effective, after: DomainSettings, *, forced: bool
) -> tuple[str, ...]:
    """What to say where bounces without proof shall be acted on more strictly before that is safe.

    Raises `CommandFailed` where they would not arrive any more and nobody insists.
    """
    action = after.actions["unproved"]
    if action <= max(before.settings.actions["unproved"], Action.OBSERVE):
        return ()
    now = time.time()
    result = ready.judge(readiness.look(config, toggles, replace(before, settings=after), now), day_of(now))
    if result.is_safe:
        return ()
    if action > Action.JUNK and not forced:
        raise CommandFailed(
            f"{before.domain}: {result.sentence}",
            f"With {action.label} genuine bounces may be lost before that. `junk` only marks them;"
            f" `backstop readiness {before.domain}` tells more; --force does it all the same.",
            status=os.EX_TEMPFAIL,
        )
    return (f"warning: {result.sentence}",)


def grace_again(before: Effective, after: DomainSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that begin grace again where a change of settings asks for it, and what to say of it."""
    domain, today = before.domain, day_of(time.time())
    why = grace.begins_again(
        grace.see(domain, before.settings, today), grace.see(domain, after, today), today
    )
    if not why:
        return (), ()
    end = date_text(today + after.grace_days)
    told = f"grace begins again ({why}): a missing tag is only observed until {end}"
    return ("grace_since", str(GraceSince(today, why))), (told,) if after.grace_days else ()


def newly_protected(now: float) -> tuple[str, str]:
    """The field that begins grace for a domain whose mail went out without tags until now."""
    return "grace_since", str(GraceSince(day_of(now), grace.NEWLY))
