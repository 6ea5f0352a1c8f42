"""What is wrong in Postfix where bounces are to be refused, and is not for `setup` to mend."""

import ipaddress
from collections.abc import Iterator

from backstop.address import Network
from backstop.setup.postfix.maps import plain
from backstop.setup.postfix.plan import LookupFailed, Remark, View, Wanted, note, warning
from backstop.setup.postfix.words import DomainClass, parse_milter, split_list

# A user that no site has, to ask tables about.
_NOBODY = "backstop-asks-for-nobody"

# Of an IPv6 address before the IPv4 address that is mapped into it.
_MAPPED_BITS = 96

_NEXT_HOP = (
    ", or let Postfix ask the next hop (reject_unverified_recipient), or Backstop "
    '(recipients = ["callahead:[HOST]:PORT"]); each next hop must refuse unknown users in the session: '
    "docs/never-a-source.md says how it is told"
)

#: The table of users of each class, that says who exists.
_USERS = {
    DomainClass.LOCAL: "local_recipient_maps",
    DomainClass.MAILBOX: "virtual_mailbox_maps",
    DomainClass.RELAY: "relay_recipient_maps",
}


def find_pitfalls(view: View, wanted: Wanted) -> Iterator[Remark]:
    """Find what the administrator should know before bounces are refused."""
    yield from _protocol(view)
    yield from _own_clients(view, wanted)
    yield from _milters(view)
    yield from _unknown_users(view, wanted)
    yield from _tables(view)
    yield from _senders(view)


def _protocol(view: View) -> Iterator[Remark]:
    if view.expanded.get("smtpd_forbid_bare_newline", "no") == "no":
        yield warning(
            "smtpd_forbid_bare_newline is off: strangers can smuggle mail past every filter "
            "(set it to normalize, or to yes where this Postfix knows no other; Postfix 3.7.9 or newer)"
        )


def _own_clients(view: View, wanted: Wanted) -> Iterator[Remark]:
    """Postfix relays for mynetworks without a login; whom Backstop takes for a stranger, it does not tag."""
    written = list(dict.fromkeys(item for item in view.list("mynetworks") if not item.startswith("!")))
    found = {item: _network(item) for item in written}
    unknown = [
        item
        for item, network in found.items()
        if network is not None and not any(_holds(own, network) for own in wanted.internal_networks)
    ]
    if unknown and wanted.internal_networks:
        yield warning(
            f"mynetworks holds {', '.join(unknown)}, which internal_networks of Backstop does not: mail of "
            "clients there that do not log in goes out untagged, and its bounces are not proved; name them "
            "there, or in relays"
        )
    if tables := [item for item, network in found.items() if network is None]:
        yield note(
            f"mynetworks holds {', '.join(tables)}: "
            "see that internal_networks of Backstop names the same clients"
        )


def _network(item: str) -> Network | None:
    """A network of mynetworks, `[::1]/128` among them; None for a table, a file or a name."""
    try:
        network = ipaddress.ip_network(item.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED_BITS}")


def _holds(wide: Network, narrow: Network) -> bool:
    if isinstance(wide, ipaddress.IPv4Network) and isinstance(narrow, ipaddress.IPv4Network):
        return narrow.subnet_of(wide)
    if isinstance(wide, ipaddress.IPv6Network) and isinstance(narrow, ipaddress.IPv6Network):
        return narrow.subnet_of(wide)
    return False


def _milters(view: View) -> Iterator[Remark]:
    if view.expanded.get("milter_default_action") == "accept":
        yield warning("milter_default_action = accept: while a milter is away, its mail passes unchecked")
    entries = {item for name in ("smtpd_milters", "non_smtpd_milters") for item in view.list(name)}
    for entry in sorted((parse_milter(item) for item in entries), key=lambda entry: entry.socket):
        if entry.option("default_action") == "accept":
            yield warning(
                f"milter {entry.socket}: default_action=accept lets mail pass unchecked while it is away"
            )
    if classes := view.expanded.get("internal_mail_filter_classes"):
        yield warning(
            f"internal_mail_filter_classes = {classes}: Postfix's own reports go through the milters; "
            "leave it empty"
        )
    if view.expanded.get("smtpd_milter_maps"):
        yield warning("smtpd_milter_maps: the clients it names pass Backstop by")
    overrides = split_list(view.expanded.get("receive_override_options", ""))
    if "no_milters" in overrides:
        yield warning("receive_override_options in main.cf holds no_milters: no milter is called at all")
    if "no_address_mappings" in overrides:
        yield warning("receive_override_options in main.cf holds no_address_mappings: tags are not taken off")


def _unknown_users(view: View, wanted: Wanted) -> Iterator[Remark]:
    classes = set(view.classes.values())
    # The next hop is asked (ADDRESS_VERIFICATION_README), about the address without the tag: probes pass
    # cleanup(8) too.
    restrictions = {*view.list("smtpd_recipient_restrictions"), *view.list("smtpd_relay_restrictions")}
    asks_next_hop = "reject_unverified_recipient" in restrictions
    for kind, name in _USERS.items():
        if asks_next_hop or view.expanded.get(name, "").strip():
            continue
        domains = {domain for domain, each in view.classes.items() if each is kind} - wanted.validated
        if domains:
            yield warning(
                f"{name} is empty: Postfix takes mail for any user of {', '.join(sorted(domains))}, and "
                "returns it later to people who may never have written; name the table of users"
                + (_NEXT_HOP if kind is DomainClass.RELAY else "")
            )
        if kind is DomainClass.RELAY:
            yield from _others_relayed(view)
    unlisted = {"reject_unlisted_recipient", "check_recipient_maps"}
    if view.expanded.get("smtpd_reject_unlisted_recipient") == "no" and not unlisted & restrictions:
        yield warning(
            "smtpd_reject_unlisted_recipient = no: mail for unknown users is taken and returned later"
        )
    if DomainClass.LOCAL in classes and view.expanded.get("luser_relay"):
        yield warning("luser_relay takes the mail of users that do not exist, bounces to forged ones too")


def _others_relayed(view: View) -> Iterator[Remark]:
    """Domains that Postfix takes mail for and Backstop does not protect: nobody judges their recipients."""
    if "relay_domains" not in view.named:  # by default it is nothing, or once was mydestination
        return
    ours = {*view.classes, *view.list("mydestination")}
    others = [item for item in view.list("relay_domains") if not item.startswith("!") and item not in ours]
    if others:
        yield note(
            f"relay_domains names {', '.join(others)}, which Backstop does not protect, and "
            f"relay_recipient_maps is empty: Postfix takes mail for any user there; name the table of "
            f"users{_NEXT_HOP}"
        )


def _tables(view: View) -> Iterator[Remark]:
    """Ask the tables about addresses that should not be in them."""
    for domain, kind in view.classes.items():
        for name in ("virtual_alias_maps", _USERS.get(kind, "")):
            if name and _has(view, name, f"@{domain}"):
                yield warning(f"{name} has @{domain}: every user of it exists, forged ones too")
        tagged = f"prvs=0000abcdef={_NOBODY}@{domain}", f"{_NOBODY}+prvs=0000abcdef@{domain}"
        for name in ("recipient_canonical_maps", "canonical_maps", "virtual_alias_maps"):
            if any(_has(view, name, address) for address in tagged) and not _has(view, name, f"@{domain}"):
                yield warning(
                    f"{name} in main.cf rewrites tagged addresses of {domain}, of users that do not exist "
                    "too: Postfix takes their mail and returns it later; take that table out"
                )


def _has(view: View, name: str, key: str) -> bool:
    try:
        return any(view.lookup(table, key) for table in plain(view.expanded.get(name, "")))
    except LookupFailed:
        # Whoever cannot be asked has said nothing; Postfix itself complains of the table in its log.
        return False


def _senders(view: View) -> Iterator[Remark]:
    """Rewriting of senders, measured with a tagged sender.

    Both canonical maps and smtp(8)'s generic maps act on what the milter made. In the sub-address form they
    find the user and carry the tag over to another address, for which it is not good, or drop it; in the prvs
    form they find nobody.
    """
    for name in ("sender_canonical_maps", "canonical_maps", "masquerade_domains", "smtp_generic_maps"):
        if view.expanded.get(name):
            yield warning(
                f"{name} is set: where it rewrites a tagged sender of ours, the tag no longer fits the "
                "address (sub-address form), or he is not rewritten (prvs form): put him into exempt_senders"
            )
