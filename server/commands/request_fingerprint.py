"""The fingerprint of a hospital's enrolment request, compared by two people over the telephone."""

from __future__ import annotations

import sys

import typer

from common.errors import EvidenceError, InputError, RefusedError
from common.platform.keys.certificates import parse_fingerprint
from common.printable import printable


def compare(name: str, of_request: str, as_read_out: str | None) -> None:
    """Compare the fingerprint of the request with the one that the hospital reads out; without one, ask.

    Raises:
        EvidenceError: they differ.
        InputError: none was given, and there is no terminal to ask at.
        RefusedError: the person at the terminal says that they differ.
    """
    if as_read_out is not None:
        # By telephone, since the file came over a channel on which somebody may have swapped it.
        if parse_fingerprint(as_read_out, "--fingerprint") != of_request:
            raise EvidenceError(
                f"the request has the fingerprint {of_request}, not the one given: do not approve it; ask the hospital "
                "to read out `sha256sum enrolment-request.json`, and to send the file again if it differs"
            )

        return

    if not sys.stdin.isatty():
        raise InputError(
            "the request's fingerprint was not compared", remedy="ask the hospital for it and give --fingerprint"
        )

    typer.echo(f"Request of {printable(name)}, with the fingerprint\n  {of_request}", err=True)
    if not typer.confirm("Does the hospital read out the same fingerprint, by telephone?", err=True):
        raise RefusedError("not approved")
