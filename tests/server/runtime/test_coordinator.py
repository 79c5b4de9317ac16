"""The coordinator's loop brings Flower's register in line with its own, whatever Flower has lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flwr.common.config import fuse_dicts, get_fab_config
from sqlalchemy import select

from common.platform.keys.certificates import load_certificate
from common.platform.sql import transaction
from common.protocol.bundle import Bundle, installed_bundle
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.qualification.description import store_of
from server.database import EventRow
from server.membership.enrolment import revoke
from server.membership.renewal import renew_own
from server.runtime.control import Node, RunStatus
from server.runtime.coordinator import Coordinator
from server.runtime.node_register import COMPARE_EVERY
from server.settings import ServerFolder


@dataclass
class Register:
    """The nodes of a SuperLink; its other calls are for the tests with a real one."""

    known: dict[int, str] = field(default_factory=dict)
    given: int = 2**63
    """Flower's ids fill 64 bits without a sign."""

    def nodes(self) -> list[Node]:
        return [Node(node, name, "registered") for node, name in self.known.items()]

    def register_node(self, openssh_public_key: bytes, name: str) -> int:
        assert openssh_public_key
        self.given += 1
        self.known[self.given] = name
        return self.given

    def unregister_node(self, node: int) -> None:
        del self.known[node]

    def start(self, bundle: Bundle, config: Mapping[str, object], series: int | None) -> tuple[int, int]:
        raise NotImplementedError

    def status(self, run: int) -> RunStatus:
        raise NotImplementedError

    def stop(self, run: int) -> bool:
        raise NotImplementedError


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def house(
    tmp_path: Path, coordinator: ServerFolder, enrol: Callable[[Path, str], Path]
) -> Iterator[CoordinatorContext]:
    (tmp_path / "site.json").write_text("{}")
    for name in ("north", "south"):
        enrol(tmp_path, name)
    found = open_house(coordinator.root, Clock())
    yield found
    found.engine.dispose()


def nodes(register: Register) -> list[str]:
    return sorted(name.rpartition("-")[0] for name in register.known.values())


def test_the_nodes_of_all_hospitals_are_let_in_once(house: CoordinatorContext) -> None:
    register = Register()
    loop = Coordinator(house, register, installed_bundle())
    loop.tick()
    loop.tick()
    assert nodes(register) == ["north", "south"]
    assert len(register.known) == 2


def test_nodes_that_superlink_has_lost_are_let_in_again_without_anybody_asking(house: CoordinatorContext) -> None:
    register = Register()
    loop = Coordinator(house, register, installed_bundle())
    loop.tick()
    register.known.clear()
    loop.tick()
    assert not register.known, "it is not asked at every look"
    clock = house.store.clock
    assert isinstance(clock, Clock)
    clock.now += COMPARE_EVERY + timedelta(seconds=1)
    loop.tick()
    assert nodes(register) == ["north", "south"]
    assert all(site.node is not None for site in house.sites())


@dataclass
class Starting(Register):
    """It starts what the bundle declares, and refuses other keys as SuperLink does."""

    started: list[dict[str, object]] = field(default_factory=list)

    def start(self, bundle: Bundle, config: Mapping[str, object], series: int | None) -> tuple[int, int]:
        declared = get_fab_config(bundle.content)["tool"]["flwr"]["app"]["config"]
        self.started.append(fuse_dicts(declared, dict(config)))
        return 1, series or 1


def test_a_qualification_is_started_by_keys_that_the_bundle_declares(house: CoordinatorContext) -> None:
    number = store_of(house).request(house.settings.qualification, "v0001")
    register = Starting()
    Coordinator(house, register, installed_bundle()).tick()
    assert register.started == [{"campaign": 0, "attempt": 0, "qualification": number}]


def test_a_coordinator_that_starts_anew_shuts_out_whom_its_register_does_not_name(house: CoordinatorContext) -> None:
    register = Register({7: "stranger-0000"})
    Coordinator(house, register, installed_bundle()).tick()
    assert nodes(register) == ["north", "south"]


def test_a_revoked_hospital_is_shut_out_at_the_next_look(house: CoordinatorContext) -> None:
    register = Register()
    loop = Coordinator(house, register, installed_bundle())
    loop.tick()
    with transaction(house.engine) as session:
        revoke(session, "south", "left", house.store.clock())
    loop.tick()
    assert nodes(register) == ["north"]


def ends(house: CoordinatorContext) -> datetime:
    return load_certificate(house.folder.certificate).not_valid_after_utc


def test_the_coordinators_certificate_renews_itself_a_month_before_its_end(house: CoordinatorContext) -> None:
    clock = house.store.clock
    assert isinstance(clock, Clock)
    first = ends(house)
    key = load_certificate(house.folder.certificate).public_key()
    loop = Coordinator(house, Register(), installed_bundle())
    clock.now = first - timedelta(days=31)
    loop.tick()
    assert ends(house) == first
    clock.now = first - timedelta(days=29)
    loop.tick()
    assert timedelta(days=800) < ends(house) - clock.now < timedelta(days=826)
    assert load_certificate(house.folder.certificate).public_key() == key
    with transaction(house.engine) as session:
        details = session.scalars(select(EventRow.detail).where(EventRow.kind == "certificate")).all()
    assert details == [f"the coordinator's is renewed, until {ends(house):%Y-%m-%d}"]


def test_an_open_campaign_holds_the_renewal_up_until_the_last_week(house: CoordinatorContext) -> None:
    first = ends(house)
    assert renew_own(house.folder, first - timedelta(days=8), is_busy=True) is None
    assert ends(house) == first
    assert renew_own(house.folder, first - timedelta(days=6), is_busy=True) is not None
    assert ends(house) > first


def test_nothing_is_renewed_where_the_authority_ends_too(house: CoordinatorContext) -> None:
    authority = load_certificate(house.folder.ca_certificate).not_valid_after_utc
    now = authority - timedelta(days=20)
    assert renew_own(house.folder, now, is_busy=False) is not None
    last = house.folder.certificate.read_bytes()
    assert ends(house) <= authority
    # Otherwise `up` would restart its processes every hour until the authority ends.
    for hours in (1, 2, 24 * 14):
        assert renew_own(house.folder, now + timedelta(hours=hours), is_busy=False) is None
    assert house.folder.certificate.read_bytes() == last


def test_without_the_authoritys_key_the_loop_goes_on_and_says_so(
    house: CoordinatorContext, caplog: pytest.LogCaptureFixture
) -> None:
    clock = house.store.clock
    assert isinstance(clock, Clock)
    first = ends(house)
    house.folder.ca_key.unlink()
    register = Register()
    loop = Coordinator(house, register, installed_bundle())
    clock.now = first - timedelta(days=3)
    loop.tick()
    assert ends(house) == first
    assert "the coordinator's certificate cannot be renewed" in caplog.text
    assert nodes(register) == ["north", "south"]
