"""`fedforget-site revocations doubtful`: identifiers that look like a patient's, and who is meant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands.rights.ledger_access import Who, acting, opened
from common.errors import InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, rows_table, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from client.revocations.ledger import Ledger
    from client.revocations.look_alikes.doubtful import Doubt
    from common.platform.actor import Actor

_COLUMNS = ("doubt", "receipt", "received", "identifier", "candidate", "patient", "set")


def doubtful(
    doubt: Annotated[
        str | None, typer.Argument(metavar="DOUBT", help="Number of the doubt to answer.", show_default="list all")
    ] = None,
    meant: Annotated[
        list[int] | None,
        typer.Option("--is", metavar="CANDIDATE", help="Number of a candidate who is the patient; may be repeated."),
    ] = None,
    stranger: Annotated[bool, typer.Option("--stranger", help="None of the candidates is the patient.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Reason, kept in the record; must not identify anybody.")
    ] = "",
    steward: Who = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="New file, readable by its owner only.")
    ] = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """List identifiers that resemble a patient's but differ from it, or record which patient is meant.

    No candidate is used until then. Identifiers are shown on a terminal or written to --to FILE, never to a pipe or
    as JSON.
    """
    with clear_errors(), opened(folder) as ledger:
        if doubt is None:
            if meant or stranger:
                raise InputError(
                    "the number of the doubt is missing",
                    where="DOUBT",
                    remedy="give it, or leave out --is and --stranger",
                )
            _list(ledger, to, as_json=as_json)
            return

        if bool(meant) == stranger:
            raise InputError(
                "it is not clear who is meant",
                where="--is, --stranger",
                remedy="give either --is CANDIDATE or --stranger",
            )
        _answer(ledger, doubt, frozenset(meant or ()), acting(steward), reason, as_json=as_json)


def _answer(ledger: Ledger, number: str, meant: frozenset[int], actor: Actor, reason: str, *, as_json: bool) -> None:
    from client.revocations.look_alikes.doubtful import answer  # noqa: PLC0415 - the database
    from client.revocations.look_alikes.ending_holds import PersonDecision  # noqa: PLC0415

    doubt = answer(ledger, number, meant, PersonDecision(actor, reason.strip()))
    used_again = len(doubt.candidates) - len(meant)
    fields = {
        "doubt": number,
        "receipt": doubt.revocation.receipt,
        "revoked": len(meant),
        "hold_ended": used_again,
    }
    outcome = (
        f"{len(meant)} patient(s) have revoked under receipt {doubt.revocation.receipt}"
        if meant
        else "none of the candidates"
    )
    show(fields, f"{number}: {outcome}; the hold on {used_again} other(s) has ended", as_json=as_json)


def _list(ledger: Ledger, to: Path | None, *, as_json: bool) -> None:
    from client.revocations.look_alikes.doubtful import doubts, hold_unheard  # noqa: PLC0415 - the database
    from common.files import write_private  # noqa: PLC0415

    # Older releases closed such identifiers as unknown: put their candidates on hold before they are listed.
    hold_unheard(ledger, ledger.known_patients())
    waiting = doubts(ledger)

    if as_json:
        keys = ("doubt", "receipt", "received", "candidate", "set")
        show([{key: row[key] for key in keys} for row in _rows(ledger, waiting, {})], "", as_json=True)
        return

    shows_names = to is not None or sys.stdout.isatty()
    rows = _rows(ledger, waiting, ledger.identifiers() if shows_names and waiting else {})

    if to is not None:
        lines = ["\t".join(_COLUMNS), *("\t".join(map(str, row.values())) for row in rows)]
        write_private(to, "".join(f"{line}\n" for line in lines).encode("utf-8"))
        show(None, f"{to}: {len(waiting)} doubts", as_json=False)
        return

    show(None, rows_table(_COLUMNS, [[row[name] for name in _COLUMNS] for row in rows]), as_json=False)
    if waiting:
        hint = (
            "" if shows_names else "Identifiers are shown on a terminal only; use --to FILE to write them to a file.\n"
        )
        example = "fedforget-site revocations doubtful DOUBT --is CANDIDATE --reason TEXT (or --stranger)"
        show(None, f"{hint}Answer: {example}", as_json=False)


def _rows(ledger: Ledger, waiting: tuple[Doubt, ...], names: Mapping[str, str]) -> list[dict[str, Any]]:
    sets = ledger.subsets() if waiting else {}
    return [
        {
            "doubt": doubt.number,
            "receipt": doubt.revocation.receipt,
            "received": doubt.revocation.received,
            "identifier": _shown(names, doubt.revocation.pseudonym),
            "candidate": candidate.number,
            "patient": _shown(names, candidate.pseudonym),
            "set": str(sets[candidate.pseudonym]) if candidate.pseudonym in sets else "not registered",
        }
        for doubt in waiting
        for candidate in doubt.candidates
    ]


def _shown(names: Mapping[str, str], pseudonym: str) -> str:
    """An identifier in quotes, as white space at its ends may be the difference; invisible characters are escaped."""
    if not names:
        return "(hidden)"
    name = names.get(pseudonym)
    if name is None:
        return f"(not known: {pseudonym[:16]})"
    return f"'{name}'" if name.isprintable() else ascii(name)
