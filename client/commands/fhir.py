"""`fedforget-site fhir`: set up the FHIR interface, show its status, read the hospital's FHIR server."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import typer

from client.settings import SiteFolder
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app

_COLUMNS = ("consent", "version", "reason", "since")

fhir = sub_app("Receive consents over HL7 FHIR. The output never identifies a patient.")


@fhir.command("init", epilog="Example: fedforget-site fhir init --dir hospital")
def init(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Create what is missing: the bearer token, the sign-in key and the secret for pseudonyms."""
    from client.intake.fhir.setup import make_keys  # noqa: PLC0415 - cryptography, for the command that needs it

    with clear_errors():
        place = SiteFolder(folder)
        new_files = make_keys(place)
        fields = {
            "made": [str(path.relative_to(folder)) for path in new_files],
            "to_register": str(place.fhir_jwks.relative_to(folder)),
        }
        show(fields, fields_table({**fields, "made": ", ".join(fields["made"])}), as_json=as_json)


@fhir.command("status", epilog="Example: fedforget-site fhir status --dir hospital")
def status(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Show the number of consents, how far the FHIR server was read, and the consents that a steward must review."""
    from client.intake.fhir.decisions.doubts import counts_of_all  # noqa: PLC0415 - the database
    from client.intake.fhir.service import open_intake  # noqa: PLC0415
    from client.intake.fhir.store.silence import count_silent  # noqa: PLC0415

    with clear_errors():
        config = SiteFolder(folder).settings().fhir
        with open_intake(SiteFolder(folder)) as intake:
            progress = intake.store.progress(intake.base)
            fields = {
                "enabled": config.enabled,
                "server": intake.base,
                **{name: value for name, value in asdict(progress).items() if name != "baseline"},
                **asdict(intake.store.tally()),
                # `unknown` alone are consents that nobody can judge.
                **{f"withdrawn_{name}": n for name, n in asdict(counts_of_all(intake.ledger)).items()},
            }
            silent = count_silent(intake.store.engine)
            steward = [{name: getattr(item, name) for name in _COLUMNS} for item in intake.steward_list()]

        if as_json:
            show({**fields, "silent": silent, "steward": steward}, "", as_json=True)
            return

        show(fields, fields_table(fields), as_json=False)
        show(silent, rows_table(("consents that do not mention this use", "number"), [*silent.items()]), as_json=False)
        show(steward, rows_table(_COLUMNS, [[*item.values()] for item in steward]), as_json=False)


@fhir.command("pull", epilog="Example: fedforget-site fhir pull --dir hospital")
def pull(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Read the changes since the last pull from the FHIR server."""
    from client.intake.fhir.pull.pull import pull as read_changes  # noqa: PLC0415 - the database
    from client.intake.fhir.service import open_intake, open_server  # noqa: PLC0415

    with clear_errors("stopped; what was read is kept and will be read again next time"):
        place = SiteFolder(folder)
        overlap = timedelta(seconds=place.settings().fhir.overlap_seconds)

        with open_intake(place) as intake, open_server(place) as server:
            fields = asdict(read_changes(server, intake, overlap))
            if not fields["others"]:
                del fields["others"]

        show(fields, fields_table(fields), as_json=as_json)


@fhir.command("reconcile", epilog="Example: fedforget-site fhir reconcile --dir hospital")
def reconcile(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Read everything from the FHIR server, process what hooks and pulls missed, and report it."""
    from client.intake.fhir.pull.pull import reconcile as read_all  # noqa: PLC0415 - the database
    from client.intake.fhir.service import open_intake, open_server  # noqa: PLC0415

    with clear_errors("stopped; what was read is kept and will be read again next time"):
        place = SiteFolder(folder)
        overlap = timedelta(seconds=place.settings().fhir.overlap_seconds)
        with open_intake(place) as intake, open_server(place) as server:
            differences = read_all(server, intake, overlap)
        changes = differences.pulled
        fields = {
            "read": changes.read,
            "missed": changes.new,
            "gone": differences.gone,
            "unusable": changes.unusable,
            "revoked": changes.revoked,
        }
        show(fields, fields_table(fields), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command group to the site's command line."""
    app.add_typer(fhir, name="fhir")
