"""Federated training until the validation loss stops falling; a round is written to disk before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from common.errors import UnavailableError
from common.files import write_text
from common.learning.config import TrainConfig
from common.learning.evaluation.figures import SelectionFigures
from common.learning.evaluation.merge import Eligible, SelectionMerge
from common.learning.evaluation.metrics import macro_auc, selection_loss
from common.learning.evaluation.reported import check_selection
from common.learning.model.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from common.protocol.messages import TRAIN, FoldModels, TrainReply, TrainRequest
from server.rounds.aggregation import State
from server.rounds.capped_mean import CappedMean, fewest
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.selection import agreed_loss_of, selection_of
from server.rounds.weights.walk import measure


class Round(BaseModel):
    """One round of training or retention. Figures are of the model that the round began with."""

    phase: str
    round: int
    train_loss: float | None = None
    selection: SelectionFigures | None = None
    seconds: float = 0.0
    kept: bool = False
    missing: tuple[str, ...] = ()
    """Sites that the round went on without."""
    norms: dict[str, float] = {}
    """L2 norm of each site's step, with `train.keep_norms`."""
    agreed: float | None = None
    """`agreed_loss` of the sites; None in simulations, where all sites are believed, and in earlier records."""

    @property
    def validation_loss(self) -> float | None:
        """Cross-entropy of validation patients over the three branches, nats; training stops on it."""
        if self.agreed is not None or self.selection is None:
            return self.agreed
        return selection_loss(self.selection)

    @property
    def validation_auc(self) -> float | None:
        """Macro AUC of the fused branch on validation patients."""
        return None if self.selection is None else macro_auc(self.selection.validation["fused"])


OnRound = Callable[[Round], None]
FOLDS = "folds"
"""Step of the campaign in which fold models are trained."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights with the lowest validation loss, the rounds that led to them, and the sites that had patients."""

    state: State
    rounds: tuple[Round, ...]
    sites: frozenset[str]


class _Progress(BaseModel):
    rounds: list[Round] = []
    best: int = 0
    finished: bool = False
    cost: dict[str, float] = {}


def train(
    federation: Federation,
    initial: Mapping[str, Tensor],
    config: TrainConfig,
    card: ModelCard,
    *,
    seed: int,
    folder: Path,
    on_round: OnRound,
    quorum: float = 0.0,
) -> Trained:
    """Rounds of FedAvg, weighted by registered studies, until `patience` rounds brought no lower validation loss.

    `initial` are untrained weights, which are never the result.

    What `folder` already holds of an interrupted run is gone on from; the seeds of a round do not depend on it.
    """
    federation.classes = len(card.classes)
    progress_file = folder / "progress.json"
    last = folder / "last"
    best = folder / "best"
    progress = _Progress()

    if progress_file.exists():
        progress = _Progress.model_validate_json(progress_file.read_bytes())
        # The last finished round. A round that was under way is trained again, with the same seed.
        state, _ = load_checkpoint(last, card)
        # Rounding errors of the run that ended are lost, here and at the sites; see
        # docs/adr/0007-changes-on-the-wire.md.
        federation.downlink.begin()
        federation.meter = Meter.of(progress.cost)
        for earlier in progress.rounds:
            on_round(earlier)
    else:
        state = federation.downlink.start(initial)

    # Once for the whole run: all its rounds average by the same shares.
    share_by_site = federation.shares(federation.retained(federation.status()))
    while not progress.finished and len(progress.rounds) < config.rounds:
        number = len(progress.rounds)
        after, record = average_round(
            federation,
            TRAIN,
            state,
            share_by_site,
            config,
            epochs=config.local_epochs,
            number=number,
            seed=seed,
            quorum=quorum,
        )
        progress.finished = _note(progress, record, config)
        # The figures of a round are of the weights that it began with.
        if progress.best == number:
            save_checkpoint(best, state, card)
        if not progress.finished:
            state = after
            save_checkpoint(last, state, card)

        progress.cost = asdict(federation.meter)
        # After the checkpoints: the record never names weights that are not on disk.
        write_text(progress_file, progress.model_dump_json())
        on_round(record)

    # No round follows whose replies would measure the last weights, so they are measured by themselves.
    if not progress.finished:
        selection = selection_of(federation, state, seed)
        record = Round(
            phase="train",
            round=len(progress.rounds),
            selection=selection.result(),
            agreed=agreed_loss_of(federation, selection, share_by_site),
        )
        _note(progress, record, config)
        if progress.best == record.round:
            save_checkpoint(best, state, card)
        progress.finished = True
        progress.cost = asdict(federation.meter)
        write_text(progress_file, progress.model_dump_json())
        on_round(record)

    state, _ = load_checkpoint(best, card)
    rounds = [r.model_copy(update={"kept": r.round == progress.best}) for r in progress.rounds]

    return Trained(state, tuple(rounds), frozenset(share_by_site))


def _note(progress: _Progress, record: Round, config: TrainConfig) -> bool:
    """Add a round and see whether it is the best; whether patience is at its end."""
    progress.rounds.append(record)
    losses = [r.validation_loss if r.validation_loss is not None else float("inf") for r in progress.rounds]
    # Figures are of the model that a round began with, and round 0 begins with untrained weights: on few patients they
    # may have the lowest loss, as they are never confident, but nobody trains to get them.
    first = min(1, record.round)
    lowest = first + losses[first:].index(min(losses[first:]))
    progress.best = record.round if config.keep == "last" else lowest
    rounds_since_lowest = record.round - lowest

    return rounds_since_lowest >= config.patience and record.round >= config.min_rounds


def average_round(
    federation: Federation,
    kind: str,
    state: Mapping[str, Tensor],
    registered: Mapping[str, float],
    config: TrainConfig,
    *,
    epochs: int,
    number: int,
    seed: int,
    folds: FoldModels | None = None,
    quorum: float = 0.0,
    bend: Callable[[str, Tensor], Tensor] | None = None,
    eligible: Mapping[str, Eligible] | None = None,
) -> tuple[State, Round]:
    """One round at the sites in `registered`: their weights are added as they come, averaged, and rounded for the wire.

    With `folds`, `state` is the joined weights of these fold models. `bend` may change the mean of each tensor, by its
    name, before it becomes the model's. Membership figures are those
    of the sites in `eligible`, if it is given.

    Raises:
        UnavailableError: the sites whose weights were taken hold less than `quorum` of the registered studies, or only
            one of several answered.
        AggregateRefusedError: the average is no model to go on from.
    """
    begin = time.monotonic()
    request = TrainRequest(config=config, epochs=epochs, round=number, seed=seed, folds=folds)
    federation.begin(kind if folds is None else FOLDS, max(number, 0))
    # The steps of several models together are no measure for those of one.
    work = kind if folds is None else FOLDS
    total = sum(registered.values())
    # The rest is enough without the largest site, or that one alone could stop every round by its silence.
    least_share = min(quorum, 1 - max(registered.values()) / total) if len(registered) > 1 else quorum
    mean = CappedMean(registered, federation.max_share, least_share * total, federation.downlink.frozen)
    losses = []
    merge = SelectionMerge(eligible)
    norms = {}
    sites_taken: set[str] = set()

    for name, records in federation.ask(kind, request, state, registered):
        reply = federation.read(name, kind, records, TrainReply, partial(_check_training, federation, name))
        # The sum takes all of a reply or nothing of it.
        take = partial(mean.of(name).take, share=registered[name])
        weights = None if reply is None else federation.weights(name, work, records, state, take)
        del records  # no two replies are held at once
        if reply is None or weights is None:
            continue
        if config.keep_norms:
            norms[name] = measure(weights, state).norm
        del weights
        sites_taken.add(name)
        losses.append((registered[name], reply.loss))
        federation.meter.forward_units += reply.cost
        if reply.received is not None:
            merge.add(name, reply.received)

    share = sum(registered[name] for name in sites_taken) / total
    away = ", ".join(sorted(registered.keys() - sites_taken))
    if not sites_taken or share < least_share - _ROUNDING:
        raise UnavailableError(
            f"sites with {share:.0%} of the studies took part in {kind}, {least_share:.0%} must; {away} did not"
        )
    # One site's weights "averaged" alone would be visible in the next model as they are.
    if federation.counts is not None and len(sites_taken) < fewest(registered):
        raise UnavailableError(f"{', '.join(sites_taken)} alone took part in {kind}; {away} did not")
    record = Round(
        phase=FOLDS if folds is not None else "train" if kind == TRAIN else "retain",
        round=number,
        missing=tuple(sorted(registered.keys() - sites_taken)),
        train_loss=sum(w * loss for w, loss in losses) / sum(w for w, _ in losses),
        selection=merge.result() if len(merge) else None,
        seconds=time.monotonic() - begin,
        norms=norms,
        agreed=agreed_loss_of(federation, merge, registered),
    )
    # The mean is rounded for the wire before it is checked: what is checked is what the sites will have.
    means = mean.means(state, sites_taken)
    if bend is not None:
        means = ((name, bend(name, tensor)) for name, tensor in means)
    after = federation.downlink.advance(state, means)
    federation.check_aggregate(kind, state, after)

    return after, record


def _check_training(federation: Federation, name: str, reply: TrainReply) -> None:
    if reply.received is not None:
        check_selection(reply.received, federation.known(name))
