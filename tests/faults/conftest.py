"""A coordinator and two enrolled hospitals with keys of their own, made once and copied for each fault."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data_import import SiteOptions, import_data, read_card, read_source
from client.enrolment import join
from client.settings import SiteFolder
from client.setup import Asked, create_site
from common.files import write_text
from common.sql import open_database, transaction
from server.enrolment import approve, open_authority, read_request
from server.settings import ServerFolder
from server.setup import create_server

NAMES = ("north", "south")
SETTINGS = """
[policy]
automatic = false
quorum = 0.4
phase_hours = 0.05

[experiment.data]
image_size = 32
max_tokens = 16

[experiment.model]
width = 4
embedding = 8
text_hidden = 16
text_layers = 1

[experiment.train]
rounds = 2
local_epochs = 1
batch = 4

[experiment.unlearn]
passes = 1

[experiment.decision]
bootstrap = 50
"""
SETS = ["train"] * 3 + [s for s in ("validation", "never_seen_calibration", "never_seen_audit", "test") for _ in "12"]


def write_manifest(folder: Path, name: str, seed: int) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number, subset in enumerate(SETS):
        image = folder / f"{number}.png"
        Image.fromarray(rng.normal(100 + 15 * (number % 2), 40, (32, 32)).clip(0, 255).astype(np.uint8)).save(image)
        words = " ".join(rng.choice(["heart", "lungs", "left", "right", "base", "mild", "stable", "hazy"], 6))
        label = ("clear", "opacity")[number % 2]
        rows.append([f"{name}-{number}", f"{name}-{number}-0", image.name, f"{label} {words}", label, subset])
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "study_id", "image", "report", "label", "split"])
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def federation_factory() -> Callable[[Path], Path]:
    """Make the folder with `coordinator` and `hospitals/NAME`."""

    def make(world: Path) -> Path:
        server, now = ServerFolder(world / "coordinator"), datetime.now(UTC)
        fingerprint = create_server(server.root, ["localhost"], now, ("clear", "opacity"))
        head = server.settings_file.read_text(encoding="utf-8").split("\n[policy]", maxsplit=1)[0]
        write_text(server.settings_file, head + SETTINGS)
        engine = open_database(server.database_url(server.settings()))
        for number, name in enumerate(NAMES):
            folder = SiteFolder(world / "hospitals" / name)
            request = create_site(folder.root, Asked(name, "localhost", fingerprint))
            with transaction(engine) as session:
                approval = approve(session, open_authority(server), read_request(session, request), now)
            join(folder, approval.bundle, now)
            card = read_card(folder.experiment_file)
            manifest = read_source(write_manifest(world / "data" / name, name, number), card)
            options = SiteOptions(name=name, seed=0, distinct_ids=True)
            import_data(folder.root, manifest, card, options, lambda *_: None)
        engine.dispose()
        return world

    return make
