"""Embeddings of frozen encoders at a hospital: used by every step, and deleted and counted with the patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from encoder_folders import save_image, save_text

from client.cohort.site import Site
from client.cohort.site_files import write_site
from client.database import migrate, opened
from client.revocations.rows.ledger_tables import AccessRow
from client.settings import SiteFolder
from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.data.splits import split_cohort
from common.learning.model.card import ModelCard
from common.learning.model.checkpoint import state_digest
from common.learning.records import Cohort, Subset
from common.platform.sql import transaction
from common.protocol.messages import AdoptRequest, TrainRequest, UnlearnRequest


@pytest.fixture
def site(tmp_path: Path, cohort_of: Callable[..., Cohort]) -> Site:
    model = ModelConfig(
        image_encoder="folder",
        image_folder=str(save_image(tmp_path / "image", "resnet")),
        text_encoder="folder",
        text_folder=str(save_text(tmp_path / "text", "distilbert")),
        frozen="both",
        embedding=8,
    )
    card = ModelCard(model=model, data=DataConfig(), classes=("clear", "opacity"), vocab_size=1).pinned()
    cohort = cohort_of(30)
    folder = tmp_path / "site"
    split = split_cohort(cohort, card.data.split, 0, {})
    write_site(folder, cohort, split, card, name="north", seed=0, device="cpu", cache=Path("cache"))
    with opened(folder / "site.db") as engine:
        migrate(engine)
    return Site(folder)


def rows(site: Site) -> int:
    return len([*(site.cache.root / "embeddings").glob("*-v*")])


def test_a_forgotten_patients_embeddings_are_deleted_and_counted_with_their_pixels(site: Site) -> None:
    state = site.card.build(1).state_dict()
    site.train(state, TrainRequest(config=TrainConfig(batch=8), epochs=1, round=0, seed=0))
    patient, waiting, *_ = sorted(site.patients(Subset.TRAIN))
    site.revoke([patient])
    site.unlearn(state, UnlearnRequest(config=UnlearnConfig(passes=1), seed=0), campaign=2)
    site.revoke([waiting])
    before = rows(site)

    after = site.card.build(2).state_dict()
    site.adopt(after, AdoptRequest(version="v2", digest=state_digest(after), how="unlearned", campaign=2))
    with opened(SiteFolder(site.folder).database) as engine, transaction(engine) as session:
        purged = [row.purged for row in session.query(AccessRow).order_by(AccessRow.id)][-1]
    # Two studies of each: the patient's for good, and those of the one who waits until the campaign makes them again.
    assert purged["studies"] == 2
    assert purged["embeddings"] == 8 == before - rows(site)

    site.unlearn(state, UnlearnRequest(config=UnlearnConfig(passes=1), seed=0), campaign=3)
    assert rows(site) == before - 4
