"""`fedforget-site revocations readmit`: let a patient take part again, as a new patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.rights.ledger_access import Who, acting, opened, signing_as
from client.commands.rights.steward import KeyFile, PassphraseFile
from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, show

if TYPE_CHECKING:
    from client.revocations.ledger import Ledger


def readmit(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt of the revocation that is taken back.")],
    reason: Annotated[str, typer.Option("--reason", help="Reason, kept in the record; must not identify anybody.")],
    document: Annotated[
        Path, typer.Option("--document", help="Signed form in which they agree to take part again; kept in vault/.")
    ],
    patient_file: Annotated[
        Path | None,
        typer.Option(
            "--patient-file", help="File with the ids of the patients to readmit, if the receipt covers several."
        ),
    ] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Readmit all patients of the receipt.")] = False,
    steward: Who = None,
    key: KeyFile = None,
    passphrase_file: PassphraseFile = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Let a receipt's patient take part again, starting with the next campaign.

    For a receipt of several patients, give --patient-file or --everybody. What the model has forgotten stays forgotten
    until the next training. Import deleted data again.
    """
    from secrets import token_bytes, token_hex  # noqa: PLC0415 - with what follows, for commands that need it

    from client.revocations.vault import Vault  # noqa: PLC0415
    from client.revocations.workflow import readmission  # noqa: PLC0415

    with clear_errors("stopped; nothing was recorded"), opened(folder) as ledger:
        try:
            content = document.read_bytes()
        except OSError as err:
            raise InputError(f"cannot read: {err.strerror}", where="--document", remedy="check the path") from None

        if not content:
            raise InputError("the file is empty", where="--document", remedy="give the signed form")
        if everybody and patient_file is not None:
            raise InputError("contradict each other", where="--patient-file, --everybody", remedy="give one of them")
        actor = acting(steward)
        signature = ""
        if key is not None:
            actor, signature = signing_as(ledger, actor, "readmit", receipt, key, passphrase_file)
        vault = Vault(ledger.folder.vault, token_bytes)
        number = token_hex(8)
        is_recorded = False
        pseudonyms = _pseudonyms(ledger, patient_file)

        try:
            with ledger.writing() as writing:
                # The form is in the vault before the ledger refers to it, and goes again if nothing does.
                commitment = vault.keep(number, content)
                patients = readmission.everybody_of(writing, receipt) or None if everybody else pseudonyms
                count, still = readmission.readmit(
                    ledger,
                    writing,
                    receipt,
                    actor,
                    reason,
                    form=(number, commitment),
                    patients=patients,
                    signature=signature,
                )

            is_recorded = True
        finally:
            if is_recorded:
                vault.settle(number)
            else:
                vault.erase(number)

        fields = {"receipt": receipt, "patients": count, "state": "readmitted", "form": number, "still_stopped": still}
        also = f"; {still} of them stay excluded by another receipt" if still else ""
        human = f"{receipt}: {count} patient(s) take part again from the next campaign{also}; import their data again"
        show(fields, human, as_json=as_json)


def _pseudonyms(ledger: Ledger, patient_file: Path | None) -> frozenset[str] | None:
    """The patients in a file; None without one."""
    from common.learning.data.tables.patient_list import read_patient_list  # noqa: PLC0415 - as above

    if patient_file is None:
        return None
    names = read_patient_list(patient_file, ledger.is_near)

    return frozenset(ledger.pseudonyms.of(ledger.spelled(name)) for name in names)
