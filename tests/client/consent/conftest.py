"""A ledger in a folder of its own, on SQLite and on PostgreSQL, with a clock that tests move."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.settings import SiteFolder
from common.learning.records import Subset

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETS = {f"p-{n}": subset for n, subset in enumerate([*[Subset.TRAIN] * 4, *Subset])}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    """A site with nine patients: p-0 to p-4 are trained on, the others are in one of the four other sets each."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "site.json").write_text(json.dumps({"name": "north", "subsets": SETS}), encoding="utf-8")

    return SiteFolder(root)


@pytest.fixture
def configure(folder: SiteFolder) -> Callable[..., None]:
    """Write `site.toml` with these settings."""

    def write(**values: object) -> None:
        given = {"name": "north", "gateway": "a:1", "coordination": "a:2", "ca_fingerprint": "0" * 64, **values}
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in given.items()]
        folder.settings_file.write_text("".join(lines), encoding="utf-8")

    return write


@pytest.fixture
def opening(folder: SiteFolder, clock: Clock) -> Callable[[], AbstractContextManager[Ledger]]:
    """Open the ledger, as another process would."""
    return lambda: open_ledger(folder, clock)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(
    request: pytest.FixtureRequest,
    configure: Callable[..., None],
    opening: Callable[[], AbstractContextManager[Ledger]],
) -> Iterator[Ledger]:
    """On either database."""
    if request.param == "postgresql":
        configure(database=request.getfixturevalue("postgres_url"))
    with opening() as found:
        yield found


@pytest.fixture
def asked() -> Callable[..., Request]:
    """A request of the command line, received at `START`, with these changes."""

    def make(number: str = "r-1", **more: object) -> Request:
        values: dict[str, object] = {"source": Source("cli", number), "receipt": number, "received": START, **more}
        return Request(**values)  # type: ignore[arg-type]  # a test's own changes

    return make
