"""The whole plan, from its parts."""

from pathlib import Path

from backstop.setup.changes import FileChange
from backstop.setup.postfix.maps import choose_forms, plan_maps
from backstop.setup.postfix.milters import plan_milters
from backstop.setup.postfix.pitfalls import find_pitfalls
from backstop.setup.postfix.plan import Plan, Step, View, Wanted, note


def plan(view: View, wanted: Wanted) -> Plan:
    """Everything to do and to say so that this Postfix works with Backstop as wanted."""
    steps: list[Step] = [*plan_maps(view, wanted), *plan_milters(view, wanted), *find_pitfalls(view, wanted)]
    forms = choose_forms(view, wanted)
    chosen = {forms[domain] for domain, form in wanted.forms.items() if form is None}
    delimiter = view.expanded["recipient_delimiter"]
    steps += [
        note(
            f'as recipient_delimiter is "{delimiter}", write in the configuration of Backstop, below '
            f'[defaults]: tag_form = "{form.value}"'
        )
        for form in chosen
    ]
    return Plan(tuple(steps))


def changes(view: View, chosen: Plan, folder: Path, present: dict[str, str]) -> tuple[FileChange, ...]:
    """The files that the plan changes; `present` are the maps that exist, by name. Maps come first."""
    wanted = [FileChange(folder / each.name, present.get(each.name), each.content) for each in chosen.maps]
    wanted.append(FileChange(folder / "main.cf", view.main, chosen.main(view.main)))
    wanted.append(FileChange(folder / "master.cf", view.master, chosen.master(view.master)))
    return tuple(change for change in wanted if change.before != change.after)
