"""`fedforget-server train` and `fedforget-server campaign`: the coordinator's process does what they plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live

from common.errors import InputError, UnavailableError
from common.terminal import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app

if TYPE_CHECKING:
    from server.database import CampaignRow
    from server.house import House

app = sub_app("Campaigns: from waiting revocations to a published model.")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of the campaign, as `campaign list` shows it.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended, with a live table.")]


def train(folder: Folder = Path("."), wait: Wait = False, as_json: AsJson = False) -> None:
    """Train a model with all hospitals and publish it; `fedforget-server up` must be running."""
    with clear_errors("the training goes on; `fedforget-server campaign watch` shows it"):
        house = _open(folder)
        house.card  # noqa: B018 - raises when server.toml names no classes
        terms = house.terms.model_dump(mode="json")
        number = house.store.plan("training", terms, parent=None, due=None, reason="asked for")
        _started(house, number, wait=wait, as_json=as_json)


@app.command(epilog="Example: fedforget-server campaign start --dir federation --wait")
def start(folder: Folder = Path("."), wait: Wait = False, as_json: AsJson = False) -> None:
    """Forget the patients who wait now, without waiting for the policy to start a campaign."""
    with clear_errors("the campaign goes on; `fedforget-server campaign watch` shows it"):
        house = _open(folder)
        active = house.registry.active()
        if active is None:
            raise InputError("there is no model to forget from", remedy="run `fedforget-server train` first")
        due = min((s.first_due for s in house.sites() if s.state == "active" and s.first_due), default=None)
        terms = house.terms.model_dump(mode="json")
        number = house.store.plan("unlearning", terms, parent=active.name, due=due, reason="asked for")
        _started(house, number, wait=wait, as_json=as_json)


@app.command("list", epilog="Example: fedforget-server campaign list --dir federation --json")
def list_campaigns(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show all campaigns, the newest last."""
    with clear_errors():
        rows = [_summary(row) for row in _open(folder).store.all()]
        # Why it ended so is several sentences: `campaign show` has them.
        columns = ("number", "kind", "state", "from", "result", "changed", "due")
        show(rows, rows_table(columns, ([row[name] for name in columns] for row in rows)), as_json=as_json)


@app.command("show", epilog="Example: fedforget-server campaign show 3 --dir federation")
def show_campaign(number: Number, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show one campaign: its steps and all that happened in it."""
    with clear_errors():
        house = _open(folder)
        found = _details(house, number)
        show(found, _drawn(found), as_json=as_json)


@app.command(epilog="Example: fedforget-server campaign watch --dir federation")
def watch(
    number: Annotated[
        int | None, typer.Argument(metavar="NUMBER", help="The open campaign, or the last one, without it.")
    ] = None,
    following: Annotated[bool, typer.Option("--next", help="Wait for one that is not there yet.")] = False,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Follow a campaign until it has ended; exit code 0 when it published a version, 5 when not."""
    with clear_errors("the campaign goes on"):
        house = _open(folder)
        if following and house.store.open() is None:
            number = _next(house)
        if number is None:
            rows = house.store.all()
            if not rows:
                raise InputError("there is no campaign yet", remedy="run `fedforget-server train`")
            number = rows[-1].number
        _follow(house, number, as_json=as_json)


@app.command(epilog="Example: fedforget-server campaign cancel 3 --reason 'sent by mistake' --dir federation")
def cancel(
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="Stands in the record.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """End a campaign; nothing of it is published, and its patients wait for the next one."""
    from server.states import CampaignState  # noqa: PLC0415 - the database's code, for commands that need it

    with clear_errors():
        house = _open(folder)
        house.store.get(number)
        house.store.end(number, CampaignState.CANCELLED, reason)
        house.store.clean(number)
        show({"number": number, "state": "cancelled"}, f"campaign {number} is cancelled", as_json=as_json)


def _open(folder: Path) -> House:
    from server.house import open_house  # noqa: PLC0415 - the database, for commands that need them

    return open_house(folder)


def _started(house: House, number: int, *, wait: bool, as_json: bool) -> None:
    if wait:
        _follow(house, number, as_json=as_json)
        return
    how = f"campaign {number} is planned; `fedforget-server campaign watch {number}` follows it"
    show({"number": number, "state": "planned"}, how, as_json=as_json)


def _next(house: House, pause: Callable[[float], None] = time.sleep) -> int:
    """The number of the campaign after the last one, once it is there."""
    last = max((row.number for row in house.store.all()), default=0)
    with Console(stderr=True).status("waiting for a campaign to be planned"):
        while (row := house.store.open()) is None or row.number <= last:
            pause(1.0)
    return row.number


def _follow(house: House, number: int, *, as_json: bool, pause: Callable[[float], None] = time.sleep) -> None:
    """Redraw until the campaign has ended.

    Raises:
        UnavailableError: it ended without a version.
    """
    from server.states import CampaignState  # noqa: PLC0415 - see `_open`

    console = Console(stderr=as_json)
    with Live(console=console, refresh_per_second=4, transient=as_json) as live:
        while True:
            found = _details(house, number)
            live.update(_drawn(found))
            if CampaignState(found["state"]).ended:
                break
            pause(1.0)
    if as_json:
        show(found, "", as_json=True)
    if found["state"] != CampaignState.PUBLISHED:
        raise UnavailableError(f"campaign {number} is {found['state']}: {found['reason']}")


def _summary(row: CampaignRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "kind": row.kind,
        "state": row.state,
        "reason": row.reason,
        "from": row.parent,
        "result": row.result,
        "changed": row.changed,
        "due": row.due,
    }


def _details(house: House, number: int) -> dict[str, Any]:
    from common.sql import transaction  # noqa: PLC0415 - see `_open`
    from server.attestation import find  # noqa: PLC0415

    row = house.store.get(number)
    with transaction(house.engine) as session:
        attested = find(session, number)
    return {
        **_summary(row),
        "attestation": None if attested is None else attested.text,
        "attempt": row.attempt,
        "retry_at": row.retry_at,
        "steps": [
            {"step": phase.step, "finished": phase.finished}
            for phase in house.store.phases(number)
            if not phase.step.startswith("state:")
        ],
        "events": [
            {"at": event.at, "kind": event.kind, "site": event.site, "detail": event.detail}
            for event in house.store.events(number)
        ],
    }


def _drawn(found: dict[str, Any]) -> Group:
    fields = {name: value for name, value in found.items() if name not in {"steps", "events"}}
    events = rows_table(("at", "what", "site", "detail"), (event.values() for event in found["events"]))
    steps = ", ".join(step["step"] for step in found["steps"]) or "none yet"
    return Group(fields_table(fields), f"finished steps: {steps}", events)
