"""An unlearning carried out again on site, bit for bit: what an inspector holds against an attestation.

At unlearning the site commits to the studies that it works on, and keeps the salt and the request beside it. Nothing
of a study is kept: whether one was among them shows only where the study itself is there.
"""

from __future__ import annotations

import hmac
import secrets
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from client.settings import SiteFolder
from common.errors import CheckpointError, EvidenceError, InputError, RefusedError
from common.evidence.canonical import Json, canonical
from common.evidence.commitment import SALT_BYTES, commitment
from common.evidence.statements import Replay, Unlearning
from common.files import write_durable
from common.learning.config import Precision
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import derive_seed
from common.learning.model.card import ModelCard
from common.learning.model.checkpoint import check_state, state_digest
from common.learning.records import Study
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from common.protocol.deltas import decoded
from common.protocol.wire import UnlearnRequest

FOLDER = "replays"
Digest = Callable[[Path], str]
State = Mapping[str, Tensor]


class Replayable(BaseModel):
    """What a site keeps of one unlearning of its own; without the salt it says nothing."""

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
    """On which of the three each study of the first list was forgotten."""
    retain: tuple[str, ...]
    calibration: tuple[str, ...]
    unlearned: str = ""
    """Digest of the weights that were sent, as the coordinator has them."""

    @property
    def cohort(self) -> str:
        """The commitment to all three lists."""
        lists: list[Json] = [[*self.forget], [*self.retain], [*self.calibration], [[*row] for row in self.branches]]
        return commitment(canonical(lists), bytes.fromhex(self.salt))

    def key_of(self, study: Study, digest: Digest) -> str:
        """What stands for a study in the lists."""
        return study_key(study, digest, bytes.fromhex(self.salt))


def study_key(study: Study, digest: Digest, salt: bytes) -> str:
    """Salted digest of everything in a study that a method works on, and of whose it is."""
    document = canonical([study.patient, study.study, digest(study.image), study.report, str(study.label)])
    return hmac.digest(salt, document, "sha256").hex()


def commit(
    sets: UnlearnSets, request: UnlearnRequest, state: State, *, campaign: int, precision: Precision, device: str,
    digest: Digest,
) -> Replayable:  # fmt: skip
    """The record of an unlearning that is about to begin."""
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
    )


def _file(folder: SiteFolder, campaign: int) -> Path:
    return folder.root / FOLDER / f"{campaign}.json"


def keep(folder: SiteFolder, record: Replayable) -> None:
    """Write the record; that of an earlier attempt is replaced.

    Raises:
        OutputError: the disk does not take it.
    """
    write_durable(_file(folder, record.campaign), record.model_dump_json().encode())


def kept(folder: SiteFolder, campaign: int) -> Replayable | None:
    """The record of a campaign's unlearning here, None if there is none that can be read."""
    try:
        return Replayable.model_validate_json(_file(folder, campaign).read_bytes())
    except (OSError, ValidationError):
        return None


def check_replay(mine: Replayable | None, said: Replay) -> None:
    """Raise an `EvidenceError` if an attestation binds another unlearning than this site carried out."""
    if mine is not None and (mine.received, mine.request.seed, mine.cohort, mine.unlearned) != (
        said.received,
        said.seed,
        said.cohort,
        said.unlearned,
    ):
        raise EvidenceError("it binds another unlearning than this site carried out")


def bound(unlearning: Unlearning, site: str) -> Replay:
    """What an attestation binds of this site.

    Raises:
        InputError: nothing.
    """
    for replay in unlearning.replays:
        if replay.site == site:
            return replay

    raise InputError(
        f"it binds no unlearning at {site}",
        remedy="the model was trained anew, or site or coordinator ran a version that bound none",
    )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it."""

    unlearned: str
    studies: int

    def same(self, said: Replay) -> bool:
        """Whether the same weights came out."""
        return self.unlearned == said.unlearned


@dataclass(frozen=True, slots=True)
class Replayer:
    """Carries an unlearning out again.

    Attributes:
        folder: of the site.
        card: of the model.
        state: the weights that it began from.
        available: studies to look for the cohort among.
        stopped: patients who have revoked.
        access: opens, and at its end closes, the recorded access to so many patients.
    """

    folder: SiteFolder
    card: ModelCard
    state: State
    available: Iterable[Study]
    stopped: frozenset[str]
    access: Callable[[int], AbstractContextManager[None]]

    def run(self, said: Replay) -> Replayed:
        """On one thread of the CPU, with pixels in a folder that is deleted.

        Raises:
            EvidenceError: the site's record, the weights or the cohort are others than the attestation binds.
            InputError: the record is gone, or studies are.
            RefusedError: patients of the retained set have revoked since.
        """
        record = self._record(said)

        try:
            check_state(self.state, self.card.build().state_dict(), where="the weights")
        except CheckpointError as err:
            raise EvidenceError(str(err)) from None

        if state_digest(self.state) != said.received:
            raise EvidenceError("these are other weights than the unlearning began from")
        with tempfile.TemporaryDirectory(dir=self.folder.root, prefix=".replay-") as scratch:
            cache = ImageCache(Path(scratch), self.card.data.image_size, self.card.data.cache_bytes)
            found = self._found(record, cache)
            gone = {study.patient for study in found["forget"]}
            with self.access(len(gone)):
                return Replayed(self._unlearned(record, found, cache), sum(map(len, found.values())))

    def _record(self, said: Replay) -> Replayable:
        record = next((r for r in map(self._read, self._campaigns()) if r and r.cohort == said.cohort), None)
        if record is None:
            raise InputError(
                "the salt of this cohort is not here any more",
                remedy="without it nobody can say which studies it was: the unlearning cannot be replayed",
            )

        check_replay(record, said)
        if record.device != "cpu":
            raise InputError(
                f"the unlearning ran on {record.device}, whose sums have other last bits from run to run",
                remedy='set device = "cpu" in site.toml where unlearning is to be replayed',
            )

        return record

    def _campaigns(self) -> list[int]:
        return [int(path.stem) for path in (self.folder.root / FOLDER).glob("*.json") if path.stem.isdecimal()]

    def _read(self, campaign: int) -> Replayable | None:
        return kept(self.folder, campaign)

    def _found(self, record: Replayable, cache: ImageCache) -> dict[str, tuple[Study, ...]]:
        """The studies of each list, in its order."""
        there = {record.key_of(s, cache.digest): s for s in self.available if s.image.is_file()}
        found = {}

        for name in ("forget", "retain", "calibration"):
            keys: tuple[str, ...] = getattr(record, name)
            lacking = sum(key not in there for key in keys)

            if lacking:
                raise InputError(
                    f"{lacking} of the {len(keys)} studies of the {name} set are not here as they were",
                    remedy="what was purged after the campaign is read from the hospital's own records by --source; "
                    "what these do not hold any more cannot be replayed",
                )

            found[name] = tuple(there[key] for key in keys)

        since = {s.patient for s in (*found["retain"], *found["calibration"])} & self.stopped
        if since:
            raise RefusedError(
                f"{len(since)} patients who were retained then have revoked since: they are not used again"
            )

        return found

    def _unlearned(self, record: Replayable, found: Mapping[str, tuple[Study, ...]], cache: ImageCache) -> str:
        tokenizer = load_tokenizer(self.card.data.tokenizer, self.card.data.max_tokens)
        branches = np.array(record.branches, dtype=np.bool_).reshape(len(found["forget"]), 3).T
        sets = UnlearnSets(
            StudyTensors(found["forget"], cache, tokenizer, branches=branches),
            StudyTensors(found["retain"], cache, tokenizer),
            StudyTensors(found["calibration"], cache, tokenizer),
        )
        model = self.card.build()
        model.load_state_dict(dict(self.state))
        method_named(record.request.config.method)(
            model,
            sets,
            record.request.config,
            ranking_weight=self.card.model.ranking_weight,
            seed=derive_seed(record.request.seed, self.folder.settings().name, "unlearn"),
            on_pass=nothing,
        )

        return state_digest(decoded(model.state_dict(), self.state, record.precision))
