"""`fedforget-site steward`: decisions of a hospital's data steward, and their signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, rows_table, show, sub_app
from common.printable import printable

app = sub_app("Decide about revocations on hold, and sign statements about revocations, as the data steward.")

KeyFile = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Private key of the steward.", show_default="DIR/steward/steward.pem"),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="File with the passphrase.", show_default="prompt"),
]


def _key_file(folder: Path, given: Path | None) -> Path:
    return given or folder / "steward" / "steward.pem"


@app.command(epilog="Example: fedforget-site steward init --dir hospital")
def init(
    key: KeyFile = None, passphrase_file: PassphraseFile = None, folder: Folder = Path("."), as_json: AsJson = False
) -> None:
    """Create the steward's key, encrypted with a passphrase, and print the line for site.toml."""
    from client.membership.steward import make_key  # noqa: PLC0415 - cryptography, for commands that need it
    from common.platform.keys.passphrase import ask_passphrase  # noqa: PLC0415

    with clear_errors():
        path = _key_file(folder, key)
        public = make_key(path, ask_passphrase(passphrase_file, "the steward's key", new=True))
        file = path.with_suffix(".pub")
        name = file.relative_to(folder) if file.is_relative_to(folder) else file.resolve()
        line = f'steward_key = "{name}"'
        human = f"created {path} and {file}\n\nAdd this line to site.toml, above the first [table]:\n  {line}"
        show({"key": str(path), "public": str(file), "keyid": public.keyid, "setting": line}, human, as_json=as_json)


@app.command("show", epilog="Example: fedforget-site steward show --dir hospital")
def show_steward(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """Show the steward's key and the statements that are waiting for its signature."""
    from client.commands.evidence.log import opened_site  # noqa: PLC0415 - the database, for commands that need it
    from client.membership.steward import steward_key, unsigned  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        public = steward_key(SiteFolder(folder))
        with opened_site(folder) as site:
            waiting = [item.receipt for item in unsigned(site)] if public else []
        keyid = public.keyid if public else None
        human = fields_table({"key": keyid, "waiting": ", ".join(waiting)})
        show({"keyid": keyid, "waiting": waiting}, human, as_json=as_json)


@app.command(epilog="Example: fedforget-site steward sign --dir hospital")
def sign(
    receipts: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECEIPT...", help="Receipts to sign.", show_default="all that are waiting"),
    ] = None,
    key: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Sign the waiting statements about revocations; `log statement` then writes them with both signatures."""
    from client.commands.evidence.log import opened_site  # noqa: PLC0415 - the database, for commands that need it
    from client.membership.steward import open_key, unsigned  # noqa: PLC0415
    from client.membership.steward import sign as sign_all  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.platform.keys.passphrase import ask_passphrase  # noqa: PLC0415

    with clear_errors(), opened_site(folder) as site:
        waiting = unsigned(site)
        items = [item for item in waiting if not receipts or item.receipt in receipts]

        if missing := set(receipts or ()) - {item.receipt for item in items}:
            raise InputError(
                f"{len(missing)} receipt(s) are not waiting for the steward", remedy="fedforget-site steward show"
            )

        if items:
            # The steward reads what the passphrase then signs.
            for item in () if as_json else items:
                show(None, "\n  ".join((item.receipt, *map(printable, item.says))), as_json=False)
            passphrase = ask_passphrase(passphrase_file, "the steward's key")
            place = SiteFolder(folder)
            sign_all(site, items, open_key(place, _key_file(folder, key), passphrase, may_sign_statements=True))

        receipts_signed = [item.receipt for item in items]
        show({"signed": receipts_signed}, f"signed {len(receipts_signed)} statement(s)", as_json=as_json)


@app.command("list", epilog="Example: fedforget-site steward list --dir hospital")
def list_(folder: Folder = Path("."), as_json: AsJson = False) -> None:
    """List what is on hold until the steward decides: which consent, why and since when. It identifies nobody."""
    from client.revocations.opening import open_ledger  # noqa: PLC0415 - the database, for commands that need it
    from client.revocations.revocation import State, consent_of  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        with open_ledger(SiteFolder(folder)) as ledger:
            on_hold = [standing for standing in ledger.standing() if standing.state is State.ON_HOLD]
        rows = [
            {
                "receipt": standing.receipt,
                "consent": consent_of(standing.source),
                "version": standing.source.version,
                "reason": standing.reason,
                "since": standing.since,
                "due": standing.due,
            }
            for standing in on_hold
        ]
        columns = ("receipt", "consent", "version", "reason", "since", "due")
        show(rows, rows_table(columns, [[*row.values()] for row in rows]), as_json=as_json)


@app.command(
    epilog="Example: fedforget-site steward resolve doubt-6f1e0c5ab2d94e37 --permit --by Lee --reason 'form is valid'"
)
def resolve(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt, as `steward list` shows it.")],
    permit: Annotated[bool, typer.Option("--permit/--revoke", help="Allow use again, or confirm the revocation.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Name of the person who decides.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason; kept in the record permanently.")],
    folder: Folder = Path("."),
    as_json: AsJson = False,
) -> None:
    """Decide about a receipt on hold. The ledger permanently records who decided, when and why."""
    from client.commands.rights.ledger_access import acting  # noqa: PLC0415 - with what follows
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.revocations.revocation import State  # noqa: PLC0415
    from client.revocations.workflow import decisions  # noqa: PLC0415 - the database, for commands that need it
    from client.settings import SiteFolder  # noqa: PLC0415

    with clear_errors():
        if not by.strip() or not reason.strip():
            raise InputError("a decision needs a name and a reason", where="--by, --reason", remedy="give both")
        with open_ledger(SiteFolder(folder)) as ledger:
            if not any(standing.state is State.ON_HOLD for standing in ledger.standing(receipt)):
                raise InputError("nothing under this receipt is on hold", remedy="see fedforget-site steward list")
            decide = decisions.refuse if permit else decisions.release
            number = decide(ledger, receipt, acting(by.strip()), reason.strip())
            states = sorted({str(standing.state) for standing in ledger.standing(receipt)})

        human = f"{number} patient(s): {', '.join(states)}"
        show({"receipt": receipt, "patients": number, "states": states}, human, as_json=as_json)
