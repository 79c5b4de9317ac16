"""A candidate: the model after unlearning and the retention rounds, before anybody audits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from common.learning.config import ExperimentConfig
from common.learning.evaluation.figures import SelectionFigures
from common.learning.records import Subset
from common.protocol.messages import RETAIN
from server.rounds.aggregation import State, without_return
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import Journal, step
from server.rounds.selection import select
from server.rounds.states import CampaignState
from server.rounds.training import OnRound, Round, average_round
from server.rounds.unlearning.base import Collected, Past, Stage, Task, note_missing, retention_config
from server.rounds.unlearning.methods import campaign_method


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a campaign proposes, before anybody audits it."""

    state: State
    rounds: tuple[Round, ...]
    unlearn_cost: Meter
    retain_cost: Meter


def make_candidate(
    federation: Federation,
    parent: Mapping[str, Tensor],
    collected: Collected,
    config: ExperimentConfig,
    *,
    journal: Journal,
    folder: Path,
    on_round: OnRound,
    quorum: float = 0.0,
    past: Past | None = None,
    fewest_rounds: int = 0,
) -> Candidate:
    """Unlearn and run the retention rounds; no audit or test patient is looked at.

    There are `fewest_rounds` retention rounds at least, and no earlier one can be the candidate.

    Raises:
        UnavailableError: a forgetting site did not answer, or too few did.
    """
    journal.enter(CampaignState.UNLEARNING)
    unlearning = Meter()
    task = Task(federation, parent, collected, config, journal, folder, unlearning, quorum, past)
    state = campaign_method(config.unlearn.method)(task)
    if config.unlearn.method == "exact":
        # Another rounding or a round more would make it another model than one that never saw the patients.
        record = Round(phase="unlearn", round=0, seconds=unlearning.seconds, kept=True)
        on_round(record)
        return Candidate(state, (record,), unlearning, Meter())

    # A new line: what unlearning left of rounding errors must not come back in retention.
    federation.downlink.begin()
    # Rounded for the wire as any other model, so that sites can hold it under one digest.
    state = federation.downlink.advance(parent, state.items())
    record = Round(phase="unlearn", round=0, seconds=unlearning.seconds)
    on_round(record)
    rounds = [record]
    retaining = Meter()
    candidates, records = _retain(
        federation, state, parent, collected, config,
        journal=journal, meter=retaining, on_round=on_round, quorum=quorum, fewest_rounds=fewest_rounds,
    )  # fmt: skip
    best_round = choose_round([r.selection for r in records], fewest_rounds)
    rounds += [r.model_copy(update={"kept": r.round == best_round}) for r in records]

    return Candidate(candidates[best_round], tuple(rounds), unlearning, retaining)


def _retain(
    federation: Federation,
    state: State,
    parent: Mapping[str, Tensor],
    collected: Collected,
    config: ExperimentConfig,
    *,
    journal: Journal,
    meter: Meter,
    on_round: OnRound,
    quorum: float,
    fewest_rounds: int,
) -> tuple[list[State], list[Round]]:
    """The model after unlearning and after each retention round, with a record of each."""
    journal.enter(CampaignState.AGGREGATING)
    rounds = max(config.campaign.retention_rounds, fewest_rounds)
    if (chosen_stage := journal.get("select", Stage)) is not None:
        # A campaign that an earlier version began, with fewer rounds, keeps what it chose from.
        rounds = chosen_stage[0].record.round

    if rounds:
        journal.enter(CampaignState.RETAINING)
    states = [state]
    records = []

    # What a retention step undoes of the unlearning is taken out of it again.
    def bend(name: str, after: Tensor) -> Tensor:
        return without_return(after, states[-1][name], state[name] - parent[name])

    for number in range(rounds):
        current = states[-1]

        def work(number: int = number, current: State = current) -> tuple[Stage, State]:
            federation.meter = Meter()
            after, record = average_round(
                federation,
                RETAIN,
                current,
                federation.shares(collected.retain_studies),
                retention_config(config),
                epochs=config.campaign.retention_epochs,
                number=number,
                seed=config.seed,
                quorum=quorum,
                bend=bend if config.campaign.retention_orthogonal else None,
                eligible=collected.eligible(Subset.CALIBRATION),
            )
            note_missing(journal, record)
            return Stage(record=record, cost=asdict(federation.meter)), after

        stage, after = step(journal, f"retain:{number}", Stage, work)
        meter.add(Meter.of(stage.cost))
        on_round(stage.record)
        records.append(stage.record)
        states.append(after)

    def look() -> tuple[Stage, None]:
        federation.meter = Meter()
        # With a single candidate there is nothing to choose, and the audit says the rest.
        chosen_by = collected.eligible(Subset.CALIBRATION)
        selection = select(federation, states[-1], config.seed, chosen_by) if len(states) > 1 else None
        last = Round(phase="retain", round=len(states) - 1, selection=selection)

        return Stage(record=last, cost=asdict(federation.meter)), None

    stage, _ = step(journal, "select", Stage, look)
    meter.add(Meter.of(stage.cost))
    on_round(stage.record)

    return states, [*records, stage.record]


def choose_round(figures: Sequence[SelectionFigures | None], fewest_rounds: int = 0) -> int:
    """Position of the candidate whose worst branch is nearest to .5 on calibration patients; the later one if equal.

    The model straight after unlearning (position 0) only counts when there was no retention round; none counts
    before `fewest_rounds`.
    """
    start = min(max(1, fewest_rounds), len(figures) - 1)
    worst = {}

    for at in range(start, len(figures)):
        selection = figures[at]
        gaps = [abs(m.auc - 0.5) for m in selection.membership.values() if m.auc is not None] if selection else []
        worst[at] = max(gaps, default=0.0)

    return min(reversed(range(start, len(figures))), key=lambda at: round(worst[at], 2))
