"""Holds on patients whom a slightly different identifier may mean.

The identifier is on hold under its own receipt; the patients who resemble it are on hold under `alike_receipt`.
"""

from __future__ import annotations

from dataclasses import fields, replace

from client.revocations.revocation import Request, RevocationStatus, Source, alike_receipt

DOUBTFUL = "looks like a patient here and is not the same: see fedforget-site revocations doubtful"
"""Why an identifier is on hold."""
MAY_BE_MEANT = "may be meant by a revocation whose identifier looks like this patient's"
"""Why a patient is on hold."""


def alike_request(request: Request, pseudonym: str) -> Request:
    """The hold on the patients whom the identifier behind `pseudonym`, received with `request`, may mean."""
    number = alike_receipt(request.receipt, pseudonym)
    return replace(request, source=Source(request.source.kind, number), receipt=number, hold=MAY_BE_MEANT)


def request_of(standing: RevocationStatus) -> Request:
    """The request that a revocation came with."""
    return Request(**{one.name: getattr(standing, one.name) for one in fields(Request) if hasattr(standing, one.name)})
