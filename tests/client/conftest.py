"""A site whose patients' ids, reports and file names hold a secret, and a way to send it messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from PIL import Image

from client.app import app, open_site
from client.cohort.site_files import write_site
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split, Study, Subset
from simulations.run.local_grid import LocalGrid

SUBSETS = [Subset.TRAIN] * 6 + [subset for subset in Subset if subset is not Subset.TRAIN] * 2


@pytest.fixture
def secret() -> str:
    """What must stay at the site."""
    return "MRN-0815-MUELLER"


@pytest.fixture
def site_folder(tmp_path: Path, card: ModelCard, secret: str) -> Path:
    """Six training patients, and two in each of the other sets; one study each."""
    rng = np.random.default_rng(0)
    studies = []
    subsets = {}

    for number, subset in enumerate(SUBSETS):
        patient = f"{secret}-{number}"
        path = tmp_path / f"{patient}.png"
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(path)
        label = number % 2 if subset is Subset.TRAIN else number // 4 % 2
        studies.append(Study(patient, patient, path, f"{secret} clear lungs", label))
        subsets[patient] = subset

    folder = tmp_path / "sites" / "site-1"
    write_site(
        folder,
        Cohort(tuple(studies), card.classes),
        Split(subsets),
        card,
        name="north",
        seed=0,
        device="cpu",
        cache=tmp_path / "cache",
        digests={study.image: hashlib.sha256(study.image.read_bytes()).hexdigest() for study in studies},
    )

    return folder


@pytest.fixture
def send() -> Callable[[Path | None, str, RecordDict], RecordDict]:
    """Send one message to the ClientApp of a node and hand over the content of its reply."""
    open_site.cache_clear()

    def to_node(folder: Path | None, kind: str, records: RecordDict) -> RecordDict:
        config: dict[str, object] = {"partition-id": 0} if folder is None else {"site-dir": str(folder)}
        (reply,) = LocalGrid(app, {1: config}).send_and_receive([Message(records, 1, kind)])
        assert reply.has_content()
        return reply.content

    return to_node
