"""`fedforget-server site`: approve, list, show, revoke and readmit hospitals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group

from common.errors import InputError
from common.evidence.keys import PublicKey
from common.files import write_bytes
from common.platform.keys.certificates import fingerprint, read_certificate
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app
from common.platform.terminal.natural_order import natural
from server.commands import request_fingerprint

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from common.platform.actor import Actor
    from server.database import SiteRow

app = sub_app("Enrol, list, exclude and readmit hospitals.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the site.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Name of the person who decides.", show_default="login name")
]


@app.command(epilog="Example: fedforget-server site approve enrolment-request.json --dir federation")
def approve(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The hospital's enrolment-request.json.")],
    compare: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Fingerprint as read out by the hospital.", show_default="prompt"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the bundle.", show_default="NAME-join.json")
    ] = None,
    replace_keys: Annotated[
        bool,
        typer.Option("--replace-keys", help="Replace lost keys. Two people run the command, one after the other."),
    ] = False,
    by: By = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Approve a hospital or its new keys, and write the bundle that it joins with."""
    from common.platform.actor import in_words  # noqa: PLC0415
    from server.membership.enrolment import approve as approve_site  # noqa: PLC0415 - the database's code
    from server.membership.enrolment import find, open_authority, read_request  # noqa: PLC0415
    from server.membership.second_person import seconded  # noqa: PLC0415
    from server.settings import ServerFolder  # noqa: PLC0415

    with clear_errors():
        try:
            data = request.read_bytes()
        except OSError as err:
            raise InputError(f"cannot be read: {err.strerror}", where=str(request), remedy="check the path") from None

        authority = open_authority(ServerFolder(folder))
        with _session(folder) as session:
            name = read_request(session, data, replace_keys=replace_keys).request.name
        # Not within the transaction, which would keep the coordinator waiting while somebody telephones.
        request_fingerprint.compare(name, fingerprint(data), compare)
        path = out or Path(f"{name}-join.json")

        with _session(folder) as session:
            now = datetime.now(UTC)
            # Read again: another request of this hospital may have been approved meanwhile.
            site_request = read_request(session, data, replace_keys=replace_keys)
            replacement_text = ""

            if replace_keys:
                actor = _acting(by)
                what = f"replace keys by request {fingerprint(data)}"

                if not seconded(session, name, what, actor, now):
                    human = f"{name}: noted; a second person runs the same command with their own login"
                    show({"site": name, "kind": "proposed", "bundle": None}, human, as_json=as_json)
                    return

                old = PublicKey.from_pem(find(session, name).signing_key.encode()).keyid
                replacement_text = (
                    f", in place of {old} which was lost, by {actor.name} from {in_words(actor.identity)}"
                )

            approval = approve_site(session, authority, site_request, now, replaced=replacement_text)
            # Within the transaction: a bundle that cannot be written undoes the approval.
            write_bytes(path, approval.bundle)

        show(
            {"site": approval.site, "kind": approval.kind, "bundle": str(path)},
            f"{approval.site} {approval.kind}; send it {path}, for `fedforget-site join`",
            as_json=as_json,
        )


@app.command("list", epilog="Example: fedforget-server site list --dir federation --json")
def list_sites(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """List all hospitals, and what needs a person's decision."""
    from sqlalchemy import select  # noqa: PLC0415 - the database's code, for commands that need it

    from server.campaign.waiting import needs  # noqa: PLC0415
    from server.database import SiteRow  # noqa: PLC0415
    from server.membership.registration import in_force  # noqa: PLC0415
    from server.settings import ServerFolder  # noqa: PLC0415

    with clear_errors(), _session(folder) as session:
        site_rows = sorted(session.scalars(select(SiteRow)), key=lambda row: natural(row.name))
        studies = in_force(session)
        open_needs = needs(session, ServerFolder(folder).settings().policy)
        rows = [
            _summary(row) | {"studies": studies.get(row.name), "needs": "; ".join(open_needs.get(row.name, ()))}
            for row in site_rows
        ]
        columns = ("name", "state", "seen", "waiting", "first due", "version", "studies", "needs")
        show(rows, rows_table(columns, (row.values() for row in rows)), as_json=as_json)


@app.command("show", epilog="Example: fedforget-server site show north --dir federation")
def show_site(name: Name, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show one hospital: its state, key fingerprints and events."""
    from sqlalchemy import select  # noqa: PLC0415 - the database's code, for commands that need it

    from server.campaign.waiting import needs  # noqa: PLC0415
    from server.database import EventRow, unsigned64  # noqa: PLC0415
    from server.membership.conduct import conduct  # noqa: PLC0415
    from server.membership.enrolment import find  # noqa: PLC0415
    from server.membership.registration import history, in_force  # noqa: PLC0415
    from server.settings import ServerFolder  # noqa: PLC0415

    with clear_errors(), _session(folder) as session:
        row = find(session, name)
        events = session.scalars(select(EventRow).where(EventRow.site == name).order_by(EventRow.id))
        site_events = [{"at": event.at, "kind": event.kind, "detail": event.detail} for event in events]
        counts = history(session, name)
        fields = _summary(row) | {
            "studies": in_force(session).get(name),
            "needs": "; ".join(needs(session, ServerFolder(folder).settings().policy).get(name, ())),
            "aside_until": row.aside_until,
            "enrolled": row.enrolled,
            "revoked": row.revoked,
            "bad_replies": row.bad_replies,
            "repeatedly": conduct_of_site.repeated
            if (conduct_of_site := conduct(session, datetime.now(UTC)).get(name))
            else "",
            "node": None if row.node is None else str(unsigned64(row.node)),
            "signing_key": PublicKey.from_pem(row.signing_key.encode()).keyid,
            "certificate_until": read_certificate(row.certificate.encode(), name).not_valid_after_utc,
        }
        study_counts = [
            {"received": count.received, "studies": count.train_studies, "state": count.state, "reason": count.reason}
            for count in counts
        ]
        human = Group(
            fields_table(fields),
            rows_table(("registered", "studies", "state", "why"), (count.values() for count in study_counts)),
            rows_table(("at", "what", "detail"), (event.values() for event in site_events)),
        )
        show(fields | {"counts": study_counts, "events": site_events}, human, as_json=as_json)


@app.command(epilog="Example: fedforget-server site revoke north --reason 'left the federation' --dir federation")
def revoke(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record. Never name a patient.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Exclude a hospital: the federation no longer accepts its certificate and node key."""
    from server.membership.enrolment import revoke as revoke_site  # noqa: PLC0415 - the database's code

    with clear_errors(), _session(folder) as session:
        revoke_site(session, name, reason, datetime.now(UTC))
        show({"site": name, "state": "revoked"}, f"{name} is revoked", as_json=as_json)


@app.command(epilog="Example: fedforget-server site readmit north --dir federation")
def readmit(name: Name, folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Readmit a suspended hospital."""
    from server.membership.enrolment import readmit as readmit_site  # noqa: PLC0415 - the database's code

    with clear_errors(), _session(folder) as session:
        readmit_site(session, name, datetime.now(UTC))
        show({"site": name, "state": "active"}, f"{name} takes part again", as_json=as_json)


@app.command("approve-counts", epilog="Example: fedforget-server site approve-counts north 120 --dir federation")
def approve_counts(
    name: Name,
    studies: Annotated[
        int, typer.Argument(metavar="STUDIES", min=0, help="Number that the hospital confirmed; any other is refused.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record.")] = "",
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Approve a hospital's new number of studies. Ask the hospital for the number first."""
    from server.membership.enrolment import find  # noqa: PLC0415 - the database's code
    from server.membership.registration import approve as approve_count  # noqa: PLC0415

    with clear_errors(), _session(folder) as session:
        find(session, name)
        row = approve_count(session, name, studies, reason, datetime.now(UTC))
        human = f"{name} counts with {row.train_studies} studies from the next campaign on"
        show({"site": name, "studies": row.train_studies, "state": row.state}, human, as_json=as_json)


@app.command(
    "restart-log",
    epilog="Example: fedforget-server site restart-log north --reason 'backup restored' --dir federation",
)
def restart_log(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Reason, for the record. Never name a patient.")],
    by: By = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Restart a hospital's log, e.g. after it restored a backup. Two people run the command, one after the other."""
    from server.attestation.event_log import server_log  # noqa: PLC0415
    from server.campaign.context import utc_now  # noqa: PLC0415
    from server.membership.enrolment import find  # noqa: PLC0415 - the database's code
    from server.membership.log_restart import restart_log as begin_anew  # noqa: PLC0415
    from server.membership.second_person import seconded  # noqa: PLC0415

    with clear_errors(), _session(folder) as session:
        find(session, name)
        if not reason.strip():
            raise InputError("a reason is needed", where="--reason", remedy="say why the log is another one")
        if not seconded(session, name, "begin anew with its log", _acting(by), utc_now()):
            human = f"{name}: noted; a second person runs the same command with their own login"
            show({"site": name, "state": "proposed", "leaves": None}, human, as_json=as_json)
            return

        size = begin_anew(session, server_log(utc_now), name, reason.strip(), utc_now())
        human = f"{name}: its log is co-signed from the beginning; the one of {size} leaves stays in the record"
        show({"site": name, "state": "restarted", "leaves": size}, human, as_json=as_json)


def _acting(name: str | None) -> Actor:
    """Who acts, bound to the login that the operating system knows."""
    from common.platform.actor import Actor  # noqa: PLC0415 - for commands that need it
    from common.platform.login import login, login_name  # noqa: PLC0415

    return Actor(login_name() if name is None else name, login())


def _summary(row: SiteRow) -> dict[str, object]:
    return {
        "name": row.name,
        "state": row.state,
        "seen": row.seen,
        "waiting": row.pending,
        "first_due": row.first_due,
        "version": row.version,
    }


@contextmanager
def _session(root: Path) -> Iterator[Session]:
    from common.platform.sql import open_database, transaction  # noqa: PLC0415 - the database's code
    from server.database import pending_migration  # noqa: PLC0415
    from server.settings import ServerFolder  # noqa: PLC0415

    folder = ServerFolder(root)
    engine = open_database(folder.database_url(folder.settings()))

    try:
        if (schema := pending_migration(engine)) is not None:
            raise InputError(
                f"the database's schema is {schema}", where=str(root), remedy="`fedforget-server up` migrates it"
            )

        with transaction(engine) as session:
            yield session
    finally:
        engine.dispose()
