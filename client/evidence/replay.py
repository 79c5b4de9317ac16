"""Repeats an unlearning on site, bit for bit, so that an inspector can compare it with an attestation.

At unlearning the site commits to its studies, and keeps the salt and the request. It keeps nothing of a study: whether
a study was included can only be checked with the study itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from client.evidence.replayable import FOLDER, Replayable, State, check_replay, kept
from client.settings import SiteFolder
from common.errors import CheckpointError, EvidenceError, InputError, RefusedError
from common.evidence.statement_parts import Replay
from common.evidence.statements import Unlearning
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import derive_seed
from common.learning.model.card import ModelCard
from common.learning.model.checkpoint import check_state, state_digest
from common.learning.model.pinned_encoders import embeddings_of
from common.learning.records import Study
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from common.protocol.deltas import decoded


def bound(unlearning: Unlearning, site: str) -> Replay:
    """The part of an attestation about this site's unlearning.

    Raises:
        InputError: there is none.
    """
    for replay in unlearning.replays:
        if replay.site == site:
            return replay

    raise InputError(
        f"it covers no unlearning at {site}",
        remedy="the model was retrained, or the site or coordinator ran a version without replays",
    )


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay."""

    unlearned: str
    studies: int

    def same(self, said: Replay) -> bool:
        """Whether the replay resulted in the same weights."""
        return self.unlearned == said.unlearned


@dataclass(frozen=True, slots=True)
class Replayer:
    """Repeats an unlearning.

    Attributes:
        folder: of the site.
        card: card of the model.
        state: the weights that it started from.
        available: studies that may be in the cohort.
        stopped_patients: who have revoked.
        access: opens and closes the recorded access to a number of patients.
    """

    folder: SiteFolder
    card: ModelCard
    state: State
    available: Iterable[Study]
    stopped_patients: frozenset[str]
    access: Callable[[int], AbstractContextManager[None]]

    def run(self, said: Replay) -> Replayed:
        """Run on one CPU thread, with pixels in a temporary folder.

        Raises:
            EvidenceError: the site's record, the weights or the cohort differ from the attestation.
            InputError: the record or studies are missing.
            RefusedError: patients of the retained set have revoked since.
        """
        record = self._record(said)

        try:
            check_state(self.state, self.card.build().state_dict(), where="the weights")
        except CheckpointError as err:
            raise EvidenceError(str(err)) from None

        if state_digest(self.state) != said.received:
            raise EvidenceError("the unlearning started from different weights")
        # In the site's folder: pixels of patients must not lie in the machine's own temporary folder.
        with tempfile.TemporaryDirectory(dir=self.folder.root, prefix=".replay-") as scratch:
            cache = ImageCache(Path(scratch), self.card.data.image_size, self.card.data.cache_bytes)
            studies = self._found(record, cache)
            patients_forgotten = {study.patient for study in studies["forget"]}
            with self.access(len(patients_forgotten)):
                return Replayed(self._unlearned(record, studies, cache), sum(map(len, studies.values())))

    def _record(self, said: Replay) -> Replayable:
        record = next((r for r in map(self._read, self._campaigns()) if r and r.cohort == said.cohort), None)
        if record is None:
            raise InputError(
                "the salt of this cohort has been deleted",
                remedy="without it the studies cannot be identified: the unlearning cannot be replayed",
            )

        check_replay(record, said)
        if record.device != "cpu":
            raise InputError(
                f"the unlearning ran on {record.device}, whose sums differ in the last bits from run to run",
                remedy='set device = "cpu" in site.toml to make unlearning replayable',
            )

        return record

    def _campaigns(self) -> list[int]:
        return [int(path.stem) for path in (self.folder.root / FOLDER).glob("*.json") if path.stem.isdecimal()]

    def _read(self, campaign: int) -> Replayable | None:
        return kept(self.folder, campaign)

    def _found(self, record: Replayable, cache: ImageCache) -> dict[str, tuple[Study, ...]]:
        """The studies of each list, in its order."""
        there = {record.key_of(s, cache.digest): s for s in self.available if s.image.is_file()}
        studies_of_list = {}

        for name in ("forget", "retain", "calibration"):
            keys: tuple[str, ...] = getattr(record, name)
            lacking = sum(key not in there for key in keys)

            if lacking:
                raise InputError(
                    f"{lacking} of the {len(keys)} studies of the {name} set are not here as they were",
                    remedy="give --source to read purged studies from the hospital's own records; "
                    "what these do not hold any more cannot be replayed",
                )

            studies_of_list[name] = tuple(there[key] for key in keys)

        since = {
            s.patient for s in (*studies_of_list["retain"], *studies_of_list["calibration"])
        } & self.stopped_patients
        if since:
            raise RefusedError(f"{len(since)} patients of the retained set have revoked since and are not used again")

        return studies_of_list

    def _unlearned(self, record: Replayable, studies: Mapping[str, tuple[Study, ...]], cache: ImageCache) -> str:
        tokenizer = load_tokenizer(self.card.data.tokenizer, self.card.data.max_tokens)
        branches = np.array(record.branches, dtype=np.bool_).reshape(len(studies["forget"]), 3).T
        embeddings = embeddings_of(self.card, cache, tokenizer, torch.device("cpu"))
        sets = UnlearnSets(
            StudyTensors(studies["forget"], cache, tokenizer, branches=branches, embeddings=embeddings),
            StudyTensors(studies["retain"], cache, tokenizer, embeddings=embeddings),
            StudyTensors(studies["calibration"], cache, tokenizer, embeddings=embeddings),
            record.standings_then(),
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

        # As the coordinator got them: rounded for the wire.
        return state_digest(decoded(model.state_dict(), self.state, record.precision))
