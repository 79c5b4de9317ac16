"""The only way to patients who have revoked: an access, bound to one campaign, for unlearning and its audit.

The ledger records when it was opened and closed, and what was deleted at its end. Training and retention get sets by
name and never an access, so that they cannot read these patients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from client.revocations.revocation import Scope
from client.revocations.rows.ledger_tables import AccessRow
from common.errors import RefusedError
from common.learning.records import Cohort, Study

_BRANCHES: dict[Scope, tuple[bool, bool, bool]] = {
    "all": (True, True, True),
    "images": (True, False, True),
    "reports": (False, True, True),
}
"""Image, text, fused: the fused branch learns from both, so it is always included."""


class Access:
    """Reads the patients whom `campaign` must forget, until it ends; outside a campaign (0), all pending patients.

    Args:
        campaign: its number.
        patients: the patients, with the scopes of their revocations.
    """

    __slots__ = ("_ended", "_scopes", "campaign")

    def __init__(self, campaign: int, patients: Mapping[str, Collection[Scope]]) -> None:
        self.campaign = campaign
        self._scopes = dict(patients)
        self._ended = False

    def __bool__(self) -> bool:
        """Whether there are patients to forget here."""
        return bool(self._scopes)

    @property
    def patients(self) -> frozenset[str]:
        """Their identifiers.

        Raises:
            RefusedError: the access has ended.
        """
        if self._ended:
            raise RefusedError("the access to patients who have revoked has ended")
        return frozenset(self._scopes)

    def branches(self, studies: Sequence[Study]) -> NDArray[np.bool_]:
        """The branches on which to forget these studies: `[3, studies]`, in the order of `BRANCHES`."""
        # Of several revocations of a patient, each branch is forgotten that one of them names.
        rows = [np.any([_BRANCHES[scope] for scope in self._scopes[study.patient]], axis=0) for study in studies]
        return np.array(rows, dtype=np.bool_).reshape(len(studies), 3).T

    def studies(self, cohort: Cohort) -> tuple[Study, ...]:
        """Their studies in `cohort`; raises as `patients`."""
        return cohort.of(self.patients).studies

    def end(self) -> None:
        """End the access: it can no longer be used."""
        self._ended = True


def open_campaigns(session: Session) -> dict[int, datetime]:
    """Campaigns whose access is open, and since when."""
    # Rows are only added: what was opened last and not closed since is open.
    last = select(func.max(AccessRow.id)).group_by(AccessRow.campaign)
    rows = session.scalars(select(AccessRow).where(AccessRow.id.in_(last), AccessRow.what == "opened"))
    return {row.campaign: row.at for row in rows}


def write_opened(session: Session, campaign: int, patients: int, at: datetime) -> None:
    """Record that a campaign may read its patients from now on, unless its access is open."""
    if campaign not in open_campaigns(session):
        session.add(AccessRow(campaign=campaign, what="opened", at=at, patients=patients, purged={}))


def write_closed(session: Session, campaign: int, purged: Mapping[str, int], at: datetime) -> None:
    """Record the end of an open access, and how much of the patients' data was deleted before."""
    # The newest entry decides: the campaign may have opened and closed its access before.
    row = session.scalar(select(AccessRow).where(AccessRow.campaign == campaign).order_by(AccessRow.id.desc()).limit(1))
    if row is not None and row.what == "opened":
        session.add(AccessRow(campaign=campaign, what="closed", at=at, patients=row.patients, purged=dict(purged)))
