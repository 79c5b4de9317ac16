"""`fedforget-site consent-client`: manage the programs that may call the hospital's consent service."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from client.settings import SiteFolder
from client.settings_sections import Role
from common.platform.terminal.console import (
    AsJson,
    Folder,
    clear_errors,
    counted,
    fields_table,
    rows_table,
    show,
    sub_app,
)

app = sub_app(
    "Manage clients of the gRPC consent service: the hospital's own programs, each with a certificate and a role."
)

Name = Annotated[str, typer.Argument(help="Name of the client, e.g. ehr-1.")]


@app.command("init", epilog="Example: fedforget-site consent-client init --host consent.hospital.example --dir north")
def init(
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="Name or address by which clients reach the service; may be repeated."),
    ] = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Create the certificate authority for the clients, and the service's certificate. Run again to renew it."""
    from client.intake.grpc.authority import make_authority  # noqa: PLC0415 - cryptography, only where needed

    with clear_errors():
        place = SiteFolder(folder)
        is_new = make_authority(place, host or [place.settings().consent_service.host], datetime.now(UTC))
        fields = {
            "authority_made": is_new,
            "certificate": str((place.consent_service / "server.crt").relative_to(folder)),
        }
        show(fields, fields_table(fields), as_json=as_json)


@app.command("add", epilog="Example: fedforget-site consent-client add ehr-1 --role ehr --dir north")
def add(
    name: Name,
    role: Annotated[Role, typer.Option("--role", help="Role of the client; see docs/how-to/revocations.md.")],
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Create a key and a certificate for a client. Copy the folder to the client's machine, then delete it here."""
    from client.intake.grpc.authority import add_client  # noqa: PLC0415 - cryptography, only where needed

    with clear_errors():
        client_folder = add_client(SiteFolder(folder), name, role, datetime.now(UTC))
        fields = {"name": name, "role": role, "folder": str(client_folder)}
        show(fields, fields_table(fields), as_json=as_json)


@app.command("list", epilog="Example: fedforget-site consent-client list --dir north")
def list_(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """List all issued certificates and whether each is still accepted."""
    from client.intake.grpc.authority import clients  # noqa: PLC0415 - cryptography, only where needed

    with clear_errors():
        rows = [asdict(client) for client in clients(SiteFolder(folder))]
        columns = ("name", "role", "until", "withdrawn")
        show(rows, rows_table(columns, [[row[c] for c in columns] for row in rows]), as_json=as_json)


@app.command("remove", epilog="Example: fedforget-site consent-client remove ehr-1 --dir north")
def remove(name: Name, folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Withdraw a client's certificates, starting with its next call."""
    from client.intake.grpc.authority import remove_client  # noqa: PLC0415 - cryptography, only where needed

    with clear_errors():
        count = remove_client(SiteFolder(folder), name)
        show({"name": name, "withdrawn": count}, f"{name}: {counted(count, 'certificate')} withdrawn", as_json=as_json)
