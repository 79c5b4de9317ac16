"""Faults in a federation of real processes: each campaign ends in the right model, nothing lost and no patient back.

One test in which five processes are killed in one campaign, and with `make soak` a campaign for each fault.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from client.revocations.tombstones.overview import read_revocations
from common.learning.model.traces import find_weights
from common.platform.sql import transaction
from server.campaign.context import CoordinatorContext, open_house
from server.campaign.qualification.description import store_of
from server.membership.registration import in_force
from server.rounds.states import CampaignState
from server.rounds.unlearning.base import Collected

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
HOOKS = ROOT / "tests" / "faults" / "hooks"
ORDER = list(CampaignState)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.usefixtures("prompt"),
    pytest.mark.skipif(not (BIN / "fedforget-server").exists(), reason="the commands need `make setup`"),
]

KILLED = [
    *(("coordinator", state) for state in ("collecting", "unlearning", "retaining", "evaluating")),
    *(("superlink", state) for state in ("collecting", "unlearning", "retaining", "evaluating")),
    *(("forgetting hospital", state) for state in ("collecting", "unlearning", "retaining")),
    ("other hospital", "retaining"),
    ("superexec", "unlearning"),
]
"""Who gets SIGKILL, and in which state of the campaign."""
QUARANTINED = {"nan", "huge", "shapes", "forged", "examples"}
STRUCK = [
    *(("north", f"{how}:train.unlearn") for how in ("gone", "hang", "nan", "huge", "shapes", "forged", "examples")),
    ("north", "clock:now"),
    *(("south", f"{how}:train.retain") for how in ("gone", "hang", "nan", "huge", "shapes", "forged", "examples")),
    ("server", "disk:publish"),
    ("server", "twice:push"),
]
"""Who fails in which way, as `tests/faults/hooks` says."""


def command(*argv: object, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(a) for a in argv],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kill(folder: Path, *words: str) -> None:
    """SIGKILL to all processes of a folder that have these words in their command line; at least one there is."""
    found = []

    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and all(word in line for word in words):
            found.append(process)

    assert found, f"no process of {folder.name} with {words}"
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


@dataclass
class Running:
    """A federation of real processes, and what the test started in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    ups: list[subprocess.Popen[bytes]] = field(default_factory=list)
    forgotten: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def house(self) -> Iterator[CoordinatorContext]:
        house = open_house(self.folder / "server")
        try:
            yield house
        finally:
            house.engine.dispose()

    def up(self, name: str) -> None:
        """Start what a service manager would start again."""
        program = "fedforget-server" if name == "server" else "fedforget-site"

        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [BIN / program, "up", "--dir", self.folder / name],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

        self.ups.append(process)
        with (self.folder / "pids").open("a") as file:
            file.write(f"{process.pid}\n")

    def lose_power(self, name: str) -> None:
        """All processes of one machine end at once, and come back."""
        root = str(self.folder / name)

        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "up" in line and root in line:
                os.killpg(process.pid, signal.SIGKILL)

        self.up(name)

    def revoke(self, name: str, patients: int = 1) -> None:
        """So many more patients of the hospital's training set revoke."""
        subsets = json.loads((self.folder / name / "site.json").read_text())["subsets"]
        trained = sorted(patient for patient, subset in subsets.items() if subset == "train")
        count = self.forgotten.get(name, 0)
        letter = self.folder / "letter"
        letter.write_text("".join(f"{patient}\n" for patient in trained[count : count + patients]))
        command(BIN / "fedforget-site", "revoke", "--patient-file", letter, "--dir", self.folder / name)
        self.forgotten[name] = count + patients

    def campaign(self, house: CoordinatorContext) -> int:
        """The number of the campaign that the coordinator plans next."""
        end = time.monotonic() + 240
        while (row := house.store.open()) is None:
            assert time.monotonic() < end, "no campaign was planned"
            time.sleep(0.2)

        return row.number

    def reached(self, house: CoordinatorContext, number: int, state: str) -> None:
        """Wait until a campaign is in `state`, or further."""
        wanted = ORDER.index(CampaignState(state))
        until(house, number, lambda now: ORDER.index(now) >= wanted)

    def check(self, house: CoordinatorContext, number: int, forgetting: str, *, unlearned: int = 1) -> list[str]:
        """The right model, nothing lost, nobody back, unlearned so many times; returns the kinds of events."""
        row = house.store.get(number)
        assert row.state == "published", row.reason
        *older, newest = house.registry.versions()
        assert newest.state == "active"
        assert newest.name == row.result
        assert {version.state for version in older} <= {"quarantined", "superseded"}
        assert next(v for v in older if v.name == row.parent).state == "quarantined"
        assert len([p for p in house.store.phases(number) if p.step.startswith("unlearn:")]) == unlearned
        site = self.folder / forgetting
        wait_for(lambda: not read_revocations(site).pending, f"the end of the revocation at {forgetting}")
        assert len(read_revocations(site).tombstones) == self.forgotten[forgetting]
        old = next(v for v in older if v.name == row.parent).weights
        for name in {delivery.site for delivery in house.registry.deliveries.recipients(newest.name)}:
            assert not find_weights(self.folder / name, [old])
        return [event.kind for event in house.store.events(number)]


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.2)


def until(
    house: CoordinatorContext, number: int, holds: Callable[[CampaignState], bool], seconds: float = 600.0
) -> None:
    end = time.monotonic() + seconds
    while not holds(CampaignState(house.store.get(number).state)):
        assert time.monotonic() < end, f"the campaign is still {house.store.get(number).state}"
        time.sleep(0.2)


@contextmanager
def running(
    folder: Path,
    patients: int,
    environment: dict[str, str],
    retry_minutes: float,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Running]:
    """A federation with a first model."""
    found = Running(folder, environment)
    more = [f"--set={name}={value}" for name, value in (settings or {}).items()]
    size = ("--patients", patients, "--rounds", "1", "--set", f"policy.retry_minutes={retry_minutes}", *more)

    try:
        command(ROOT / "deploy" / "local-federation", "start", folder, *size, environment=environment)
        command(BIN / "fedforget-server", "train", "--dir", folder / "server", "--wait")
        yield found
    finally:
        command(ROOT / "deploy" / "local-federation", "stop", folder)
        for process in found.ups:
            process.wait(60)


def test_a_campaign_survives_its_coordinator_superlink_and_hospitals_being_killed(tmp_path: Path) -> None:
    with running(tmp_path / "federation", 24, {}, retry_minutes=0.05) as federation, federation.house() as house:
        federation.revoke("south")
        number = federation.campaign(house)
        federation.reached(house, number, "collecting")
        kill(federation.folder / "server", "server.runtime.coordinator")
        federation.reached(house, number, "unlearning")
        federation.lose_power("south")
        federation.reached(house, number, "retaining")
        kill(federation.folder / "west", "client.runtime.prompt_supernode")
        federation.reached(house, number, "evaluating")
        kill(federation.folder / "server", "server.runtime.superlink")
        federation.reached(house, number, "retraining")
        kill(federation.folder / "server", "server.runtime.superexec")
        until(house, number, lambda now: now.ended)
        # One patient decides nothing, so the campaign retrains without unlearning first.
        federation.check(house, number, "south", unlearned=0)


@pytest.mark.slow
def test_a_qualification_survives_a_killed_coordinator_and_a_campaign_that_overtakes_it(tmp_path: Path) -> None:
    settings = {
        "experiment.folds.targets": 2,
        "experiment.folds.audit": 2,
        "experiment.decision.auc_margin": 0.5,
        "experiment.decision.accuracy_margin": 1.0,
        "experiment.decision.utility_tolerance": 1.0,
        "experiment.decision.ks_alpha": 0.0,
        "qualification.rehearsals": 12,
        "qualification.sizes": [1, 4],
        "qualification.wave": 2,
        "qualification.least_controls": 20,
        "qualification.controls_per_site": 5,
    }

    with running(tmp_path / "federation", 100, {}, 0.05, settings) as federation, federation.house() as house:
        store = store_of(house)
        command(BIN / "fedforget-server", "qualify", "start", "--dir", federation.folder / "server")
        wait_for(lambda: store.standing(1).waves >= 1, "the first wave")
        register = store.registered(1)
        assert register is not None
        finished = waves_of(house)

        kill(federation.folder / "server", "server.runtime.coordinator")
        before = store.standing(1).waves
        wait_for(lambda: store.standing(1).waves > before, "a wave after the kill")
        # What was finished is not done again.
        assert finished
        assert finished.items() <= waves_of(house).items()

        assert store.result(1) is None
        federation.revoke("south", 2)
        number = federation.campaign(house)
        wait_for(lambda: store.standing(1).waits == "a real campaign goes first", "the qualification's waiting")
        overtaken = waves_of(house)
        until(house, number, lambda now: now.ended)
        federation.check(house, number, "south")

        wait_for(lambda: store.open() is None, "the end of the qualification", 600)
        result = store.result(1)
        assert result is not None, store.standing(1).stopped
        assert result.qualification.rehearsals == 12
        assert overtaken.items() <= waves_of(house).items()
        assert store.registered(1) == register
        assert not list((house.folder.qualifications / "1").glob("*.safetensors"))


def waves_of(house: CoordinatorContext) -> dict[str, bytes]:
    """Finished waves of the first qualification."""
    steps = (house.folder.qualifications / "1").glob("wave-*.json")
    return {path.name: path.read_bytes() for path in steps if re.fullmatch(r"wave-\d+", path.stem)}


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A federation with faults to come, in which two patients are enough for an accepted campaign."""
    folder = tmp_path_factory.mktemp("soak")
    faults = folder / "faults"
    faults.mkdir()
    environment = {"PYTHONPATH": str(HOOKS), "FEDFORGET_TEST_FAULTS": str(faults)}

    with running(folder / "federation", 220, environment, retry_minutes=0.2) as federation:
        settings = federation.folder / "server" / "server.toml"
        text = settings.read_text()

        for name, value in {
            "auc_margin": 0.5,
            "accuracy_margin": 1.0,
            "utility_tolerance": 1.0,
            "ks_alpha": 0.0,
            "phase_hours": 0.03,
            "window_hours": "0.0\ncampaigns_per_day = 1000",
        }.items():
            (old,) = (line for line in text.splitlines() if line.startswith(f"{name} ="))
            text = text.replace(old, f"{name} = {value}")

        settings.write_text(text)
        kill(federation.folder / "server", "server.runtime.coordinator")
        yield federation


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What goes to the log of a soak, if there is one."""
    row: dict[str, str] = {}
    began = time.monotonic()
    yield row
    path = os.environ.get("FEDFORGET_SOAK_LOG")

    if path and row:
        line = f"| {request.node.callspec.id} | {row['end']} | {row['events']} | {time.monotonic() - began:.0f} |\n"
        with Path(path).open("a") as file:
            if not file.tell():
                file.write(HEAD.format(at=datetime.now(UTC).date()))
            file.write(line)


HEAD = """# Faults on real processes

`make soak` on {at}: a coordinator and three hospitals as real processes with TLS and node keys, a campaign for
each fault. After each: the campaign is published, the version before it is quarantined and its weights are gone from
every hospital that has the new one, the hospital unlearned exactly once, its revocation is closed and all its
tombstones stand. `waiting`: the campaign waited, visibly, for the hospital or the disk; `late`: a retention round went
on without a hospital; `quarantined`: the update gate kept a reply out; `suspended`: that was the third
bad reply of the hospital in a row, and a person readmits it before the next fault.

| fault | campaign ended | of note | seconds |
|---|---|---|---|
"""


@pytest.mark.slow
@pytest.mark.parametrize(("who", "state"), KILLED)
def test_whoever_is_killed_the_campaign_ends_in_the_right_model(
    soaked: Running, log: dict[str, str], who: str, state: str
) -> None:
    with soaked.house() as house:
        soaked.revoke("north", 2)
        number = soaked.campaign(house)
        soaked.reached(house, number, state)

        if who == "forgetting hospital":
            soaked.lose_power("north")
        else:
            folder, word = {
                "coordinator": ("server", "server.runtime.coordinator"),
                "superlink": ("server", "server.runtime.superlink"),
                "superexec": ("server", "server.runtime.superexec"),
                "other hospital": ("west", "client.runtime.prompt_supernode"),
            }[who]
            kill(soaked.folder / folder, word)

        until(house, number, lambda now: now.ended)
        note(log, house, number, soaked.check(house, number, "north"))


@pytest.mark.slow
@pytest.mark.parametrize(("who", "fault"), STRUCK)
def test_whoever_fails_the_campaign_ends_in_the_right_model(
    soaked: Running, log: dict[str, str], who: str, fault: str
) -> None:
    with soaked.house() as house:
        path = soaked.folder.parent / "faults" / who
        path.write_text(fault)
        soaked.revoke("north", 2)
        number = soaked.campaign(house)
        until(house, number, lambda now: now.ended)
        kinds = soaked.check(house, number, "north")
        path.with_suffix(".struck").unlink()
        assert ("quarantined" in kinds) == (fault.partition(":")[0] in QUARANTINED)
        if who == "south":
            assert "late" in kinds
        if "suspended" in kinds:
            command(BIN / "fedforget-server", "site", "readmit", who, "--dir", soaked.folder / "server")
        note(log, house, number, kinds)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a thousand million studies"])
def test_a_hospital_that_claims_any_number_of_studies_weighs_what_it_registered(
    soaked: Running, log: dict[str, str], fault: str
) -> None:
    with soaked.house() as house:
        path = soaked.folder.parent / "faults" / "west"
        path.write_text("weight:query.status")
        soaked.revoke("north", 2)
        number = soaked.campaign(house)
        until(house, number, lambda now: now.ended)
        kinds = soaked.check(house, number, "north")
        path.with_suffix(".struck").unlink()
        collected = house.store.journal_body(number, "collect", Collected)
        assert collected is not None
        with transaction(house.engine) as session:
            assert collected.retain_studies["west"] == in_force(session)["west"]
        note(log, house, number, kinds)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["two hospitals with revocations"])
def test_two_hospitals_with_revocations_are_forgotten_in_one_campaign(
    soaked: Running, log: dict[str, str], fault: str
) -> None:
    with soaked.house() as house:
        # While one campaign runs, two hospitals come to wait for the next.
        soaked.revoke("west", 2)
        first = soaked.campaign(house)
        soaked.revoke("north", 2)
        soaked.revoke("south", 2)
        until(house, first, lambda now: now.ended)
        number = soaked.campaign(house)
        until(house, number, lambda now: now.ended)
        kinds = soaked.check(house, number, "north", unlearned=2)
        wait_for(lambda: not read_revocations(soaked.folder / "south").pending, "the end of the revocation at south")
        collected = house.store.journal_body(number, "collect", Collected)
        assert collected is not None
        assert (collected.forgetting, collected.aggregation) == (("north", "south"), "relay")
        note(log, house, number, kinds)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["database damaged"])
def test_a_damaged_database_stops_the_coordinator_and_its_backup_goes_on(
    soaked: Running, log: dict[str, str], fault: str
) -> None:
    server = soaked.folder / "server"
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "up" in line and str(server) in line:
            process.terminate()
            process.wait(60)

    database = server / "server.db"
    backup = database.read_bytes()
    database.write_bytes(b"damaged" * 4096)
    done = subprocess.run(
        [BIN / "fedforget-server", "up", "--dir", server], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "damaged" in done.stderr
    database.write_bytes(backup)
    soaked.up("server")

    with soaked.house() as house:
        soaked.revoke("north", 2)
        number = soaked.campaign(house)
        until(house, number, lambda now: now.ended)
        note(log, house, number, soaked.check(house, number, "north"))


def note(log: dict[str, str], house: CoordinatorContext, number: int, kinds: list[str]) -> None:
    row = house.store.get(number)
    told = sorted({"waiting", "late", "quarantined", "suspended"} & set(kinds))
    log.update(end=f"{row.state}, {row.result}, attempt {row.attempt}", events=", ".join(told) or "-")
