"""Hospitals in this process, each with a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_world import world  # noqa: F401 - a fixture

from client.app import app, open_site
from client.cohort.site import Site
from client.cohort.site_files import write_site
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split, Subset
from server.rounds.exchanges.connecting import connect
from server.rounds.federation import Federation
from simulations.run.local_grid import LocalGrid


@pytest.fixture
def federation_of(
    tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort]
) -> Callable[..., tuple[Federation, dict[str, Site]]]:
    """A federation of sites by name, with so many training patients; two patients in each of the other sets."""
    open_site.cache_clear()

    def make(model: ModelCard = card, /, **training: int) -> tuple[Federation, dict[str, Site]]:
        configs = {}
        sites = {}

        for node, (name, patients) in enumerate(training.items(), start=1):
            cohort = cohort_of(patients + 8, name=name, studies=1, seed=node, site=name)
            rest: list[Subset] = [subset for subset in Subset if subset is not Subset.TRAIN for _ in range(2)]
            split = Split(dict(zip(cohort.patients, [Subset.TRAIN] * patients + rest, strict=True)))
            folder = tmp_path / "sites" / name
            write_site(folder, cohort, split, model, name=name, seed=0, device="cpu", cache=tmp_path / "cache")
            configs[node] = {"site-dir": str(folder)}
            sites[name] = Site(folder)

        return connect(LocalGrid(app, configs), len(configs)), sites

    return make


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """The URL of an empty database by its name; SQLite's, or PostgreSQL's single one where a test asks for it."""
    if getattr(request, "param", "sqlite") == "postgresql":
        url = request.getfixturevalue("postgres_url")
        return lambda _: url

    return lambda name: f"sqlite:///{tmp_path / name}.db"
