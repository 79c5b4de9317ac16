from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_world import Forks, World, make_world


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Where coordinator processes come from."""
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="session")
def made() -> dict[str, World]:
    """Worlds to copy, by their kind; each is made when it is first asked for."""
    return {}


@pytest.fixture
def start(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    forks: Forks,
    made: dict[str, World],
) -> World:
    """A federation with a first model, where three patients wait to be forgotten."""
    how = getattr(request, "param", "undecided")
    if how not in made:
        made[how] = make_world(tmp_path_factory.mktemp(how), forks, accepting=how == "accepting")
    return made[how].copy(tmp_path / "world")
