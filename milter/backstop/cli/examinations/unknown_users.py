"""Whether the running server refuses users that do not exist, plain and tagged.

What a server accepts and cannot deliver, it returns; and the senders of such mail are forged. So a user that
nobody has is made up for each domain, and the mail server is asked by RCPT. Where it takes us for a client of
our own, Backstop does not judge us: then the daemon itself is asked, as by a stranger.

The sender is always null. Others ask so whether our users exist, so that at RCPT nothing but the recipient
may count: no list, no SPF, no forged sender. Any other sender would be somebody's.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from backstop import batv
from backstop.adapters.milter_caller import MilterCaller, MilterUnreachable, Verdict
from backstop.adapters.smtp_caller import SmtpCaller, SmtpUnreachable
from backstop.adapters.smtp_reply import SmtpReply
from backstop.address import Address, is_in
from backstop.checks.recipient import CHECK as RECIPIENT
from backstop.cli.examinations.finding import Examination, Finding, fine, note, unknown, wrong
from backstop.cli.examinations.missing_source import missing_source, silent_source
from backstop.cli.examinations.surroundings import PATIENCE, Surroundings

_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aeiou"
_SYLLABLES: Final = 4  # of each of two words: 80 ** 8 users, so that nobody has or guesses one

_DOCUMENTATION: Final = 0x20010DB8 << 96  # 2001:db8::/32, RFC 3849: nobody's, and nobody's limits

_ASK_AGAIN: Final = "give the command again in a few minutes"


@dataclass(frozen=True, slots=True)
class Probe:
    """Whom to ask about in one domain; empty where no key signs for it."""

    nobody: str
    nobody_tagged: str
    postmaster: str
    postmaster_tagged: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the mail server said of each, and for whom it took us."""

    by: dict[str, SmtpReply]
    client: str

    def of(self, recipient: str) -> SmtpReply:
        """The reply to a recipient that was asked about."""
        return self.by[recipient]


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """Ask about each domain, in a session of its own."""
    for number, domain in enumerate(surroundings.domains):
        probe = _probe(surroundings, domain)
        try:
            told = _ask(surroundings, probe)
        except SmtpUnreachable as error:
            if number == 0:
                yield unknown(
                    "mail server",
                    f"{surroundings.server} cannot be asked: {error}",
                    "name the place where it takes mail from strangers with --server HOST:PORT",
                )
                return
            yield unknown(domain, f"{surroundings.server} cannot be asked: {error}", _ASK_AGAIN)
            continue
        yield from _judge(surroundings, domain, probe, told)


def made_up() -> str:
    """A local part that looks like somebody's and is nobody's."""
    words = (
        "".join(secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(_SYLLABLES))
        for _ in range(2)
    )
    return ".".join(words)


def _probe(surroundings: Surroundings, domain: str) -> Probe:
    nobody, postmaster = Address(made_up(), domain, domain), Address("postmaster", domain, domain)
    settings = surroundings.effective(domain).settings
    key = surroundings.config.ring.signer(domain)
    if key is None:
        return Probe(nobody.path, "", postmaster.path, "")
    today = batv.day_of(surroundings.now)
    tagged = [
        batv.sign(each, key, today, settings.lifetime, settings.tag_form, settings.tag_case)
        for each in (nobody, postmaster)
    ]
    return Probe(nobody.path, tagged[0], postmaster.path, tagged[1])


def _ask(surroundings: Surroundings, probe: Probe) -> Told:
    wanted = (probe.postmaster, probe.postmaster_tagged, probe.nobody, probe.nobody_tagged)
    with SmtpCaller(surroundings.server.host, surroundings.server.port, PATIENCE) as server:
        return Told({each: server.bounce_to(each) for each in wanted if each}, server.own_address)


def _judge(surroundings: Surroundings, domain: str, probe: Probe, told: Told) -> Iterator[Finding]:
    asked = [each for each in (probe.nobody, probe.nobody_tagged) if each]
    put_off = [each for each in asked if not told.of(each).accepts and not told.of(each).refuses]
    if put_off:
        yield _put_off(surroundings, domain, probe, put_off, told.of(put_off[0]))
        return
    postmaster = told.of(probe.postmaster)
    refused = [each for each in asked if told.of(each).refuses]
    if any(not told.of(each).is_about_the_address for each in refused) and not postmaster.accepts:
        yield unknown(
            domain,
            f"the mail server refuses everybody, postmaster too, with {told.of(refused[0]).shown}",
            "ask from a host, or at a port with --server, where it takes mail for this domain",
        )
        return
    taken = [each for each in asked if told.of(each).accepts]
    if taken:
        yield from _judge_taken(surroundings, domain, probe, told, taken)
    else:
        yield fine(domain, f"unknown users are refused, {_forms(probe, asked)}: {told.of(asked[0]).shown}")
    yield from _judge_known(domain, probe, told)


def _put_off(
    surroundings: Surroundings, domain: str, probe: Probe, put_off: list[str], reply: SmtpReply
) -> Finding:
    if RECIPIENT.tempfail.text in reply.text:
        return silent_source(surroundings, domain, probe.nobody, reply.shown)
    if reply.is_about_the_address:
        return note(
            domain,
            f"unknown users are put off and not refused, {_forms(probe, put_off)}: {reply.shown}; nothing is"
            " returned by this server, but others try again for days",
            "in Postfix: unverified_recipient_reject_code = 550, soft_bounce = no",
        )
    return unknown(domain, f"the mail server puts {put_off[0]} off: {reply.shown}", _ASK_AGAIN)


def _judge_taken(
    surroundings: Surroundings, domain: str, probe: Probe, told: Told, taken: list[str]
) -> Iterator[Finding]:
    """What Backstop says to a stranger where the mail server takes a user that nobody has."""
    if not is_in(told.client, surroundings.config.site.internal_networks):
        yield missing_source(surroundings, domain, probe.nobody, _forms(probe, taken))
        return
    try:
        verdicts = {each: _ask_daemon(surroundings, each) for each in taken}
    except MilterUnreachable as error:
        yield unknown(
            domain,
            f"the mail server accepts unknown users from {told.client}; whether Backstop refuses them for"
            f" strangers could not be asked: {error}",
        )
        return
    let_in = [each for each in taken if verdicts[each].code < 400]
    put_off = [each for each in taken if 400 <= verdicts[each].code < 500]
    if let_in:
        yield missing_source(surroundings, domain, probe.nobody, _forms(probe, let_in))
    elif put_off:
        verdict = verdicts[put_off[0]]
        yield silent_source(surroundings, domain, probe.nobody, f"{verdict.code} {verdict.text}")
    else:
        verdict = verdicts[taken[0]]
        yield fine(
            domain,
            f"Backstop refuses unknown users, {_forms(probe, taken)}: {verdict.code} {verdict.text}",
        )


def _ask_daemon(surroundings: Surroundings, recipient: str) -> Verdict:
    # A network of its own for each question, so that no limit is reached by asking.
    address = str(IPv6Address(_DOCUMENTATION | secrets.randbits(32) << 64 | 1))
    with MilterCaller(surroundings.config.socket, PATIENCE) as daemon:
        verdict = daemon.connect("doctor.invalid", address, "doctor")
        return verdict if verdict.code >= 400 else daemon.bounce_to(recipient)


def _judge_known(domain: str, probe: Probe, told: Told) -> Iterator[Finding]:
    """Whether a genuine bounce would be taken: postmaster exists everywhere (RFC 5321, section 4.5.1)."""
    plain = told.of(probe.postmaster)
    if not plain.accepts:
        yield note(
            domain,
            f"{probe.postmaster} is not accepted ({plain.shown}), which RFC 5321, section 4.5.1, asks of"
            " every domain; so nobody is known to whom a genuine bounce could be tried",
            "give postmaster a mailbox or an alias",
        )
        return
    if not probe.postmaster_tagged:
        return
    tagged = told.of(probe.postmaster_tagged)
    if tagged.accepts:
        yield fine(domain, "a tagged address of a user is accepted, as genuine bounces have it")
    elif tagged.refuses:
        yield wrong(
            domain,
            f"genuine bounces are refused: the mail server knows {probe.postmaster}, but not with a tag,"
            f" {probe.postmaster_tagged}: {tagged.shown}",
            "`backstop setup postfix` shows the maps that are missing; --write writes them",
        )
    else:
        yield unknown(
            domain, f"the mail server puts {probe.postmaster_tagged} off: {tagged.shown}", _ASK_AGAIN
        )


def _forms(probe: Probe, asked: list[str]) -> str:
    words = ["plain"] * (probe.nobody in asked) + ["tagged"] * (probe.nobody_tagged in asked)
    said = " and ".join(words)
    return said if probe.nobody_tagged else f"{said} (no key signs, so none was asked for with a tag)"


EXAMINATION = Examination("unknown users", examine)
