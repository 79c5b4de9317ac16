"""A site's record of one of its unlearnings, by which it can be repeated: the request, the salt and salted keys."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from client.settings import SiteFolder
from common.errors import EvidenceError
from common.evidence.canonical import Json, canonical
from common.evidence.commitment import SALT_BYTES, commitment
from common.evidence.statement_parts import Replay
from common.files import write_durable
from common.learning.config import Precision
from common.learning.folds.margins import Standings
from common.learning.model.checkpoint import state_digest
from common.learning.records import Study
from common.learning.unlearning.base import UnlearnSets
from common.protocol.messages import UnlearnRequest

FOLDER = "replays"
Digest = Callable[[Path], str]
State = Mapping[str, Tensor]


class Replayable(BaseModel):
    """A site's record of one of its unlearnings; useless without the salt."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    campaign: int
    request: UnlearnRequest
    received: str
    precision: Precision
    device: str
    salt: str
    forget: tuple[str, ...]
    """Keys of the studies, in their order."""
    branches: tuple[tuple[bool, ...], ...]
    """The branches on which each study of the first list was forgotten."""
    retain: tuple[str, ...]
    calibration: tuple[str, ...]
    standings: tuple[tuple[float | None, ...], ...] = ()
    """Where the patients of the first list stood by fold models: three raw and three scaled rows; empty without any."""
    unlearned: str = ""
    """Digest of the weights that were sent to the coordinator."""

    @property
    def cohort(self) -> str:
        """The commitment to all three lists."""
        lists: list[Json] = [[*self.forget], [*self.retain], [*self.calibration], [[*row] for row in self.branches]]
        if self.standings:
            # As text: canonical JSON has no fractions.
            lists.append([["" if value is None else repr(value) for value in row] for row in self.standings])
        return commitment(canonical(lists), bytes.fromhex(self.salt))

    def standings_then(self) -> Standings | None:
        """The standings as the method got them."""
        if not self.standings:
            return None
        rows = np.array([[np.nan if value is None else value for value in row] for row in self.standings], dtype=float)
        return Standings(rows[:3], rows[3:])

    def key_of(self, study: Study, digest: Digest) -> str:
        """The entry of a study in the lists."""
        return study_key(study, digest, bytes.fromhex(self.salt))


def study_key(study: Study, digest: Digest, salt: bytes) -> str:
    """Salted digest of everything in a study that a method uses, and of its patient."""
    document = canonical([study.patient, study.study, digest(study.image), study.report, str(study.label)])
    return hmac.digest(salt, document, "sha256").hex()


def commit(
    sets: UnlearnSets, request: UnlearnRequest, state: State, *, campaign: int, precision: Precision, device: str,
    digest: Digest,
) -> Replayable:  # fmt: skip
    """The record of an unlearning that is about to start."""
    salt = secrets.token_bytes(SALT_BYTES)

    def keys(studies: Sequence[Study]) -> tuple[str, ...]:
        return tuple(study_key(study, digest, salt) for study in studies)

    return Replayable(
        campaign=campaign,
        request=request,
        received=state_digest(state),
        precision=precision,
        device=device,
        salt=salt.hex(),
        forget=keys(sets.forget.studies),
        branches=tuple(map(tuple, sets.forget.branches.T.tolist())),
        retain=keys(sets.retain.studies),
        calibration=keys(sets.calibration.studies),
        standings=() if sets.standings is None else _rows(sets.standings),
    )


def _rows(standings: Standings) -> tuple[tuple[float | None, ...], ...]:
    values = np.concatenate([standings.raw, standings.scaled]).tolist()
    return tuple(tuple(None if np.isnan(value) else value for value in row) for row in values)


def _file(folder: SiteFolder, campaign: int) -> Path:
    return folder.root / FOLDER / f"{campaign}.json"


def keep(folder: SiteFolder, record: Replayable) -> None:
    """Write the record, replacing that of an earlier attempt.

    Raises:
        OutputError: the disk cannot be written.
    """
    write_durable(_file(folder, record.campaign), record.model_dump_json().encode())


def kept(folder: SiteFolder, campaign: int) -> Replayable | None:
    """The record of a campaign's unlearning here, or None if there is no readable one."""
    try:
        return Replayable.model_validate_json(_file(folder, campaign).read_bytes())
    except (OSError, ValidationError):
        return None


def check_replay(mine: Replayable | None, said: Replay) -> None:
    """Raise an `EvidenceError` if an attestation is about a different unlearning than this site carried out."""
    # Where there is no record, e.g. after its salt was deleted, nothing here contradicts the attestation.
    if mine is not None and (mine.received, mine.request.seed, mine.cohort, mine.unlearned) != (
        said.received,
        said.seed,
        said.cohort,
        said.unlearned,
    ):
        raise EvidenceError("it is about a different unlearning than this site carried out")
