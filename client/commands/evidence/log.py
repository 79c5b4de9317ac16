"""`fedforget-site log`: the site's tamper-evident log, which identifies nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import InputError
from common.platform.event_log.commands import OpenLog, Side, log_commands
from common.platform.terminal.console import AsJson, Folder, clear_errors, show

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from client.evidence.event_log import SiteLog
    from common.evidence.keys import PublicKey
    from common.platform.event_log.store import EventLog

_DAYS_OF_A_YEAR = 365.25

Receipt = Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt, as `revocations list` shows it.")]


@contextmanager
def opened_site(folder: Path) -> Iterator[SiteLog]:
    """The site's log, brought up to date."""
    from client.database import opened, pending_migration  # noqa: PLC0415 - for commands that need the database
    from client.evidence.event_log import SiteLog  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415

    place = SiteFolder(folder)
    if not place.has_database:
        raise InputError(
            "there is no database here", where=str(folder), remedy="give the folder that `fedforget-site init` created"
        )
    with opened(place.database_url) as engine:
        if (schema := pending_migration(engine)) is not None:
            remedy = "`fedforget-site up` migrates it, after a backup"
            raise InputError(f"the database has schema {schema}", where=str(folder), remedy=remedy)

        site = SiteLog(place, engine, lambda: datetime.now(UTC))
        site.follow()
        yield site


@contextmanager
def _opened(folder: Path) -> Iterator[OpenLog]:
    """The log, brought up to date, within a read-only session."""
    with opened_site(folder) as site, site.reading() as session:
        yield site.log, session, site.key().public


def _problems(log: EventLog, session: Session, key: PublicKey) -> list[str]:
    from common.platform.event_log.check import problems  # noqa: PLC0415 - the database, for commands that need it

    return problems(log, session, key)


app = log_commands(
    Side(
        owner="site",
        folder="hospital",
        about="Show, verify and export the site's tamper-evident log of revocations and their outcomes.",
        content="the newest leaves, how far the coordinator has co-signed, and whether its log was refused",
        subject="every leaf and checkpoint",
        advice="ask the coordinator for its copy",
        open_log=_opened,
        problems=_problems,
    )
)


@app.command("restart", epilog="Example: fedforget-site log restart --reason 'restored from 1 March' --dir hospital")
def restart(
    reason: Annotated[str, typer.Option("--reason", help="Why the log has changed; must not identify anybody.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Record that the log was restored from a backup, so that the coordinator can accept it again."""
    from common.evidence.canonical import canonical  # noqa: PLC0415
    from common.platform.event_log.store import Record  # noqa: PLC0415 - the database, for commands that need it

    with clear_errors():
        if not reason.strip():
            raise InputError("the reason is empty", where="--reason", remedy="say what was restored, and from when")
        with opened_site(folder) as site, site.session() as session:
            size = len(site.log.leaves(session))
            document = canonical({"leaves": size, "reason": reason.strip()})
            # Each restart is a leaf of its own: the log takes what has the same name only once.
            record = Record(f"restarted:{site.log.random(8).hex()}", "log-restarted", document)
            site.log.append(session, [record], site.key())

        human = f"recorded after {size} leaves; ask the coordinator to run `fedforget-server site restart-log`"
        show({"leaves": size}, human, as_json=as_json)


@app.command("audit-events", epilog="Example: fedforget-site log audit-events audit.ndjson --dir hospital")
def audit_events(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, one AuditEvent per line (NDJSON).")],
    with_patients: Annotated[
        bool,
        typer.Option(
            "--with-patients", help="Identify the patients of revocations; for the hospital's own store only."
        ),
    ] = False,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Export FHIR R4 AuditEvents about revocations, access and unlearning for the hospital's audit store."""
    from client.account.audit_export import export_audit_events  # noqa: PLC0415 - for this command alone
    from client.intake.fhir.store.listings import interactions  # noqa: PLC0415 - the database

    with clear_errors(), opened_site(folder) as site:
        number = export_audit_events(site, to, interactions(site.engine), with_patients=with_patients)
        privacy_note = "they name patients" if with_patients else "they name nobody"
        show({"file": str(to), "events": number}, f"{to}: {number} AuditEvents; {privacy_note}", as_json=as_json)


@app.command(epilog="Example: fedforget-site log statement 3f9c1a5b7d2e4860 revocation.json --dir hospital")
def statement(
    receipt: Receipt,
    to: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write the signed statement about a receipt, to check whether an attestation covers it. It identifies nobody."""
    from client.membership.steward import steward_key  # noqa: PLC0415 - for this command alone
    from common.evidence.dsse import decode_envelope  # noqa: PLC0415
    from common.files import write_bytes  # noqa: PLC0415

    with clear_errors(), opened_site(folder) as site:
        data = site.statement(receipt)
        write_bytes(to, data)
        waits = steward_key(site.folder) is not None and len(decode_envelope(data).signatures) == 1
        state = "the steward has not signed yet: fedforget-site steward sign" if waits else "complete"
        human = f"{to}: for `fedforget-site verify --revocation`; {state}"
        show({"file": str(to), "state": state}, human, as_json=as_json)


@app.command("open", epilog="Example: fedforget-site log open 17 access-closed.json --dir hospital")
def open_leaf(
    leaf: Annotated[int, typer.Argument(metavar="LEAF", min=0, help="Number of the leaf, as `log show` prints it.")],
    to: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Write a leaf, the record that it commits to and the proof, for `verify --leaf`; e.g. what a campaign deleted."""
    from common.files import write_bytes  # noqa: PLC0415 - for this command alone

    with clear_errors(), opened_site(folder) as site:
        write_bytes(to, site.open_leaf(leaf))
        show({"file": str(to), "leaf": leaf}, f"{to}: for `fedforget-site verify --leaf`", as_json=as_json)


@app.command(epilog="Example: fedforget-site log erase --older-than 6 --dir hospital")
def erase(
    receipt: Annotated[
        str | None,
        typer.Argument(metavar="[RECEIPT]", help="Receipt, as `revocations list` shows it.", show_default=False),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="YEARS", min=1, help="Erase all settled receipts older than this."),
    ] = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Permanently erase the records behind a receipt's leaves. The leaves stay and show that something was revoked."""
    with clear_errors(), opened_site(folder) as site:
        if (receipt is None) == (older_than is None):
            raise InputError(
                "give either one receipt or --older-than YEARS", remedy="records are usually kept for six years"
            )
        if older_than is not None:
            receipts = site.settled_before(site.clock() - timedelta(days=older_than * _DAYS_OF_A_YEAR))
        else:
            receipts = (str(receipt),)

        for name in receipts:
            site.erase(name)
        human = f"the leaves of {', '.join(receipts)} can no longer be opened" if receipts else "no receipt is that old"
        show({"erased": [*receipts]}, human, as_json=as_json)
