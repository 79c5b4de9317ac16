"""`fedforget-server models`: list, verify, withdraw and export model versions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import EvidenceError, RefusedError
from common.evidence.outcomes.grounds_text import grounds_lines, outcome_text
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app

if TYPE_CHECKING:
    from rich.console import RenderableType

    from server.registry.registry import Registry
    from server.registry.versions import Version

app = sub_app("List, verify, export and withdraw the model versions.")

Name = Annotated[str, typer.Argument(metavar="VERSION", help="Version name, from `models list`.")]


@app.command("list", epilog="Example: fedforget-server models list --dir federation --json")
def list_models(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """List all versions, the newest last."""
    with clear_errors():
        rows = [_summary(version) for version in _open(folder).versions()]
        show(rows, _table(rows), as_json=as_json)


@app.command("show", epilog="Example: fedforget-server models show v0002 --dir federation")
def show_model(name: Name, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show one version: its record, its figures, which sites hold a copy, and whether a person overruled a veto."""
    from rich.console import Group  # noqa: PLC0415 - only for this drawing

    from common.platform.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server.attestation.overruling import overruled  # noqa: PLC0415

    with clear_errors():
        registry = _open(folder)
        version = registry.get(name)
        copies = [
            {"site": row.site, "sent": row.sent, "purged": row.purged} for row in registry.deliveries.recipients(name)
        ]
        exports = [
            {"recipient": row.recipient or None, "sent": row.sent, "purged": row.purged}
            for row in registry.exports.of(name)
        ]
        with transaction(registry.engine) as session:
            against = overruled(session, version.campaign)
        facts = version.manifest.provenance
        figures = [metric.model_dump() for metric in facts.metrics]
        fields = {
            **_summary(version),
            "weights": version.weights,
            "manifest": version.manifest_digest,
            "round": facts.round,
            "run": facts.run,
            "code": facts.code,
            "config": facts.config,
            "sites": list(facts.sites),
            "rests_on": list(grounds_lines(facts.outcome, facts.grounds)) if facts.outcome else None,
            "grounds": None if facts.grounds is None else asdict(facts.grounds),
            "overruled": None if against is None else against.text,
        }
        hidden = {"grounds", *(name for name in ("overruled", "rests_on", "outcome") if not fields[name])}
        for_people = {
            "sites": ", ".join(facts.sites),
            "outcome": facts.outcome and outcome_text(facts.outcome, facts.grounds),
        }
        file_group = Group(
            fields_table({k: v for k, v in {**fields, **for_people}.items() if k not in hidden}),
            rows_table(("figure", "value", "95 % from", "to", "patients"), map(_figure, figures)),
            rows_table(("site", "sent", "copy gone"), (row.values() for row in copies)),
            rows_table(
                ("exported to", "sent", "copy gone"),
                ((row["recipient"] or "not named", row["sent"], row["purged"]) for row in exports),
            ),
        )
        show({**fields, "figures": figures, "copies": copies, "exports": exports}, file_group, as_json=as_json)


@app.command(epilog="Example: fedforget-server models lineage v0003 --dir federation")
def lineage(name: Name, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show a version and its ancestors, the newest first."""
    with clear_errors():
        rows = [_summary(version) for version in _open(folder).lineage(name)]
        show(rows, _table(rows), as_json=as_json)


@app.command(epilog="Example: fedforget-server models verify --dir federation")
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Version name.", show_default="all versions")
    ] = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Compare every byte of the versions with their records. Exits with 6 if one differs."""
    with clear_errors():
        registry = _open(folder)
        if name is not None:
            names = [registry.get(name).name]
            registry.verify(name)
            state_of = dict.fromkeys(names, "whole")
        else:
            state_of = {v.name: _finding(registry, v) for v in registry.versions()}

        show(state_of, rows_table(("version", "found"), state_of.items()), as_json=as_json)
        bad = [key for key, text in state_of.items() if text not in {"whole", _DELETED}]
        if bad:
            raise EvidenceError(f"{', '.join(bad)}: not as published; restore the folder from its backup")


@app.command(epilog="Example: fedforget-server models export v0003 out --recipient 'University of X' --dir federation")
def export(
    name: Name,
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write to.")],
    recipient: Annotated[
        str,
        typer.Option("--recipient", help="Who gets it, as hospitals and regulators are told. Names no patient."),
    ] = "",
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too; needs the extra `onnx`.")] = False,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Export a version, with its model card and attestation, to a new folder that torch and safetensors can load.

    The export is recorded as a delivery to the recipient.
    """
    from common.platform.sql import transaction  # noqa: PLC0415 - the database, for commands that need it
    from server.attestation.export import add_to  # noqa: PLC0415

    with clear_errors():
        registry = _open(folder)
        out = registry.export(name, to, recipient, onnx=onnx)
        with transaction(registry.engine) as session:
            add_to(session, registry.get(name).campaign, out)
        files_written = sorted(path.name for path in out.iterdir())
        warning = "" if recipient.strip() else "\nWARNING: recorded without a recipient; name one with --recipient"
        show(
            {"folder": str(out), "files": files_written, "recipient": recipient.strip() or None},
            f"{name} is in {out}; start with README.md{warning}",
            as_json=as_json,
        )


@app.command(epilog="Example: fedforget-server models acknowledge v0003 'University of X' --dir federation")
def acknowledge(
    name: Name,
    recipient: Annotated[str, typer.Argument(metavar="RECIPIENT", help="Recipient, as `models show` names it.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Record that the recipient of an export said that its copies are deleted."""
    with clear_errors():
        count = _open(folder).exports.acknowledge(name, recipient)
        text = f"{name}: deleted at {recipient}; exports settled: {count}"
        show({"version": name, "recipient": recipient, "exports": count}, text, as_json=as_json)


@app.command(epilog="Example: fedforget-server models withdraw v0003 --reason 'may hold a backdoor' --dir federation")
def withdraw(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record and the log.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Withdraw a version for good. Hospitals delete their copies the next time they connect."""
    from server.campaign.context import open_house  # noqa: PLC0415 - the database, for commands that need it

    with clear_errors():
        house = open_house(folder)
        version = house.registry.get(name)
        campaign = house.store.open()

        # The campaign would publish a child of what nobody may use.
        if campaign is not None and campaign.parent == name:
            raise RefusedError(
                f"campaign {campaign.number} is open and builds on {name}: run `fedforget-server campaign cancel` first"
            )

        house.registry.withdraw(name, reason)
        copies = [row.site for row in house.registry.deliveries.recipients(name) if row.purged is None]
        exported_to = house.registry.exports.outstanding(name)
        text = f"{name} is withdrawn; copies to be deleted: {', '.join(copies) or 'none'}"
        if exported_to:
            names = ", ".join(one or "not named" for one in exported_to)
            text += f"\ntell these recipients of exports to delete theirs: {names}"
        if version.state == "active":
            text += "\nno version is in use now: `fedforget-server train` makes a new one"
        result = {
            "version": name,
            "state": "withdrawn",
            "was": version.state,
            "copies": copies,
            "exported_to": exported_to,
        }
        show(result, text, as_json=as_json)


_DELETED = "weights deleted, the record is left"


def _open(folder: Path) -> Registry:
    from server.campaign.context import open_house  # noqa: PLC0415 - the database, for commands that need it

    return open_house(folder).registry


def _finding(registry: Registry, version: Version) -> str:
    if version.weights_deleted is not None:
        return _DELETED
    try:
        registry.verify(version.name)
    except EvidenceError as error:
        return str(error)

    return "whole"


def _summary(version: Version) -> dict[str, Any]:
    return {
        "version": version.name,
        "state": version.state,
        "since": version.state_since,
        "parent": version.parent,
        "campaign": version.campaign,
        "outcome": version.manifest.provenance.outcome,
        "created": version.created,
        "weights_deleted": version.weights_deleted,
    }


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    """The columns that fit into a terminal of 80."""
    names = ("version", "state", "since", "parent", "campaign", "outcome")
    weights = ("deleted" if row["weights_deleted"] else "kept" for row in rows)

    return rows_table(
        (*names, "weights"), ([*(row[n] for n in names), w] for row, w in zip(rows, weights, strict=True))
    )


def _figure(metric: dict[str, Any]) -> list[str | int | None]:
    if metric["value"] is None:
        return [metric["name"], f"not measured: {metric['missing']}", None, None, None]
    low, high = (None if metric[key] is None else f"{metric[key]:.3f}" for key in ("low", "high"))
    return [metric["name"], f"{metric['value']:.3f}", low, high, metric["patients"]]
