"""`fedforget-server init` and `certificate renew`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common.platform.keys.certificates import certificate_fingerprint
from common.platform.terminal.console import AsJson, Folder, clear_errors, show, sub_app

certificate = sub_app("Renew the coordinator's TLS certificate.")


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the coordinator.")],
    hosts: Annotated[list[str], typer.Option("--host", help="Host that hospitals connect to; may be repeated.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Label, in the order of the outputs; repeat for each."),
    ] = None,
    database: Annotated[
        str,
        typer.Option(
            envvar="FEDFORGET_DATABASE",
            help="Empty PostgreSQL database, postgresql+pg8000://USER:PASSWORD@HOST/NAME; default: SQLite.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Create the federation's certificate authority, the coordinator's keys, server.toml and the database."""
    from server.membership.setup import create_server  # noqa: PLC0415 - the database's code, for commands that need it

    with clear_errors():
        ca = create_server(folder, hosts, datetime.now(UTC), classes or (), database)
        show(
            {"folder": str(folder), "ca_fingerprint": ca},
            f"made {folder}\n\nFingerprint of the federation's authority, to be given to hospitals by telephone:\n"
            f"  {ca}\n\nA hospital then makes its folder with:\n"
            f"  fedforget-site init DIR --server {hosts[0]} --name NAME --ca-fingerprint {ca}",
            as_json=as_json,
        )


def rotate(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the bundles of all hospitals.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Create a new signing key, and a new join bundle for each hospital. Stop `up` first."""
    from server.campaign.context import open_house  # noqa: PLC0415 - the database, for commands that need it
    from server.membership.key_rotation import rotate as rotate_key  # noqa: PLC0415

    with clear_errors():
        house = open_house(folder)
        rotation = rotate_key(house.folder, house.engine, out, datetime.now(UTC))
        names = ", ".join(rotation.bundles) or "no hospital yet"
        human = (
            f"signing key {rotation.new.keyid} takes over from {rotation.old.keyid}\n\n"
            f"Send each hospital its file from {out}, for `fedforget-site join`; "
            f"until then it takes no instruction: {names}"
        )
        fields = {
            "old": rotation.old.keyid,
            "new": rotation.new.keyid,
            "bundles": str(out),
            "sites": [*rotation.bundles],
        }
        show(fields, human, as_json=as_json)


@certificate.command(epilog="Example: fedforget-server certificate renew --dir federation")
def renew(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Issue a new TLS certificate for the hosts in server.toml, valid for 825 days. `up` uses it within two minutes."""
    from server.membership.setup import renew_certificate  # noqa: PLC0415 - the database's code, for commands that need it
    from server.settings import ServerFolder  # noqa: PLC0415

    with clear_errors():
        certificate_files = renew_certificate(ServerFolder(folder), datetime.now(UTC))
        until = certificate_files.not_valid_after_utc
        show(
            {"fingerprint": certificate_fingerprint(certificate_files), "valid_until": until},
            f"valid until {until:%Y-%m-%d}; `fedforget-server up` uses it within two minutes",
            as_json=as_json,
        )
