"""LoRA beside fine-tuning all of a text encoder, before and after Forget-MI in what was trained. `make study-adapters`.

Run the same command again to continue after an interruption.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from flwr.serverapp import Grid
from pydantic import BaseModel, ConfigDict

from client.app import open_site
from client.cohort.site import Site
from common.files import write_text
from common.learning.device import derive_seed
from common.learning.evaluation.figures import Branch, FederationFigures
from common.learning.evaluation.metrics import macro_auc
from server.campaign.campaign import audit, run_campaign
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.downlink import Downlink
from server.rounds.exchanges.meter import Meter
from server.rounds.journal import MemoryJournal
from server.rounds.training import train
from server.rounds.unlearning.base import Past
from simulations.run.engine import run_on
from simulations.run.frozen.adapters_page import page
from simulations.run.frozen.runs import Variant
from simulations.run.prepare import Prepared, prepare
from simulations.run.settings import SimulationConfig, load_settings

PRESET = "frozen"
METHOD = "forget_mi_calibrated"
COMMON = (
    "model.frozen=image",
    "data.max_tokens=64",
    "train.rounds=6",
    "train.min_rounds=6",
    "forget=10",
    "decision.bootstrap=200",
    "wire.precision=fp16",
)
LORA = Variant("lora", ("model.adapters=text", "train.lr=1e-3", "train.weight_decay=5"), 5)
WHOLE = Variant("whole", ("train.lr=1e-4", "train.weight_decay=5"), 5)
"""LoRA was tried on seed 100, which is in no table; the smaller step of a whole encoder was not tuned."""


class AdapterResult(BaseModel):
    """One variant and seed: what was sent and reached, and membership before and after forgetting."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    weights: int
    """That are trained and sent."""
    whole: int
    """Of both encoders, fusion and heads."""
    up: float
    """Bytes that one hospital sends in one round of training, on average."""
    kept: int
    test: dict[Branch, float | None]
    test_after: dict[Branch, float | None]
    membership: dict[Branch, float | None]
    membership_after: dict[Branch, float | None]
    forget_patients: int
    unlearn_seconds: float
    train_seconds: float


def run_seed(variant: Variant, seed: int, assignments: list[str], out: Path) -> AdapterResult:
    """Train, audit, forget, audit; a seed with a result is read back.

    Raises:
        InputError: settings, data or a folder.
    """
    folder = out / variant.name / f"seed-{seed}"
    file = folder / "result.json"
    if not file.exists():
        config = load_settings(PRESET, [*COMMON, *variant.settings, *assignments, f"seed={seed}"], {}, method=METHOD)
        folder.mkdir(parents=True, exist_ok=True)
        preparation = prepare(config, folder, lambda *_: None, cache_folder=out / "cache")
        results: list[AdapterResult] = []
        open_site.cache_clear()
        run_on(
            config.engine,
            lambda grid: results.append(_run(grid, config, preparation)),
            sites_folder=preparation.folder / "sites",
            sites=len(preparation.sites),
        )
        write_text(file, results[0].model_dump_json(indent=2) + "\n")

    return AdapterResult.model_validate_json(file.read_bytes())


def _run(grid: Grid, config: SimulationConfig, preparation: Prepared) -> AdapterResult:
    experiment = config.experiment
    card = preparation.card
    federation = connect(grid, len(preparation.sites))
    federation.downlink = Downlink(experiment.wire.precision, card.frozen_names(), card.encoders)
    federation.meter = Meter()
    initial = card.build(experiment.seed).state_dict()
    seed = derive_seed(experiment.seed, "original") % 2**31
    # Processor time, as coordinator and hospitals run in this process and other programs do not count.
    begin = time.process_time()
    original = train(
        federation, initial, experiment.train, card, seed=seed, folder=preparation.folder / "train", on_round=_silent
    )
    train_seconds = time.process_time() - begin
    rounds = len(original.rounds) - 1
    up = federation.meter.bytes_up / (rounds * len(preparation.sites))

    for name, patients in preparation.forget.items():
        Site(preparation.site_folder(name)).revoke(patients)
    open_site.cache_clear()
    before = audit(federation, original.state, experiment.decision, experiment.seed)
    begin = time.process_time()
    campaign = run_campaign(
        federation,
        original.state,
        experiment,
        journal=MemoryJournal(before=before),
        folder=preparation.folder / "campaign",
        on_round=_silent,
        past=Past(card, initial, original.rounds, seed),
    )

    return AdapterResult(
        weights=sum(tensor.numel() for tensor in original.state.values()),
        whole=_all_weights(preparation),
        up=up,
        kept=next(record.round for record in original.rounds if record.kept),
        test=_utility(before),
        test_after=_utility(campaign.figures),
        membership=_membership(before),
        membership_after=_membership(campaign.figures),
        forget_patients=before.membership["fused"].forget_patients,
        unlearn_seconds=time.process_time() - begin,
        train_seconds=train_seconds,
    )


def _all_weights(preparation: Prepared) -> int:
    """What FedAvg of everything would send."""
    model = preparation.card.model.model_copy(update={"frozen": "none", "adapters": "none"})
    return sum(t.numel() for t in preparation.card.model_copy(update={"model": model}).build().state_dict().values())


def _utility(figures: FederationFigures) -> dict[Branch, float | None]:
    return {branch: macro_auc(utility) for branch, utility in figures.groups["test"].items()}


def _membership(figures: FederationFigures) -> dict[Branch, float | None]:
    return {branch: one.auc for branch, one in figures.membership.items()}


def _silent(_: object) -> None:
    """Nobody watches."""


def study(
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/adapters"),
    write: Annotated[Path | None, typer.Option(help="Markdown file for the page.")] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = LORA.seeds,
    first: Annotated[int, typer.Option(help="First seed: 100 for those that settings are chosen on.")] = 0,
    only: Annotated[str, typer.Option(help="lora or whole; empty for both.")] = "",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Value of any setting, as of fedforget-sim.")
    ] = None,
) -> None:
    """Run both variants seed by seed, and write the page after each."""
    results: dict[str, list[AdapterResult]] = {LORA.name: [], WHOLE.name: []}
    text = ""

    for seed in range(first, first + seeds):
        for variant in (LORA, WHOLE):
            if only in {"", variant.name}:
                results[variant.name].append(run_seed(variant, seed, assignments or [], out))
        text = page(results[LORA.name], results[WHOLE.name])
        if write is not None:
            write_text(write, text)

    typer.echo(text)


if __name__ == "__main__":
    typer.run(study)
