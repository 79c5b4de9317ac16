"""`fedforget-site revocations`: list, inspect and decide about revocations."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands.doubtful import doubtful
from client.commands.rights.ledger_access import Who, acting, moment, opened, say_if_down, signing_as
from client.commands.rights.readmit import readmit
from client.commands.rights.receipt_history import exceptions_of, steps_of
from client.commands.rights.steward import PassphraseFile
from common.errors import InputError
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

if TYPE_CHECKING:
    from client.account.summary import Summary
    from client.revocations.ledger import Ledger

app = sub_app("List, inspect and decide about revocations. Identities are shown only on request.")

app.command("doubtful", epilog="Example: fedforget-site revocations doubtful --dir north")(doubtful)

Receipt = Annotated[str, typer.Argument(metavar="RECEIPT", help="Receipt, as `revoke` printed it.")]
_CODES = "expression (a), legal-obligation (b), public-task (b), public-health (c), archiving (d), research (d), "
_CODES += "statistics (d), legal-claims (e)"
_KEEPS = "everything, locked-copy, published-results, study-documents, images-and-reports"
Why = Annotated[str, typer.Option("--reason", help="Reason, kept in the record; must not identify anybody.")]


@app.command("list", epilog="Example: fedforget-site revocations list --open --dir north")
def list_(
    only_open: Annotated[bool, typer.Option("--open", help="List only receipts that are not settled.")] = False,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """List receipts with their state and the days left, most urgent first."""
    with clear_errors(), opened(folder) as ledger:
        now = ledger.clock()
        summaries = _summaries(ledger)
        rows = [_row(summary, now) for summary in summaries if summary.is_open or not only_open]
        # Settled receipts have no days left: they come last.
        rows.sort(key=lambda row: (row["days_left"] is None, row["due"], row["receipt"]))
        columns = (
            "receipt",
            "kind",
            "source",
            "patients",
            "known",
            "doubtful",
            "state",
            "scope",
            "received",
            "due",
            "days_left",
        )
        human = rows_table(columns, [[row[c] for c in columns] for row in rows], empty="no revocations")
        show(rows, human, as_json=as_json)


@app.command("show", epilog="Example: fedforget-site revocations show 6f1e0c5ab2d94e37 --dir north")
def show_(receipt: Receipt, folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Show one receipt and its history. Patients who took a step at the same time share a row."""
    from common.platform.actor import in_words  # noqa: PLC0415 - with the ledger

    with clear_errors(), opened(folder) as ledger:
        (summary,) = _summaries(ledger, receipt)
        first = ledger.standing(receipt)[0]
        row = _row(summary, ledger.clock())
        row |= {"recorded_by": first.steward, "recorded_from": in_words(first.identity)}
        steps = steps_of(ledger, receipt)
        exceptions = exceptions_of(ledger, receipt)
        if as_json:
            show({**row, "steps": steps, "exceptions": exceptions}, "", as_json=True)
            return

        counts = ", ".join(f"{number} {state}" for state, number in row["states"].items())
        show(row, fields_table({**row, "states": counts}), as_json=False)
        columns = ("at", "state", "patients", "by", "identity", "reason", "due")
        show(steps, rows_table(columns, [[step[column] for column in columns] for step in steps]), as_json=False)
        if exceptions:
            names = ("exception", "code", "keeps", "decided", "decided_by", "reason")
            table = rows_table(names, [[one[name] for name in names] for one in exceptions])
            show(exceptions, table, as_json=False)


@app.command("approve", epilog="Example: fedforget-site revocations approve 6f1e0c5ab2d94e37 --dir north")
def approve(
    receipt: Receipt,
    steward: Who = None,
    reason: Why = "",
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Private key of a steward, which signs the approval.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Approve a receipt as the second person, so that campaigns can take it up.

    The login or key must differ from the one that recorded it. A shared account needs --key.
    """
    from client.revocations.workflow import decisions  # noqa: PLC0415 - the database

    with clear_errors(), opened(folder) as ledger:
        _summaries(ledger, receipt)
        actor = acting(steward)
        signature = ""
        if key is not None:
            actor, signature = signing_as(ledger, actor, "approve", receipt, key, passphrase_file)
        count = decisions.approve(ledger, receipt, actor, reason, signature)
        _done(ledger, receipt, count, as_json)


@app.command(
    "hold", epilog='Example: fedforget-site revocations hold 6f1e0c5ab2d94e37 --reason "wrong form" --dir north'
)
def hold(
    receipt: Receipt, reason: Why = "", steward: Who = None, folder: Folder = Path(), as_json: AsJson = False
) -> None:
    """Keep campaigns from taking up a receipt until `steward resolve`. Use stays stopped; the due date stays."""
    from client.revocations.workflow import decisions  # noqa: PLC0415 - the database

    with clear_errors(), opened(folder) as ledger:
        _done(ledger, receipt, decisions.hold(ledger, receipt, acting(steward), reason), as_json)


@app.command(
    "refuse",
    epilog="Example: fedforget-site revocations refuse 6f1e0c5ab2d94e37 --code legal-claims --keeps locked-copy "
    '--reason "case 12 is pending" --dir north',
)
def refuse(
    receipt: Receipt,
    code: Annotated[str, typer.Option("--code", help=f"Reason code: {_CODES}.")],
    keeps: Annotated[
        str, typer.Option("--keeps", help=f"What is not erased: {_KEEPS}. The default refuses the request in whole.")
    ] = "everything",
    reason: Why = "",
    steward: Who = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Refuse a request, or keep a part, by an exception of GDPR Art. 17(3). In whole, only a request for erasure."""
    from client.revocations.exemptions import Exemption, keep_in_part  # noqa: PLC0415
    from client.revocations.workflow import decisions  # noqa: PLC0415 - the database

    with clear_errors(), opened(folder) as ledger:
        exemption = Exemption(code, keeps)
        decide = decisions.refuse if exemption.is_whole else keep_in_part
        count = decide(ledger, receipt, acting(steward), reason, exemption)
        (summary,) = _summaries(ledger, receipt)
        fields = {
            "receipt": receipt,
            "patients": count,
            "state": str(summary.state),
            "exception": exemption.article,
            "keeps": keeps,
        }
        text = f"{receipt}: {count} patient(s) {summary.state}; kept: {keeps}, by GDPR Art. {exemption.article}"
        show(fields, text, as_json=as_json)


@app.command(
    "extend",
    epilog="Example: fedforget-site revocations extend 6f1e0c5ab2d94e37 --until 2026-05-01 "
    '--reason "no campaign before May" --dir north',
)
def extend(
    receipt: Receipt,
    until: Annotated[str, typer.Option("--until", help="New due date, e.g. 2026-05-01.")],
    reason: Why = "",
    steward: Who = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Extend the due date by at most two months, within the first month. The patient is told the reason."""
    from client.revocations.workflow import decisions  # noqa: PLC0415 - the database

    with clear_errors(), opened(folder) as ledger:
        due = moment(until, "--until")
        count = decisions.extend(ledger, receipt, due, acting(steward), reason)
        show({"receipt": receipt, "due": due, "patients": count}, f"{receipt}: due {due:%Y-%m-%d}", as_json=as_json)


@app.command("export", epilog="Example: fedforget-site revocations export record.csv --dir north")
def export(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="New file, .csv or .json.")],
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Export everything that is known about each revocation, without identities, e.g. for a supervisory authority."""
    from client.account.account import accounts_of  # noqa: PLC0415 - the database
    from client.account.export import as_csv  # noqa: PLC0415
    from client.account.export import as_json as json_text  # noqa: PLC0415
    from client.revocations.linkage.tokens import read_linkage  # noqa: PLC0415
    from common.files import write_private  # noqa: PLC0415

    with clear_errors():
        kinds = {".csv": as_csv, ".json": json_text}
        if to.suffix not in kinds:
            raise InputError("the name must end in .csv or .json", where="FILE", remedy="choose another name")
        with opened(folder) as ledger:
            accounts = accounts_of(ledger, read_linkage(ledger.folder))
        write_private(to, kinds[to.suffix](accounts).encode("utf-8"))
        receipts = len({account.standing.receipt for account in accounts})
        human = f"{to}: {counted(receipts, 'receipt')}, {counted(len(accounts), 'row')}, one per patient and receipt"
        show({"file": str(to), "receipts": receipts, "rows": len(accounts)}, human, as_json=as_json)


@app.command("patients", epilog="Example: fedforget-site revocations patients 6f1e0c5ab2d94e37 --dir north")
def patients(
    receipt: Receipt,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="New file, readable by its owner only.")
    ] = None,
    folder: Folder = Path(),
) -> None:
    """Show who the patients are, on a terminal or in a new file; never in a pipe, a log or JSON."""
    from common.files import write_private  # noqa: PLC0415

    with clear_errors(), opened(folder) as ledger:
        _summaries(ledger, receipt)
        if to is None and not sys.stdout.isatty():
            raise InputError("identities are shown on a terminal only", remedy="give --to FILE")
        names = ledger.identifiers()
        # A pseudonym cannot be opened if its secret was lost; the patient is listed all the same.
        lines = sorted(names.get(s.pseudonym, f"(not known: {s.pseudonym})") for s in ledger.standing(receipt))
        text = "".join(f"{line}\n" for line in dict.fromkeys(lines))

        if to is None:
            sys.stdout.write(text)
        else:
            write_private(to, text.encode("utf-8"))


app.command(
    "readmit",
    epilog="Example: fedforget-site revocations readmit 6f1e0c5ab2d94e37 --document form.pdf "
    '--reason "opt-out taken back" --dir north',
)(readmit)


def _done(ledger: Ledger, receipt: str, count: int, as_json: bool) -> None:
    (summary,) = _summaries(ledger, receipt)
    fields = {"receipt": receipt, "patients": count, "state": str(summary.state)}
    show(fields, f"{receipt}: {count} patient(s) {summary.state}", as_json=as_json)
    say_if_down(ledger.folder.root, as_json=as_json)


def _summaries(ledger: Ledger, receipt: str | None = None) -> tuple[Summary, ...]:
    from client.account.summary import summarised  # noqa: PLC0415 - with the ledger

    summaries = summarised(ledger.standing(receipt))
    if receipt is not None and not summaries:
        raise InputError("no such receipt", where=str(ledger.folder.root), remedy="see fedforget-site revocations list")
    return summaries


def _row(summary: Summary, now: datetime) -> dict[str, Any]:
    fields = asdict(summary)
    fields["states"] = {str(state): number for state, number in summary.states.items()}
    del fields["number"]
    return {**fields, "state": str(summary.state), "days_left": summary.days_left(now)}
