"""`fedforget-server qualify`: rehearse the procedure on patients who have not revoked, and see whether it qualifies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import InputError, UnavailableError
from common.platform.processes.up_lock import is_up, start_command
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show, sub_app

if TYPE_CHECKING:
    from server.campaign.context import CoordinatorContext
    from server.campaign.qualification.store import QualificationStore

app = sub_app("Qualify the unlearning procedure by rehearsals on patients who have not revoked.")

Number = Annotated[
    int | None, typer.Argument(metavar="NUMBER", help="Qualification number.", show_default="the last one")
]
POLL_SECONDS = 1.0
UP_SECONDS = 30.0
"""So long nobody has to run `up` before following ends."""


@app.command(epilog="Example: fedforget-server qualify plan --dir federation")
def plan(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show what would be registered, what it costs, and which number is missing if it cannot be done."""
    from server.campaign.qualification.description import plan_of  # noqa: PLC0415 - Flower, for this command

    with clear_errors():
        house, _ = _open(folder)
        facts = plan_of(house)
        show(facts, fields_table(facts), as_json=as_json)


@app.command(epilog="Example: fedforget-server qualify start --dir federation --wait")
def start(
    folder: Folder = Path("."),
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended, and show its progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register and begin a qualification. Campaigns take precedence; it continues after them."""
    from server.campaign.qualification.description import ask  # noqa: PLC0415 - Flower, for this command

    with clear_errors("the qualification continues; follow it with `fedforget-server qualify watch`"):
        house, store = _open(folder)
        number = ask(house)
        if wait:
            _follow(house.folder.root, store, number, as_json=as_json)
            return
        how = f"qualification {number} is requested; follow it with `fedforget-server qualify watch`"
        if not is_up(house.folder.root):
            how += f"; no `up` runs here, and it waits for one: {start_command('server', house.folder.root)}"
        show({"number": number, "state": "open"}, how, as_json=as_json)


@app.command(epilog="Example: fedforget-server qualify watch --dir federation")
def watch(number: Number = None, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Follow a qualification until it has ended. Exits with 5 if it did not qualify."""
    with clear_errors("the qualification goes on"):
        house, store = _open(folder)
        _follow(house.folder.root, store, _number(store, number), as_json=as_json)


@app.command("show", epilog="Example: fedforget-server qualify show --dir federation --json")
def show_qualification(number: Number = None, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show what was registered, the progress, and each part of the rule."""
    from server.campaign.qualification.description import details  # noqa: PLC0415 - Flower, for this command

    with clear_errors():
        _, store = _open(folder)
        facts = details(store, _number(store, number))
        show(facts, fields_table(_flat(facts)), as_json=as_json)


@app.command(epilog="Example: fedforget-server qualify stop --reason 'other settings' --dir federation")
def stop(
    reason: Annotated[str, typer.Option(help="Reason, for the record.")],
    number: Number = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """End an open qualification. It counts as an attempt if it was already registered."""
    with clear_errors():
        _, store = _open(folder)
        which = _number(store, number)
        if store.open() != which:
            raise InputError(f"qualification {which} has ended")
        store.stop(which, " ".join(reason.split()) or "stopped by a person")
        show({"number": which, "state": "stopped"}, f"qualification {which} is stopped", as_json=as_json)


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """For people: one line for each part and branch."""
    flat = {name: value for name, value in facts.items() if name not in {"criteria", "branches", "cost"}}
    for name, part in facts.get("criteria", {}).items():
        flat[name] = f"{'holds' if part['holds'] else 'does not hold'}: {part['finding']}"
    for name, branch in facts.get("branches", {}).items():
        flat[f"D, {name}"] = f"{branch['difference']:+.3f} ({branch['low']:+.3f} to {branch['high']:+.3f})"
    return flat


def _follow(root: Path, store: QualificationStore, number: int, *, as_json: bool) -> None:
    """Print a line for each change until it has ended.

    Raises:
        UnavailableError: it did not qualify, or no `up` runs here that could carry it on.
    """
    from server.campaign.qualification.description import details, state_of  # noqa: PLC0415 - Flower

    last = ""
    down = 0.0
    while state_of(store, number) == "open":
        standing = store.standing(number)
        time_left = "" if standing.seconds_left is None else f", about {standing.seconds_left:.0f} s left"
        line = f"qualification {number}: wave {standing.waves} of {standing.of or '?'}{time_left}"
        if standing.waits:
            line += f"; waits: {standing.waits}"
        if line != last:
            # Standard output is left to the result, which a script may read as JSON.
            typer.echo(line, err=True)
            last = line
        down = 0.0 if is_up(root) else down + POLL_SECONDS
        if down > UP_SECONDS:
            raise UnavailableError(f"no `up` runs here: {start_command('server', root)}")
        time.sleep(POLL_SECONDS)

    facts = details(store, number)
    show(facts, fields_table(_flat(facts)), as_json=as_json)
    if facts["state"] != "qualified":
        raise UnavailableError(f"qualification {number}: {facts['state']}: {facts['reason']}")


def _number(store: QualificationStore, number: int | None) -> int:
    numbers = store.numbers()
    if not numbers or (number is not None and number not in numbers):
        what = "qualification yet" if number is None else f"qualification {number}"
        raise InputError(f"there is no {what}", remedy="fedforget-server qualify start")
    return numbers[-1] if number is None else number


def _open(folder: Path) -> tuple[CoordinatorContext, QualificationStore]:
    from server.campaign.context import open_house  # noqa: PLC0415 - the database, for commands that need it
    from server.campaign.qualification.description import store_of  # noqa: PLC0415 - Flower

    house = open_house(folder)
    return house, store_of(house)
