"""The stream of one seed: trains once, then runs a campaign for each batch, and retrains for comparison."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from client.cohort.site import Site
from common.errors import ConfigError, UnavailableError
from common.learning.device import derive_seed
from common.learning.model.checkpoint import load_checkpoint, save_checkpoint, state_digest
from common.learning.records import Subset
from common.protocol.messages import ADOPT, AdoptReply, AdoptRequest
from server.campaign.campaign import NobodyRetainedError, run_campaign
from server.rounds.aggregation import State
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.training import Round, train
from simulations.comparison.world import World
from simulations.result import Cost, DecisionResult
from simulations.run.experiment import OnProgress
from simulations.run.qualified import RememberingJournal
from simulations.stream.arrivals import Arrival, arrivals
from simulations.stream.auditor import Auditor, Forgotten
from simulations.stream.batching import Batch, batches, batches_apart
from simulations.stream.qualification import StreamQualification
from simulations.stream.record import (
    Audited,
    CampaignRecord,
    Retrained,
    SeedRecord,
)
from simulations.stream.settings import StreamConfig

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _CampaignEnd:
    state: State
    how: Literal["unlearned", "retrained"]
    decision: DecisionResult | None
    cost: Meter


@dataclass
class Stream:
    """One seed. What `earlier` holds of it was done before, and its weights are on disk."""

    config: StreamConfig
    world: World
    folder: Path
    keep: Callable[[SeedRecord], None]
    say: Say
    on_progress: OnProgress
    earlier: SeedRecord | None

    def run(self, federation: Federation) -> None:
        """Train, then campaign after campaign; each is on disk before the hospitals adopt its model."""
        batching = self.config.batching
        plan = (batches_apart if batching.apart else batches)(self._arrivals(), batching.policy())
        forgotten = [_by_site(batch) for batch in plan]
        # A hospital that leaves takes its test patients with it; without them, models before and after can be compared.
        auditor = Auditor(self.world, frozenset(self.world.sites) - {self.config.arrivals.leaving})
        record = self.earlier or self._begin(federation, auditor, forgotten)
        if self.config.run.qualify and record.qualification is None:
            qualification = self._qualification.rehearse(federation, self._weights(0))
            record = record.model_copy(update={"qualification": qualification})
            self.keep(record)
        state = self._weights(len(record.campaigns))
        if record.campaigns:
            # The run may have stopped before all hospitals adopted the model. To adopt it twice is harmless.
            self._adopt(federation, state, record.campaigns[-1])

        for number, batch in enumerate(plan, 1):
            self.on_progress(f"seed {record.seed}", number - 1, len(plan))
            if number > len(record.campaigns):
                begin = time.monotonic()
                # The model before, on those whom this campaign forgets: how much there is to forget.
                before = auditor.audit(state, forgotten[:number])
                outcome = self._campaign(federation, state, record, forgotten[number - 1])
                state = outcome.state
                after = auditor.audit(outcome.state, forgotten[:number])
                # Weights first: a campaign in the record must have its model on disk.
                save_checkpoint(self._model(number), state, self.world.card)
                campaign = self._noted(record, batch, outcome, before, after, time.monotonic() - begin)
                record = record.model_copy(update={"campaigns": (*record.campaigns, campaign)})
                self.keep(record)
                self._adopt(federation, state, campaign)
                self._tell(record)

            if self._is_control(number, len(plan)) and all(one.after != number for one in record.retrained):
                control = self._retrained(federation, number, auditor, forgotten[:number])
                record = record.model_copy(update={"retrained": (*record.retrained, control)})
                self.keep(record)

        self.on_progress(f"seed {record.seed}", len(plan), len(plan))

    def _is_control(self, number: int, planned: int) -> bool:
        every = self.config.retrain_every
        return number == planned or bool(every and number % every == 0)

    def _noted(
        self, record: SeedRecord, batch: Batch, end: _CampaignEnd, before: Audited, after: Audited, seconds: float
    ) -> CampaignRecord:
        number = len(record.campaigns) + 1
        patients = dict(sorted(Counter(arrival.site for arrival in batch.arrivals).items()))
        revocations = sum(patients.values()) + sum(sum(before.patients.values()) for before in record.campaigns)

        return CampaignRecord(
            number=number,
            day=_days(batch.at - self.config.arrivals.start),
            reason=batch.reason,
            days_left=_days(batch.due - batch.at),
            patients=patients,
            leaving=next((arrival.site for arrival in batch.arrivals if arrival.kind == "leave"), ""),
            how=end.how,
            decision=end.decision,
            cost=Cost(**asdict(end.cost)),
            retraining_units=record.original_cost.forward_units * (1 - revocations / sum(record.training.values())),
            before=before.cohort(number),
            audited=after,
            seconds=seconds,
        )

    def _arrivals(self) -> tuple[Arrival, ...]:
        cohorts, splits = self.world.parts()
        site_counts = Counter(patient for cohort in cohorts.values() for patient in cohort.patients)

        # Somebody known at two hospitals would revoke at one, and stay in the training of the other.
        if max(site_counts.values()) > 1:
            raise ConfigError(
                "some patients are known at several hospitals", where="run.sites", remedy="deal them with run.sites=N"
            )

        training = {name: split.patients(Subset.TRAIN) for name, split in splits.items()}

        return arrivals(training, self.config.arrivals, self.world.experiment.seed)

    def _begin(self, federation: Federation, auditor: Auditor, forgotten: Sequence[Forgotten]) -> SeedRecord:
        """Train on all patients."""
        rounds = self.world.experiment.train.rounds
        original, cost = self.world.train(
            federation,
            "original",
            self.folder / "original",
            lambda record: self.on_progress("original", record.round, rounds),
        )
        folds = self.world.train_folds(
            federation, original, lambda count, total: self.on_progress("folds", count, total)
        )
        save_checkpoint(self._model(0), original.state, self.world.card)
        record = SeedRecord(
            seed=self.world.experiment.seed,
            planned=len(forgotten),
            training={name: len(split.patients(Subset.TRAIN)) for name, split in self.world.parts()[1].items()},
            staying=tuple(sorted(auditor.staying)),
            original=auditor.audit(original.state, forgotten),
            original_cost=Cost(**asdict(cost)),
            original_rounds=kept_round(original.rounds),
            folds_cost=Cost(**asdict(folds)),
        )
        self.keep(record)

        return record

    def _campaign(self, federation: Federation, parent: State, record: SeedRecord, patients: Forgotten) -> _CampaignEnd:
        """Run the coordinator's campaign for the current batch."""
        number = len(record.campaigns) + 1
        for name, revoking in patients.items():
            site = Site(self.folder / "sites" / name)
            # A hospital that leaves also withdraws its held-out patients.
            leaves = not site.patients(Subset.TRAIN) - {*revoking}
            # A continued run may find these revocations recorded.
            again = {*(site.cohort.patients if leaves else revoking)} - site.stopped
            if again:
                site.revoke(again)

        experiment = self.world.experiment
        # Several hospitals may forget at once; one's weights can replace the model only if no other does.
        if experiment.campaign.aggregation == "replace":
            relay = experiment.campaign.model_copy(update={"aggregation": "relay"})
            experiment = experiment.model_copy(update={"campaign": relay})

        journal = RememberingJournal()
        try:
            campaign = run_campaign(
                federation,
                parent,
                experiment,
                journal=journal,
                folder=self.folder / "campaign",
                on_round=lambda _: None,
            )
        except NobodyRetainedError:
            # As at a coordinator: a hospital that has nobody to retain cannot unlearn, so a new model is trained.
            seed = derive_seed(experiment.seed, "retrained", number) % 2**31
            federation.meter = Meter()
            result = train(
                federation,
                self.world.card.build(seed).state_dict(),
                experiment.train,
                self.world.card,
                seed=seed,
                folder=self.folder / "leave" / str(number),
                on_round=lambda _: None,
            )
            return _CampaignEnd(result.state, "retrained", None, federation.meter)

        cost = campaign.unlearn_cost
        cost.add(campaign.retain_cost)

        return _CampaignEnd(campaign.state, "unlearned", self._qualification.decide(campaign, record, journal), cost)

    def _adopt(self, federation: Federation, state: State, campaign: CampaignRecord) -> None:
        """Let every hospital adopt the model, close its revocations and delete those patients.

        Raises:
            UnavailableError: a hospital did not.
        """
        request = AdoptRequest(
            version=f"campaign-{campaign.number}", digest=state_digest(state), campaign=0, how=campaign.how
        )
        requests = dict.fromkeys(federation.sites, federation.downlink.whole(request, state))
        answers = {n: federation.read(n, ADOPT, reply, AdoptReply) for n, reply in federation.exchange(ADOPT, requests)}
        missing = [name for name in federation.sites if answers.get(name) is None]
        if missing:
            raise UnavailableError(f"{', '.join(missing)} did not adopt the model of campaign {campaign.number}")

    def _retrained(
        self, federation: Federation, number: int, auditor: Auditor, forgotten: Sequence[Forgotten]
    ) -> Retrained:
        """Train the control on the remaining patients, from the initial weights of the original."""
        rounds = self.world.experiment.train.rounds
        control, cost = self.world.train(
            federation,
            "retrained",
            self.folder / "retrained" / str(number),
            lambda record: self.on_progress(f"retrained {number}", record.round, rounds),
        )

        return Retrained(
            after=number,
            audited=auditor.audit(control.state, forgotten),
            cost=Cost(**asdict(cost)),
            rounds=kept_round(control.rounds),
        )

    def _tell(self, record: SeedRecord) -> None:
        """Print a line with the remaining time, without that of the control at the end."""
        last = record.campaigns[-1]
        mean = sum(one.seconds for one in record.campaigns) / len(record.campaigns)
        remaining = mean * (record.planned - last.number)
        mia = last.audited.mia["fused"].auc
        figures = [("test AUC", last.audited.test.auc), ("MIA of all forgotten", mia)]
        text = ", ".join(f"{name} {value:.3f}" for name, value in figures if value is not None)
        self.say(
            f"seed {record.seed}: campaign {last.number} of {record.planned}, day {last.day:.0f}, "
            f"{sum(last.patients.values())} patients {last.how}, {text}; {remaining / 60:.0f} min left"
        )

    @property
    def _qualification(self) -> StreamQualification:
        return StreamQualification(self.world, self.folder / "qualification", self.on_progress)

    def _weights(self, number: int) -> State:
        return load_checkpoint(self._model(number), self.world.card)[0]

    def _model(self, number: int) -> Path:
        return self.folder / "models" / f"{number:03d}"


def kept_round(rounds: Sequence[Round]) -> int:
    """Number of training rounds behind the kept weights."""
    return next(record.round for record in rounds if record.kept)


def _by_site(batch: Batch) -> Forgotten:
    patients_of: dict[str, list[str]] = {}
    for arrival in batch.arrivals:
        patients_of.setdefault(arrival.site, []).append(arrival.patient)
    return {name: tuple(sorted(patients)) for name, patients in sorted(patients_of.items())}


def _days(span: timedelta) -> float:
    return span / timedelta(days=1)
