"""Bad replies on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from common.errors import InputError
from common.platform.sql import open_database, transaction
from server.database import EventRow, SiteRow, migrate
from server.registry.quarantine import Quarantine

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def quarantine(tmp_path: Path) -> Iterator[Quarantine]:
    engine = open_database(f"sqlite:///{tmp_path / 'server.db'}")
    migrate(engine)
    with transaction(engine) as session:
        for name, state in (("north", "active"), ("south", "revoked")):
            session.add(SiteRow(name=name, state=state, node_key="", signing_key="", certificate="", enrolled=NOON))

    yield Quarantine(engine, lambda: NOON, 3)
    engine.dispose()


def site(quarantine: Quarantine, name: str) -> tuple[str, int]:
    with transaction(quarantine.engine) as session:
        row = session.get_one(SiteRow, name)
        return row.state, row.bad_replies


def events(quarantine: Quarantine) -> list[tuple[str, str | None, str]]:
    with transaction(quarantine.engine) as session:
        rows = session.scalars(select(EventRow).order_by(EventRow.id))
        return [(row.kind, row.site, row.detail) for row in rows]


def test_the_third_bad_reply_in_a_row_suspends_a_site(quarantine: Quarantine) -> None:
    assert [quarantine.bad("north", "train", "w holds NaN", "ab" * 32) for _ in range(3)] == [False, False, True]
    assert site(quarantine, "north") == ("suspended", 3)
    assert events(quarantine) == [
        *[("quarantined", "north", f"train: w holds NaN (weights {'ab' * 32})")] * 3,
        ("suspended", "north", "3 bad replies in a row"),
    ]
    # It is suspended once, and a good reply that was still under way does not lift it.
    assert quarantine.bad("north", "train", "again")
    quarantine.good("north")
    assert site(quarantine, "north") == ("suspended", 0)
    assert [kind for kind, _, _ in events(quarantine)].count("suspended") == 1


def test_a_good_reply_ends_the_row(quarantine: Quarantine) -> None:
    for _ in range(4):
        assert not quarantine.bad("north", "train", "bad")
        assert not quarantine.bad("north", "train", "bad")
        quarantine.good("north")

    assert site(quarantine, "north") == ("active", 0)


def test_a_revoked_site_stays_revoked(quarantine: Quarantine) -> None:
    assert [quarantine.bad("south", "train", "bad") for _ in range(4)] == [False] * 4
    assert site(quarantine, "south")[0] == "revoked"


def test_a_site_that_nobody_enrolled_is_an_error(quarantine: Quarantine) -> None:
    with pytest.raises(InputError, match="no site named 'west'"):
        quarantine.bad("west", "train", "bad")
    with pytest.raises(InputError, match="no site named 'west'"):
        quarantine.good("west")
