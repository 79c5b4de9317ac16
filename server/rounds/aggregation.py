"""From the sites' weights to one model, in memory that does not grow with the number of sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from common.errors import CheckpointError, UnavailableError, WireError
from server.rounds.weights.layout import SLAB, Slab, slabs
from server.rounds.weights.spooled_tensors import FlatStore
from server.rounds.weights.walk import Step, Walk, Workspace

State = dict[str, Tensor]

# 2^40 steps resolve about 1e-12 of a weight. Weights stay below 2^20 (`walk.LARGEST`) and shares add up to 1, so that
# the sum stays below 2^60 and cannot overflow an int64.
SCALE = 2.0**40
"""Fixed-point steps per unit. Whole numbers add up to the same sum in whatever order the replies come."""


class RunningMean:
    """Weighted mean of states that are added one at a time: one sum, as int64 fixed point, on disk if it is large.

    The shares must be known beforehand (from the registered cohorts), so that each reply is scaled once. Tensors named
    in `without` are left out.
    """

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        self._shapes: dict[str, torch.Size] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self._row: tuple[Slab, ...] = ()
        self._space = Workspace()
        self._sum: FlatStore | None = None
        self._weight = 0
        self._sound = True

    def add(self, state: Mapping[str, Tensor], share: float) -> None:
        """Add `share` times `state`, or nothing of it.

        Raises:
            WireError: a weight is not finite or beyond what the sum can hold, or the state is of another model.
        """
        first = self._sum is None
        self._begin(state)

        try:
            # All shapes and dtypes first: a state that does not fit must not be found out after half of it was added.
            if {name for name in state if name not in self._without} != self._shapes.keys():
                raise WireError("the weights are of another model than those before")
            for name, shape in self._shapes.items():
                tensor = state[name]
                if tensor.shape != shape:
                    raise WireError(f"{name} is {list(tensor.shape)}, {list(shape)} before")
                if tensor.dtype != self._dtypes[name]:
                    raise WireError(f"{name} is {tensor.dtype}, {self._dtypes[name]} before")

            self.take(state, state, lambda _: None, share=share)
        except CheckpointError as err:
            raise WireError(err.problem) from None
        finally:
            # Otherwise a first state that is refused would fix the shapes to which every later one is compared.
            if first and not self._weight:
                self._sum = None

    def take(
        self, after: Mapping[str, Tensor], before: Mapping[str, Tensor], judge: Callable[[Step], None], *, share: float
    ) -> Step:
        """Add `share` times the reply `after` to a request with `before`, in one walk, or nothing of it; its step.

        Each tensor is decoded once. `judge` may refuse the whole step by raising; what was added until then is taken
        out again, to the bit, as whole numbers are added.

        Raises:
            CheckpointError: the weights are of another model or not finite.
            WireError: an array cannot be read, or a weight is beyond what the sum can hold.
            UnavailableError: a refused reply could not be taken out again; the sum is lost.
        """
        store = self._begin(before)
        walk = Walk(after, before, self._space, self._row)
        slabs_added = 0

        try:
            for slab, values in walk:
                self._shift(store, slab, values, share)
                slabs_added += 1
            step = walk.step
            judge(step)
        # Also on KeyboardInterrupt and on errors of the disk: half a reply in the sum would count without its weight.
        except BaseException:
            # A range that was being written holds anything, so that nothing can be taken out of it.
            if not self._sound:
                raise
            self._sound = False
            # Decoding again costs time but no memory; a copy of the sum would be as large as the model, in int64.
            for slab, values in islice(Walk(after, before, self._space, self._row), slabs_added):
                self._shift(store, slab, values, -share)
            self._sound = True
            raise

        # Counted last, and rounded as the tensors were: `means` divides by what was really added.
        self._weight += round(share * SCALE)
        return step

    def _begin(self, like: Mapping[str, Tensor]) -> FlatStore:
        self._check_sound()
        if self._sum is None:
            names = [name for name in like if name not in self._without]
            self._shapes = {name: like[name].shape for name in names}
            self._dtypes = {name: like[name].dtype for name in names}
            self._row = slabs(like, names)
            self._sum = FlatStore(sum(shape.numel() for shape in self._shapes.values()), torch.int64)
        return self._sum

    def _check_sound(self) -> None:
        if not self._sound:
            raise UnavailableError("a reply could not be taken out of the round's sum, which is lost with it")

    def _shift(self, store: FlatStore, slab: Slab, values: Tensor, share: float) -> None:
        scaled_row = self._space.row("scaled", torch.float64, len(slab))
        steps = self._space.row("steps", torch.int64, len(slab))
        scaled_row.copy_(values)
        steps.copy_(scaled_row.mul_(share * SCALE).round_())

        # Until the range is written again, nobody could say what the sum holds.
        sound = self._sound
        self._sound = False
        total = store.read(slab.begin, slab.begin + len(slab))
        # Not torch's `add_`: it multiplies one side by 1 first, and processors multiply rows of int64 slowly.
        np.add(total.numpy(), steps.numpy(), out=total.numpy())
        store.write(slab.begin, total)
        self._sound = sound

    def means(self, like: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Names and means over what was added, one at a time, in the dtypes of `like`.

        Sites that did not answer are left out of it.

        Raises:
            WireError: nothing was added.
        """
        self._check_sound()
        if not self._weight or self._sum is None:
            raise WireError("no weights to average")
        begin = 0

        for name, shape in self._shapes.items():
            kind = like[name].dtype
            mean = torch.empty(shape.numel(), dtype=kind)

            for start in range(0, len(mean), SLAB):
                stop = min(start + SLAB, len(mean))
                # Over the weight of those who answered, not over 1: a missing site must not shrink the mean towards
                # zero.
                values = self._sum.read(begin + start, begin + stop).double().div_(self._weight)
                mean[start:stop] = (values if kind.is_floating_point else values.round_()).to(kind)

            begin += len(mean)
            yield name, mean.reshape(shape)

    def result(self, like: Mapping[str, Tensor]) -> State:
        """All of `means`."""
        return dict(self.means(like))


def shares(studies: Mapping[str, float], most: float = 1.0) -> dict[str, float]:
    """Share of each site in an average, from its registered number of studies; they add up to 1.

    No share is larger than `most`, or than equal shares would be: what is cut off goes to the others, by their numbers.
    """
    positive = {name: count for name, count in studies.items() if count > 0}
    total = sum(positive.values())
    if total <= 0:
        raise WireError("no site has studies to train on")
    # Below an equal share, no distribution adds up to 1.
    most = max(most, 1.0 / len(positive))
    at_cap: set[str] = set()

    # A site that is cut off raises the others' shares, which may lift the next one over the cap; each pass caps at
    # least
    # one more, so there are at most as many passes as sites.
    while True:
        free = {name: count for name, count in positive.items() if name not in at_cap}
        rest_share = 1.0 - most * len(at_cap)
        of_free = sum(free.values())
        share_of_site = {name: most if name in at_cap else rest_share * positive[name] / of_free for name in positive}
        over = {name for name in free if share_of_site[name] > most * (1 + 1e-12)}
        if not over or len(over) == len(free):
            # All that are left would exceed it by rounding alone.
            return share_of_site

        at_cap |= over


def without_return(after: Tensor, before: Tensor, moved: Tensor) -> Tensor:
    """`after`, less the part of its step from `before` that goes back along `moved`, an earlier step."""
    if not after.is_floating_point():
        return after
    step = (after - before).double()
    along = moved.double()
    inner = float((step * along).sum())
    if inner >= 0:
        return after
    return (before + step - inner / float((along * along).sum()) * along).to(after.dtype)
