from __future__ import annotations

from pathlib import Path

import pytest
import torch

from client.cohort.site import Site
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.tombstones.overview import read_revocations
from client.revocations.workflow.campaign_steps import close
from client.settings import SiteFolder
from common.errors import CohortError
from common.learning.config import TrainConfig
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.records import Subset
from common.protocol.messages import FoldModel, FoldModels, TrainRequest
from common.protocol.several_models import joined

TRAINING = TrainRequest(config=TrainConfig(batch=4), epochs=1, round=0, seed=0)


@pytest.fixture
def site(site_folder: Path) -> Site:
    return Site(site_folder)


def states_of(site: Site) -> dict[str, str]:
    return {p: entry.state for p, entry in read_revocations(site.folder).patients.items()}


@pytest.mark.parametrize("subset", list(Subset))
def test_a_revoked_patient_is_in_none_of_the_five_sets(site: Site, subset: Subset) -> None:
    patient = sorted(site.patients(subset))[0]
    before = {s: site.patients(s) for s in Subset}
    site.revoke([patient])
    assert site.patients(subset) == before[subset] - {patient}
    assert all(site.patients(s) == before[s] for s in Subset if s is not subset)
    assert site.forget == ({patient} if subset is Subset.TRAIN else set())


def test_training_does_not_open_a_revoked_patients_image(site: Site, card: ModelCard) -> None:
    patient = sorted(site.patients(Subset.TRAIN))[0]
    (study,) = site.cohort.of([patient]).studies
    site.revoke([patient])
    study.image.unlink()
    # No selection: it scores the forget patients, which are read until they are unlearned.
    folds = FoldModels(lineage="one", models=(FoldModel(family="targets", number=0, of=2),))
    after, _ = site.train_folds(
        joined({"targets.0": card.build().state_dict()}), TRAINING.model_copy(update={"folds": folds})
    )
    assert all(bool(torch.isfinite(t).all()) for t in after.values())


def test_an_unlearned_patient_stays_out_for_ever_and_is_not_pending_again(site: Site) -> None:
    first, second, third = sorted(site.patients(Subset.TRAIN))[:3]
    site.revoke([first])
    with open_ledger(SiteFolder(site.folder)) as ledger:
        assert close(ledger, [ledger.pseudonyms.of(first), ledger.pseudonyms.of(second)], State.UNLEARNED) == 1
    site.revoke([first, second])
    site.revoke([second, third])
    assert states_of(site) == {first: "unlearned", second: "pending", third: "pending"}
    assert site.forget == {second, third}
    assert first not in site.patients(Subset.TRAIN)


def test_revocations_outlive_the_process(site: Site) -> None:
    patient = sorted(site.patients(Subset.TRAIN))[0]
    site.revoke([patient])
    assert Site(site.folder).forget == {patient}


def test_nobody_to_revoke_changes_nothing(site: Site) -> None:
    site.revoke([])
    assert site.stopped == frozenset()


def test_an_unknown_patient_leaves_earlier_revocations_as_they_were(site: Site, secret: str) -> None:
    first, second = sorted(site.patients(Subset.TRAIN))[:2]
    site.revoke([first])
    with pytest.raises(CohortError, match="2 of 3 patients on the list are not known") as caught:
        site.revoke([second, f"{secret}-x", f"{secret}-y"])
    assert secret not in str(caught.value)
    assert states_of(site) == {first: "pending"}


def test_status_counts_and_names_nobody(site: Site, secret: str) -> None:
    site.revoke([sorted(site.patients(s))[0] for s in (Subset.TRAIN, Subset.TEST)])
    status = site.status()
    assert status.registered == {
        "train": 5,
        "validation": 2,
        "never_seen_calibration": 2,
        "never_seen_audit": 2,
        "test": 1,
        "forget": 1,
    }
    assert (status.train_studies, status.retain_studies, status.pending) == (6, 5, 1)
    assert secret not in status.model_dump_json()


def test_damaged_tombstones_are_an_error_and_are_not_written_over(site: Site, card: ModelCard) -> None:
    first, second = sorted(site.patients(Subset.TRAIN))[:2]
    site.revoke([first])
    file = SiteFolder(site.folder).tombstones
    content = file.read_bytes().replace(b"stop ", b"stop0", 1)
    file.write_bytes(content)
    with pytest.raises(CohortError, match="damaged"):
        read_revocations(site.folder)
    with pytest.raises(CohortError, match="damaged"):
        site.revoke([second])
    with pytest.raises(CohortError, match="damaged"):
        site.status()
    with pytest.raises(CohortError, match="damaged"):
        site.train(card.build().state_dict(), TRAINING)
    with pytest.raises(CohortError, match="damaged"):
        Site(site.folder)
    assert file.read_bytes() == content


def test_when_all_have_revoked_nobody_is_trained_on(site: Site, card: ModelCard) -> None:
    site.revoke(site.patients(Subset.TRAIN))
    with pytest.raises(CohortError, match="nobody to train on"):
        site.train(card.build().state_dict(), TRAINING)


def test_training_repeats_bit_for_bit(site: Site, card: ModelCard) -> None:
    digests: list[str] = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(digests))
        model, _ = site.train(card.build().state_dict(), TRAINING.model_copy(update={"seed": seed}))
        digests.append(state_digest(model.state_dict()))

    assert digests[0] == digests[1] != digests[2]
