"""A whole stream on tiny hospitals, by the command; stopped, gone on with, drawn again."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cohort.site_files import read_site
from common.errors import ConfigError, OutputError, ResultError
from common.learning.records import Subset
from simulations.cli import app
from simulations.run.settings import names_in
from simulations.stream.record import Audited, CampaignRecord, SeedRecord, StreamRecord, read_record, write_record
from simulations.stream.results import summary
from simulations.stream.results.output import write_output
from simulations.stream.results.tables import tables_of
from simulations.stream.runner import prepare_folder, run_stream
from simulations.stream.seed_stream import Stream
from simulations.stream.settings import StreamConfig, load_stream
from simulations.synthetic.federation import write_federation

PRESET = """
retrain_every = 2

[arrivals]
days = 40
per_month = 5
bursts = 0
leaving = "site-2"
leaves_on_day = 10

[batching]
min_batch = 3

[run]
manifest = "{manifest}"

[run.experiment]
data = {{ image_size = 32, max_tokens = 16 }}
model = {{ width = 4, embedding = 8, text_hidden = 16, text_heads = 2, text_layers = 1 }}
train = {{ rounds = 1, local_epochs = 1, lr = 3e-3 }}
unlearn = {{ passes = 1 }}
decision = {{ bootstrap = 50 }}
"""


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preset")
    manifest = write_federation(folder / "made-up", sites=3, patients=26, seed=1, image_size=32)
    path = folder / "tiny.toml"
    path.write_text(PRESET.format(manifest=manifest), encoding="utf-8")

    return path


@pytest.fixture(scope="module")
def config(preset: Path) -> StreamConfig:
    return load_stream(str(preset), [])


@pytest.fixture(scope="module")
def done(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("stream")
    said = CliRunner().invoke(app, ["stream", "--preset", str(preset), "--out", str(out), "--json"])
    assert said.exit_code == 0, said.output
    return out, json.loads(said.stdout)


def test_every_batch_has_a_campaign_a_model_and_figures_of_all_who_were_forgotten_so_far(
    done: tuple[Path, dict[str, Any]],
) -> None:
    out, said = done
    (seed,) = read_record(out).seeds
    assert said["finished"]
    assert said["seeds"][0]["campaigns"] == seed.planned == len(seed.campaigns) >= 3
    gone = 0

    for campaign in seed.campaigns:
        gone += sum(campaign.patients.values())
        assert sum(cohort.patients for cohort in campaign.audited.cohorts) <= gone
        assert campaign.audited.forgotten.patients == gone
        assert campaign.days_left >= 7
        assert campaign.cost.forward_units > 0

    assert said["seeds"][0]["forgotten"] == gone
    digests = [
        seed.original.digest,
        *(c.audited.digest for c in seed.campaigns),
        *(r.audited.digest for r in seed.retrained),
    ]
    assert len(set(digests)) == len(digests)


def test_a_hospital_that_leaves_is_answered_by_a_retraining_and_tests_no_model(
    done: tuple[Path, dict[str, Any]],
) -> None:
    (seed,) = read_record(done[0]).seeds
    left = [c for c in seed.campaigns if c.leaving]
    assert [(c.leaving, c.how, c.decision) for c in left] == [("site-2", "retrained", None)]
    others = [c for c in seed.campaigns if not c.leaving]
    assert {c.how for c in others} == {"unlearned"}
    assert all(c.decision is not None for c in others)
    assert seed.staying == ("site-1", "site-3")
    assert {model.test.patients for model in (seed.original, *(c.audited for c in seed.campaigns))} == {
        seed.retrained[-1].audited.test.patients
    }


def test_the_hospitals_have_deleted_whom_they_forgot_and_only_those(done: tuple[Path, dict[str, Any]]) -> None:
    out, _ = done
    (seed,) = read_record(out).seeds

    for name in seed.training:
        world, here = (read_site(out / "seed-0" / part / name) for part in ("world/sites", "sites"))
        gone = set(world.cohort.patients) - set(here.cohort.patients)
        forgotten = sum(c.patients.get(name, 0) for c in seed.campaigns)
        trained = {p for p, subset in world.subsets.items() if subset is Subset.TRAIN}
        assert len(gone & trained) == forgotten > 0

        if name in seed.staying:
            assert gone <= trained
        else:
            assert not here.studies


def test_a_stream_that_was_stopped_goes_on_to_the_same_bits(
    config: StreamConfig, done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    def stop(_: str) -> None:
        raise StoppedError

    adopt = Stream._adopt

    def stop_before_adoption(self: Stream, federation: Any, state: Any, campaign: CampaignRecord) -> None:
        if campaign.number == 2:
            raise StoppedError
        adopt(self, federation, state, campaign)

    with pytest.raises(StoppedError):
        run_stream(config, tmp_path, stop, lambda *_: None)
    monkeypatch.setattr(Stream, "_adopt", stop_before_adoption)
    with pytest.raises(StoppedError):
        run_stream(config, tmp_path, lambda _: None, lambda *_: None)
    monkeypatch.undo()
    assert [len(s.campaigns) for s in read_record(tmp_path).seeds] == [2]
    again = run_stream(config, tmp_path, lambda _: None, lambda *_: None)
    whole = read_record(done[0])
    assert [_without_times(one) for one in again.seeds] == [_without_times(one) for one in whole.seeds]


def test_a_stream_that_qualifies_rehearses_once_and_lets_the_ladder_decide(preset: Path, tmp_path: Path) -> None:
    rehearsing = [
        *("run.qualify=true", "run.qualification.rehearsals=9", "run.qualification.sizes=[2]", "batching.apart=true"),
        *("run.qualification.least_controls=20", "run.qualification.controls_per_site=5", "arrivals.leaving=''"),
        "run.experiment.data.split={validation=0.1,calibration=0.15,audit=0.35,test=0.1}",
        *("arrivals.days=15", "run.experiment.folds.targets=2", "run.experiment.folds.audit=2"),
    ]
    stages: list[str] = []
    record = run_stream(
        load_stream(str(preset), rehearsing), tmp_path, lambda _: None, lambda stage, *_: stages.append(stage)
    )
    (seed,) = record.seeds
    assert seed.qualification is not None
    assert seed.qualification.rehearsals == 9
    assert seed.qualification.cost.forward_units > 0
    assert stages.index("rehearsals") < stages.index("seed 0")
    assert seed.campaigns
    for campaign in seed.campaigns:
        assert len(campaign.patients) == 1
        assert campaign.decision is not None
        assert any("the last qualification failed" in reason for reason in campaign.decision.reasons)

    (table,) = [table for table in tables_of(record) if table.rows and table.head[0] == "qualified"]
    assert table.rows[0][2] == str(len(seed.campaigns))


def test_hospitals_too_small_to_qualify_say_how_many_patients_are_missing(config: StreamConfig, tmp_path: Path) -> None:
    run = config.run.model_copy(update={"qualify": True})
    short = config.arrivals.model_copy(update={"days": 8.0, "leaving": ""})
    record = run_stream(
        config.model_copy(update={"run": run, "arrivals": short}), tmp_path, lambda _: None, lambda *_: None
    )
    qualification = record.seeds[0].qualification
    assert qualification is not None
    assert not qualification.qualified
    assert "never-seen patients are missing" in qualification.findings[0]


def _without_times(value: Any) -> Any:
    value = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key != "seconds"}
    return [_without_times(inner) for inner in value] if isinstance(value, list | tuple) else value


def test_everything_is_drawn_from_the_record_alone_without_torch_or_flower(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copy(done[0] / "stream.json", tmp_path)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from simulations.stream.results.output import write_output\n"
        "write_output(Path(sys.argv[1]))\n"
        "sys.exit(' '.join({'torch', 'flwr'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for name in ("report.html", "stream.csv", "stream.md", "time.png", "memory.png"):
        assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes()
    (seed,) = read_record(tmp_path).seeds
    with (tmp_path / "stream.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 1 + len(seed.campaigns) + len(seed.retrained)
    assert lines[-1]["model"] == "control"
    assert float(lines[-1]["test_auc"]) == seed.retrained[-1].audited.test.auc


def test_the_page_needs_nothing_else_and_says_how_to_run_it_again(
    done: tuple[Path, dict[str, Any]], preset: Path
) -> None:
    page = (done[0] / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert f"fedforget-sim stream --preset {preset}" in page
    assert page.count("<svg") == 2


def test_groups_before_a_retraining_are_not_followed_beyond_it(done: tuple[Path, dict[str, Any]]) -> None:
    record = read_record(done[0])
    (seed,) = record.seeds
    anew = next(c.number for c in seed.campaigns if c.how == "retrained")
    found = summary.later(record)
    assert found
    for one in found:
        assert one.campaign != anew
        assert (one.campaign > anew) or one.campaign + max(one.lag, 0) < anew


def test_creep_is_the_growth_of_the_gap_to_models_retrained_at_the_same_time_since_the_last_retraining(
    done: tuple[Path, dict[str, Any]],
) -> None:
    (seed,) = read_record(done[0]).seeds
    own = seed.campaigns[-1]
    control = seed.retrained[-1]
    figure = summary.TEST_AUC

    def with_auc(audited: Audited, auc: float) -> Audited:
        return audited.model_copy(update={"test": audited.test.model_copy(update={"auc": auc})})

    def stream(hows: list[str], ours: list[float], theirs: dict[int, float]) -> SeedRecord:
        campaigns = tuple(
            own.model_copy(update={"number": number, "how": how, "audited": with_auc(own.audited, auc)})
            for number, (how, auc) in enumerate(zip(hows, ours, strict=True), 1)
        )
        controls = tuple(
            control.model_copy(update={"after": after, "audited": with_auc(control.audited, auc)})
            for after, auc in theirs.items()
        )
        return seed.model_copy(update={"planned": len(ours), "campaigns": campaigns, "retrained": controls})

    hows = ["unlearned", "retrained", "unlearned", "unlearned", "unlearned"]
    falling = stream(hows, [0.1, 0.80, 0.79, 0.78, 0.77], {1: 0.9, 3: 0.80, 5: 0.80})
    assert summary.gaps(falling, figure) == pytest.approx({3: -0.01, 5: -0.03})
    assert summary.creep(falling, figure) == pytest.approx(-0.02)
    assert summary.trend(falling, figure) == pytest.approx(-0.1)
    once = stream(hows, [0.1, 0.80, 0.79, 0.78, 0.77], {1: 0.9, 5: 0.80})
    assert summary.creep(once, figure) is None
    unfinished = stream(hows, [0.1, 0.80, 0.79, 0.78, 0.77], {3: 0.8, 4: 0.80})
    assert summary.creep(unfinished, figure) is None
    assert summary.trend(unfinished, figure) is None


def test_tables_say_when_a_hospital_left_and_how_long_revocations_waited(done: tuple[Path, dict[str, Any]]) -> None:
    record = read_record(done[0])
    (seed,) = record.seeds
    leaving, waiting = (
        next(table for table in tables_of(record) if table.caption.startswith(caption))
        for caption in ("The hospital that left", "How long they waited")
    )
    anew = next(c for c in seed.campaigns if c.leaving)
    assert [row[:4] for row in leaving.rows] == [
        ("seed 0: site-2", "10", str(anew.number), str(sum(anew.patients.values())))
    ]
    ((name, campaigns, patients, why, *_, late),) = waiting.rows
    assert (name, campaigns, late) == ("seed 0", str(len(seed.campaigns)), "0")
    assert int(patients) == sum(sum(c.patients.values()) for c in seed.campaigns)
    assert sum(map(int, re.findall(r"\d+", why))) == len(seed.campaigns)


def test_a_folder_takes_more_seeds_but_no_other_settings(
    config: StreamConfig, done: tuple[Path, dict[str, Any]]
) -> None:
    assert prepare_folder(config.model_copy(update={"seeds": 2}), done[0]).seeds
    with pytest.raises(OutputError, match="another batching"):
        prepare_folder(
            config.model_copy(update={"batching": config.batching.model_copy(update={"min_batch": 9})}), done[0]
        )


def test_what_cannot_be_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown preset 'no'"):
        load_stream("no", [])
    with pytest.raises(ConfigError, match="control of a stream"):
        load_stream("quick", ["run.experiment.unlearn.method=retrain"])
    with pytest.raises(ConfigError, match="fed_eraser"):
        prepare_folder(load_stream("quick", ["run.experiment.unlearn.method=fed_eraser"]), tmp_path)
    with pytest.raises(ResultError, match="cannot be read"):
        write_output(tmp_path)
    write_record(tmp_path, StreamRecord(config={}, versions={}))
    with pytest.raises(ResultError, match="no campaign"):
        write_output(tmp_path)
    (tmp_path / "stream.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ResultError, match="no stream of this version"):
        read_record(tmp_path)


@pytest.mark.parametrize("name", names_in("stream"))
def test_every_preset_is_valid(name: str) -> None:
    assert load_stream(name, []).seeds
