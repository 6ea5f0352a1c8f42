"""One pipeline about one recipient: what is asked, and what the replies mean, in the same order."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from backstop import batv
from backstop.adapters import limits, recipients, redis_alias
from backstop.adapters.asker_client import PATIENCE, AskedSource
from backstop.adapters.redis_store import Reply
from backstop.facts import Existence
from backstop.gather.knowledge import (
    ALL_DOMAINS,
    Knowledge,
    block_commands,
    member_command,
    text,
    untagged_command,
    whole,
)
from backstop.session import Answer, Incoming, Known
from backstop.settings import Action, Block

AUTOMATIC: Final = "surge"
"""The field `by` of a block's info where no person set it."""

_WITH_AUTHOR: Final = 3
_WITHOUT_AUTHOR: Final = 2


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The settings were just changed and want to know what was not asked."""

    question: Incoming


class Reading:
    """The commands of one decision, and their replies."""

    __slots__ = (
        "_asks_author",
        "_asks_sender",
        "_domain",
        "_knowledge",
        "_needs",
        "_now",
        "_question",
        "_settings",
        "_sources",
    )

    def __init__(self, knowledge: Knowledge, question: Incoming, now: float) -> None:
        domain = knowledge.domain(question.mailbox.domain)
        settings = question.known.settings if question.known else domain.settings
        sender = question.sender_domain
        self._knowledge = knowledge
        self._question = question
        self._domain = domain
        self._settings = settings
        self._now = now
        self._needs = knowledge.needs(settings)
        self._asks_sender = self._needs.sender_domain and bool(sender) and not knowledge.is_in_file(sender)
        is_asked = self._needs.existence and not batv.is_of_forwarder(question.mailbox)
        self._sources = knowledge.sources(settings) if is_asked else []
        # Who set a block matters in grace alone.
        self._asks_author = question.bounce and knowledge.is_graced(domain.name, settings, now)

    def commands(self) -> list[bytes]:
        """What Redis is asked."""
        question, knowledge, needs = self._question, self._knowledge, self._needs
        commands = []
        if question.known is None:
            commands.append(self._domain.hash)
            if not self._domain.in_file:
                commands.append(self._domain.is_member)
        if self._asks_sender:
            commands.append(member_command(question.sender_domain))
        if question.bounce:
            parts = _WITH_AUTHOR if self._asks_author else _WITHOUT_AUTHOR
            commands += block_commands(question.base, with_author=self._asks_author)
            if question.known is None:
                commands += self._domain.block[:parts]
                commands += knowledge.all_blocks[:parts]
            if needs.untagged_mail:
                commands.append(untagged_command(question.base))
            if question.tag is not None:
                commands.append(limits.read_command(question.network, "bad_tags"))
                commands.append(limits.read_command(question.base, "bad_tags_address"))
        if question.alias:
            commands.append(redis_alias.off_command(question.alias))
        if needs.unknown_recipients:
            commands.append(limits.read_command(question.network, "unknown_recipients"))
        for source in self._sources:
            commands += source.commands(self._domain.name, self._locals)
        return commands

    def answer(self, replies: Iterator[Reply]) -> Answer | AskAgain | None:
        """What the replies say; None for a domain that is not protected."""
        question, knowledge, domain = self._question, self._knowledge, self._domain
        settings = self._settings
        if question.known is None:
            settings = knowledge.settings(domain, next(replies))
            if not domain.in_file and not knowledge.is_member(domain.name, next(replies)):
                return None
        sender_is_ours = knowledge.is_ours(question.sender_domain)
        if self._asks_sender:
            sender_is_ours = knowledge.is_member(question.sender_domain, next(replies))
        own = wide = None
        untagged_mail = guesses = harvests = False
        if question.bounce:
            own, wide = self._blocks(replies)
            if self._needs.untagged_mail:
                untagged_mail = whole(next(replies)) > self._now
            if question.tag is not None:
                guesses = self._guesses(whole(next(replies)), whole(next(replies)))
        alias_is_off = bool(question.alias) and knowledge.alias_is_off(question.alias, next(replies))
        if self._needs.unknown_recipients:
            count = whole(next(replies))
            harvests = bool(question.network) and count >= knowledge.limits.unknown_recipients.count
        known = Known(settings, wide)
        if settings is not self._settings:
            return AskAgain(replace(question, known=known, counts=()))
        existence = self._existence(replies)
        exists = existence is Existence.EXISTS
        if existence is Existence.UNKNOWN:  # that says nothing against what was known before
            exists = knowledge.last_answer(question.base).exists
        knowledge.remember(question.base, exists=exists, untagged_mail=untagged_mail)
        block = _if_on(own or wide)
        return Answer(known, block, existence, sender_is_ours, untagged_mail, harvests, guesses, alias_is_off)

    def without_store(self) -> Answer | None:
        """What is known while Redis is away: the file, and the last answers read."""
        question, knowledge, now = self._question, self._knowledge, self._now
        name = self._domain.name
        if not knowledge.is_ours(name):
            return None
        last = knowledge.last_answer(question.base)
        existence = self._existence(None)
        if existence is Existence.UNKNOWN and last.exists:
            existence = Existence.EXISTS
        wide = question.known.block if question.known else self._last_wide_block()
        own = knowledge.last_block(question.base, now)
        return Answer(
            Known(self._settings, wide),
            _if_on(own or wide),
            existence,
            knowledge.is_ours(question.sender_domain),
            last.untagged_mail,
            alias_is_off=knowledge.alias_was_off(question.alias),
        )

    @property
    def _locals(self) -> tuple[str, ...]:
        full, base = self._question.mailbox.local.lower(), self._question.base.rpartition("@")[0]
        return (full,) if full == base else (full, base)

    @property
    def _locals_as_written(self) -> tuple[str, ...]:
        full, folded = self._question.mailbox.local, self._locals
        base = full[: len(folded[-1])]
        return (full, *(base if base.lower() == each else each for each in folded[1:]))

    def _blocks(self, replies: Iterator[Reply]) -> tuple[Block | None, Block | None]:
        own = self._block(self._question.base, replies)
        if self._question.known is not None:
            return own, self._question.known.block
        of_domain = self._block(self._domain.name, replies)
        of_all = self._block(ALL_DOMAINS, replies)
        return own, of_domain or of_all

    def _block(self, name: str, replies: Iterator[Reply]) -> Block | None:
        value, remaining = next(replies), next(replies)
        by_person = not self._asks_author or text(next(replies)) != AUTOMATIC
        return self._knowledge.block(name, value, remaining, self._now, by_person=by_person)

    def _last_wide_block(self) -> Block | None:
        knowledge, now = self._knowledge, self._now
        return knowledge.last_block(self._domain.name, now) or knowledge.last_block(ALL_DOMAINS, now)

    def _guesses(self, of_client: int, of_address: int) -> bool:
        most = self._knowledge.limits
        if of_client >= most.bad_tags.count:
            return True
        if of_address < most.bad_tags_address.count:
            return False
        self._knowledge.alarm(self._question.base, f"more bad tags than {most.bad_tags_address}")
        return of_client > 0  # clients that guessed nothing wrong go on as before

    def _existence(self, replies: Iterator[Reply] | None) -> Existence:
        if not self._sources:
            return Existence.NOT_ASKED
        name, locals_ = self._domain.name, self._locals
        deadline = time.monotonic() + PATIENCE
        answers = []
        for source in self._sources:
            own = [next(replies) for _ in source.commands(name, locals_)] if replies is not None else None
            as_written = isinstance(source, AskedSource) and source.tells_cases_apart
            tried = self._locals_as_written if as_written else locals_
            answers.append(source.existence(name, tried, own, self._now, deadline))
            if recipients.is_decisive(answers[-1]):  # a slow one after it need not be bothered
                break
        return recipients.first_answer(answers)


def _if_on(block: Block | None) -> Block | None:
    """A block that is explicitly off hides a wider one, and then is none."""
    return None if block is None or block.action is Action.OFF else block
