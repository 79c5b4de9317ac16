"""A coordinator with two hospitals, a published version and an open campaign, and its console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from console_world import ORIGIN, Clock, World
from typer.testing import CliRunner

from server.campaign.context import CoordinatorContext, open_house
from server.cli import app
from server.console.service import open_console
from server.settings import ServerFolder


@dataclass(slots=True)
class BoardWorld(World):
    """A running console of a coordinator."""

    house: CoordinatorContext = field(kw_only=True)


@pytest.fixture
def board(coordinator: ServerFolder, enrol: Callable[[Path, str], Path], tmp_path: Path) -> Iterator[BoardWorld]:
    simulated = tmp_path / "simulated"
    simulated.mkdir()
    (simulated / "site.json").write_text('{"name": "site", "subsets": {}}')
    for name in ("north", "south"):
        enrol(simulated, name)
    settings = ["settings", "set", "console.enabled", "true", "console.public_url", ORIGIN]
    result = CliRunner().invoke(app, [*settings, "--dir", str(coordinator.root)])
    assert result.exit_code == 0, result.output
    clock = Clock()
    house = open_house(coordinator.root, clock)

    try:
        with open_console(coordinator, clock, PasswordHasher(time_cost=1, memory_cost=64)) as console:
            assert console.accounts is not None
            yield BoardWorld(console, clock, console.accounts, house=house)
    finally:
        house.engine.dispose()
