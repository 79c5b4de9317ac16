"""`fedforget-server train` and `fedforget-server campaign`: plan campaigns, which the coordinator's process runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import InputError, RefusedError
from common.platform.processes.up_lock import is_up, start_command
from common.platform.terminal.console import AsJson, Folder, clear_errors, rows_table, show, sub_app

if TYPE_CHECKING:
    from server.campaign.context import CoordinatorContext
    from server.commands.follow import Follower

app = sub_app("Start, follow, publish and cancel campaigns, which turn pending revocations into a new model version.")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Campaign number, from `campaign list`.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the campaign has ended, and show its progress.")]


def train(folder: Folder = Path("."), wait: Wait = False, as_json: AsJson = False) -> None:
    """Train a model with all hospitals and publish it. Requires a running `fedforget-server up`."""
    from server.campaign.asked import plan_training, waiting_sites  # noqa: PLC0415 - the database, for this command

    with clear_errors("the training continues; follow it with `fedforget-server campaign watch`"):
        house = _open(folder)
        if waiting := waiting_sites(house):
            sites = ", ".join(waiting)
            typer.echo(
                f"revocations wait at {sites}: so this training is a retraining, which forgets these patients", err=True
            )
        number = plan_training(house, "asked for")
        _started(house, number, wait=wait, as_json=as_json)


@app.command(epilog="Example: fedforget-server campaign start --dir federation --wait")
def start(folder: Folder = Path("."), wait: Wait = False, as_json: AsJson = False) -> None:
    """Start unlearning all pending revocations now, without waiting for the policy."""
    from server.campaign.asked import asked_of, plan_unlearning  # noqa: PLC0415 - the database, for this command

    with clear_errors("the campaign continues; follow it with `fedforget-server campaign watch`"):
        house = _open(folder)
        active = house.registry.active()
        if active is None:
            raise InputError("there is no model yet", remedy="run `fedforget-server train` first")
        number = plan_unlearning(house, active.name, asked_of(house), "asked for")
        _started(house, number, wait=wait, as_json=as_json)


@app.command("list", epilog="Example: fedforget-server campaign list --dir federation --json")
def list_campaigns(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """List all campaigns, the newest last."""
    with clear_errors():
        from server.campaign.description import summary  # noqa: PLC0415 - the database

        store = _open(folder).store
        verdicts = store.verdicts()
        rows = [summary(row, verdicts.get(row.number)) for row in store.all()]
        # Why it ended so is several sentences: `campaign show` has them.
        columns = ("number", "kind", "state", "outcome", "from", "result", "changed", "due")
        show(rows, rows_table(columns, ([row[name] for name in columns] for row in rows)), as_json=as_json)


@app.command("show", epilog="Example: fedforget-server campaign show 3 --dir federation")
def show_campaign(number: Number, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show one campaign with its steps and events."""
    with clear_errors():
        from server.campaign.description import details  # noqa: PLC0415 - the database
        from server.commands.follow import drawn  # noqa: PLC0415 - the database

        facts = details(_open(folder), number)
        show(facts, drawn(facts), as_json=as_json)


@app.command(epilog="Example: fedforget-server campaign watch --dir federation")
def watch(
    number: Annotated[
        int | None,
        typer.Argument(metavar="NUMBER", help="Campaign number.", show_default="the open campaign, else the last one"),
    ] = None,
    following: Annotated[bool, typer.Option("--next", help="Wait for the next campaign if none is open.")] = False,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Follow a campaign until it has ended. Exits with 5 if it published no version or no `up` is running."""
    with clear_errors("the campaign goes on"):
        house = _open(folder)
        follower = _follower(house, as_json=as_json)
        if following and house.store.open() is None:
            number = follower.next_campaign()
        if number is None:
            rows = house.store.all()
            if not rows:
                raise InputError("there is no campaign yet", remedy="run `fedforget-server train`")
            number = rows[-1].number

        follower.follow(number)


@app.command(epilog="Example: fedforget-server campaign publish 3 --reason 'the veto is a fault' --dir federation")
def publish(
    number: Number,
    reason: Annotated[
        str,
        typer.Option("--reason", help="Reason, for the record and the attestation."),
    ],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Publish a candidate that the utility decision or a veto stopped. The record names the reason that you give."""
    with clear_errors():
        house = _open(folder)
        # The setting of the plan counts: whoever dislikes a veto could switch it on now.
        if not house.terms.model_validate(house.store.get(number).settings).policy.may_overrule:
            raise RefusedError("policy.may_overrule was off when the campaign was planned")
        active = house.registry.active()
        house.store.overrule(number, reason, (active.campaign or 0) if active else 0)
        human = f"campaign {number} is open again and will be published"
        show({"number": number, "state": "overruled"}, human, as_json=as_json)


@app.command(epilog="Example: fedforget-server campaign cancel 3 --reason 'sent by mistake' --dir federation")
def cancel(
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Cancel a campaign. It publishes nothing, and its patients wait for the next campaign."""
    from server.rounds.states import CampaignState  # noqa: PLC0415 - the database's code, for commands that need it

    with clear_errors():
        house = _open(folder)
        house.store.get(number)
        house.store.end(number, CampaignState.CANCELLED, reason)
        house.store.clean(number)
        show({"number": number, "state": "cancelled"}, f"campaign {number} is cancelled", as_json=as_json)


def _open(folder: Path) -> CoordinatorContext:
    from server.campaign.context import open_house  # noqa: PLC0415 - the database, for commands that need them

    return open_house(folder)


def _started(house: CoordinatorContext, number: int, *, wait: bool, as_json: bool) -> None:
    if wait:
        _follower(house, as_json=as_json).follow(number)
        return

    up = is_up(house.folder.root)
    root = house.folder.root
    how = f"campaign {number} is planned; `fedforget-server campaign watch {number}` follows it"
    if not up:
        how = f"campaign {number} is planned; no `up` runs here, and it waits for one: {start_command('server', root)}"
    show({"number": number, "state": "planned", "up": up}, how, as_json=as_json)


def _follower(house: CoordinatorContext, *, as_json: bool) -> Follower:
    from server.commands.follow import Follower  # noqa: PLC0415 - the database, for commands that need it

    return Follower(house, as_json=as_json)
