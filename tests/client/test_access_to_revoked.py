"""Who has revoked is read through an access alone, which belongs to one campaign and is closed with a purge."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self, get_type_hints

import numpy as np
import pytest
import torch

from client.cohort.site import Site
from client.cohort.site_data import FoldPart, SiteData
from client.database import FoldScoreRow, migrate, opened
from client.revocations.access import Access
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Scope, Source
from client.revocations.rows.ledger_tables import AccessRow
from client.revocations.tombstones.overview import read_revocations
from client.revocations.workflow.decisions import approve
from client.settings import SiteFolder
from common.errors import RefusedError
from common.learning.config import DecisionConfig, TrainConfig, UnlearnConfig
from common.learning.data.tensors import Batch, StudyTensors
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.records import Subset
from common.platform.actor import Actor
from common.platform.sql import transaction
from common.protocol.messages import AdoptRequest, EvaluateRequest, FoldModel, FoldModels, TrainRequest, UnlearnRequest
from common.protocol.several_models import joined

TRAINING = TrainRequest(config=TrainConfig(batch=4), epochs=1, round=0, seed=0)
UNLEARNING = UnlearnRequest(config=UnlearnConfig(passes=1), seed=0)
FOLDS = FoldModels(lineage="campaign-1", models=(FoldModel(family="targets", number=0, of=2),))
SCORING = EvaluateRequest(purpose="folds", seed=0, folds=FOLDS)
AUDIT = EvaluateRequest(purpose="audit", seed=0, decision=DecisionConfig(bootstrap=50))


@pytest.fixture
def site(site_folder: Path) -> Site:
    """With a database, as a real one has."""
    with opened(site_folder / "site.db") as engine:
        migrate(engine)
    return Site(site_folder)


def accesses(site: Site) -> list[tuple[int, str, int]]:
    with opened(SiteFolder(site.folder).database) as engine, transaction(engine) as session:
        return [(row.campaign, row.what, row.patients) for row in session.query(AccessRow).order_by(AccessRow.id)]


def purged(site: Site) -> dict[str, int]:
    with opened(SiteFolder(site.folder).database) as engine, transaction(engine) as session:
        return [row.purged for row in session.query(AccessRow).order_by(AccessRow.id)][-1]


def scored_patients(site: Site) -> set[str]:
    """Training patients with a row of fold scores."""
    data = SiteData(site.folder)
    with opened(site.folder / "site.db") as engine, transaction(engine) as session:
        names = {row.patient for row in session.query(FoldScoreRow)}
    return {patient for patient in data.registered(Subset.TRAIN) if data.fold_scores.name_of(patient) in names}


def state_of(site: Site, patient: str) -> str:
    return read_revocations(site.folder).patients[patient].state


def test_an_access_reaches_the_patients_of_its_campaign_and_nobody_after_its_end(site: Site) -> None:
    first, second, *_ = sorted(site.patients(Subset.TRAIN))
    site.revoke([first])
    with site.access(2) as access:
        assert access.patients == {first}
        assert [study.patient for study in access.studies(site.cohort)] == [first]

    for use in (lambda: access.patients, lambda: access.studies(site.cohort)):
        with pytest.raises(RefusedError, match="ended"):
            use()

    site.revoke([second])
    with Site(site.folder).access(2) as again:
        assert again.patients == {first}
    assert accesses(site) == [(2, "opened", 1)]


def test_who_withdraws_images_alone_is_forgotten_on_the_image_and_fused_branches_until_the_reports_follow(
    site: Site, card: ModelCard
) -> None:
    patients = sorted(site.patients(Subset.TRAIN))[:3]
    state = card.build(1).state_dict()

    def revoke(number: str, some: list[str], scope: Scope) -> None:
        with open_ledger(SiteFolder(site.folder)) as ledger:
            ledger.record(Request(Source("cli", number), number, datetime.now(UTC), scope=scope), some)

    def audited() -> list[int]:
        found = Site(site.folder).evaluate(state, AUDIT, campaign=2).audit
        assert found is not None
        return [found.membership[branch].forget_patients for branch in ("image", "text", "fused")]

    revoke("a", patients, "images")
    assert not site.patients(Subset.TRAIN) & set(patients), "all use stops"
    site.unlearn(state, UNLEARNING, campaign=2)
    with site.access(2) as access:
        studies = access.studies(site.cohort)
        assert access.branches(studies).tolist() == [[on] * len(studies) for on in (True, False, True)]

    assert audited() == [3, 0, 3]
    revoke("b", patients[:1], "reports")
    assert audited() == [3, 1, 3]


def test_what_trains_retains_or_scores_ordinarily_takes_no_patients_and_no_access() -> None:
    for loader in (SiteData.to_learn, SiteData.to_score):
        hints = get_type_hints(loader)
        assert hints.pop("return") == StudyTensors | None
        assert set(hints.values()) <= {Subset, int, FoldPart | None}

    assert get_type_hints(SiteData.to_forget)["access"] is Access
    calls = [line for line in inspect.getsource(SiteData).splitlines() if "self._studies(" in line]
    # The third is what a rehearsal retains: the training set without those who were drawn.
    assert len(calls) == 3, "tensors of chosen patients are made for sets alone"
    assert calls[-1].strip() == "return self._studies(self.patients(Subset.TRAIN) - drawn)"


@contextmanager
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, set[str]]]:
    """Patients whose batches were made, in training order and in order of scoring."""
    seen: dict[str, set[str]] = {"shuffled": set(), "to_score": set()}

    with monkeypatch.context() as patch:
        for name, found in seen.items():
            patch.setattr(StudyTensors, name, _recorded(getattr(StudyTensors, name), found))
        yield seen


def _recorded(real: Any, seen: set[str]) -> Any:
    def made(studies: StudyTensors, size: int, device: torch.device, *more: np.random.Generator) -> Iterator[Batch]:
        for batch in real(studies, size, device, *more):
            seen.update(studies.studies[row].patient for row in batch.rows)
            yield batch

    return made


@pytest.mark.parametrize("two_person", [False, True])
def test_whatever_its_state_no_training_and_no_evaluation_reads_who_has_revoked(
    site: Site, card: ModelCard, monkeypatch: pytest.MonkeyPatch, two_person: bool
) -> None:
    trained = min(site.patients(Subset.TRAIN))
    tested = min(site.patients(Subset.TEST))
    folder = SiteFolder(site.folder)
    with open_ledger(folder) as ledger:
        ledger.two_person = two_person
        ledger.record(
            Request(Source("cli", "aa"), "aa", datetime.now(UTC), steward="mueller", identity="user:1001:mueller"),
            [trained, tested],
        )

    assert state_of(site, trained) == ("awaiting-approval" if two_person else "pending")
    with batches(monkeypatch) as seen:
        site.train(card.build().state_dict(), TRAINING, campaign=5)
        site.evaluate(card.build().state_dict(), AUDIT, campaign=5)

    assert {trained, tested}.isdisjoint(seen["shuffled"])
    assert tested not in seen["to_score"]
    # The audit of those whom the campaign is to forget reads them; nothing does while an approval is missing.
    assert (trained in seen["to_score"]) is not two_person
    assert site.status().pending == (0 if two_person else 1)

    if two_person:
        with open_ledger(folder) as ledger:
            approve(ledger, "aa", Actor("schmidt", "user:1000:schmidt"))
        with site.access(6) as access:
            assert access.patients == {trained}


def test_at_the_end_of_a_campaign_what_remembers_its_patients_is_deleted_and_counted(
    site: Site, card: ModelCard
) -> None:
    patient, other, *_ = sorted(site.patients(Subset.TRAIN))
    state = card.build(1).state_dict()
    site.evaluate(joined({"targets.0": state}), SCORING)
    assert patient in scored_patients(site)
    site.revoke([patient])
    site.unlearn(state, UNLEARNING, campaign=2)
    assert state_of(site, patient) == "in-campaign"
    site.revoke([other])
    pixels = [site.cache.digest(study.image) for study in site.cohort.of([patient, other]).studies]
    after = card.build(2).state_dict()
    request = AdoptRequest(version="v2", digest=state_digest(after), how="unlearned", campaign=2)
    site.adopt(after, request)
    assert state_of(site, patient) == "unlearned"
    assert accesses(site) == [(2, "opened", 1), (2, "closed", 1)]
    assert purged(site) == {"pixels": 2, "studies": 1, "fold_scores": 1, "working": 0}
    assert patient not in scored_patients(site)
    assert not any(list(site.cache.root.glob(f"{digest}*")) for digest in pixels)
    # Who waits for the next campaign can be decoded again.
    assert site.forget == {other}
    site.unlearn(state, UNLEARNING, campaign=3)
    site.adopt(after, request)
    assert accesses(site)[:2] == [(2, "opened", 1), (2, "closed", 1)]


def test_a_campaign_that_ended_without_a_version_is_closed_by_the_next_and_escalated(
    site: Site, card: ModelCard
) -> None:
    patient = min(site.patients(Subset.TRAIN))
    site.revoke([patient])
    site.unlearn(card.build().state_dict(), UNLEARNING, campaign=2)
    site.unlearn(card.build().state_dict(), UNLEARNING, campaign=3)
    assert accesses(site) == [(2, "opened", 1), (2, "closed", 1), (3, "opened", 1)]
    with open_ledger(SiteFolder(site.folder)) as ledger:
        (found,) = ledger.standing()
        steps = [(event.state, event.campaign) for event in ledger.history(found.receipt) if event.campaign]

    assert steps == [("in-campaign", 2), ("escalated", 2), ("in-campaign", 3)]


def test_a_campaign_that_was_given_up_is_closed_when_the_site_is_opened_later(
    site: Site, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = min(site.patients(Subset.TRAIN))
    site.revoke([patient])
    site.evaluate(card.build().state_dict(), AUDIT, campaign=2)
    # An earlier version kept scores of reference models.
    references = site.folder / "references"
    references.mkdir()
    (references / "0.npz").write_bytes(b"scores")
    Site(site.folder)
    assert accesses(site) == [(2, "opened", 1)]

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(hours=25)

    monkeypatch.setattr("client.cohort.site.datetime", Later)
    assert Site(site.folder).forget == {patient}
    assert accesses(site) == [(2, "opened", 1), (2, "closed", 1)]
    assert not references.exists()
    assert purged(site)["references"] == 1
    assert state_of(site, patient) == "pending"
