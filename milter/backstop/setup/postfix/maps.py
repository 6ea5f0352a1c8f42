"""The maps and the delimiter: that tagged addresses of our users exist, and lose the tag on delivery.

smtpd(8) looks a recipient up before any milter does. A sub-address it understands by itself, given the
recipient_delimiter; for the prvs form each table of users is asked a second time, the tag taken off
(pipemap), so that unknown users are refused as ever. cleanup(8) takes the tag off in both forms: a bounce
that Postfix writes itself passes no milter, and where an alias leads elsewhere or the next hop knows no
sub-addresses, the tag must not travel on.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files

from backstop.batv import TagForm
from backstop.setup.postfix.plan import (
    Remark,
    SetOption,
    SetParameter,
    Step,
    View,
    Wanted,
    WriteMap,
    note,
    refusal,
    warning,
)
from backstop.setup.postfix.words import DomainClass, split_list

#: What the names of our map files begin with; an item of a list that holds it is ours to replace.
PREFIX = "backstop_"

STRIP, LOOKUP, LOCAL = (f"{PREFIX}{name}.regexp" for name in ("strip", "lookup", "local"))

_FOLDER = "$config_directory"

# Each looks the envelope sender up by its whole address, after the milter has changed it. Not among them:
# smtpd_sender_login_maps, which smtpd(8) asks at MAIL and RCPT, while the sender is as the client gave it.
_BY_SENDER = ("sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps")


def choose_forms(view: View, wanted: Wanted) -> Mapping[str, TagForm]:
    """Give each domain the form it wants, or the one that fits the recipient_delimiter.

    Only a `+` alone will do for the sub-address form: Postfix divides an address at the first of several
    delimiters, and with `+-` finds no o-hara in o-hara+prvs=...@.
    """
    fitting = TagForm.SUBADDRESS if view.expanded["recipient_delimiter"] in ("", "+") else TagForm.PRVS
    return {domain: form or fitting for domain, form in wanted.forms.items()}


def plan_maps(view: View, wanted: Wanted) -> Iterator[Step]:
    """Plan delimiter, maps, and the options of cleanup(8) and virtual(8)."""
    forms = choose_forms(view, wanted)
    received = [domain for domain in forms if domain in view.classes]
    yield from _strangers(forms, view)
    if not received:
        return
    prvs = [domain for domain in received if forms[domain] is TagForm.PRVS]
    delimiters = view.expanded["recipient_delimiter"]
    if len(prvs) < len(received):
        yield from _delimiter(delimiters)
        delimiters = delimiters or "+"
    yield from _own_delimiters(delimiters, wanted)
    if prvs:
        yield from _obstacles(view)
        yield from _existence(view, prvs, delimiters)
    yield WriteMap(STRIP, render("strip", received))
    yield from _strip(view)


def render(name: str, domains: list[str], delimiters: str = "") -> str:
    """Fill one of the shipped maps in."""
    template = (files(__package__) / "recipe" / f"{name}.regexp").read_text()
    return (
        template.replace("%DOMAINS%", "|".join(domain.replace(".", r"\.") for domain in domains))
        .replace("%NAME%", _none_of(f"@{delimiters}"))
        .replace("%DELIMITER%", "|".join(_escape(one) for one in delimiters))
    )


def plain(value: str) -> tuple[str, ...]:
    """The items of a list without ours."""
    return tuple(item for item in split_list(value) if PREFIX not in item)


def _strangers(forms: Mapping[str, TagForm], view: View) -> Iterator[Remark]:
    for domain in forms:
        if domain not in view.classes:
            names = ", ".join(each.value for each in DomainClass)
            yield warning(f"this Postfix does not receive for {domain} ({names}): no map for it")


def _delimiter(delimiter: str) -> Iterator[Step]:
    if not delimiter:
        yield SetParameter("recipient_delimiter", "+")
        yield note(
            "recipient_delimiter becomes +: mail to user+anything is then delivered to user, unless there is "
            "a user+anything; so far it was refused"
        )
    elif "+" not in delimiter:
        yield refusal(
            f'the sub-address form needs a + in recipient_delimiter, which is "{delimiter}": set '
            'tag_form = "prvs" in the configuration of Backstop, or recipient_delimiter = + in main.cf'
        )
    elif delimiter != "+":
        others = delimiter.replace("+", "")
        yield warning(
            f'recipient_delimiter is "{delimiter}", and Postfix divides at the first: bounces to tagged '
            f'users with one of "{others}" in their name are refused; tag_form = "prvs" has no such trouble'
        )


def _own_delimiters(delimiters: str, wanted: Wanted) -> Iterator[Remark]:
    for own in sorted(wanted.delimiters - {delimiters}):
        yield warning(
            f'recipient_delimiter is "{own}" in the configuration of Backstop and "{delimiters}" in Postfix: '
            f'write recipient_delimiter = "{delimiters}" there'
        )


def _obstacles(view: View) -> Iterator[Remark]:
    """Why the prvs form cannot be: what looks the sender up finds no tagged one."""
    found = [name for name in _BY_SENDER if view.expanded.get(name)]
    if view.expanded.get("smtp_sender_dependent_authentication") == "yes":
        found.append("smtp_sender_dependent_authentication")
    if found:
        yield refusal(
            f"{', '.join(found)}: this Postfix routes mail by its sender, and the tag in front hides it: "
            'set tag_form = "subaddress" in the configuration of Backstop (with recipient_delimiter = + '
            "in main.cf), which Postfix sees through"
        )
    if not {"pipemap", "regexp", "unionmap"} <= view.map_types:
        yield refusal(
            "this Postfix has no pipemap, unionmap or regexp tables (postconf -m): it must be 3.0 or newer"
        )


def _existence(view: View, domains: list[str], delimiters: str) -> Iterator[Step]:
    """Plan the second question to each table of users that there is."""
    classes = {view.classes[domain] for domain in domains}
    local = [domain for domain in domains if view.classes[domain] is DomainClass.LOCAL]
    if delimiters:
        yield WriteMap(LOOKUP, render("lookup", domains, delimiters))
    # The whole address first, as Postfix does: a delimiter may be part of a name.
    whole = [[STRIP], [LOOKUP]] if delimiters else [[STRIP]]
    bare = [[*chain, LOCAL] for chain in whole]
    if local:
        yield WriteMap(LOCAL, render("local", local))
        # Tables that main.cf names itself may hold whole addresses beside bare names.
        chains = [*bare, *whole] if _is_own(view, "local_recipient_maps") else bare
        yield from _second_question(view, "local_recipient_maps", chains)
    # Aliases are looked up for domains of every class.
    yield from _second_question(view, "virtual_alias_maps", whole)
    if DomainClass.MAILBOX in classes:
        yield from _second_question(view, "virtual_mailbox_maps", whole)
        yield from _delivery(view)
    if DomainClass.RELAY in classes:
        yield from _second_question(view, "relay_recipient_maps", whole)


def _delivery(view: View) -> Iterator[Step]:
    """Plan plain tables for virtual(8): it takes no pattern that fills in text, and sees no tag."""
    tables = plain(view.raw["virtual_mailbox_maps"])
    for service in view.commands("virtual"):
        written = service.option("virtual_mailbox_maps")
        if written is None and tables:
            yield SetOption(service.label, "virtual_mailbox_maps", ",".join(tables))
        elif written is not None and split_list(written) != tables:
            yield warning(
                f"{service.label} has other virtual_mailbox_maps than main.cf: it delivers by {written}, and "
                f"recipients are taken by {', '.join(tables)}"
            )


def _is_own(view: View, name: str) -> bool:
    return name in view.named and plain(view.raw[name]) != ("proxy:unix:passwd.byname", "$alias_maps")


def _second_question(view: View, name: str, chains: list[list[str]]) -> Iterator[Step]:
    tables = plain(view.raw[name])
    # Without tables Postfix takes every recipient: there is nothing to ask.
    if not tables or not view.expanded[name].strip():
        return
    # A $name may stand for several tables, or for none.
    several = len(tables) > 1 or tables[0].startswith("$")
    users = f"unionmap:{{{', '.join(tables)}}}" if several else tables[0]
    pipes = [
        f"pipemap:{{{', '.join([*(f'regexp:{_FOLDER}/{name}' for name in chain), users])}}}"
        for chain in chains
    ]
    if split_list(view.raw[name]) != (*tables, *pipes):
        yield SetParameter(name, "\n    ".join([" ".join(tables), *pipes]))


def _strip(view: View) -> Iterator[Step]:
    """Plan the removal of the tag, by every cleanup(8): also Postfix's own bounces pass one."""
    for service in view.commands("cleanup"):
        written = service.option("recipient_canonical_maps")
        others = _other_canonical_maps(view, written)
        classes = service.option("recipient_canonical_classes")
        allowed = split_list(view.expanded["recipient_canonical_classes"] if classes is None else classes)
        if others and "envelope_recipient" not in allowed:
            yield refusal(
                "recipient_canonical_maps is for headers alone here (recipient_canonical_classes), and "
                "cleanup(8) needs it to take tags off the envelope: let canonical_maps do what it does"
            )
            return
        value = ",".join([f"regexp:{_FOLDER}/{STRIP}", *others])
        if written is None or split_list(written) != split_list(value):
            yield SetOption(service.label, "recipient_canonical_maps", value)
        if others and written is None:
            yield note(
                f"{service.label} takes over recipient_canonical_maps of main.cf as it is now: who changes "
                "it there later runs `backstop setup postfix` again"
            )
        if not others and classes is None:
            yield SetOption(service.label, "recipient_canonical_classes", "envelope_recipient")


def _other_canonical_maps(view: View, written: str | None) -> tuple[str, ...]:
    """The site's own maps: those of its option or of main.cf; also what came into main.cf since."""
    general = plain(view.raw["recipient_canonical_maps"])
    if written is None:
        return general
    if PREFIX not in written:
        return split_list(written)
    return tuple(dict.fromkeys((*plain(written), *general)))


def _none_of(characters: str) -> str:
    """A bracket expression for any other character; in one, `]` stands first and `-` last (regex(7))."""
    first = "]" if "]" in characters else ""
    last = "-" if "-" in characters else ""
    return f"[^{first}{''.join(one for one in characters if one not in ']-')}{last}]"


def _escape(character: str) -> str:
    return character if character.isalnum() else f"\\{character}"
