"""What a site's weights must satisfy before anything is made of them; values in, a refusal with its reason out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median_high

from torch import Tensor

from common.errors import CheckpointError, FedForgetError, WireError
from common.learning.config import UnlearnConfig
from common.learning.model.checkpoint import check_state, state_digest
from common.protocol.messages import UNLEARN
from server.rounds.weights.walk import BeyondError, Step, Walk, measure
from server.settings import GateConfig

_PLAIN_DESCENT = 0.01
"""`pga` follows the gradient itself, whose steps are the shorter the surer the model is."""


class Rejected(WireError):
    """A reply that must not be aggregated, and why; the round goes on without it."""


Judge = Callable[[Step], None]
WalksOver = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Judge], Step]
"""Walks over the weights that came back for those that were sent, asks the judge of the step, and returns it."""


def to_end(after: Mapping[str, Tensor], before: Mapping[str, Tensor], judge: Judge) -> Step:
    """The walk on which nothing is picked up."""
    step = Walk(after, before).to_end()
    judge(step)
    return step


def check(
    after: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    kind: str,
    config: GateConfig,
    others: Sequence[float] = (),
    least: float = 0.0,
    walk: WalksOver = to_end,
) -> float:
    """Check the weights that came back for a message of type `kind` with `before`; the L2 norm of the step.

    Names, shapes and dtypes must be those of `before`, all values finite and within what an average can hold. The
    step is bounded relative to the weights it changes, and a training step also by the steps of `others`: the norms
    of what other sites sent for the same kind of work in this round and the one before. Their upper median counts, so
    that one site that sends next to nothing does not make all others look large. An unlearning step is never none, and
    relative to the weights at least `least`. All of that happens on one `walk`.

    Raises:
        Rejected: it must not be aggregated.
        WireError: an array cannot be read.
    """
    try:
        return walk(after, before, partial(judge, kind=kind, config=config, others=others, least=least)).norm
    except CheckpointError as err:
        # The names of unknown tensors were chosen by the sender.
        raise Rejected(ascii(err.problem)[1:-1][:200]) from None
    except BeyondError as err:
        raise Rejected(str(err)) from None


def judge(step: Step, kind: str, config: GateConfig, others: Sequence[float] = (), least: float = 0.0) -> None:
    """Raise unless a step may be that of an honest answer to a message of type `kind`.

    Raises:
        Rejected: it must not be aggregated.
    """
    bound = config.unlearn_norm if kind == UNLEARN else config.train_weights

    # Written so that NaN fails.
    if not step.relative <= bound:
        raise Rejected(
            f"{kind} moved the weights it changes by {step.relative:.3g} of their norm, allowed is {bound:g}"
        )

    if kind == UNLEARN:
        check_forgetting(step, least)
    # With fewer than two others, one of them could set the bound for everybody.
    elif len(others) >= 2:
        usual = median_high(others)
        if step.norm > config.train_norm * usual:
            raise Rejected(
                f"{kind} step of norm {step.norm:.3g}, other sites' are about {usual:.3g}; "
                f"allowed is {config.train_norm:g} times that"
            )


class AggregateRefusedError(FedForgetError):
    """An aggregate that must not become a model, although each reply in it was taken."""


def check_candidate(
    after: Mapping[str, Tensor], parent: Mapping[str, Tensor], config: GateConfig, forgetting: int = 1
) -> None:
    """Raise unless a candidate, in which so many sites forgot, may take its parent's place.

    Raises:
        AggregateRefusedError: it is not finite, of another model, or too far from its parent.
    """
    bound = max(config.candidate_norm, config.unlearn_norm * forgetting)
    _check_aggregate("the candidate", after, parent, bound)


def check_aggregate(after: Mapping[str, Tensor], before: Mapping[str, Tensor], kind: str, config: GateConfig) -> None:
    """Raise unless a round's average may be gone on from: a mean of steps is no longer than the longest of them.

    Raises:
        AggregateRefusedError: it is not finite, of another model, or longer.
    """
    _check_aggregate(f"the average of {kind}", after, before, config.train_weights)


def _check_aggregate(what: str, after: Mapping[str, Tensor], before: Mapping[str, Tensor], bound: float) -> None:
    try:
        check_state(after, before, where=what)
    except CheckpointError as err:
        raise AggregateRefusedError(str(err)) from None

    # Written so that NaN fails.
    distance = measure(after, before).relative
    if not distance <= bound:
        raise AggregateRefusedError(f"{what} is {distance:.3g} of the weights' norm away, allowed is {bound:g}")


def check_forgetting(step: Step, least: float) -> None:
    """Whether a step can be that of an unlearning. Rehearsals of a campaign's size say more, where there are any.

    Raises:
        Rejected: nothing was unlearned.
    """
    if not step.norm:
        raise Rejected("the unlearned model is the one that was sent")
    if step.relative < least:
        raise Rejected(
            f"unlearning moved the weights it changes by {step.relative:.2g} of their norm, "
            f"and a single pass moves them by {least:.2g} at least"
        )


def least_step(config: GateConfig, unlearn: UnlearnConfig) -> float:
    """Smallest relative step of an unlearning by these settings; a step of AdamW is as long as its learning rate."""
    plain = _PLAIN_DESCENT if unlearn.method == "pga" else 1.0
    return config.unlearn_least * unlearn.lr * plain


OnRejected = Callable[[str, str, str, str], None]
"""Called with site, type of message, what is wrong, and the digest of the weights."""


@dataclass
class UpdateGate:
    """`check` for all replies of a federation, which it fits as `accepts`; each site's last good step is remembered.

    Right after a start there are no steps to compare with: the first reply of a kind is bounded by the weights alone.
    """

    config: GateConfig
    on_rejected: OnRejected
    on_accepted: Callable[[str], None]
    least: float = 0.0
    """Smallest relative unlearning step."""
    _steps: dict[str, dict[str, float]] = field(default_factory=dict)

    def __call__(
        self, site: str, kind: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], walk: WalksOver = to_end
    ) -> bool:
        """Whether the weights may be aggregated; either way it is reported.

        They are decoded on `walk` alone, which may add them to a sum meanwhile, and takes them out if they may not.
        """
        # Of the round before and this one, one norm per site: a site's last step is replaced by its new one.
        norms = self._steps.setdefault(kind, {})
        others = [norm for name, norm in norms.items() if name != site]

        try:
            norms[site] = check(after, before, kind, self.config, others, self.least, walk)
        except Rejected as error:
            self.on_rejected(site, kind, str(error), state_digest(after))
            return False

        self.on_accepted(site)
        return True
