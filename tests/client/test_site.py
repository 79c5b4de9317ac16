from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from PIL import Image

from client.app import app
from client.site import Site
from client.site_files import REVOCATIONS_FILE, write_site
from common.config import TrainConfig
from common.errors import CohortError
from common.model.checkpoint import ModelCard
from common.records import Cohort, Split, Study, Subset
from common.wire import ErrorReply, TrainRequest, pack
from simulations.local_grid import LocalGrid

SECRET = "MRN-0815-MUELLER"


@pytest.fixture
def folder(tmp_path: Path, card: ModelCard) -> Path:
    """A site whose patients' ids and file names are secrets."""
    rng, studies, subsets = np.random.default_rng(0), [], {}
    for number, subset in enumerate([Subset.TRAIN] * 6 + [s for s in Subset if s is not Subset.TRAIN] * 2):
        patient = f"{SECRET}-{number}"
        path = tmp_path / f"{patient}.png"
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(path)
        studies.append(Study(patient, f"s{number}", path, "clear lungs", number % 2))
        subsets[patient] = subset
    cohort = Cohort(tuple(studies), ("a", "b"))
    place = tmp_path / "site-1"
    write_site(place, cohort, Split(subsets), card, name="site-1", seed=0, device="cpu", cache=tmp_path / "cache")
    return place


def send(folder: Path, kind: str, records) -> Message:  # type: ignore[no-untyped-def]
    grid = LocalGrid(app, {1: {"site-dir": str(folder)}})
    (reply,) = grid.send_and_receive([Message(records, 1, kind)])
    return reply


def test_a_revoked_patient_is_in_no_set_and_still_pending(folder: Path) -> None:
    site = Site(folder)
    patient = sorted(site.patients(Subset.TRAIN))[0]
    site.revoke([patient])
    assert all(patient not in site.patients(subset) for subset in Subset)
    assert site.forget == {patient}
    status = site.status()
    assert status.pending == 1
    assert status.train_studies == status.retain_studies + 1
    assert SECRET not in status.model_dump_json()


def test_a_site_opened_earlier_sees_the_revocation_at_once(folder: Path) -> None:
    running, other = Site(folder), Site(folder)
    patient = sorted(running.patients(Subset.TRAIN))[0]
    other.revoke([patient])
    assert patient not in running.patients(Subset.TRAIN)


def test_an_unknown_patient_is_refused_and_nothing_is_written(folder: Path) -> None:
    site = Site(folder)
    known = sorted(site.patients(Subset.TRAIN))[0]
    with pytest.raises(CohortError, match="1 patients of the list are not known") as caught:
        site.revoke([known, f"{SECRET}-unknown"])
    assert SECRET not in str(caught.value)
    assert not (folder / REVOCATIONS_FILE).exists()


def test_a_damaged_list_of_revocations_stops_everything(folder: Path) -> None:
    (folder / REVOCATIONS_FILE).write_text("{")
    with pytest.raises(CohortError, match="damaged"):
        Site(folder).patients(Subset.TRAIN)


def test_a_handler_lets_no_exception_out_and_no_word_of_it(
    folder: Path, card: ModelCard, caplog: pytest.LogCaptureFixture
) -> None:
    for image in folder.parent.glob("*.png"):
        image.unlink()
    request = pack(TrainRequest(config=TrainConfig(), epochs=1, round=0, seed=0), card.build().state_dict())
    with caplog.at_level(logging.DEBUG):
        reply = send(folder, "train", request)
    assert reply.has_content()
    body = str(reply.content)
    assert ErrorReply.__name__ in body
    assert SECRET not in body
    assert SECRET not in caplog.text
    assert "failed" in caplog.text


def test_weights_of_another_model_are_answered_with_a_code(folder: Path, card: ModelCard) -> None:
    state = card.build().state_dict()
    state.pop("fusion.gate.bias")
    request = pack(TrainRequest(config=TrainConfig(), epochs=1, round=0, seed=0), state)
    assert "no-data" in str(send(folder, "train", request).content)
