"""The milter lines: who calls Backstop, under which name, and what happens when it does not answer."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from backstop.setup.postfix.files import Service
from backstop.setup.postfix.plan import (
    Remark,
    SetOption,
    SetParameter,
    Step,
    View,
    Wanted,
    note,
    refusal,
    warning,
)
from backstop.setup.postfix.words import MilterEntry, parse_milter, split_list

# tempfail: while Backstop is away, mail waits at its sender; let in unchecked or sent untagged, it would cost
# its sender the bounces. 10 seconds: Backstop answers in milliseconds, or is ill.
_OPTIONS = "default_action=tempfail, command_timeout=10s"

_SUBMISSION = frozenset({"submission", "submissions", "smtps", "587", "465"})
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


def plan_milters(view: View, wanted: Wanted) -> Iterator[Step]:
    """Plan the milter lists of main.cf and the names of the services that call."""
    socket = _socket(wanted.socket, view)
    if isinstance(socket, Remark):
        yield socket
        return
    if not wanted.socket.startswith("unix:"):
        yield note(
            f"the socket {wanted.socket} is reached by TCP, which costs many times what a unix socket does"
        )
    yield from _lists(view, wanted, socket)
    yield from _daemon_names(view, wanted, socket)


def _socket(configured: str, view: View) -> str | Remark:
    """Backstop's socket as Postfix names it, or why Postfix cannot reach it."""
    kind, _, place = configured.partition(":")
    if kind in ("inet", "inet6"):
        port, _, host = place.partition("@")
        return f"inet:{host or 'localhost'}:{port}"
    queue = PurePosixPath(view.expanded["queue_directory"])
    path = PurePosixPath(place)
    if path.is_relative_to(queue):
        # Relative to the queue directory it is found from within the chroot and from without.
        return f"unix:{path.relative_to(queue)}"
    jailed = [service.label for service in view.commands("smtpd", "cleanup") if _is_jailed(service, view)]
    if jailed:
        return refusal(
            f"{', '.join(jailed)} run in a chroot, {queue}, and cannot reach {path} outside it: "
            f'set socket = "unix:{queue}/backstop/milter.sock" in the configuration of Backstop'
        )
    return f"unix:{path}"


def _is_jailed(service: Service, view: View) -> bool:
    """True in a chroot; before compatibility level 1, `-` in that column meant yes (COMPATIBILITY_README)."""
    old = view.expanded.get("compatibility_level", "0").strip() == "0"
    return service.chroot == "y" or (service.chroot == "-" and old)


def _lists(view: View, wanted: Wanted, socket: str) -> Iterator[Step]:
    """Ours goes first, in both lists; last where it replaces recipients.

    Milters are asked in their order, and a refusal by one spares the rest: Backstop refuses a bounce by its
    envelope, before a scanner reads it and before a greylist puts it off. A DKIM signer may come after it, as
    only the envelope is changed and no signature covers that. But no milter is told whom the ones after it
    refused: to replace such a recipient would be to bring him back.
    """
    # One of the two is often written as `$` and the name of the other: then one edit serves both.
    names = ["smtpd_milters", "non_smtpd_milters"]
    if "non_smtpd_milters" in _references(view.raw["smtpd_milters"]):
        names.reverse()
    first, second = names
    yield from _list(view, first, socket, is_last=wanted.replaces)
    if first not in _references(view.raw[second]):
        yield from _list(view, second, socket, is_last=wanted.replaces)
    if wanted.replaces:
        yield from _after_ours(view, socket)


def _after_ours(view: View, socket: str) -> Iterator[Remark]:
    items = view.list("smtpd_milters")
    ours = [number for number, item in enumerate(items) if _is_ours(item, socket, view)]
    later = [parse_milter(item).socket for item in items[ours[-1] + 1 :]] if ours else []
    if later:
        yield warning(
            f"smtpd_milters calls {', '.join(later)} after Backstop, which takes recipients away and puts"
            ' them back (quiet, or strip = "milter"): one that a later milter refused would come back; name'
            " Backstop last, or at least after each milter that refuses single recipients"
        )


def _list(view: View, name: str, socket: str, *, is_last: bool) -> Iterator[Step]:
    items = split_list(view.raw[name])
    ours = f"{{ {socket}, {_OPTIONS} }}"
    kept = [item for item in items if not _is_ours(item, socket, view)]
    present = [parse_milter(item) for item in items if _is_ours(item, socket, view)]
    if not present and any(_is_ours(item, socket, view) for item in view.list(name)):
        # It comes in by another parameter's name.
        present = [parse_milter(item) for item in view.list(name) if _is_ours(item, socket, view)]
        if not all(_waits(entry, view) for entry in present):
            yield refusal(
                f"{name} names Backstop by way of another parameter, without default_action=tempfail"
            )
        return
    if len(present) == 1 and _waits(present[0], view):
        return
    yield SetParameter(name, ",\n    ".join([*kept, ours] if is_last else [ours, *kept]))


def _is_ours(item: str, socket: str, view: View) -> bool:
    written = parse_milter(item).socket
    kind, _, place = written.partition(":")
    if kind in ("unix", "local"):
        queue = PurePosixPath(view.expanded["queue_directory"])
        return queue / place == queue / socket.removeprefix("unix:")
    return written == socket


def _waits(entry: MilterEntry, view: View) -> bool:
    action = entry.option("default_action") or view.expanded.get("milter_default_action", "tempfail")
    return action == "tempfail"


def _daemon_names(view: View, wanted: Wanted, socket: str) -> Iterator[Step]:
    """Name the services whose mail is our own, and those where a content filter gives mail back."""
    general = view.expanded.get("milter_macro_daemon_name", "")
    if general in (wanted.originating, wanted.reinjecting):
        yield refusal(
            f"main.cf sets milter_macro_daemon_name = {general} for all services, the one for strangers too, "
            "whose mail would not be judged: set it with -o in master.cf, at the services for own users"
        )
        return
    for service in view.commands("smtpd"):
        yield from _daemon_name(service, view, wanted, socket)


def _daemon_name(service: Service, view: View, wanted: Wanted, socket: str) -> Iterator[Step]:
    submission, reinjection = _is_submission(service), _is_reinjection(service)
    if _calls_nobody(service, socket, view):
        yield _uncalled(service, submission=submission)
    elif service.sets("milter_macro_daemon_name"):
        name = service.option("milter_macro_daemon_name")
        if submission and name != wanted.originating:
            yield warning(
                f"{service.label} calls milters as {name}, which originating_daemons of Backstop should name"
            )
    elif submission and not _is_closed(service, view):
        yield warning(
            f"{service.label} looks like a service for own users, but no restriction of it in master.cf ends "
            f"with `reject` to keep strangers out: it gets no milter_macro_daemon_name={wanted.originating}"
        )
    elif submission:
        yield SetOption(service.label, "milter_macro_daemon_name", wanted.originating)
    elif reinjection:
        yield SetOption(service.label, "milter_macro_daemon_name", wanted.reinjecting)
        yield note(
            f"{service.label} takes mail back from a content filter: Backstop lets it pass a second time"
        )


def _uncalled(service: Service, *, submission: bool) -> Remark:
    if submission:
        return warning(
            f"{service.label} calls other milters than main.cf names, so its mail goes out untagged and its "
            "bounces would be refused: add Backstop to its -o smtpd_milters, or take that option away"
        )
    return note(f"{service.label} calls no milter of main.cf, by its own options: left as it is")


def _calls_nobody(service: Service, socket: str, view: View) -> bool:
    milters = service.option("smtpd_milters")
    if milters is not None and "smtpd_milters" not in _references(milters):
        return not any(_is_ours(item, socket, view) for item in split_list(milters))
    return "no_milters" in split_list(service.option("receive_override_options") or "")


def _is_submission(service: Service) -> bool:
    port = service.name.rpartition(":")[2]
    log = (service.option("syslog_name") or "").rpartition("/")[2]
    return service.type == "inet" and (port in _SUBMISSION or log in _SUBMISSION)


def _is_closed(service: Service, view: View) -> bool:
    """True when strangers cannot even write to our own users there: a restriction ends with `reject`."""
    for stage in ("client", "helo", "sender", "relay", "recipient"):
        items = split_list(_expand(service.option(f"smtpd_{stage}_restrictions") or "", view))
        if items and items[-1] == "reject":
            return True
    return False


def _is_reinjection(service: Service) -> bool:
    """True for the way back from a content filter (FILTER_README): on loopback, with no filter itself."""
    networks = split_list(service.option("mynetworks") or "")
    return (
        service.name.startswith(_LOOPBACK)
        and service.option("content_filter") == ""
        and bool(networks)
        and all(network.startswith(("127.", "[::1]")) for network in networks)
    )


def _references(value: str) -> set[str]:
    """The names of parameters that a value takes over whole."""
    return {item.strip("${}() ") for item in split_list(value) if item.startswith("$")}


def _expand(value: str, view: View) -> str:
    """Replace `$name` once, as in `$mua_client_restrictions` of the shipped master.cf."""
    for name in _references(value):
        for written in (f"${{{name}}}", f"$({name})", f"${name}"):
            value = value.replace(written, view.expanded.get(name, ""))
    return value
