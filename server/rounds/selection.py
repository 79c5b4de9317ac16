"""The selection of a round: sites evaluate a model on their validation patients, and the figures are merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor

from common.errors import UnavailableError, WireError
from common.learning.evaluation.figures import SelectionFigures
from common.learning.evaluation.merge import Eligible, SelectionMerge
from common.learning.evaluation.reported import check_audit, check_selection
from common.protocol.messages import EVALUATE, EvaluateReply, EvaluateRequest
from server.rounds.agreed_loss import agreed_loss
from server.rounds.federation import Federation


def check_evaluation(federation: Federation, name: str, purpose: str, reply: EvaluateReply) -> None:
    """Raise a `WireError` unless the figures are those that were asked for, and can be."""
    # A reply that answers another question could put figures where nobody looks for them.
    if (reply.selection is not None, reply.audit is not None) != (purpose == "selection", purpose == "audit"):
        raise WireError(f"the figures are not those of the {purpose} that was asked for")
    if reply.selection is not None:
        check_selection(reply.selection, federation.known(name))
    if reply.audit is not None:
        check_audit(reply.audit, federation.known(name))


def select(
    federation: Federation,
    state: Mapping[str, Tensor],
    seed: int,
    eligible: Mapping[str, Eligible] | None = None,
) -> SelectionFigures:
    """Selection figures of a model, merged over the sites.

    Raises:
        UnavailableError: no site returned any.
    """
    return selection_of(federation, state, seed, eligible).result()


def selection_of(
    federation: Federation, state: Mapping[str, Tensor], seed: int, eligible: Mapping[str, Eligible] | None = None
) -> SelectionMerge:
    """Selection figures of each site, to be merged.

    Raises:
        UnavailableError: no site returned any.
    """
    replies = evaluate(federation, state, EvaluateRequest(purpose="selection", seed=seed))
    merging = SelectionMerge(eligible)
    for name, reply in replies:
        if reply.selection is not None:
            merging.add(name, reply.selection)

    if not len(merging):
        raise UnavailableError("no site returned figures to choose by")
    return merging


def agreed_loss_of(federation: Federation, merged: SelectionMerge, registered: Mapping[str, float]) -> float | None:
    """The loss that training stops on where no site is believed; None in simulations."""
    return None if federation.counts is None else agreed_loss(merged.losses, registered)


def evaluate(
    federation: Federation, state: Mapping[str, Tensor], request: EvaluateRequest
) -> Iterator[tuple[str, EvaluateReply]]:
    """Have every site evaluate a model; replies as they come, their cost charged to the meter."""
    federation.begin(request.purpose)

    for name, records in federation.ask(EVALUATE, request, state, federation.sites):
        check = partial(check_evaluation, federation, name, request.purpose)
        # An answer that is refused is reported by `read`; the others' figures go on.
        reply = federation.read(name, EVALUATE, records, EvaluateReply, check)
        if reply is None:
            continue
        federation.meter.forward_units += reply.cost
        yield name, reply
