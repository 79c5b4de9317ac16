"""What travels down to the sites: changes to weights that they have, and how those become the federation's own.

A round's mean is rounded to what the wire carries *before* it becomes the next model, and what rounding left is added
to the next mean. So coordinator and sites hold the same weights bit for bit, under one digest.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor

from common.learning.config import Precision
from common.learning.model.checkpoint import state_digest
from common.protocol.array_bytes import to_array, to_record
from common.protocol.deltas import State, restore, rounded, shorten, whole
from common.protocol.messages import Body, HeldNote, WeightsNote
from common.protocol.wire import note_of, pack
from server.rounds.weights.spooled_tensors import SpooledTensors


@dataclass(frozen=True, slots=True)
class _Step:
    before: str
    after: str
    arrays: ArrayRecord


@dataclass
class Downlink:
    """Packs requests as changes to what each site said it has; a whole model where it has nothing that helps."""

    precision: Precision = "fp32"
    frozen: frozenset[str] = frozenset()
    """Names of tensors that never travel."""
    encoders: tuple[str, ...] = ()
    """Digests of the encoders that every site must have from its own source."""
    _digests_at_site: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _line: str = ""
    _step: _Step | None = None
    _errors: SpooledTensors = field(default_factory=lambda: SpooledTensors(torch.float32))

    def begin(self) -> None:
        """A line of rounds begins: errors of the one before are dropped, here and at the sites."""
        # Not by a count: after a restart it would name the errors of what is done again.
        self._line = secrets.token_hex(8)
        self._step, self._errors = None, SpooledTensors(torch.float32)

    def start(self, initial: Mapping[str, Tensor]) -> State:
        """As `begin`, with weights that nobody has yet: rounded, so that the whole model is sent in short form."""
        frozen_tensors = {name: tensor for name, tensor in initial.items() if name in self.frozen}
        state = {**rounded(initial, self.precision), **frozen_tensors}
        self.begin()

        return state

    def advance(self, before: Mapping[str, Tensor], means: Iterable[tuple[str, Tensor]]) -> State:
        """The model after `before`, near `means`, as the sites will have it. It takes the means one at a time.

        Raises:
            OutputError: the disk is full.
        """
        self._step, state, arrays = None, dict(before), {}
        has_holders = any(self._digests_at_site.values())

        for name, mean in means:
            if name in self.frozen:
                continue
            error_before = self._errors.get(name)
            sent_tensor, error = shorten(mean, before[name], self.precision, error_before)
            if error is not None or error_before is not None:
                self._errors.put(name, torch.zeros(()).expand(mean.shape) if error is None else error)
            del error_before, error  # as large as the tensor
            if sent_tensor is not None:
                state[name] = restore(sent_tensor, before[name])
                if has_holders:
                    # Without a site that has the base, every request will be whole, and the changes would be packed for
                    # nobody.
                    arrays[name] = to_array(sent_tensor)

        if has_holders:
            self._step = _Step(state_digest(before), state_digest(state), ArrayRecord(arrays))
        return state

    def requests(self, body: Body, state: Mapping[str, Tensor], sites: Collection[str]) -> dict[str, RecordDict]:
        """A request with `state` for each site; those that get the same changes share the records."""
        digest = state_digest(state)
        records_by_base: dict[str, RecordDict] = {}
        requests = {}

        for site in sites:
            base = self._base(site, digest)
            # Shared records matter: Flower uploads an object once, however many messages name it.
            if base not in records_by_base:
                records_by_base[base] = self._pack(body, state, base, digest)
            requests[site] = records_by_base[base]

        return requests

    def whole(self, body: Body, state: Mapping[str, Tensor]) -> RecordDict:
        """A request with all of `state` but the frozen layers."""
        return self._pack(body, state, "", state_digest(state))

    def note(self, site: str, records: RecordDict) -> None:
        """Remember what a site says it has.

        Raises:
            WireError: it says so in a wrong form.
        """
        note = note_of(records, HeldNote)
        if note is not None:
            self._digests_at_site[site] = note.held

    def forget(self, site: str) -> None:
        """A site has nothing after all."""
        self._digests_at_site.pop(site, None)

    def _base(self, site: str, digest: str) -> str:
        digests_at_site = self._digests_at_site.get(site, ())
        if digest in digests_at_site:
            return digest
        # The last step alone is kept. A site that is further behind gets the whole model.
        return (
            self._step.before
            if self._step and self._step.after == digest and self._step.before in digests_at_site
            else ""
        )

    def _pack(self, body: Body, state: Mapping[str, Tensor], base: str, digest: str) -> RecordDict:
        note = WeightsNote(base=base, weights=digest, precision=self.precision, line=self._line, encoders=self.encoders)
        if base == digest:
            # The site has these weights already; the note names them.
            return pack(body, {}, note)
        if base and self._step is not None:
            return pack(body, self._step.arrays, note)
        moving = {name: tensor.detach().cpu() for name, tensor in state.items() if name not in self.frozen}

        return pack(body, to_record(whole(moving, self.precision)), note)
