"""`fedforget-server backup`, `restore` and `drill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from common.platform.backup.commands import Side, add_backup_commands

if TYPE_CHECKING:
    from common.platform.backup.backup import Finding, Folder


def _folder(path: Path) -> Folder:
    from common.platform.backup.backup import Folder as Described  # noqa: PLC0415
    from server.settings import ServerFolder  # noqa: PLC0415 - the settings, for a command that runs

    server = ServerFolder(path)
    return Described("server", path, server.database_url(server.settings()), sqlite=(server.flower_database,))


def _settle(path: Path, database: str) -> list[str]:
    from common.platform.settings_file import set_values  # noqa: PLC0415
    from server.settings import ServerFolder, ServerSettings  # noqa: PLC0415

    notes = [
        "hospitals that were enrolled or suspended since then, and versions published, are not in it: compare "
        "with `fedforget-site doctor` at the hospitals before `up`"
    ]
    if database:
        set_values(ServerFolder(path).settings_file, ServerSettings, {"database": database})
        notes.append("server.toml names the database that was given")

    return notes


def _isolate(path: Path) -> None:
    """The drill of a folder with SQLite touches that folder only; a PostgreSQL snapshot is not loaded."""
    from common.platform.settings_file import unset_values  # noqa: PLC0415
    from server.settings import ServerFolder, ServerSettings  # noqa: PLC0415

    server = ServerFolder(path)
    if server.settings().database:
        unset_values(server.settings_file, ServerSettings, ["database"])


def _check(path: Path) -> list[Finding]:
    from common.errors import FedForgetError  # noqa: PLC0415
    from common.platform.backup.backup import Finding as Found  # noqa: PLC0415
    from server.campaign.context import open_house  # noqa: PLC0415 - the database, for this command
    from server.commands.log import opened, problems  # noqa: PLC0415

    findings = []
    try:
        house = open_house(path)
        try:
            versions = house.registry.versions()
            whole = [version.name for version in versions if version.weights_deleted is None]
            for name in whole:
                house.registry.verify(name)
            newest = f", the newest {versions[-1].name} of {versions[-1].created:%Y-%m-%d %H:%M}" if versions else ""
            findings.append(Found("models", ok=True, detail=f"{len(whole)} of {len(versions)} have weights{newest}"))
            running = [c.number for c in house.store.all() if c.open]
            open_now = f"campaign {running[0]} goes on at `up`" if running else "no campaign was open"
            findings.append(Found("campaigns", ok=True, detail=open_now))
        finally:
            house.engine.dispose()
        with opened(path) as (log, session, key):
            faults = problems(log, session, key)
            leaves = len(log.leaves(session))
        findings.append(Found("log", ok=not faults, detail="; ".join(faults) or f"all {leaves} leaves hold"))
    # A copy that does not open is what this check looks for: a finding, so that the report is still printed.
    except FedForgetError as error:
        findings.append(Found("models and log", ok=False, detail=str(error)))

    return findings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_backup_commands(app, Side("server", "federation", _folder, _settle, _isolate, _check))
