"""What `setup postfix` plans for a given configuration; no Postfix takes part."""

import ipaddress
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backstop.batv import TagForm
from backstop.setup.changes import ChangedSince, FileChange, NothingToUndo, Rejected, diff, undo, write
from backstop.setup.postfix import files
from backstop.setup.postfix.maps import render
from backstop.setup.postfix.plan import Level, LookupFailed, Plan, SetOption, SetParameter, View, Wanted
from backstop.setup.postfix.planning import changes, plan
from backstop.setup.postfix.words import DomainClass, listed, parse_milter, split_list

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

# What postconf says where main.cf says nothing.
DEFAULTS = {
    "alias_maps": "hash:/etc/aliases",
    "canonical_maps": "",
    "compatibility_level": "3.6",
    "config_directory": "/etc/postfix",
    "internal_mail_filter_classes": "",
    "local_recipient_maps": "proxy:unix:passwd.byname $alias_maps",
    "luser_relay": "",
    "milter_default_action": "tempfail",
    "milter_macro_daemon_name": "$myhostname",
    "mydestination": "our.test",
    "myhostname": "mx.our.test",
    "non_smtpd_milters": "",
    "queue_directory": "/var/spool/postfix",
    "receive_override_options": "",
    "recipient_canonical_classes": "envelope_recipient, header_recipient",
    "recipient_canonical_maps": "",
    "recipient_delimiter": "+",
    "relay_domains": "relay.test",
    "relay_recipient_maps": "",
    "sender_canonical_maps": "",
    "sender_dependent_default_transport_maps": "",
    "sender_dependent_relayhost_maps": "",
    "smtp_generic_maps": "",
    "smtp_sender_dependent_authentication": "no",
    "smtpd_forbid_bare_newline": "yes",
    "smtpd_milter_maps": "",
    "smtpd_milters": "",
    "smtpd_recipient_restrictions": "",
    "smtpd_reject_unlisted_recipient": "yes",
    "smtpd_sender_login_maps": "",
    "virtual_alias_domains": "",
    "virtual_alias_maps": "$virtual_maps",
    "virtual_mailbox_domains": "virt.test",
    "virtual_mailbox_maps": "",
    "virtual_maps": "",
}

MASTER = """\
# service type  private unpriv  chroot  wakeup  maxproc command
smtp      inet  n       -       y       -       -       smtpd
cleanup   unix  n       -       y       -       0       cleanup
virtual   unix  -       n       n       -       -       virtual
"""

SUBMISSION = """\
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
# Only who logs in.
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
"""

CLASSES = {
    "our.test": DomainClass.LOCAL,
    "virt.test": DomainClass.MAILBOX,
    "relay.test": DomainClass.RELAY,
    "alias.test": DomainClass.ALIAS,
}

OURS = "{ unix:backstop/milter.sock, default_action=tempfail, command_timeout=10s }"


def view(master=MASTER, tables=None, main="", classes=CLASSES, **parameters):
    raw = DEFAULTS | parameters
    tables = tables or {}

    def expand(value):
        for _ in range(5):
            value = re.sub(r"\$(\w+)", lambda match: raw.get(match[1], ""), value)
        return value

    def lookup(table, key):
        if tables.get(table) == "broken":
            raise LookupFailed(table)
        return tables.get(table, {}).get(key, "")

    return View(
        main=main or "".join(f"{name} = {value}\n" for name, value in parameters.items()),
        master=master,
        raw=raw,
        expanded={name: expand(value) for name, value in raw.items()},
        named=frozenset(parameters),
        map_types=frozenset({"pipemap", "regexp", "unionmap", "hash"}),
        classes=classes,
        lookup=lookup,
    )


def want(form=None, *domains, socket="unix:/var/spool/postfix/backstop/milter.sock", **others):
    return Wanted(dict.fromkeys(domains or ("our.test",), form), socket, **others)


def options(chosen: Plan) -> dict[tuple[str, str], str]:
    return {(step.service, step.name): step.value for step in chosen.steps if isinstance(step, SetOption)}


def parameters(chosen: Plan) -> dict[str, str]:
    return {step.name: step.value for step in chosen.steps if isinstance(step, SetParameter)}


def texts(chosen: Plan, level: Level) -> str:
    return "\n".join(remark.text for remark in chosen.remarks if remark.level is level)


class TestWords:
    @pytest.mark.parametrize(
        ("value", "items"),
        [
            ("", ()),
            ("a", ("a",)),
            ("a, b c", ("a", "b", "c")),
            ("a,\n\t{ b c, d } e", ("a", "{ b c, d }", "e")),
            ("pipemap:{a, unionmap:{b, c}} d", ("pipemap:{a, unionmap:{b, c}}", "d")),
        ],
    )
    def test_lists(self, value, items):
        assert split_list(value) == items

    @pytest.mark.parametrize(
        ("item", "socket", "action"),
        [
            ("inet:localhost:11332", "inet:localhost:11332", ""),
            ("{ unix:a.sock, default_action=accept }", "unix:a.sock", "accept"),
            ("{unix:a.sock default_action=accept}", "unix:a.sock", "accept"),
            ("{ unix:a.sock, { default_action = accept } }", "unix:a.sock", "accept"),
        ],
    )
    def test_milters(self, item, socket, action):
        entry = parse_milter(item)
        assert (entry.socket, entry.option("default_action")) == (socket, action)

    @pytest.mark.parametrize(
        ("patterns", "with_subdomains", "answer"),
        [
            ("our.test", False, True),
            ("OUR.test, else.test", False, True),
            ("test", False, False),
            ("test", True, True),
            ("!our.test, /domains", False, False),
            ("/domains", False, True),
            ("hash:/known", False, True),
            ("hash:/parents", False, False),
            ("hash:/parents", True, True),
            ("[192.0.2.1], localhost", False, False),
        ],
    )
    def test_match_lists(self, patterns, with_subdomains, answer):
        tables = {"hash:/known": {"our.test": "x"}, "hash:/parents": {"test": "x"}}
        found = listed(
            "our.test",
            split_list(patterns),
            lookup=lambda table, key: tables[table].get(key, ""),
            read=lambda _: "# ours\nelse.test\nour.test\n",
            with_subdomains=with_subdomains,
        )
        assert found is answer


class TestFiles:
    def test_a_parameter_is_changed_where_it_counts(self):
        main = "a = 1\n# of old\nb = 2,\n# within\n   3\nc = 4\na = 5\n"
        assert files.set_parameter(main, "a", "6") == main.replace("a = 5", "a = 6")
        assert files.set_parameter(main, "b", "7") == "a = 1\n# of old\nb = 7\n# within\nc = 4\na = 5\n"

    def test_a_name_within_a_name_is_another_parameter(self):
        main = "non_smtpd_milters = x\n"
        assert files.set_parameter(main, "smtpd_milters", "y").startswith(main)

    def test_new_parameters_stand_together_at_the_end(self):
        once = files.set_parameter("a = 1", "b", "2")
        assert files.set_parameter(once, "c", "3") == (
            "a = 1\n\n# For Backstop, by `backstop setup postfix`.\nb = 2\nc = 3\n"
        )

    def test_a_comment_in_the_file_is_not_a_parameter(self):
        assert files.set_parameter("#b = 1\n", "b", "2").startswith("#b = 1\n\n# For Backstop")

    def test_services(self):
        smtp, cleanup, _, submission = files.services(MASTER + SUBMISSION)
        assert (smtp.label, smtp.command, smtp.chroot) == ("smtp/inet", "smtpd", "y")
        assert cleanup.options == ()
        assert submission.option("syslog_name") == "postfix/submission"
        assert submission.option("smtpd_recipient_restrictions") == "permit_sasl_authenticated,reject"
        assert submission.option("smtpd_milters") is None

    def test_options_in_braces(self):
        master = MASTER + "x inet n - n - - smtpd -o { smtpd_milters = a b } -o c=d\n"
        service = files.services(master)[-1]
        assert service.option("smtpd_milters") == "a b"
        changed = files.set_option(master, "x/inet", "smtpd_milters", "e")
        assert changed == master.replace("{ smtpd_milters = a b }", "smtpd_milters=e")
        assert files.set_option(changed, "x/inet", "smtpd_milters", "a b").endswith(
            "-o { smtpd_milters = a b } -o c=d\n"
        )

    def test_an_option_comes_at_the_entrys_end(self):
        master = SUBMISSION + "\n# next\n" + MASTER
        changed = files.set_option(master, "submission/inet", "a", "b")
        assert changed == master.replace("reject\n", "reject\n  -o a=b\n")


class TestMilters:
    def test_both_lists_name_the_socket_within_the_queue_directory(self):
        found = parameters(plan(view(), want()))
        assert found["smtpd_milters"] == found["non_smtpd_milters"] == OURS

    def test_other_milters_stay_behind_ours(self):
        found = parameters(
            plan(view(smtpd_milters="inet:localhost:1, { unix:b default_action=accept }"), want())
        )
        assert split_list(found["smtpd_milters"]) == (
            OURS,
            "inet:localhost:1",
            "{ unix:b default_action=accept }",
        )

    def test_ours_goes_last_where_it_puts_recipients_back(self):
        """No milter is told whom the ones after it refused."""
        found = parameters(plan(view(smtpd_milters="inet:localhost:1"), want(replaces=True)))
        assert split_list(found["smtpd_milters"]) == ("inet:localhost:1", OURS)

    @pytest.mark.parametrize(("replaces", "said"), [(False, False), (True, True)])
    def test_one_that_comes_after_it_then_is_a_warning(self, replaces, said):
        chosen = plan(view(smtpd_milters=f"{OURS}, inet:localhost:1"), want(replaces=replaces))
        assert ("calls inet:localhost:1 after Backstop" in texts(chosen, Level.WARNING)) is said
        chosen = plan(view(smtpd_milters=f"inet:localhost:1, {OURS}"), want(replaces=replaces))
        assert "after Backstop" not in texts(chosen, Level.WARNING)

    @pytest.mark.parametrize("reference", ["$smtpd_milters", "${smtpd_milters}", "$smtpd_milters, inet:b:1"])
    def test_a_list_that_takes_over_the_other_is_left(self, reference):
        found = parameters(plan(view(smtpd_milters="inet:a:1", non_smtpd_milters=reference), want()))
        assert split_list(found["smtpd_milters"]) == (OURS, "inet:a:1")
        assert "non_smtpd_milters" not in found

    def test_the_other_way_round_too(self):
        found = parameters(plan(view(smtpd_milters="$non_smtpd_milters"), want()))
        assert found["non_smtpd_milters"] == OURS
        assert "smtpd_milters" not in found

    @pytest.mark.parametrize(
        "present",
        [
            OURS,
            "unix:backstop/milter.sock",
            "unix:/var/spool/postfix/backstop/milter.sock",
            "{ unix:backstop/milter.sock, command_timeout=20s }, inet:a:1",
        ],
    )
    def test_ours_is_recognised(self, present):
        found = parameters(plan(view(smtpd_milters=present, non_smtpd_milters=present), want()))
        assert not {"smtpd_milters", "non_smtpd_milters"} & set(found)

    def test_ours_must_wait(self):
        accepting = "{ unix:backstop/milter.sock, default_action=accept }, inet:a:1"
        found = parameters(plan(view(smtpd_milters=accepting), want()))
        assert split_list(found["smtpd_milters"]) == (OURS, "inet:a:1")
        found = parameters(
            plan(view(smtpd_milters="unix:backstop/milter.sock", milter_default_action="accept"), want())
        )
        assert found["smtpd_milters"] == OURS

    def test_a_socket_by_tcp(self):
        chosen = plan(view(), want(socket="inet:8891@127.0.0.1"))
        assert parameters(chosen)["smtpd_milters"].startswith("{ inet:127.0.0.1:8891,")
        assert "TCP" in texts(chosen, Level.NOTE)

    def test_a_socket_out_of_the_chroots_reach_is_refused(self):
        chosen = plan(view(), want(socket="unix:/run/backstop.sock"))
        assert chosen.is_refused
        assert "chroot" in texts(chosen, Level.REFUSAL)

    def test_before_compatibility_level_1_a_dash_is_a_chroot(self):
        master = "smtp inet n - - - - smtpd\n"
        old = view(master, compatibility_level="0")
        assert plan(old, want(socket="unix:/run/backstop.sock")).is_refused
        found = parameters(plan(view(master), want(socket="unix:/run/backstop.sock")))
        assert "unix:/run/backstop.sock" in found["smtpd_milters"]

    def test_services_for_own_users_say_so(self):
        assert options(plan(view(MASTER + SUBMISSION), want()))[
            "submission/inet", "milter_macro_daemon_name"
        ] == ("ORIGINATING")

    def test_by_a_parameter_of_main_cf_too(self):
        master = MASTER + (
            "587 inet n - y - - smtpd\n  -o smtpd_client_restrictions=$mua_client_restrictions\n"
        )
        seen = view(master, mua_client_restrictions="permit_sasl_authenticated, reject")
        assert ("587/inet", "milter_macro_daemon_name") in options(plan(seen, want()))

    def test_a_service_that_strangers_use_does_not(self):
        master = MASTER + "submission inet n - y - - smtpd\n  -o syslog_name=postfix/submission\n"
        chosen = plan(view(master), want())
        assert ("submission/inet", "milter_macro_daemon_name") not in options(chosen)
        assert "keep strangers out" in texts(chosen, Level.WARNING)

    def test_a_name_for_all_services_is_refused(self):
        chosen = plan(view(milter_macro_daemon_name="ORIGINATING"), want())
        assert "for all services" in texts(chosen, Level.REFUSAL)

    def test_a_name_that_backstop_does_not_know_is_told(self):
        master = MASTER + SUBMISSION + "  -o milter_macro_daemon_name=MSA\n"
        chosen = plan(view(master), want())
        assert "originating_daemons" in texts(chosen, Level.WARNING)
        assert not [key for key in options(chosen) if key[0] == "submission/inet"]

    @pytest.mark.parametrize(
        "how", ["smtpd_milters=", "receive_override_options=no_header_body_checks,no_milters"]
    )
    def test_a_service_without_our_milter_is_left_and_reported(self, how):
        master = MASTER + f"127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n  -o {how}\n"
        chosen = plan(view(master), want())
        assert not [key for key in options(chosen) if key[0] == "127.0.0.1:10025/inet"]
        assert "127.0.0.1:10025/inet calls no milter" in texts(chosen, Level.NOTE)

    def test_own_users_without_our_milter_are_a_warning(self):
        chosen = plan(view(MASTER + SUBMISSION + "  -o smtpd_milters=inet:localhost:8891\n"), want())
        assert "untagged" in texts(chosen, Level.WARNING)

    def test_the_way_back_from_a_content_filter_is_a_second_pass(self):
        master = MASTER + (
            "127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n  -o mynetworks=127.0.0.0/8\n"
        )
        assert options(plan(view(master), want()))["127.0.0.1:10025/inet", "milter_macro_daemon_name"] == (
            "REINJECT"
        )
        wide = master.replace("127.0.0.0/8", "127.0.0.0/8,192.0.2.0/24")
        assert ("127.0.0.1:10025/inet", "milter_macro_daemon_name") not in options(plan(view(wide), want()))


class TestForm:
    @pytest.mark.parametrize(
        ("delimiter", "form"),
        [("+", TagForm.SUBADDRESS), ("", TagForm.SUBADDRESS), ("-", TagForm.PRVS), ("+-", TagForm.PRVS)],
    )
    def test_is_chosen_by_the_delimiter(self, delimiter, form):
        chosen = plan(view(recipient_delimiter=delimiter), want())
        assert not chosen.is_refused
        assert f'tag_form = "{form.value}"' in texts(chosen, Level.NOTE)
        assert ("local_recipient_maps" in parameters(chosen)) == (form is TagForm.PRVS)

    def test_an_empty_delimiter_becomes_a_plus_and_what_that_changes_is_said(self):
        chosen = plan(view(recipient_delimiter=""), want(TagForm.SUBADDRESS))
        assert parameters(chosen)["recipient_delimiter"] == "+"
        assert "user+anything" in texts(chosen, Level.NOTE)

    def test_the_sub_address_form_is_refused_with_another_delimiter(self):
        chosen = plan(view(recipient_delimiter="-"), want(TagForm.SUBADDRESS))
        assert 'tag_form = "prvs"' in texts(chosen, Level.REFUSAL)

    def test_the_sub_address_form_among_several_delimiters_is_a_warning(self):
        chosen = plan(view(recipient_delimiter="+-"), want(TagForm.SUBADDRESS))
        assert not chosen.is_refused
        assert "divides at the first" in texts(chosen, Level.WARNING)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sender_dependent_relayhost_maps", "hash:/etc/postfix/relay_by_sender"),
            ("sender_dependent_default_transport_maps", "hash:/etc/postfix/transport_by_sender"),
            ("smtp_sender_dependent_authentication", "yes"),
        ],
    )
    def test_prvs_is_refused_where_mail_is_routed_by_its_sender(self, name, value):
        seen = view(**{name: value})
        assert 'tag_form = "subaddress"' in texts(plan(seen, want(TagForm.PRVS)), Level.REFUSAL)
        assert not plan(seen, want(TagForm.SUBADDRESS)).is_refused

    def test_who_may_send_as_whom_is_asked_before_the_tag_and_no_hindrance(self):
        assert not plan(view(smtpd_sender_login_maps="hash:/logins"), want(TagForm.PRVS)).is_refused

    def test_a_postfix_without_pipemap_is_refused(self):
        seen = view()
        old = View(
            **{name: getattr(seen, name) for name in View.__slots__} | {"map_types": frozenset({"regexp"})}
        )
        assert "3.0" in texts(plan(old, want(TagForm.PRVS)), Level.REFUSAL)

    def test_another_delimiter_in_backstops_configuration_is_told(self):
        chosen = plan(view(recipient_delimiter="-"), want(TagForm.PRVS, delimiters=frozenset({"+"})))
        assert 'write recipient_delimiter = "-"' in texts(chosen, Level.WARNING)
        chosen = plan(view(), want(TagForm.PRVS, delimiters=frozenset({"+"})))
        assert "recipient_delimiter" not in texts(chosen, Level.WARNING)

    def test_each_domain_may_have_its_own(self):
        forms = {"our.test": TagForm.PRVS, "virt.test": TagForm.SUBADDRESS}
        seen = view(recipient_delimiter="", virtual_mailbox_maps="hash:/vmailbox")
        chosen = plan(seen, Wanted(forms, "unix:/var/spool/postfix/backstop/milter.sock"))
        assert parameters(chosen)["recipient_delimiter"] == "+"
        assert "local_recipient_maps" in parameters(chosen)
        assert "virtual_mailbox_maps" not in parameters(chosen)
        # The delimiter that is to come counts for what is looked up.
        assert "backstop_lookup.regexp" in {each.name for each in chosen.maps}


class TestMaps:
    def test_the_sub_address_form_needs_only_the_strip(self):
        chosen = plan(view(), want(TagForm.SUBADDRESS))
        assert [each.name for each in chosen.maps] == ["backstop_strip.regexp"]
        assert set(parameters(chosen)) == {"smtpd_milters", "non_smtpd_milters"}
        assert options(chosen) == {
            ("cleanup/unix", "recipient_canonical_maps"): "regexp:$config_directory/backstop_strip.regexp",
            ("cleanup/unix", "recipient_canonical_classes"): "envelope_recipient",
        }

    def test_prvs_asks_each_table_that_there_is(self):
        seen = view(
            virtual_alias_maps="hash:/virtual",
            virtual_mailbox_maps="hash:/a hash:/b",
            relay_recipient_maps="hash:/relay",
        )
        chosen = plan(seen, want(TagForm.PRVS, *CLASSES))
        found = parameters(chosen)
        strip, lookup, local = (
            f"regexp:$config_directory/backstop_{n}.regexp" for n in ("strip", "lookup", "local")
        )
        users = "unionmap:{proxy:unix:passwd.byname, $alias_maps}"
        assert split_list(found["local_recipient_maps"]) == (
            "proxy:unix:passwd.byname",
            "$alias_maps",
            f"pipemap:{{{strip}, {local}, {users}}}",
            f"pipemap:{{{lookup}, {local}, {users}}}",
        )
        assert split_list(found["virtual_alias_maps"]) == (
            "hash:/virtual",
            f"pipemap:{{{strip}, hash:/virtual}}",
            f"pipemap:{{{lookup}, hash:/virtual}}",
        )
        assert split_list(found["virtual_mailbox_maps"])[2:] == (
            f"pipemap:{{{strip}, unionmap:{{hash:/a, hash:/b}}}}",
            f"pipemap:{{{lookup}, unionmap:{{hash:/a, hash:/b}}}}",
        )
        assert split_list(found["relay_recipient_maps"])[0] == "hash:/relay"
        assert options(chosen)["virtual/unix", "virtual_mailbox_maps"] == "hash:/a,hash:/b"

    def test_only_for_classes_that_have_a_protected_domain(self):
        seen = view(virtual_mailbox_maps="hash:/vmailbox", relay_recipient_maps="hash:/relay")
        found = parameters(plan(seen, want(TagForm.PRVS, "our.test")))
        assert not {"virtual_mailbox_maps", "relay_recipient_maps", "virtual_alias_maps"} & set(found)
        found = parameters(plan(seen, want(TagForm.PRVS, "relay.test")))
        assert "relay_recipient_maps" in found
        assert "local_recipient_maps" not in found

    def test_tables_of_the_sites_own_may_hold_whole_addresses(self):
        found = parameters(plan(view(local_recipient_maps="hash:/users"), want(TagForm.PRVS)))
        assert len(split_list(found["local_recipient_maps"])) == 5

    def test_without_a_delimiter_nothing_is_cut_off(self):
        chosen = plan(view(recipient_delimiter=""), want(TagForm.PRVS))
        assert "backstop_lookup.regexp" not in {each.name for each in chosen.maps}
        assert "lookup" not in parameters(chosen)["local_recipient_maps"]

    def test_canonical_maps_of_the_site_are_kept(self):
        seen = view(recipient_canonical_maps="hash:/canonical")
        chosen = plan(seen, want(TagForm.SUBADDRESS))
        assert options(chosen) == {
            ("cleanup/unix", "recipient_canonical_maps"): (
                "regexp:$config_directory/backstop_strip.regexp,hash:/canonical"
            ),
        }

    def test_canonical_maps_that_came_later_are_taken_over(self):
        master = MASTER.replace(
            "0       cleanup\n",
            "0       cleanup\n"
            "  -o recipient_canonical_maps=regexp:$config_directory/backstop_strip.regexp,hash:/a\n",
        )
        chosen = plan(view(master, recipient_canonical_maps="hash:/a hash:/b"), want(TagForm.SUBADDRESS))
        assert options(chosen)["cleanup/unix", "recipient_canonical_maps"].endswith(",hash:/a,hash:/b")

    def test_canonical_maps_for_headers_alone_are_refused(self):
        seen = view(recipient_canonical_maps="hash:/c", recipient_canonical_classes="header_recipient")
        assert "envelope" in texts(plan(seen, want(TagForm.SUBADDRESS)), Level.REFUSAL)

    def test_every_cleanup_takes_the_tag_off(self):
        master = MASTER + "pre-cleanup unix n - y - 0 cleanup\n"
        assert ("pre-cleanup/unix", "recipient_canonical_maps") in options(plan(view(master), want()))

    def test_other_tables_for_delivery_than_for_acceptance_are_told(self):
        master = MASTER.rstrip() + "\n  -o virtual_mailbox_maps=hash:/other\n"
        chosen = plan(view(master, virtual_mailbox_maps="hash:/v"), want(TagForm.PRVS, "virt.test"))
        assert "virtual/unix has other" in texts(chosen, Level.WARNING)

    def test_a_domain_that_postfix_does_not_receive_for_is_told(self):
        chosen = plan(view(), want(TagForm.PRVS, "our.test", "strange.test"))
        assert "does not receive for strange.test" in texts(chosen, Level.WARNING)
        assert "strange" not in "".join(each.content for each in chosen.maps)

    @pytest.mark.parametrize("delimiters", ["+", "-", "+-", "-+", "]^", "^", "$", "/", "=."])
    def test_patterns_follow_the_delimiter(self, delimiters):
        pattern = next(
            line for line in render("lookup", ["our.test"], delimiters).splitlines() if line[0] == "/"
        )
        expression = re.compile(pattern[1 : pattern.rindex("/")], re.IGNORECASE)
        for delimiter in delimiters:
            found = expression.match(f"PRVS=1234abcdef=bob{delimiter}x{delimiter}y@our.test")
            assert found is not None
            assert found[1] == "bob"
        found = expression.match("prvs=1234ABCDEF=bob@OUR.test")
        assert found is not None
        assert (found[1], found[4]) == ("bob", "OUR.test")
        assert expression.match("prvs=1234abcdef=bob@our-test") is None

    def test_the_examples_that_are_shipped_are_what_is_written(self):
        for name in ("strip", "lookup", "local"):
            path = ROOT / "packaging" / "postfix" / f"backstop_{name}.regexp"
            assert path.read_text() == render(name, ["example.com"], "+" if name == "lookup" else "")


class TestAgain:
    @pytest.mark.parametrize("form", TagForm)
    @pytest.mark.parametrize("delimiter", ["+", ""])
    def test_a_second_run_finds_nothing_to_do(self, form, delimiter):
        tables = {
            "virtual_alias_maps": "hash:/virtual",
            "virtual_mailbox_maps": "hash:/vmailbox",
            "relay_recipient_maps": "hash:/relay",
            "smtpd_milters": "inet:a:1",
            "non_smtpd_milters": "$smtpd_milters",
            "recipient_delimiter": delimiter,
        }
        seen = view(MASTER + SUBMISSION, **tables)
        asked = want(form, *CLASSES)
        chosen = plan(seen, asked)
        after = view(chosen.master(seen.master), **tables | parameters(chosen))
        again = plan(after, asked)
        assert (parameters(again), options(again)) == ({}, {})
        present = {each.name: each.content for each in chosen.maps}
        assert changes(after, again, Path("/etc/postfix"), present) == ()

    def test_a_new_table_is_asked_too(self):
        tables = {"virtual_alias_maps": "hash:/a"}
        first = parameters(plan(view(**tables), want(TagForm.PRVS)))["virtual_alias_maps"]
        second = parameters(plan(view(virtual_alias_maps=f"{first} hash:/b"), want(TagForm.PRVS)))
        assert split_list(second["virtual_alias_maps"])[:2] == ("hash:/a", "hash:/b")
        assert "unionmap:{hash:/a, hash:/b}" in second["virtual_alias_maps"]

    def test_going_over_to_sub_addresses_leaves_the_maps_for_tags_that_are_out(self):
        first = parameters(plan(view(), want(TagForm.PRVS)))
        again = plan(view(**first), want(TagForm.SUBADDRESS))
        assert parameters(again) == {}


INTERNAL = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128", "192.0.2.0/25")))


class TestOwnClients:
    @pytest.mark.parametrize(
        ("mynetworks", "unknown"),
        [
            ("127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128", ""),
            ("127.0.0.0/8, 192.0.2.5, 192.0.2.64/26", ""),
            ("127.0.0.0/8, 192.0.2.0/24 [2001:db8::]/32", "192.0.2.0/24, [2001:db8::]/32"),
            ("::ffff:10.0.0.0/104", "::ffff:10.0.0.0/104"),
            ("!192.0.2.200 127.0.0.1", ""),
            ("", ""),
        ],
    )
    def test_whom_postfix_relays_for_and_backstop_would_not_tag(self, mynetworks, unknown):
        """Mail of mynetworks without a login went out untagged, and nothing said so."""
        chosen = plan(view(mynetworks=mynetworks), want(internal_networks=INTERNAL))
        said = texts(chosen, Level.WARNING)
        assert (f"mynetworks holds {unknown}, which internal_networks" in said) is bool(unknown)
        assert "mynetworks" not in texts(chosen, Level.NOTE)

    def test_a_table_cannot_be_compared(self):
        chosen = plan(view(mynetworks="127.0.0.1 cidr:/etc/postfix/own"), want(internal_networks=INTERNAL))
        assert "mynetworks holds cidr:/etc/postfix/own: see that" in texts(chosen, Level.NOTE)


class TestPitfalls:
    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"smtpd_forbid_bare_newline": "no"}, "smuggle"),
            ({"milter_default_action": "accept"}, "milter_default_action"),
            ({"smtpd_milters": "{ inet:a:1, default_action=accept }"}, "inet:a:1"),
            ({"internal_mail_filter_classes": "bounce"}, "own reports"),
            ({"luser_relay": "root"}, "luser_relay"),
            ({"local_recipient_maps": ""}, "any user of our.test"),
            ({"smtpd_reject_unlisted_recipient": "no"}, "unknown users"),
            ({"smtpd_milter_maps": "cidr:/x"}, "pass Backstop by"),
            ({"receive_override_options": "no_milters"}, "no milter is called"),
            ({"receive_override_options": "no_address_mappings"}, "not taken off"),
            ({"sender_canonical_maps": "hash:/x"}, "exempt_senders"),
            ({"smtp_generic_maps": "hash:/x"}, "exempt_senders"),
        ],
    )
    def test_is_told(self, parameters, words):
        chosen = plan(view(classes={"our.test": DomainClass.LOCAL}, **parameters), want(TagForm.SUBADDRESS))
        assert words in texts(chosen, Level.WARNING)
        assert not chosen.is_refused

    def test_none_on_a_good_system(self):
        seen = view(classes={"our.test": DomainClass.LOCAL}, virtual_alias_maps="hash:/v")
        for form in TagForm:
            assert texts(plan(seen, want(form)), Level.WARNING) == ""

    def test_no_table_is_needed_where_the_next_hop_is_asked(self):
        relay = {"relay.test": DomainClass.RELAY}
        asked = want(TagForm.SUBADDRESS, "relay.test")
        assert "any user of relay.test" in texts(plan(view(classes=relay), asked), Level.WARNING)
        seen = view(
            classes=relay, smtpd_recipient_restrictions="permit_mynetworks, reject_unverified_recipient"
        )
        assert texts(plan(seen, asked), Level.WARNING) == ""

    def test_a_next_hop_is_to_refuse_by_itself(self):
        seen = view(classes={"relay.test": DomainClass.RELAY})
        told = texts(plan(seen, want(TagForm.SUBADDRESS, "relay.test")), Level.WARNING)
        assert "reject_unverified_recipient" in told
        assert "callahead:[HOST]:PORT" in told
        assert "never-a-source.md" in told
        here = view(classes={"our.test": DomainClass.LOCAL}, local_recipient_maps="")
        assert "next hop" not in texts(plan(here, want(TagForm.SUBADDRESS)), Level.WARNING)

    def test_no_table_is_needed_where_backstop_has_a_source(self):
        seen = view(classes={"relay.test": DomainClass.RELAY, "two.test": DomainClass.RELAY})
        asked = want(TagForm.SUBADDRESS, "relay.test", "two.test", validated=frozenset({"relay.test"}))
        told = texts(plan(seen, asked), Level.WARNING)
        assert "any user of two.test, and returns" in told
        both = replace(asked, validated=frozenset({"relay.test", "two.test"}))
        assert texts(plan(seen, both), Level.WARNING) == ""

    @pytest.mark.parametrize(
        ("relay_domains", "table", "named"),
        [
            ("relay.test, other.test hash:/r", "", "other.test, hash:/r"),
            ("relay.test, our.test, !no.test", "", ""),
            ("relay.test other.test", "hash:/users", ""),
        ],
    )
    def test_other_domains_that_are_relayed(self, relay_domains, table, named):
        seen = view(
            classes={"relay.test": DomainClass.RELAY},
            relay_domains=relay_domains,
            relay_recipient_maps=table,
        )
        asked = want(TagForm.SUBADDRESS, "relay.test", validated=frozenset({"relay.test"}))
        told = texts(plan(seen, asked), Level.NOTE)
        assert (f"relay_domains names {named}, which" in told) == bool(named)
        assert ("relay_domains names" in told) == bool(named)

    def test_a_catch_all(self):
        seen = view(tables={"hash:/v": {"@our.test": "root"}}, virtual_alias_maps="hash:/v")
        assert "every user of it exists" in texts(plan(seen, want(TagForm.SUBADDRESS)), Level.WARNING)

    @pytest.mark.parametrize("name", ["recipient_canonical_maps", "virtual_alias_maps"])
    def test_tags_taken_off_where_smtpd_looks(self, name):
        class Everything(dict):
            def get(self, key, default=""):
                return "backstop-asks-for-nobody@our.test" if "prvs=" in key else default

        seen = view(tables={"pcre:/strip": Everything(x="y")}, **{name: "pcre:/strip"})
        assert f"{name} in main.cf rewrites tagged" in texts(
            plan(seen, want(TagForm.SUBADDRESS)), Level.WARNING
        )

    def test_a_table_that_cannot_be_asked_is_no_pitfall(self):
        seen = view(tables={"ldap:x": "broken"}, virtual_alias_maps="ldap:x")
        assert not plan(seen, want(TagForm.SUBADDRESS)).is_refused


class TestWriting:
    @pytest.fixture
    def record(self, tmp_path):
        return tmp_path / "backstop-setup.json"

    @pytest.fixture
    def todo(self, tmp_path):
        (tmp_path / "main.cf").write_bytes(b"a = 1\n# M\xfcller, no newline at the end")
        (tmp_path / "main.cf").chmod(0o640)
        before = (tmp_path / "main.cf").read_bytes().decode("utf-8", "surrogateescape")
        return (
            FileChange(tmp_path / "map", None, "/x/ y\n"),
            FileChange(tmp_path / "main.cf", before, before.replace("1", "2")),
        )

    def names(self, folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_what_is_shown_is_what_is_written(self, todo):
        shown = diff(todo)
        assert "+/x/ y\n" in shown
        assert "-a = 1\n+a = 2\n" in shown
        assert "\\ No newline at end of file" in shown or "no newline at the end\n" not in shown

    def test_undo_restores_every_octet(self, tmp_path, todo, record):
        before = self.names(tmp_path)
        backups = write(todo, record, NOW, lambda: "")
        assert [backup.name for backup in backups] == ["main.cf.backstop-20261121T120000Z"]
        assert (tmp_path / "main.cf").read_bytes().startswith(b"a = 2\n# M\xfcller")
        assert (tmp_path / "main.cf").stat().st_mode & 0o777 == 0o640
        assert undo(record, force=False) == (tmp_path / "map", tmp_path / "main.cf")
        assert self.names(tmp_path) == before
        assert (tmp_path / "main.cf").stat().st_mode & 0o777 == 0o640

    def test_each_undo_takes_one_write_back(self, tmp_path, todo, record):
        before = self.names(tmp_path)
        write(todo, record, NOW, lambda: "")
        between = {name: text for name, text in self.names(tmp_path).items() if name != record.name}
        second = FileChange(tmp_path / "map", "/x/ y\n", "/z/ y\n")
        write((second,), record, NOW, lambda: "")
        undo(record, force=False)
        assert {n: t for n, t in self.names(tmp_path).items() if n != record.name} == between
        undo(record, force=False)
        assert self.names(tmp_path) == before
        with pytest.raises(NothingToUndo):
            undo(record, force=False)

    def test_what_the_mail_server_does_not_take_is_put_back(self, tmp_path, todo, record):
        before = self.names(tmp_path)
        with pytest.raises(Rejected, match="bad line"):
            write(todo, record, NOW, lambda: "bad line")
        assert self.names(tmp_path) == before

    def test_a_failure_in_the_middle_is_put_back(self, tmp_path, todo, record):
        before = self.names(tmp_path)
        third = FileChange(tmp_path / "gone" / "x", None, "x")
        with pytest.raises(FileNotFoundError):
            write((*todo, third), record, NOW, lambda: "")
        assert self.names(tmp_path) == before

    def test_a_file_changed_since_is_named_and_nothing_restored(self, tmp_path, todo, record):
        before = self.names(tmp_path)
        write(todo, record, NOW, lambda: "")
        with (tmp_path / "main.cf").open("a") as file:
            file.write("b = 3\n")
        changed = self.names(tmp_path)
        with pytest.raises(ChangedSince, match=r"main\.cf") as caught:
            undo(record, force=False)
        assert "map" not in str(caught.value).replace(str(tmp_path), "")
        assert self.names(tmp_path) == changed
        undo(record, force=True)
        assert self.names(tmp_path) == before

    def test_a_file_removed_since_counts_as_changed(self, tmp_path, todo, record):
        write(todo, record, NOW, lambda: "")
        (tmp_path / "main.cf").unlink()
        with pytest.raises(ChangedSince):
            undo(record, force=False)
        undo(record, force=True)
        assert (tmp_path / "main.cf").exists()

    def test_without_its_backup_nothing_is_restored(self, todo, record):
        (backup,) = write(todo, record, NOW, lambda: "")
        backup.unlink()
        with pytest.raises(ChangedSince, match="backup is gone"):
            undo(record, force=True)

    def test_a_write_that_was_cut_off_can_be_undone(self, tmp_path, todo, record):
        before = self.names(tmp_path)
        write(todo, record, NOW, lambda: "")
        # As if the second file had not been reached.
        (tmp_path / "main.cf").write_bytes(before["main.cf"])
        undo(record, force=False)
        assert self.names(tmp_path) == before

    def test_a_link_stays_a_link(self, tmp_path, record):
        (tmp_path / "real").write_text("a = 1\n")
        (tmp_path / "main.cf").symlink_to("real")
        write((FileChange(tmp_path / "main.cf", "a = 1\n", "a = 2\n"),), record, NOW, lambda: "")
        assert (tmp_path / "main.cf").is_symlink()
        assert (tmp_path / "real").read_text() == "a = 2\n"
        undo(record, force=False)
        assert (tmp_path / "main.cf").read_text() == "a = 1\n"

    def test_the_record_names_files_and_holds_no_text(self, todo, record):
        write(todo, record, NOW, lambda: "")
        (entry,) = json.loads(record.read_text())["writes"]
        assert [Path(each["path"]).name for each in entry["files"]] == ["map", "main.cf"]
        assert "ller" not in record.read_text()
