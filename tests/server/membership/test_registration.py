"""What a site weighs in an average: what it registered with its signature, within what an operator approved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from common.errors import EvidenceError, RefusedError, UnavailableError
from common.evidence.keys import SigningKey
from common.platform.sql import open_database
from common.protocol.messages import StatusReply
from common.protocol.study_counts import StudyCounts, sign_counts
from server.database import SiteRow, migrate
from server.membership.registration import A_DAY, approve, history, in_force, register, waiting
from server.rounds.aggregation import shares
from server.rounds.federation import Federation
from server.settings import GateConfig
from simulations.run.local_grid import LocalGrid

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
GATE = GateConfig(count_drift=0.1, count_drift_studies=5)
KEY = SigningKey.generate()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    engine = open_database(f"sqlite:///{tmp_path / 'server.db'}")
    migrate(engine)
    pem = KEY.public.pem.decode()

    with Session(engine) as opened, opened.begin():
        opened.add(SiteRow(name="north", state="active", node_key="", signing_key=pem, certificate="", enrolled=NOW))
        opened.flush()
        yield opened

    engine.dispose()


def say(
    session: Session, count: int, sequence: int, at: datetime = NOW, site: str = "north", key: SigningKey = KEY
) -> str:
    statement = sign_counts(StudyCounts(site, sequence, count), key)
    row = register(session, session.get_one(SiteRow, "north"), statement, GATE, at)
    session.flush()
    return row.state


def test_the_first_number_and_small_growth_are_in_force_and_shrinking_always_is(session: Session) -> None:
    assert say(session, 100, 1) == "approved"
    assert say(session, 110, 2) == "registered"
    assert in_force(session) == {"north": 110}
    assert say(session, 3, 3) == "registered"
    assert in_force(session) == {"north": 3}
    assert say(session, 100, 4) == "registered"


def test_many_small_steps_are_no_way_around_the_approval(session: Session) -> None:
    say(session, 100, 1)
    for sequence, count in enumerate(range(105, 200, 5), start=2):
        say(session, count, sequence)
    assert in_force(session) == {"north": 110}
    pending = waiting(session, "north")
    assert pending is not None
    assert pending.train_studies == 195


def test_growth_beyond_the_drift_waits_for_a_person_and_then_counts(session: Session) -> None:
    say(session, 100, 1)
    assert say(session, 10**8, 2) == "pending"
    assert in_force(session) == {"north": 100}
    approve(session, "north", 10**8, "read out by telephone", NOW)
    session.flush()
    assert in_force(session) == {"north": 10**8}
    with pytest.raises(RefusedError, match="waits"):
        approve(session, "north", 100, "", NOW)
    assert [row.state for row in history(session, "north")] == ["approved", "approved"]


def test_a_number_that_is_no_longer_said_cannot_be_approved(session: Session) -> None:
    say(session, 100, 1)
    say(session, 1000, 2)
    say(session, 101, 3)
    with pytest.raises(RefusedError):
        approve(session, "north", 100, "", NOW)
    assert in_force(session) == {"north": 101}


def test_only_the_number_that_was_checked_is_approved(session: Session) -> None:
    say(session, 100, 1)
    say(session, 1000, 2)
    # Between the telephone call and the command.
    say(session, 10**8, 3)
    with pytest.raises(RefusedError, match="registers 100000000 studies, not 1000"):
        approve(session, "north", 1000, "", NOW)
    assert in_force(session) == {"north": 100}


@pytest.mark.parametrize("count", [-1, -(10**12), 10**12, 10**8 + 1])
def test_a_number_that_is_none_is_not_even_signed(count: int) -> None:
    with pytest.raises(EvidenceError):
        StudyCounts("north", 1, count)


def test_what_another_key_or_site_says_or_what_is_older_is_refused(session: Session) -> None:
    say(session, 100, 5)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: say(session, 100, 6, key=SigningKey.generate()),
        lambda: say(session, 100, 6, site="south"),
        lambda: say(session, 100, 4),
        lambda: say(session, 101, 5),
    )
    for attempt in attempts:
        with pytest.raises(EvidenceError):
            attempt()

    assert say(session, 100, 5) == "approved"
    assert len(history(session, "north")) == 1


def test_a_site_cannot_fill_the_record(session: Session) -> None:
    for sequence in range(1, A_DAY + 1):
        say(session, sequence, sequence)
    with pytest.raises(RefusedError, match="too many"):
        say(session, 1, A_DAY + 1)
    assert say(session, 1, A_DAY + 1, at=NOW + timedelta(days=2)) == "registered"


def status(name: str, retain: int) -> StatusReply:
    sets = dict.fromkeys(("train", "validation", "calibration", "audit", "test", "forget"), 0)
    return StatusReply.model_construct(
        site=name, registered=sets, train_studies=retain, retain_studies=retain, pending=0, first_due=None
    )


def test_a_status_only_lowers_what_is_registered() -> None:
    federation = Federation(LocalGrid(ClientApp(), {}), {}, counts={"north": 100, "south": 50})
    said = {"north": status("north", 10**12), "south": status("south", 40), "west": status("west", 10)}
    assert federation.retained(said) == {"north": 100, "south": 40}
    assert federation.retained({"north": status("north", -5)}) == {}
    with pytest.raises(UnavailableError, match="registered"):
        federation.shares({})


@given(
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(-(10**13), 10**13), min_size=1, max_size=12),
    st.floats(0.01, 1.0),
)
def test_shares_add_up_to_one_none_is_negative_or_beyond_the_cap(studies: dict[str, int], most: float) -> None:
    counted = {name: count for name, count in studies.items() if count > 0}
    if not counted:
        return
    found = shares(studies, most)
    assert found.keys() == counted.keys()
    assert sum(found.values()) == pytest.approx(1.0)
    cap = max(most, 1 / len(counted))
    assert all(0 < share <= cap * (1 + 1e-9) for share in found.values())
    ordered = sorted(counted, key=lambda name: counted[name])
    assert all(found[a] <= found[b] * (1 + 1e-9) for a, b in pairwise(ordered))


def test_the_cap_for_two_and_three_hospitals() -> None:
    assert shares({"north": 10**12, "south": 100}, 0.6) == pytest.approx({"north": 0.6, "south": 0.4})
    assert shares({"north": 10**12, "south": 100}, 0.3) == pytest.approx({"north": 0.5, "south": 0.5})
    three = shares({"north": 10**12, "south": 100, "west": 300}, 0.6)
    assert three == pytest.approx({"north": 0.6, "south": 0.1, "west": 0.3})
    assert shares({"north": 50, "south": 30, "west": 20}, 0.6) == pytest.approx(
        {"north": 0.5, "south": 0.3, "west": 0.2}
    )
