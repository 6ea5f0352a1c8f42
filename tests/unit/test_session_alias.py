"""Disposable addresses in a conversation."""

import pytest

from backstop.address import parse
from backstop.batv import DAY, TagForm, sign, sign_alias
from backstop.facts import Existence
from backstop.settings import Action
from backstop.verdict import Verb
from tests.harness.engine import (
    ALICE,
    KEY,
    NOW,
    OURS,
    STRANGE_KEY,
    STRANGER,
    TODAY,
    Talk,
    counters,
    protecting,
    settings,
)


def alias(last_day=TODAY + 30, key=KEY, delimiter="+"):
    return sign_alias(parse(ALICE), key, last_day, delimiter)


def letter_to(outside, path):
    return Talk(outside).mail(f"<{STRANGER}>").rcpt(f"<{path}>")


@pytest.mark.parametrize("sender", ["<>", f"<{STRANGER}>"])
@pytest.mark.parametrize(
    ("last_day", "code"), [(TODAY + 1, 250), (TODAY, 250), (TODAY - 1, 550), (TODAY - 400, 550)]
)
def test_its_date_decides(sender, last_day, code):
    assert Talk(protecting()).mail(sender).code(f"<{alias(last_day)}>") == code


def test_one_that_was_switched_off_is_refused_like_an_unknown_user():
    outside = protecting()
    outside.aliases_off.add(alias())
    outcome = letter_to(outside, alias())
    assert str(outcome.reply) == "550 5.1.1 No such user here"
    assert counters([outcome]) == ["alias.fail", "action.reject"]


@pytest.mark.parametrize("written", [alias().upper(), alias().title()])
def test_in_whatever_case(written):
    outside = protecting()
    assert letter_to(outside, written).verb is Verb.CONTINUE
    outside.aliases_off.add(alias())
    assert letter_to(outside, written).verb is Verb.REFUSE


@pytest.mark.parametrize(
    "local", ["alice+d-20300abcdef", "alice+dates", "alice+d-", "alice+d-99999999999", "d-2030abcdef12"]
)
def test_what_only_looks_alike_is_the_users_own(local):
    outside = protecting()
    outside.aliases_off.add(f"{local}@{OURS}")
    outcome = Talk(outside).mail(f"<{STRANGER}>").accept(f"<{local}@{OURS}>").rest()
    assert not counters([outcome])


def test_nor_is_one_of_a_key_that_is_not_ours():
    outside = protecting()
    assert letter_to(outside, alias(TODAY - 5, STRANGE_KEY)).verb is Verb.CONTINUE


def test_a_tagged_one_is_known_too():
    outside = protecting()
    outside.aliases_off.add(alias())
    path = sign(parse(alias()), KEY, TODAY, 11, TagForm.PRVS)
    assert Talk(outside).mail("<>").code(f"<{path}>") == 550


def test_the_user_behind_it_must_exist():
    outside = protecting()
    outside.existence[ALICE] = Existence.MISSING
    outcome = letter_to(outside, alias())
    assert outcome.records[0].check == "recipient"


def test_its_use_is_told_once_the_message_is_taken():
    outside = protecting()
    talk = Talk(outside).mail(f"<{STRANGER}>").accept(f"<{alias()}>")
    outcome = talk.rest()
    [record] = outcome.records
    assert record.alias == (alias(), (TODAY + 31) * DAY)
    assert record.counters == ("alias.pass",)


def test_a_message_that_names_it_twice_uses_it_once():
    talk = Talk(protecting()).mail(f"<{STRANGER}>").accept(f"<{alias()}>", f"<{alias().upper()}>")
    assert [record.alias is not None for record in talk.rest().records] == [True, False]


def test_of_a_message_that_is_refused_it_is_not():
    outside = protecting(settings(unproved=Action.REJECT))
    outcome = Talk(outside).mail("<>").accept(f"<{alias()}>").rest()
    assert outcome.verb is Verb.REFUSE
    assert outcome.records[0].alias is None


def test_where_the_check_is_off_they_are_taken_past_their_date():
    outside = protecting(settings(alias=Action.OFF))
    assert letter_to(outside, alias(TODAY - 5)).verb is Verb.CONTINUE


def test_the_domains_own_delimiter():
    outside = protecting(settings({"recipient_delimiter": "-"}))
    assert letter_to(outside, alias(TODAY - 5, delimiter="-")).verb is Verb.REFUSE
    assert letter_to(outside, alias(TODAY - 5)).verb is Verb.CONTINUE
    assert NOW == (TODAY + 0.5) * DAY
