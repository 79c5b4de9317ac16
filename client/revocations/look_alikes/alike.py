"""Holds on patients whom an identifier may mean that is not theirs.

The identifier is on hold under the receipt it came with; those who look like it are on hold under `alike_receipt`.
"""

from __future__ import annotations

from dataclasses import fields, replace

from client.revocations.revocation import Request, RevocationStatus, Source, alike_receipt

DOUBTFUL = "looks like a patient here and is not the same: see fedforget-site revocations doubtful"
"""Why an identifier is on hold."""
MAY_BE_MEANT = "may be meant by a revocation whose identifier looks like this patient's"
"""Why a patient is on hold."""


def alike_request(request: Request, pseudonym: str) -> Request:
    """The hold on those whom the identifier behind `pseudonym` may mean, which came with `request`."""
    number = alike_receipt(request.receipt, pseudonym)
    return replace(request, source=Source(request.source.kind, number), receipt=number, hold=MAY_BE_MEANT)


def request_of(standing: RevocationStatus) -> Request:
    """The request that a revocation came with."""
    return Request(**{one.name: getattr(standing, one.name) for one in fields(Request) if hasattr(standing, one.name)})
