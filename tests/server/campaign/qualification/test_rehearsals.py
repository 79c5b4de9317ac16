"""Rehearsals in waves, on a federation of real sites in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from flwr.app import RecordDict
from rehearsal_world import CONFIG, NOW, PLAN, World
from torch import Tensor

from client.app import open_site
from client.membership.bounds import check_bounds
from client.settings_sections import BoundsConfig
from common.errors import CohortError, ConfigError, RefusedError, UnavailableError
from common.learning.config import CampaignConfig
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.learning.evaluation.qualification.validity import Circumstances
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort
from common.protocol.rehearsals import REHEARSE
from common.protocol.wire import pack
from server.campaign.qualification.register import (
    Register,
    plan_register,
    rehearsing_sites,
    waves,
)
from server.campaign.qualification.runner import YieldedError
from server.campaign.qualification.wave import request_of
from server.rounds.checks.update_gate import WalksOver
from server.rounds.federation import Federation


@pytest.fixture
def made(tmp_path: Path, card: ModelCard, cohort_of: Callable[..., Cohort]) -> World:
    return World(tmp_path, card, cohort_of)


def kinds_of(federation: Federation) -> list[str]:
    kinds: list[str] = []
    exchange = federation.exchange

    def noted(
        kind: str,
        requests: Mapping[str, RecordDict],
        deadline: float | None = None,
        whole: Callable[[], RecordDict] | None = None,
    ) -> Iterator[tuple[str, RecordDict]]:
        kinds.append(kind)
        return exchange(kind, requests, deadline, whole)

    federation.exchange = noted  # type: ignore[method-assign]
    return kinds


def test_rehearsals_take_the_exchanges_of_a_few_campaigns_and_leave_pooled_figures_alone(made: World) -> None:
    kinds = kinds_of(made.federation)

    found = made.run("journal")

    # Two waves of unlearning, one retention round and scoring, and one report at the end.
    assert kinds.count(REHEARSE) == 2 * 3 + 1
    judged = found.qualification
    assert (judged.rehearsals, judged.patients, judged.controls) == (6, 15, 20)
    assert len(judged.distances) == 6
    assert len(found.processes) == 6
    assert all(process.norm > 0 for process in found.processes)
    assert any("39 are needed" in finding.text for finding in judged.findings)
    for name in ("north", "south"):
        (folder,) = (made.folder / "sites" / name / "rehearsals").iterdir()
        assert [path.name for path in folder.iterdir()] == ["report.json"]
        text = (folder / "report.json").read_text()
        assert name + "-" not in text.replace(f'"site":"{name}"', "")
    assert not list((made.folder / "journal").glob("*.safetensors"))
    assert all("north-" not in path.read_text() for path in (made.folder / "journal").glob("*.json"))
    for path in (made.folder / "journal").glob("wave-*.json"):
        # Figures of patients leave a site in the report alone.
        body = json.loads(json.loads(path.read_text())["body"])
        assert not {"report", "branches", "residual"} & body.keys()


def test_kills_before_each_exchange_change_nothing_in_the_result(made: World) -> None:
    class KilledError(Exception):
        pass

    straight = made.run("straight")
    for name in ("north", "south"):
        shutil.rmtree(made.folder / "sites" / name / "rehearsals")
    exchanges = 0

    def killed_at_every_second() -> bool:
        nonlocal exchanges
        exchanges += 1
        if exchanges % 2 == 0:
            raise KilledError
        return False

    kills = 0
    while True:
        try:
            again = made.run("killed", killed_at_every_second)
            break
        except KilledError:
            kills += 1

    assert kills == 6
    assert again.qualification == straight.qualification
    assert again.processes == straight.processes


def test_a_qualification_yields_to_a_campaign_and_goes_on_from_the_new_model(made: World) -> None:
    answers = iter([False, False, False, True])
    with pytest.raises(YieldedError):
        made.run("journal", lambda: next(answers))

    made.state = made.card.build(4).state_dict()
    kinds = kinds_of(made.federation)
    assert made.run("journal").qualification.rehearsals == 6
    # What was finished before is not asked for again.
    assert kinds.count(REHEARSE) == 3 + 1


def test_a_patient_who_revokes_meanwhile_is_left_out(made: World) -> None:
    answers = iter([False] * 6 + [True])
    with pytest.raises(YieldedError):
        made.run("journal", lambda: next(answers))
    (folder,) = (made.folder / "sites" / "north" / "rehearsals").iterdir()
    drawn = json.loads((folder / "drawn.json").read_text())
    alone = [names[0] for names in drawn.values() if len(names) == 1]
    made.site("north").revoke([alone[0]])
    open_site.cache_clear()

    found = made.run("journal").qualification

    lost = sum(alone[0] in names for names in drawn.values())
    assert found.rehearsals == 6 - lost
    assert f"{6 - lost} rehearsals of 6 were scored" in {finding.text for finding in found.findings}


def test_a_hospital_without_audit_folds_cannot_rehearse(made: World) -> None:
    for name in ("north", "south"):
        (made.folder / "sites" / name / "folds.db").unlink()
    open_site.cache_clear()

    with pytest.raises(UnavailableError):
        made.run("journal")


def test_weights_that_are_not_finite_are_refused_one_candidate_at_a_time(made: World) -> None:
    accepts = made.federation.accepts
    seen = 0

    def without_the_first(
        site: str, kind: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], walk: WalksOver
    ) -> bool:
        nonlocal seen
        seen += 1
        if seen == 1:
            after = {name: torch.full_like(tensor, float("nan")) for name, tensor in after.items()}
        return accepts(site, kind, before, after, walk)

    made.federation.accepts = without_the_first

    found = made.run("journal")

    assert found.qualification.rehearsals == 5
    assert list(found.refused.values()) == ["its weights were refused"]


def test_too_few_never_seen_patients_are_said_in_one_line_with_the_missing_number() -> None:
    counts = {"never_seen_audit": 32, "train": 90}

    with pytest.raises(CohortError) as error:
        rehearsing_sites(QualificationPlan(), {"a": counts, "b": counts, "c": {**counts, "never_seen_audit": 9}})

    assert error.value.problem == (
        "the procedure cannot be qualified: 36 never-seen patients are missing "
        "(64 at hospitals with at least 20 of them, 100 needed)"
    )


def test_a_register_deals_every_size_to_every_hospital_and_is_bound_by_its_digest() -> None:
    circumstances = Circumstances(
        configuration="a", lineage="first", aggregation="auto", sites=("north", "south"), labels=(0,),
        train_patients=9, at=NOW,
    )  # fmt: skip
    register = plan_register(PLAN, circumstances, CONFIG, sites=("north", "south"), parent="0" * 64)

    dealt = {(one.site, one.patients) for one in register.rehearsals}
    assert dealt == {("north", 1), ("north", 4), ("south", 1), ("south", 4)}
    assert register.digest == Register.model_validate_json(register.model_dump_json()).digest
    assert register.digest != register.model_copy(update={"attempt": 2}).digest
    assert [len(wave) for wave in waves(register, 1)] == [4, 2]
    assert [len(wave) for wave in waves(register, PLAN.wave_bytes)] == [1] * 6

    naive = CONFIG.model_copy(update={"campaign": CampaignConfig(aggregation="naive")})
    with pytest.raises(ConfigError, match="naive cannot be rehearsed"):
        plan_register(PLAN, circumstances, naive, sites=("north",), parent="0" * 64)


def test_a_site_bounds_what_a_rehearsal_may_do() -> None:
    circumstances = Circumstances(
        configuration="a", lineage="first", aggregation="auto", sites=("north",), labels=(0,), train_patients=9, at=NOW
    )
    register = plan_register(PLAN, circumstances, CONFIG, sites=("north",), parent="0" * 64)
    request = pack(request_of(register, CONFIG, "0" * 64, "unlearn", register.rehearsals[:4]))
    refused: dict[str, object] = {
        "max_rehearsals": 3,
        "max_rehearsed_patients": 3,
        "max_passes": 1,
        "methods": ("eu_k",),
        "kinds": ("query.status",),
    }

    check_bounds(REHEARSE, request, BoundsConfig())
    for setting, value in refused.items():
        with pytest.raises(RefusedError, match=f"bounds.{setting}"):
            check_bounds(REHEARSE, request, BoundsConfig.model_validate({setting: value}))
