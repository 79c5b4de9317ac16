"""From the sites' weights to one model, in memory that does not grow with the number of sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from common.disk import unwritable
from common.errors import OutputError, WireError
from server.rounds.spooled_tensors import PIECE, SpooledTensors, starts

State = dict[str, Tensor]

SCALE = 2.0**40
"""Fixed-point steps per unit. Whole numbers add up to the same sum in whatever order the replies come."""
LARGEST = 2.0**20
"""Absolute values from here on are refused: sums of many such weights would not fit."""
_SUFFIX = ".delta.safetensors"


def summable(tensor: Tensor) -> bool:
    """Whether all values are finite and small enough for a sum of many."""
    # Not in the tensor's own dtype: the absolute value of the least integer is negative.
    flat = tensor.reshape(-1)
    return all(bool((flat[at : at + PIECE].double().abs() < LARGEST).all()) for at in starts(flat))


class RunningMean:
    """Weighted mean of states that are added one at a time: one sum, as int64 fixed point, on disk if it is large.

    The shares must be known beforehand (from the registered cohorts), so that each reply is scaled once. A state may
    make its tensors when they are asked for: it is asked twice. Those named in `without` are left out.
    """

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        self._sum = SpooledTensors(torch.int64)
        self._weight = 0

    def add(self, state: Mapping[str, Tensor], share: float) -> None:
        """Add `share` times `state`, or nothing of it.

        Raises:
            WireError: a weight is not finite or beyond what the sum can hold, or the state is of another model.
        """
        known = self._sum.shapes
        names = [name for name in state if name not in self._without]
        if known and {*names} != known.keys():
            raise WireError("the weights are of another model than those before")
        # All of it is looked at before any of it is added: a sum with half a reply in it would be lost.
        for name in names:
            tensor = state[name]
            if not summable(tensor):
                raise WireError(f"{name} holds weights that are not finite or beyond {LARGEST:.0f}")
            if name in known and tensor.shape != known[name]:
                raise WireError(f"{name} is {list(tensor.shape)}, {list(known[name])} before")

        first = not known
        for name in names:
            tensor = state[name]
            if first:
                self._sum.add(name, tensor.shape)
            flat = tensor.reshape(-1)
            for start in starts(flat):
                step = (flat[start : start + PIECE].double() * (share * SCALE)).round_().to(torch.int64)
                self._sum.write(name, start, step if first else self._sum.read(name, start).add_(step))

        self._weight += round(share * SCALE)

    def means(self, like: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Names and means over what was added, one at a time, in the dtypes of `like`.

        Sites that did not answer are left out of it.

        Raises:
            WireError: nothing was added.
        """
        if not self._weight:
            raise WireError("no weights to average")
        for name, shape in self._sum.shapes.items():
            kind = like[name].dtype
            mean = torch.empty(shape.numel(), dtype=kind)
            for start in starts(mean):
                values = self._sum.read(name, start).double().div_(self._weight)
                mean[start : start + PIECE] = (values if kind.is_floating_point else values.round_()).to(kind)

            yield name, mean.reshape(shape)

    def result(self, like: Mapping[str, Tensor]) -> State:
        """All of `means`."""
        return dict(self.means(like))


def shares(studies: Mapping[str, float], most: float = 1.0) -> dict[str, float]:
    """Share of each site in an average, from its registered number of studies; they add up to 1.

    No share is larger than `most`, or than equal shares would be: what is cut off goes to the others, by their numbers.
    """
    counted = {name: count for name, count in studies.items() if count > 0}
    total = sum(counted.values())
    if total <= 0:
        raise WireError("no site has studies to train on")
    most = max(most, 1.0 / len(counted))
    capped: set[str] = set()

    while True:
        free = {name: count for name, count in counted.items() if name not in capped}
        left = 1.0 - most * len(capped)
        of_free = sum(free.values())
        found = {name: most if name in capped else left * counted[name] / of_free for name in counted}
        over = {name for name in free if found[name] > most * (1 + 1e-12)}
        if not over or len(over) == len(free):
            # All that are left would exceed it by rounding alone.
            return found

        capped |= over


class DeltaSpool:
    """Unlearning deltas of several sites on disk, summed with conflicts projected out (`scaled`).

    Under FedAvg a delta counts with its site's share p; scaled by 1/p it counts in full, so the sum of deltas is
    what is added. Where two deltas conflict (negative inner product), each loses its part along the other, as in
    PCGrad (Yu et al. 2020, arXiv 2001.06782), in sorted order of sites and one tensor at a time.
    """

    def __init__(self, folder: Path) -> None:
        """What a run that was killed left in `folder` is deleted; its deltas are added anew.

        Raises:
            OutputError: the folder cannot be made or emptied.
        """
        self._folder = folder
        self._files: dict[str, Path] = {}

        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"*{_SUFFIX}"):
                left.unlink()
        except OSError as err:
            raise _cannot_write(folder, err) from err

    def add(self, site: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Keep one site's delta on disk.

        Raises:
            WireError: the site has one already.
            OutputError: the disk is full; nothing is kept of the delta then.
        """
        if site in self._files:
            raise WireError(f"{site} sent a second unlearned model")
        path = self._folder / f"{len(self._files)}{_SUFFIX}"
        try:
            save_file({n: (after[n] - before[n]).contiguous() for n in before if before[n].is_floating_point()}, path)
        except (OSError, SafetensorError) as err:
            path.unlink(missing_ok=True)
            raise _cannot_write(self._folder, err) from err

        self._files[site] = path

    def apply(self, before: Mapping[str, Tensor]) -> State:
        """`before` plus the deltas; the spool is emptied.

        Raises:
            WireError: there is none.
        """
        if not self._files:
            raise WireError("no unlearned model to apply")
        after = {name: tensor.clone() for name, tensor in before.items()}
        order = [self._files[site] for site in sorted(self._files)]
        files = [safe_open(path, framework="pt") for path in order]
        for name, tensor in after.items():
            if tensor.is_floating_point():
                tensor.add_(project_conflicts([_read(f, name) for f in files]))

        del files
        for path in order:
            path.unlink()
        self._files.clear()

        return after


def _cannot_write(folder: Path, err: Exception) -> OutputError:
    return unwritable(err, folder)


def _read(file: Any, name: str) -> Tensor:
    # safetensors leaves its reader untyped.
    return cast(Tensor, file.get_tensor(name))


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


def project_conflicts(deltas: list[Tensor]) -> Tensor:
    """Sum of `deltas`, each without its part along those it conflicts with."""
    total = torch.zeros_like(deltas[0])

    for at, delta in enumerate(deltas):
        kept = delta.clone()
        for other_at, other in enumerate(deltas):
            inner = float((kept * other).sum())
            if other_at != at and inner < 0:
                kept -= inner / float((other * other).sum()) * other

        total += kept

    return total
