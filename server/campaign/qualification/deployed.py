"""One run of an open qualification at a real coordinator, beside its campaigns and after them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from torch import Tensor

from common.errors import CohortError, FedForgetError, UnavailableError
from common.learning.evaluation.qualification.validity import Circumstances
from common.learning.model.checkpoint import state_digest
from common.learning.records import Subset
from common.platform.sql import transaction
from server.campaign.context import CoordinatorContext
from server.campaign.qualification.description import lineage_of, store_of
from server.campaign.qualification.for_campaigns import LastQualification
from server.campaign.qualification.register import configuration_digest, plan_register, rehearsing_sites
from server.campaign.qualification.runner import QualificationRun, YieldedError
from server.campaign.qualification.store import QualificationStore
from server.database import EventRow
from server.rounds.federation import Federation
from server.settings import Terms

log = logging.getLogger("fedforget.server")
RETRY = timedelta(minutes=1)
MOST_TRIES = 10


def retention_rounds(terms: Terms) -> int:
    """Of a campaign with one forgetting hospital."""
    planned_rounds = terms.experiment.campaign.retention_rounds
    return (
        max(planned_rounds, terms.policy.single_writer_rounds)
        if terms.policy.single_writer == "retain"
        else planned_rounds
    )


def circumstances(house: CoordinatorContext, federation: Federation, terms: Terms) -> Circumstances:
    """Under what the procedure runs now, by these terms."""
    studies_by_site = federation.registered
    return Circumstances(
        configuration=configuration_digest(terms.experiment, retention_rounds(terms)),
        lineage=lineage_of(house) or "",
        aggregation=terms.experiment.campaign.aggregation,
        sites=tuple(sorted(studies_by_site)),
        labels=tuple(range(len(house.settings.classes))),
        train_patients=sum(counts.get(str(Subset.TRAIN), 0) for counts in studies_by_site.values()),
        at=house.store.clock().replace(microsecond=0),
    )


def for_campaigns(house: CoordinatorContext, federation: Federation) -> LastQualification:
    """What campaigns of this coordinator may rest on."""
    return LastQualification(store_of(house).last_result, lambda terms: circumstances(house, federation, terms))


def carry_on(house: CoordinatorContext, federation: Federation, number: int) -> None:
    """Register, rehearse, judge: whatever is left. It stops where a campaign is open, and is started again after it."""
    store = store_of(house)
    store.stand(number, waits="")

    try:
        _work(house, federation, store, number)
    except YieldedError as error:
        store.stand(number, waits=str(error))
    except CohortError as error:
        _end(house, store, number, str(error))
    except UnavailableError as error:
        tries = store.standing(number).tries + 1
        if tries >= MOST_TRIES:
            _end(house, store, number, f"given up after {tries} tries: {error}")
        else:
            store.stand(
                number, tries=tries, retry_at=house.store.clock() + RETRY * 2 ** min(tries, 6), waits=str(error)
            )
    except FedForgetError as error:
        _end(house, store, number, str(error))

    log.info("qualification %d: %s", number, store.standing(number).waits or "done")


def _work(house: CoordinatorContext, federation: Federation, store: QualificationStore, number: int) -> None:
    request = store.requested(number)
    # A retraining begins another line of models, of which the rehearsals would say nothing.
    if lineage_of(house) != request.lineage:
        _end(house, store, number, "the model was retrained meanwhile")
        return
    terms = house.terms
    # Asked for the counts of patients by set, of which the register is made.
    federation.status()
    register = store.registered(number)

    if register is None:
        now = circumstances(house, federation, terms)
        register = plan_register(
            request.plan,
            now,
            terms.experiment,
            sites=rehearsing_sites(request.plan, federation.registered),
            parent=state_digest(_model(house)),
            attempt=store.attempts(request.lineage) + 1,
            retention_rounds=retention_rounds(terms),
        )
        store.register(number, register, house.signing_key())
        _event(house, "qualification-registered", f"qualification {number}: {register.digest}")
    # Rehearsals by other settings would qualify a procedure that no campaign follows.
    elif register.circumstances.configuration != configuration_digest(terms.experiment, retention_rounds(terms)):
        _end(house, store, number, "the settings have changed since the register was signed")
        return

    def on_wave(done: int, total: int, left: float) -> None:
        store.stand(number, waves=done, of=total, seconds_left=left, tries=0)

    result = QualificationRun(
        federation,
        lambda: _model(house),
        terms.experiment,
        register,
        store.journal(number),
        house.store.clock,
        yields=lambda: house.store.open() is not None or bool(store.standing(number).stopped),
        on_wave=on_wave,
        quorum=terms.policy.quorum,
    ).run()
    verdict = result.qualification
    text = "qualified" if verdict.qualified else "; ".join(f"{f.part}: {f.text}" for f in verdict.findings)
    _event(house, "qualification-ended", f"qualification {number}: {text}")


def _model(house: CoordinatorContext) -> Mapping[str, Tensor]:
    active = house.registry.active()
    if active is None:
        raise CohortError("there is no model to rehearse with", remedy="run `fedforget-server train` first")
    return house.registry.load(active.name)


def _end(house: CoordinatorContext, store: QualificationStore, number: int, reason: str) -> None:
    store.stop(number, reason)
    _event(house, "qualification-stopped", f"qualification {number}: {reason}")


def _event(house: CoordinatorContext, kind: str, detail: str) -> None:
    with transaction(house.engine) as session:
        session.add(EventRow(at=house.store.clock(), kind=kind, detail=detail))
