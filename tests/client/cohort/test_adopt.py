"""A campaign at a site with a database: whom it forgets, what stands in the records, and what is left at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.account.account import accounts_of
from client.cohort.participation import members, versions_that_saw
from client.cohort.site import Site
from client.cohort.site_files import SITE_FILE
from client.database import migrate, opened
from client.revocations.opening import open_ledger
from client.revocations.tombstones.overview import read_revocations
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.settings import SiteFolder
from common.errors import CheckpointError, RefusedError
from common.learning.config import DecisionConfig, TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard, state_digest
from common.learning.records import Subset
from common.protocol.messages import AdoptRequest, EvaluateRequest, TrainRequest, UnlearnRequest

TRAINING = TrainRequest(config=TrainConfig(batch=4), epochs=1, round=0, seed=0)
UNLEARNING = UnlearnRequest(config=UnlearnConfig(passes=1), seed=0)
AUDIT = EvaluateRequest(purpose="audit", seed=0, decision=DecisionConfig(bootstrap=50))


@pytest.fixture
def site(site_folder: Path) -> Site:
    """With a database, as a real one has."""
    with opened(site_folder / "site.db") as engine:
        migrate(engine)
    return Site(site_folder)


def adoption(card: ModelCard, seed: int, **more: object) -> AdoptRequest:
    digest = state_digest(card.build(seed).state_dict())
    return AdoptRequest.model_validate({"version": f"v{seed}", "digest": digest, "how": "unlearned", **more})


def states_of(site: Site) -> dict[str, str]:
    return {p: entry.state for p, entry in read_revocations(site.folder).patients.items()}


def test_a_campaign_forgets_those_of_its_first_request_and_closes_no_others(site: Site, card: ModelCard) -> None:
    first, second, third, *_ = sorted(site.patients(Subset.TRAIN))
    site.train(card.build(0).state_dict(), TRAINING, campaign=1)
    site.revoke([first])
    site.evaluate(card.build(1).state_dict(), AUDIT, campaign=2, step="audit")
    site.revoke([second])
    _, reply = site.unlearn(card.build(1).state_dict(), UNLEARNING, campaign=2, step="train.unlearn")
    assert reply.passes == 1
    names = Pseudonyms.of_site(SiteFolder(site.folder).pseudonym_secret)

    with opened(site.folder / "site.db") as engine:
        assert members(engine, 2, "unlearn") == {names.of(first)}
        assert names.of(second) not in members(engine, 2, "train")
        seen = versions_that_saw(engine, [names.of(first)])
        assert [(p.campaign, p.step) for p in seen] == [(1, "train"), (2, "train.unlearn")]
        assert seen[0].weights == state_digest(card.build(0).state_dict())
        retained = versions_that_saw(engine, [names.of(third)])
        assert [(p.campaign, p.step) for p in retained][1:] == [(2, "train.unlearn")]

    assert site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=2)).closed == 1
    assert states_of(site) == {first: "unlearned", second: "pending"}
    assert site.status().pending == 1
    with Site(site.folder).access(3) as access:
        assert access.patients == {second}


def test_after_adoption_nothing_that_remembers_the_patient_is_left_at_the_site(
    site: Site, card: ModelCard, secret: str
) -> None:
    patient, other, *_ = sorted(site.patients(Subset.TRAIN))
    site.adopt(card.build(1).state_dict(), adoption(card, 1, campaign=1, how="trained"))
    site.revoke([patient, other])
    (image, _) = (study.image for study in site.cohort.of([patient, other]).studies)
    pixels = site.cache.digest(image)
    state = card.build(1).state_dict()
    site.unlearn(state, UNLEARNING, campaign=2, step="train.unlearn")
    assert list(site.cache.root.glob(f"{pixels}*"))
    image.unlink()

    old = state_digest(state)
    reply = site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=2, retired=[old]))
    assert (reply.closed, reply.purged) == (2, (old,))
    assert [p.name for p in (site.folder / "models").iterdir()] == [
        f"{adoption(card, 2, campaign=2).digest}.safetensors"
    ]
    assert f'"{patient}","study"' not in (site.folder / SITE_FILE).read_text(encoding="utf-8")
    assert patient not in site.cohort.patients
    assert secret not in reply.model_dump_json()
    assert len(site.patients(Subset.TRAIN)) == 4
    again = site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=2, retired=[old]))
    assert (again.closed, again.purged) == (0, (old,))


def test_nothing_starts_from_weights_that_remember_the_forgotten_whoever_sends_them(
    site: Site, card: ModelCard
) -> None:
    """A coordinator that was restored from a backup of before the campaign sends just these."""
    state = card.build(1).state_dict()
    site.revoke([min(site.patients(Subset.TRAIN))])
    site.unlearn(state, UNLEARNING, campaign=2)
    site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=2, retired=[state_digest(state)]))
    site.revoke([min(site.patients(Subset.TRAIN))])
    before = {p.name for p in (site.folder / "models").iterdir()}

    for ask in (
        lambda: site.train(state, TRAINING, campaign=3),
        lambda: site.unlearn(state, UNLEARNING, campaign=3),
        lambda: site.adopt(state, adoption(card, 1, campaign=3)),
    ):
        with pytest.raises(RefusedError, match="forgotten since: train again"):
            ask()

    assert {p.name for p in (site.folder / "models").iterdir()} == before
    site.unlearn(card.build(2).state_dict(), UNLEARNING, campaign=3)


def test_a_retrained_version_settles_all_who_were_not_in_its_training(site: Site, card: ModelCard) -> None:
    before, during, *_ = sorted(site.patients(Subset.TRAIN))
    site.revoke([before])
    site.train(card.build(0).state_dict(), TRAINING, campaign=2)
    site.revoke([during])
    assert site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=2, how="retrained")).closed == 1
    assert states_of(site) == {before: "retrained", during: "pending"}


def test_the_account_of_a_revocation_has_the_versions_that_may_remember_and_no_later_ones(
    site: Site, card: ModelCard
) -> None:
    patient = min(site.patients(Subset.TRAIN))
    site.adopt(card.build(0).state_dict(), adoption(card, 0, campaign=1, how="trained"))
    site.train(card.build(0).state_dict(), TRAINING, campaign=2)
    site.adopt(card.build(1).state_dict(), adoption(card, 1, campaign=2, how="trained"))
    site.revoke([patient])
    site.unlearn(card.build(1).state_dict(), UNLEARNING, campaign=3)
    site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=3))
    site.adopt(card.build(3).state_dict(), adoption(card, 3, campaign=4, how="trained"))
    with open_ledger(SiteFolder(site.folder)) as ledger:
        (account,) = accounts_of(ledger, None)
    assert account.rounds is not None
    assert [(found.campaign, found.use) for found in account.rounds] == [(2, "train"), (3, "unlearn")]
    assert account.versions is not None
    assert [version.name for version in account.versions] == ["v1"]


def test_a_site_without_a_database_says_that_it_has_no_record_of_rounds(site_folder: Path) -> None:
    site = Site(site_folder)
    site.revoke([min(site.patients(Subset.TRAIN))])
    with open_ledger(SiteFolder(site_folder)) as ledger:
        (account,) = accounts_of(ledger, None)
    assert (account.rounds, account.versions) == (None, None)
    assert {"rounds", "versions", "recipients", "audit"} == account.missing.keys()


def test_weights_that_are_not_the_versions_change_nothing(site: Site, card: ModelCard) -> None:
    patient = min(site.patients(Subset.TRAIN))
    site.revoke([patient])
    site.unlearn(card.build(1).state_dict(), UNLEARNING, campaign=2)
    with pytest.raises(CheckpointError, match="differ"):
        site.adopt(card.build(3).state_dict(), adoption(card, 2, campaign=2))
    assert states_of(site) == {patient: "in-campaign"}
    assert patient in site.cohort.patients


def test_a_site_without_a_database_settles_all_who_are_pending(site_folder: Path, card: ModelCard) -> None:
    site = Site(site_folder)
    site.revoke([min(site.patients(Subset.TRAIN))])
    assert site.adopt(card.build(2).state_dict(), adoption(card, 2, campaign=2)).closed == 1
    assert not (site_folder / "site.db").exists()
