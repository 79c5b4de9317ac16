"""`fedforget-site init`, `join` and `rotate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common.errors import InputError
from common.platform.keys.certificates import fingerprint
from common.platform.terminal.console import AsJson, Folder, clear_errors, show


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder of the hospital.")],
    server: Annotated[str, typer.Option("--server", metavar="HOST[:PORT]", help="The coordinator's gateway.")],
    name: Annotated[str, typer.Option("--name", help="The hospital's name: small letters, digits, hyphens.")],
    ca_fingerprint: Annotated[
        str, typer.Option("--ca-fingerprint", help="Of the federation's authority, by telephone.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make the hospital's keys, which never leave it, its settings and the request to enrol."""
    from client.membership.setup import Asked, create_site  # noqa: PLC0415 - the database's code, for commands that need it

    with clear_errors():
        request = create_site(folder, Asked(name, server, ca_fingerprint))
        _show_request(folder / "enrolment-request.json", request, f"made {folder}", as_json=as_json)


def join(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="NAME-join.json of the coordinator.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Check the coordinator's bundle and take it into use; may be repeated."""
    from client.membership.enrolment import join as join_federation  # noqa: PLC0415 - the database's code
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        try:
            data = bundle.read_bytes()
        except OSError as err:
            raise InputError(f"cannot read: {err.strerror}", where=str(bundle), remedy="check the path") from None

        checked = join_federation(SiteFolder(folder), data, datetime.now(UTC))
        until = checked.certificate.not_valid_after_utc
        show(
            {
                "site": checked.bundle.site,
                "gateway": checked.bundle.gateway,
                "coordination": checked.bundle.coordination,
                "certificate_until": until,
            },
            f"{checked.bundle.site} belongs to the federation at {checked.bundle.gateway}; its certificate is valid "
            f"until {until:%Y-%m-%d} (`fedforget-site rotate` before). Next: fedforget-site up --dir {folder}",
            as_json=as_json,
        )


def rotate(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Make new keys and the request for them; the old ones stay in use until `join`."""
    from client.membership.enrolment import rotate as rotate_keys  # noqa: PLC0415 - the database's code
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        site = SiteFolder(folder)
        _show_request(site.request_file, rotate_keys(site), "made new keys", as_json=as_json)


def _show_request(path: Path, request: bytes, done: str, *, as_json: bool) -> None:
    digest = fingerprint(request)
    show(
        {"request": str(path), "fingerprint": digest},
        f"{done}\n\nSend {path} to the coordinator, and read out its fingerprint by telephone:\n  {digest}\n\n"
        "With the bundle that comes back: fedforget-site join BUNDLE",
        as_json=as_json,
    )
