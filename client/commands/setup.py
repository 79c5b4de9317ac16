"""`fedforget-site init`, `join` and `rotate`: become and stay a member of a federation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from common.errors import InputError
from common.platform.keys.certificates import fingerprint
from common.platform.terminal.console import AsJson, Folder, clear_errors, show


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the hospital.")],
    server: Annotated[
        str, typer.Option("--server", metavar="HOST[:PORT]", help="Address of the coordinator's gateway.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the hospital: lower-case letters, digits, hyphens.")],
    ca_fingerprint: Annotated[
        str,
        typer.Option("--ca-fingerprint", help="Fingerprint of the federation's authority, as read out by telephone."),
    ],
    as_json: AsJson = False,
) -> None:
    """Create the hospital's keys, which never leave it, its settings and the enrolment request."""
    from client.membership.setup import SiteRequest, create_site  # noqa: PLC0415 - the database's code, for commands that need it

    with clear_errors():
        request = create_site(folder, SiteRequest(name, server, ca_fingerprint))
        _show_request(folder / "enrolment-request.json", request, f"created {folder}", as_json=as_json)


def join(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="NAME-join.json from the coordinator.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Verify the coordinator's bundle and install it; may be repeated."""
    from client.membership.enrolment import join as join_federation  # noqa: PLC0415 - the database's code
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        try:
            data = bundle.read_bytes()
        except OSError as err:
            raise InputError(f"cannot read: {err.strerror}", where=str(bundle), remedy="check the path") from None

        membership = join_federation(SiteFolder(folder), data, datetime.now(UTC))
        until = membership.certificate.not_valid_after_utc
        show(
            {
                "site": membership.bundle.site,
                "gateway": membership.bundle.gateway,
                "coordination": membership.bundle.coordination,
                "certificate_until": until,
            },
            f"{membership.bundle.site} belongs to the federation at {membership.bundle.gateway}; its certificate is "
            f"valid until {until:%Y-%m-%d} (run `fedforget-site rotate` before then). "
            f"Next: fedforget-site {_next_step(membership.bundle.experiment, folder)}",
            as_json=as_json,
        )


def _next_step(experiment: str, folder: Path) -> str:
    """The command after `join`: an import if there is none, with the options that the federation's model needs."""
    from client.cohort.imports.own_encoders import options_for  # noqa: PLC0415 - the model's settings

    if (folder / "site.json").exists():
        return f"up --dir {folder}"
    return f"data import MANIFEST{options_for(experiment.encode())} --dir {folder}"


def rotate(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Create new keys and a request for them. The old keys stay in use until `join`."""
    from client.membership.enrolment import rotate as rotate_keys  # noqa: PLC0415 - the database's code
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        site = SiteFolder(folder)
        _show_request(site.request_file, rotate_keys(site), "created new keys", as_json=as_json)


def _show_request(path: Path, request: bytes, heading: str, *, as_json: bool) -> None:
    digest = fingerprint(request)
    show(
        {"request": str(path), "fingerprint": digest},
        f"{heading}\n\nSend {path} to the coordinator, and read out its fingerprint by telephone:\n  {digest}\n\n"
        "When you have received the bundle: fedforget-site join BUNDLE",
        as_json=as_json,
    )
