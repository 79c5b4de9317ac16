"""A coordinator and two enrolled hospitals with keys of their own, made once and copied for each fault."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from client.cohort.imports.data_import import SiteOptions, import_data
from client.cohort.imports.import_source import read_card, read_source
from client.cohort.imports.study_counts import signed_counts
from client.cohort.site import Site
from client.membership.enrolment import join
from client.membership.setup import SiteRequest, create_site
from client.settings import SiteFolder
from common.files import write_text
from common.learning.records import Subset
from common.platform.sql import open_database, transaction
from server.campaign.context import CoordinatorContext, open_house
from server.database import SiteRow
from server.membership.enrolment import approve, open_authority, read_request
from server.membership.registration import register
from server.membership.setup import create_server
from server.registry.versions import Version
from server.settings import GateConfig, ServerFolder

NAMES = ("north", "south")
SETTINGS = """
[policy]
single_writer = "accept"
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
ACCEPTING = """
auc_margin = 0.5
accuracy_margin = 1.0
utility_tolerance = 1.0
ks_alpha = 0.0
"""
"""For worlds of a few patients, where an honest margin decides nothing."""
SETS = ["train"] * 9 + [
    s for s in ("validation", "never_seen_calibration", "never_seen_audit", "test") for _ in range(6)
]
ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("coordinator_process.py")


class Forks:
    """Coordinator processes, each forked from one that has loaded the libraries."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(SCRIPT), "serve"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, fault: str) -> subprocess.CompletedProcess[str]:
        """A process for the coordinator in `folder`, from start to end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        output = folder / "output"
        errors = folder / "errors"
        request = [output, errors, folder / "coordinator", folder / "hospitals", fault]
        self._server.stdin.write(json.dumps([str(word) for word in request]) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())

        return subprocess.CompletedProcess([fault], code, output.read_text(), errors.read_text())

    def close(self) -> None:
        """End the process that forks."""
        with self._server:
            pass


@dataclass(frozen=True)
class World:
    """`coordinator` and `hospitals/NAME` in a folder, and the weights that an undisturbed campaign ends in."""

    folder: Path
    forks: Forks
    weights: str = ""

    def run(self, fault: str) -> subprocess.CompletedProcess[str]:
        """A coordinator process; its output is the state that the campaign ended in."""
        return self.forks.run(self.folder, fault)

    def plan(self, kind: str = "unlearning") -> int:
        """Plan a campaign."""
        with self.house() as house:
            active = house.registry.active()
            parent = active.name if active and kind == "unlearning" else None
            terms = house.terms.model_dump(mode="json")
            return house.store.plan(kind, terms, parent=parent, due=None, reason="test")

    @contextmanager
    def house(self) -> Iterator[CoordinatorContext]:
        """The coordinator's folder, opened."""
        house = open_house(self.folder / "coordinator")

        try:
            yield house
        finally:
            house.engine.dispose()

    def active(self) -> Version:
        """The version in use, which there is."""
        with self.house() as house:
            version = house.registry.active()

        assert version is not None
        return version

    def copy(self, to: Path) -> World:
        """The same again, to be disturbed."""
        shutil.copytree(self.folder, to, symlinks=True)
        return replace(self, folder=to)


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


def make_world(folder: Path, forks: Forks, *, accepting: bool) -> World:
    world = World(folder / "start", forks)
    _enrol(world.folder, SETTINGS + (ACCEPTING if accepting else ""))
    world.plan("training")
    assert world.run("none").stdout == "published\n"
    site = Site(world.folder / "hospitals" / "north")
    site.revoke(sorted(site.patients(Subset.TRAIN))[:3])
    whole = world.copy(folder / "whole")
    number = whole.plan()
    done = whole.run("none")
    assert done.stdout == "published\n", done.stderr

    with whole.house() as house:
        assert ("retrained" in house.store.get(number).reason) != accepting

    return replace(world, weights=whole.active().weights)


def _enrol(world: Path, settings: str) -> None:
    server = ServerFolder(world / "coordinator")
    now = datetime.now(UTC)
    fingerprint = create_server(server.root, ["localhost"], now, ("clear", "opacity"))
    head = server.settings_file.read_text(encoding="utf-8").split("\n[policy]", maxsplit=1)[0]
    write_text(server.settings_file, head + settings)
    engine = open_database(server.database_url(server.settings()))

    for number, name in enumerate(NAMES):
        folder = SiteFolder(world / "hospitals" / name)
        request = create_site(folder.root, SiteRequest(name, "localhost", fingerprint))
        with transaction(engine) as session:
            approval = approve(session, open_authority(server), read_request(session, request), now)
        join(folder, approval.bundle, now)
        card = read_card(folder.experiment_file)
        manifest = read_source(write_manifest(world / "data" / name, name, number), card)
        import_data(folder.root, manifest, card, SiteOptions(name=name, seed=0, distinct_ids=True), lambda *_: None)
        statement = signed_counts(folder)
        assert statement is not None
        with transaction(engine) as session:
            register(session, session.get_one(SiteRow, name), statement, GateConfig(), now)

    engine.dispose()
