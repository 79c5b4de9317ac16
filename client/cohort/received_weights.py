"""Weights that this site has received: the base of the changes in later requests.

The last received weights are in `working`, together with the rounding errors of the site's own answers. Both are
deleted when a published version is adopted, which `holdings.py` keeps. A simulation with exact weights keeps nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch
from flwr.app import RecordDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sqlalchemy import Engine
from torch import Tensor

from client.cohort.holdings import HeldVersions
from client.database import opened
from client.settings import SiteFolder
from common.disk import unwritable
from common.errors import CheckpointError, MissingBaseError, OutputError, WireError
from common.learning.config import ModelConfig
from common.learning.model.checkpoint import state_digest
from common.learning.model.frozen import frozen_names
from common.protocol.deltas import Decoded, State, decoded, encode
from common.protocol.messages import Body, HeldNote, WeightsNote
from common.protocol.several_models import joined
from common.protocol.wire import arrays_of, note_of, pack, weights_of

_WEIGHTS = "weights.safetensors"
_ERRORS = "errors.safetensors"


@dataclass(frozen=True, slots=True)
class RequestWeights:
    """The weights of a request; without a note the answer contains whole weights."""

    state: Mapping[str, Tensor]
    note: WeightsNote | None


class ReceivedWeights:
    """Reads the weights of requests and packs those of answers, for the site in `folder`.

    `fresh` gives the weights of a model of `config`, which provides names, shapes and the frozen layers. `encoders` are
    the digests of the encoders that this site has.
    """

    def __init__(
        self,
        folder: Path,
        fresh: Callable[[], Mapping[str, Tensor]],
        config: ModelConfig,
        encoders: tuple[str, ...] = (),
    ) -> None:
        self._folder = folder / "working"
        self._fresh = fresh
        self._config = config
        self._encoders = encoders
        self._models, self._place = folder / "models", SiteFolder(folder)

    def held(self) -> tuple[str, ...]:
        """Digests of the weights on this site's disk."""
        base = {self._named(_WEIGHTS)} - {""}
        if self._place.has_database:
            with opened(self._place.database_url) as engine:
                base |= {*self._versions(engine).held()}

        return tuple(sorted(base))

    def receive(self, records: RecordDict, *, keep: bool = True, models: Collection[str] = ()) -> RequestWeights:
        """The weights of a request, kept for the next one; with `models`, the joined weights of these.

        The weights of several models are fold models': they are never kept, and never changes to what is here.

        Raises:
            MissingBaseError: they are changes to weights that this site does not have.
            WireError: they are missing, unreadable, or do not match the request's digest.
            OutputError: the disk is full.
        """
        note = note_of(records, WeightsNote)
        if note is None:
            return RequestWeights(weights_of(records), None)
        if note.encoders and note.encoders != self._encoders:
            raise WireError("the instruction names other encoders than this site has")
        base = self._base(note.base) if note.base else self._nothing
        if models:
            base = joined(dict.fromkeys(models, self._nothing))
        state = dict(Decoded(arrays_of(records), base))
        if state_digest(state) != note.weights:
            # With a base the fault may lie here, so that the whole model is asked for. Without one it does not.
            if note.base:
                raise MissingBaseError("the changes do not result in the announced weights")
            raise WireError("the weights differ from the request's digest: another model, or other frozen layers")

        if (
            keep
            and not models
            and (note.precision != "fp32" or self._place.has_database)
            and note.weights not in self.held()
        ):
            self._keep(_WEIGHTS, note.weights, state)
        return RequestWeights(state, note)

    def answer(
        self,
        body: Body,
        received: RequestWeights,
        after: Mapping[str, Tensor] | None = None,
        *,
        keep: bool = True,
    ) -> RecordDict:
        """An answer with `after` as changes to what was received, and what is held here.

        Without `keep`, rounding errors are dropped instead of being kept for the next answer.

        Raises:
            OutputError: the disk is full.
        """
        if received.note is None:
            return pack(body, after)
        if after is None:
            return pack(body, None, HeldNote(held=self.held()))
        note = received.note
        arrays, errors = encode(
            {name: tensor.detach().cpu() for name, tensor in after.items()},
            received.state,
            note.precision,
            self._load(_ERRORS, note.line) if keep else None,
        )

        if keep:
            if errors:
                self._keep(_ERRORS, note.line, errors)
            # Exact weights have no errors. Those of an earlier line of rounds must not be added to them.
            else:
                self._drop(_ERRORS)

        return pack(body, arrays, HeldNote(held=self.held()))

    def as_sent(self, received: RequestWeights, after: Mapping[str, Tensor]) -> str:
        """Digest of the weights that the other side has once `answer` sends `after`; to be asked before."""
        if received.note is None:
            return state_digest({name: tensor.detach().cpu() for name, tensor in after.items()})
        note = received.note
        return state_digest(decoded(after, received.state, note.precision, self._load(_ERRORS, note.line)))

    def clear(self) -> int:
        """Delete what is kept between requests, made of forgotten patients as well; returns how many files.

        Raises:
            OutputError: it cannot be deleted.
        """
        try:
            if not self._folder.exists():
                return 0
            files = len([*self._folder.iterdir()])
            shutil.rmtree(self._folder)
            return files
        except OSError as err:
            raise self._unwritable(err) from None

    def _versions(self, engine: Engine) -> HeldVersions:
        return HeldVersions(self._models, engine, lambda: datetime.now(UTC))

    def _base(self, digest: str) -> State:
        base = self._load(_WEIGHTS, digest)
        if base is None and self._place.has_database:
            # Not held, or damaged: the coordinator then sends the whole model.
            with opened(self._place.database_url) as engine, suppress(CheckpointError):
                base = self._versions(engine).load(digest)

        if base is None:
            raise MissingBaseError("changes to weights that are not here")
        return base

    @cached_property
    def _nothing(self) -> State:
        """What a whole model is sent against: zeros, and the frozen layers."""
        fresh = self._fresh()
        frozen = frozen_names(fresh, self._config)
        # One zero each, seen in the tensor's shape.
        zeros = {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in fresh.items()}

        # The model may be on another device than received weights are, and its layers must not be theirs.
        return {**zeros, **{name: fresh[name].detach().cpu().clone() for name in frozen}}

    def _named(self, file: str) -> str:
        try:
            with safe_open(self._folder / file, framework="pt") as opened_file:
                return str((opened_file.metadata() or {}).get("of", ""))
        except (OSError, SafetensorError):
            return ""

    def _load(self, file: str, of: str) -> State | None:
        """None if there is none of that name, or it is damaged."""
        if self._named(file) != of:
            return None
        try:
            return dict(load_file(self._folder / file))
        except (OSError, SafetensorError):
            return None

    def _keep(self, file: str, of: str, tensors: Mapping[str, Tensor]) -> None:
        part = self._folder / f".{file}.{os.getpid()}.part"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                # Cloned, as the format refuses tensors that share their memory.
                save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, part, {"of": of})
                # Not synced to the disk: what is lost is sent again.
                os.replace(part, self._folder / file)
            finally:
                part.unlink(missing_ok=True)
        except OSError as err:
            raise self._unwritable(err) from None
        except SafetensorError as err:  # what the disk refuses, too
            raise unwritable(err, self._folder) from None

    def _drop(self, file: str) -> None:
        try:
            (self._folder / file).unlink(missing_ok=True)
        except OSError as err:
            raise self._unwritable(err) from None

    def _unwritable(self, err: OSError) -> OutputError:
        return unwritable(err, self._folder)
