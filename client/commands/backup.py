"""`fedforget-site backup`, `restore` and `drill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from common.platform.backup.commands import Side, add_backup_commands

if TYPE_CHECKING:
    from common.platform.backup.backup import Finding, Folder

_TOMBSTONES = "tombstones.log"


def _folder(path: Path) -> Folder:
    from client.settings import SiteFolder  # noqa: PLC0415 - the settings, for a command that runs
    from common.platform.backup.backup import Folder as Described  # noqa: PLC0415

    site = SiteFolder(path)
    site.settings()
    outside = {}
    if not site.tombstones.resolve().is_relative_to(path.resolve()) and site.tombstones.exists():
        # The tombstones may lie elsewhere, so that restoring the folder does not bring back who has revoked since.
        outside[_TOMBSTONES] = site.tombstones

    return Described("site", path, site.database_url, outside=outside)


def _settle(path: Path, _database: str) -> list[str]:
    """Put the tombstones back, unless this machine still has them: those can only be newer."""
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.files import write_private  # noqa: PLC0415
    from common.platform.backup.archive import OUTSIDE  # noqa: PLC0415

    site = SiteFolder(path)
    notes = [
        "revocations that arrived since then, and opt-out lists, must be recorded again before `up`: compare with the "
        "office's letters, and with what the coordinator has co-signed (`fedforget-site doctor`)"
    ]
    copy = path / OUTSIDE / _TOMBSTONES
    if copy.exists():
        if site.tombstones.exists():
            notes.append(f"{site.tombstones} was still there and is kept; the older copy was removed")
        else:
            write_private(site.tombstones, copy.read_bytes())
            notes.append(f"{site.tombstones} was restored")
        copy.unlink()
    if (path / OUTSIDE / "database.db").exists():
        notes.append(f"the database lay outside the folder: move {path / OUTSIDE / 'database.db'} to its place")

    return notes


def _isolate(path: Path) -> None:
    """In a drill, nothing of the machine's live files may be read or written."""
    from client.settings import SiteFolder, SiteSettings  # noqa: PLC0415
    from common.platform.backup.archive import OUTSIDE  # noqa: PLC0415
    from common.platform.settings_file import set_values  # noqa: PLC0415

    site = SiteFolder(path)
    here = {}
    if (path / OUTSIDE / _TOMBSTONES).exists():
        here["tombstones"] = f"{OUTSIDE}/{_TOMBSTONES}"
    if site.settings().database:
        database_copy = path / OUTSIDE / "database.db"
        here["database"] = f"sqlite:///{(database_copy if database_copy.exists() else site.database).resolve()}"
    if here:
        set_values(site.settings_file, SiteSettings, here)


def _check(path: Path) -> list[Finding]:
    from client.commands.evidence.log import opened_site  # noqa: PLC0415 - the database, for this command
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.errors import FedForgetError  # noqa: PLC0415
    from common.platform.backup.backup import Finding as Found  # noqa: PLC0415
    from common.platform.event_log.check import problems  # noqa: PLC0415

    findings = []
    try:
        with open_ledger(SiteFolder(path)) as ledger:
            standing = ledger.standing()
            stopped_count = len(ledger.stopped())
        newest = f", the newest of {max(s.received for s in standing):%Y-%m-%d %H:%M}" if standing else ""
        detail = f"{len(standing)} revocations{newest}; {stopped_count} patients are not used"
        findings.append(Found("ledger and tombstones", ok=True, detail=detail))
        with opened_site(path) as site, site.reading() as session:
            faults = problems(site.log, session, site.key().public)
            leaves = len(site.log.leaves(session))
        findings.append(Found("log", ok=not faults, detail="; ".join(faults) or f"all {leaves} leaves hold"))
    # A copy that does not open is what this check looks for: a finding, so that the report is still printed.
    except FedForgetError as error:
        findings.append(Found("ledger and log", ok=False, detail=str(error)))

    return findings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_backup_commands(app, Side("site", "hospital", _folder, _settle, _isolate, _check))
