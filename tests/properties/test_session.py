"""Conversations by chance: nothing raises, the laws hold, and a model that knows the design agrees."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from backstop.facts import Existence
from backstop.settings import Action, Addresses, Block, Strip
from backstop.verdict import AddHeader, ChangeSender, Hold, RemoveHeader, ReplaceRecipient, Verb
from tests.harness.engine import (
    ALICE,
    ALSO_OURS,
    ELSEWHERE,
    INTERNAL_CLIENT,
    OURS,
    RELAY_CLIENT,
    STRANGE_CLIENT,
    STRANGER,
    TODAY,
    Outside,
    Talk,
    code,
    enforcing,
    forged,
    settings,
    tagged,
)
from tests.harness.odd_addresses import odd_path

HARVESTER = "203.0.113.66"
GUESSER = "203.0.113.77"
CHECK_NAMES = ("recipient", "receive_only", "tag", "harvest", "forged_sender", "unproved")
ACTIONS = st.sampled_from(Action)

# -- A model that knows the design ------------------------------------------------------------------------

USERS = {
    "alice": Existence.EXISTS,
    "nobody": Existence.MISSING,
    "unsure": Existence.UNKNOWN,
    "wanderer": Existence.EXISTS,  # untagged mail of hers is under way
    "noreply": Existence.EXISTS,  # is said never to send
    "Postmaster": Existence.MISSING,
}
FORMS = {
    "plain": lambda address: f"<{address}>",
    "good": tagged,
    "expired": lambda address: tagged(address, TODAY - 20),
    "forged": forged,
}
SENDERS = {
    "null": "<>",
    "stranger": f"<{STRANGER}>",
    "ours": f"<{ALICE}>",
    "ours, tagged": tagged(ALICE),
    "ours, forged": forged(ALICE),
    "unreadable": "<a\x00@x>",
}
CLIENTS = {
    STRANGE_CLIENT: "incoming",
    HARVESTER: "incoming",
    GUESSER: "incoming",
    RELAY_CLIENT: "relay",
    INTERNAL_CLIENT: "outgoing",
    "": "outgoing",
}
REFUSALS = {
    Action.REJECT: {"recipient": "550 5.1.1", "harvest": "421 4.7.0"},
    Action.TEMPFAIL: {"recipient": "451 4.1.1", "harvest": "421 4.7.0"},
}
OTHERWISE = {Action.REJECT: "550 5.7.1", Action.TEMPFAIL: "450 4.7.1"}


@dataclass
class Message:
    """What the model knows of a transaction."""

    sender: str
    client: str
    login: bool
    taken: list = field(default_factory=list)  # the action that each protected recipient asks for
    others: int = 0
    doubt: bool = False
    marks: int = 0
    forward: bool = False
    strips: list = field(default_factory=list)
    outside: bool = False

    @property
    def null(self):
        return self.sender == "null"

    @property
    def role(self):
        return "outgoing" if self.login else CLIENTS[self.client]


class Model:
    """The rules of DESIGN section 2, in the order of its sentences; nothing here knows the engine's code."""

    def __init__(self, outside):
        self.outside = outside

    def fails(self, message, user, form):
        """The checks that fail, in their order, and which of them for want of an answer."""
        null, proved = message.null, message.null and form == "good"
        if USERS[user] is Existence.MISSING:
            yield "recipient", True
        if USERS[user] is Existence.UNKNOWN:
            yield "recipient", False
        if null and user == "noreply" and not proved:
            yield "receive_only", True
        if null and form == "forged":
            yield "tag", True
        if message.client == HARVESTER and not proved:
            yield "harvest", True
        if message.sender in ("ours", "ours, forged"):
            yield "forged_sender", True
        if null and not proved and user != "wanderer":
            yield "unproved", True

    def action(self, name, message, user, domain):
        """What the administrator wants done, a block considered."""
        if user == "Postmaster":
            return Action.OFF
        wanted = self.outside.domains[domain].actions[name]
        blocks = self.outside.blocks
        block = blocks.get(f"{user.lower()}@{domain}") or blocks.get(domain) or blocks.get("")
        if block and name == "unproved":
            wanted = block.action
        if block and name == "tag":
            wanted = max(wanted, block.action)
        if name == "harvest" and message.role == "relay":
            return Action.OFF
        return wanted

    def wanted(self, message, user, form, domain):
        """Name and action of every failed check that contributes."""
        found = []
        for name, answered in self.fails(message, user, form):
            action = self.action(name, message, user, domain)
            if not answered:
                action = Action.TEMPFAIL if action >= Action.TEMPFAIL else Action.OFF
            if action is Action.REJECT and message.role == "relay":
                action = Action.JUNK
            if action > Action.OBSERVE:
                found.append((name, action))
        return found

    def rcpt(self, message, user, form, domain, path):
        """The beginning of the reply; empty where the recipient is taken."""
        if message.role == "outgoing":
            message.outside |= domain == ELSEWHERE
            if domain == ALSO_OURS and form != "plain":
                message.strips.append((path, f"{user}@{domain}"))
            return ""
        if message.doubt:
            return "452 4.5.3"
        if domain == ELSEWHERE:
            message.others += 1
            return ""
        guarded = [self.action(name, message, user, domain) > Action.OBSERVE for name in ("tag", "unproved")]
        if message.client == GUESSER and message.null and form != "plain" and any(guarded):
            return "450 4.7.1"
        wanted = self.wanted(message, user, form, domain)
        later = {"unproved", "harvest"} if message.null else set()
        for action in (Action.REJECT, Action.TEMPFAIL):
            for name, one in wanted:
                if one is action and name not in later:
                    return REFUSALS[action].get(name, OTHERWISE[action])
        worst = max(wanted, key=lambda pair: pair[1], default=("", Action.OFF))
        if message.null and worst[1] > Action.OBSERVE:
            if message.taken or message.others:
                return "452 4.5.3"
            message.doubt = True
        message.taken.append(worst)
        if domain == ALSO_OURS and form != "plain":
            message.strips.append((path, f"{user}@{domain}"))
        return ""

    def end(self, message):
        """The verb, the beginning of the reply, and what is changed."""
        if message.role == "outgoing":
            return Verb.ACCEPT, "", self.outgoing(message)
        pairs = message.taken + [("", Action.OFF)] * bool(message.others)
        name, action = min(pairs, key=lambda pair: pair[1], default=("", Action.OFF))
        if action in REFUSALS:
            return Verb.REFUSE, REFUSALS[action].get(name, OTHERWISE[action]), []
        if action is Action.DISCARD:
            return Verb.DISCARD, "", []
        if action <= Action.OBSERVE and not message.strips:
            return Verb.ACCEPT, "", []
        changes = [("unmark", index) for index in range(message.marks, 0, -1)]
        if action is Action.JUNK:
            changes += [("X-Backstop", f"junk; check={name}; "), ("X-Spam-Flag", "YES")]
        if action is Action.QUARANTINE:
            changes += [("X-Backstop", f"quarantine; check={name}; "), ("hold", f"backstop: {name}")]
        return Verb.ACCEPT, "", changes + message.strips

    def outgoing(self, message):
        forward = message.forward and not message.login
        tag = message.sender == "ours" and message.outside and not forward
        return [("tag", ALICE)] * tag + message.strips


def shown(change):
    """A change as the model writes it."""
    match change:
        case RemoveHeader("X-Backstop", index):
            return "unmark", index
        case AddHeader("X-Backstop", value):
            return "X-Backstop", value[: value.index("; ", value.index("; ") + 1) + 2]
        case AddHeader(name, value):
            return name, value
        case Hold(reason):
            return "hold", reason
        case ChangeSender(path):
            return "tag", path.replace("+prvs=" + path.partition("+prvs=")[2][:10], "")
        case ReplaceRecipient(old, new, _):
            return old, new
    raise AssertionError(change)


class Conversation(RuleBasedStateMachine):
    """Random callbacks in random order; the engine and the model answer alike."""

    @initialize(
        client=st.sampled_from(list(CLIENTS)),
        first=st.tuples(*[ACTIONS] * 6),
        second=st.tuples(*[ACTIONS] * 6),
    )
    def connect(self, client, first, second):
        noreply = {"receive_only": Addresses([f"noreply@{OURS}", f"noreply@{ALSO_OURS}"])}
        ours = settings(noreply, **dict(zip(CHECK_NAMES, first, strict=True)))
        also = settings({**noreply, "strip": Strip.MILTER}, **dict(zip(CHECK_NAMES, second, strict=True)))
        self.outside = Outside({OURS: ours, ALSO_OURS: also}, harvesters={HARVESTER}, guessers={GUESSER})
        for domain in (OURS, ALSO_OURS):
            self.outside.untagged.add(f"wanderer@{domain}")
            for user, existence in USERS.items():
                self.outside.existence[f"{user.lower()}@{domain}"] = existence
        self.model = Model(self.outside)
        self.client = client
        self.talk = Talk(self.outside, client)
        self.message = Message("unreadable", client, login=False)

    @rule(
        name=st.sampled_from(["", OURS, ALSO_OURS, f"alice@{OURS}"]),
        action=st.none() | st.sampled_from([a for a in Action if a is not Action.OFF]),
    )
    def block(self, name, action):
        """Between messages only: what a transaction has read holds, and is tested by itself."""
        self.abort()
        self.outside.blocks.pop(name, None)
        if action is not None:
            self.outside.blocks[name] = Block(action, name, by_person=True)

    @rule(sender=st.sampled_from(list(SENDERS)), login=st.booleans())
    def mail(self, sender, login):
        self.message = Message(sender, self.client, login=login)
        self.talk.mail(SENDERS[sender], "alice" if login else "")

    @rule(
        user=st.sampled_from(list(USERS)),
        form=st.sampled_from(list(FORMS)),
        domain=st.sampled_from([OURS, ALSO_OURS, ELSEWHERE]),
    )
    def rcpt(self, user, form, domain):
        path = FORMS[form](f"{user}@{domain}")
        expected = self.model.rcpt(self.message, user, form, domain, path)
        outcome = self.talk.rcpt(path)
        assert outcome.verb is (Verb.REFUSE if expected else Verb.CONTINUE)
        assert (str(outcome.reply)[:9] if outcome.reply else "") == expected
        assert outcome.changes == ()

    @rule(unknown=st.booleans(), domain=st.sampled_from([OURS, ELSEWHERE]))
    def refused_rcpt(self, unknown, domain):
        outcome = self.talk.session.refused_rcpt(f"<x@{domain}>", unknown=unknown)
        assert (outcome.verb, outcome.reply, outcome.changes) == (Verb.CONTINUE, None, ())

    @rule(headers=st.lists(st.sampled_from(["X-Backstop", "delivered-to", "Subject"]), max_size=3))
    def rest(self, headers):
        expected, reply, changes = self.model.end(self.message)
        outcome = self.talk.session.data("QID", self.talk.now)
        if outcome.verb is Verb.CONTINUE:
            for name in headers:
                self.talk.session.header(name, b"x")
                self.message.marks += name == "X-Backstop"
                self.message.forward |= name == "delivered-to"
            expected, reply, changes = self.model.end(self.message)
            outcome = self.talk.session.end_of_message("QID", self.talk.now)
        assert outcome.verb is expected
        assert (str(outcome.reply)[:9] if outcome.reply else "") == reply
        assert [shown(change) for change in outcome.changes] == changes
        self.abort()

    @rule()
    def abort(self):
        self.message = Message("unreadable", self.client, login=False)
        self.talk.session.abort()


def test_engine_and_model_answer_alike():
    run_state_machine_as_test(
        Conversation, settings=hypothesis_settings(max_examples=150, stateful_step_count=25)
    )


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_engine_and_model_answer_alike_in_ten_thousand_conversations(part):
    many = hypothesis_settings(max_examples=1_000, stateful_step_count=12, deadline=None, database=None)
    run_state_machine_as_test(Conversation, settings=many)


# -- Laws under hostile addresses -------------------------------------------------------------------------

RANDOMS = st.randoms(use_true_random=False)
LOCALS = (
    "alice",
    "nobody",
    "unsure",
    "noreply",
    "postmaster",
    "x" * 48,
    "x" * 49,
    '"a b"',
    "m\u00fcller",
    "SRS0=a=b=c=d",
)


def some_path(random):
    if random.random() < 0.4:
        return odd_path(random)
    address = f"{random.choice(LOCALS)}@{random.choice((OURS, ALSO_OURS, ELSEWHERE))}"
    if '"' in address or "x" * 49 in address:
        return f"<{address}>"
    return random.choice(list(FORMS.values()))(address)


def some_outside(random, answers):
    outside = Outside(
        {name: enforcing(random.choice(list(Action))) for name in (OURS, ALSO_OURS, "example.com")}
    )
    for domain in (OURS, ALSO_OURS):
        outside.domains[domain] = settings(
            {
                "strip": random.choice(list(Strip)),
                "receive_only": Addresses([f"noreply@{domain}"]),
                "recipient_delimiter": random.choice(("+", "", "+-")),
            },
            **{name: random.choice(list(Action)) for name in CHECK_NAMES},
        )
    outside.otherwise = random.choice(answers)
    if random.random() < 0.5:
        outside.block(random.choice(("", OURS)), random.choice(list(Action)))
    outside.harvesters.add(HARVESTER)
    outside.guessers.add(GUESSER)
    return outside


def converse(random, answers=tuple(Existence)):
    """Calls in an order that a mail server, or something that pretends to be one, may make them."""
    outside = some_outside(random, answers)
    talk = Talk(
        outside, random.choice([*CLIENTS, "unknown", "::1"]), random.choice(("smtpd", "REINJECT", "", "\x00"))
    )
    session = talk.session
    for _ in range(random.randrange(1, 25)):
        match random.randrange(9):
            case 0 | 1:
                session.mail(
                    random.choice(("<>", "", some_path(random))), random.choice(("", "", "", "login"))
                )
            case 2 | 3 | 4:
                path = some_path(random)
                yield talk, path, session.rcpt(path, "NOTIFY=NEVER", talk.now, "QID")
            case 5:
                yield talk, None, session.refused_rcpt(some_path(random), unknown=random.random() < 0.5)
            case 6:
                yield talk, None, session.data("QID", talk.now)
                for _ in range(random.randrange(3)):
                    session.header(random.choice(("X-Backstop", "Delivered-To", "From", "\udcff", "")), b"x")
                yield talk, None, session.end_of_message("QID", talk.now)
            case 7:
                session.abort()
            case 8:
                session.connect("\udcff", random.choice([*CLIENTS, "\x00", "999.1.1.1"]), "smtpd")


def written(outcome):
    """Everything that goes out of the engine in words for the mail server."""
    if outcome.reply is not None:
        yield outcome.reply.milter_text
    for change in outcome.changes:
        match change:
            case AddHeader(name, value):
                yield name
                yield value
            case Hold(text):
                yield text
            case ChangeSender(path):
                yield path
            case ReplaceRecipient(_, new, _):
                yield new


def laws_hold(random, answers=tuple(Existence)):
    for talk, path, outcome in converse(random, answers):
        transaction = talk.session.transaction
        assert (outcome.reply is not None) is (outcome.verb is Verb.REFUSE)
        assert not set("\r\n\0") & set("".join(written(outcome)))
        for record in outcome.records:
            assert record.domain in talk.outside.domains
            assert record.action not in ("reject", "tempfail") or record.reply
        if path is not None:
            assert outcome.verb in (Verb.CONTINUE, Verb.REFUSE)
            assert outcome.changes == ()
            if transaction.is_bounce and code(outcome) >= 500:
                [record] = outcome.records
                assert record.check in ("recipient", "receive_only", "tag")
            if transaction.in_doubt and outcome.verb is Verb.CONTINUE:
                assert len(transaction.accepted) == 1
                assert transaction.others == 0
        if transaction.in_doubt:
            assert len(transaction.accepted) + transaction.others == 1
        if code(outcome) >= 500:
            assert transaction.role.name == "INCOMING"
        if all(one.decision.action <= Action.OBSERVE for one in transaction.accepted) and path is None:
            assert outcome.reply is None
            assert not any(isinstance(change, AddHeader | Hold) for change in outcome.changes)


@given(RANDOMS)
def test_no_conversation_raises_and_the_laws_hold(random):
    laws_hold(random)


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_the_laws_hold_in_a_hundred_thousand_conversations(part):
    for seed in range(10_000):
        laws_hold(Random(f"{part} {seed}"))


@given(RANDOMS)
def test_no_5xx_follows_where_every_answer_is_unknown(random):
    for talk, _, outcome in converse(random, (Existence.UNKNOWN,)):
        if code(outcome) >= 500:
            # What is known without asking: a tag, a reverse-path, a list, a missing proof.
            assert {record.check for record in outcome.records if record.action == "reject"} <= set(
                CHECK_NAMES
            ) - {"recipient", "harvest"}
            assert talk.session.transaction.role.name == "INCOMING"


@given(RANDOMS, st.sampled_from([Action.OFF, Action.OBSERVE]))
def test_what_is_observed_at_most_leads_to_no_reply_and_no_change_but_stripping(random, action):
    outside = Outside({OURS: enforcing(action), "example.com": enforcing(action, strip=Strip.MILTER)})
    outside.otherwise = random.choice(list(Existence))
    outside.guessers.add(GUESSER)
    outside.harvesters.add(HARVESTER)
    talk = Talk(outside, random.choice((STRANGE_CLIENT, GUESSER, HARVESTER, RELAY_CLIENT)))
    talk.mail(random.choice(("<>", f"<{ALICE}>", odd_path(random))))
    for _ in range(random.randrange(1, 5)):
        assert talk.rcpt(some_path(random)).verb is Verb.CONTINUE
    outcome = talk.rest("X-Backstop", "Subject")
    assert outcome.verb is Verb.ACCEPT
    assert all(isinstance(change, RemoveHeader | ReplaceRecipient) for change in outcome.changes)
