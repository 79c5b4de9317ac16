"""A made-up result for the tests that show one: figures of the size that real runs give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from common.learning.config import ExperimentConfig
from common.learning.evaluation.histograms import histogram
from simulations.result import (
    Branch,
    BranchMetrics,
    BranchMia,
    Cost,
    DecisionResult,
    GroupMetrics,
    GroupName,
    Histogram,
    Missing,
    ModelName,
    ModelResult,
    Result,
    RoundRecord,
)

BRANCHES: tuple[Branch, ...] = ("image", "text", "fused")
MIA = {
    "original": (0.712, 0.744, 0.771),
    "retrained": (0.513, 0.548, 0.537),
    "naive": (0.676, 0.701, 0.723),
    "unlearned": (0.518, 0.489, 0.508),
}
LOSS = {"original": 0.11, "retrained": 0.55, "naive": 0.17, "unlearned": 0.52}
TEST_AUC = {"original": 0.8134, "retrained": 0.8391, "naive": 0.8052, "unlearned": 0.8017}


def group(name: str, loss: float, auc: float, patients: int, step: float) -> GroupMetrics:
    return GroupMetrics(
        auc=auc - step,
        f1=auc - 0.07 - step,
        accuracy=1 - 0.5 * min(loss + step, 1.0),
        ce_mean=loss + step,
        ce_median=0.7 * loss + step,
        patients=patients,
    )


def mia(auc: float, step: float) -> BranchMia:
    return BranchMia(
        auc=auc,
        ci90=(max(0.0, auc - 0.071 - step), min(1.0, auc + 0.071 + step)),
        ci95=(max(0.0, auc - 0.086 - step), min(1.0, auc + 0.086 + step)),
        ks=0.08 + abs(auc - 0.5),
        ks_p=10 ** (-20 * abs(auc - 0.5)),
        calibrated=auc - 0.513,
        svc=0.2 + auc / 2,
        tpr_at_1pct_fpr=None,
    )


def model(name: ModelName, sites: tuple[str, ...], forgetting: tuple[str, ...]) -> ModelResult:
    rng = np.random.default_rng(len(name))
    forget_loss = LOSS[name]
    unseen = 0.57
    retain = 0.11
    groups: dict[Branch, dict[GroupName, GroupMetrics]] = {}
    histograms: dict[Branch, dict[GroupName, Histogram]] = {}

    for k, branch in enumerate(BRANCHES):
        step = 0.021 * (2 - k)
        groups[branch] = {
            "forget": group("forget", forget_loss, 0.78 + 0.2 * (0.6 - forget_loss), 30, step),
            "retain": group("retain", retain, 0.981, 310, step),
            "never_seen": group("never_seen", unseen, 0.79, 96, step),
            "test": group("test", 0.96 - 0.5 * TEST_AUC[name], TEST_AUC[name], 98, step),
        }
        drawn = {"forget": (forget_loss, 30), "retain": (retain, 310), "never_seen": (unseen, 96)}
        histograms[branch] = {}
        for g, (mean, n) in drawn.items():
            found = histogram(mean * rng.lognormal(-0.4, 1.1, n))
            histograms[branch][g] = Histogram(edges=list(found.edges), counts=list(found.counts))  # type: ignore[index]

    attacks = {b: mia(MIA[name][k], 0.004 * k) for k, b in enumerate(BRANCHES)}

    return ModelResult(
        forget=groups["fused"]["forget"],
        retain=groups["fused"]["retain"],
        never_seen=groups["fused"]["never_seen"],
        test=groups["fused"]["test"],
        branches={b: BranchMetrics(groups=groups[b]) for b in BRANCHES},
        mia=attacks,
        mia_by_site={
            s: {b: mia(MIA[name][k] + 0.01 * n, 0.05) for k, b in enumerate(BRANCHES)} for n, s in enumerate(forgetting)
        },
        loss_histograms=histograms,
        test_auc_by_site={s: TEST_AUC[name] + 0.008 * n for n, s in enumerate(sites)},
        distance_to_retrained=0.0 if name == "retrained" else forget_loss / 9,
        missing=[
            Missing(path=f"mia.{b}.tpr_at_1pct_fpr", reason="needs 100 never-seen patients, 96 are here")
            for b in BRANCHES
        ],
        digest="sha256:" + f"{len(name):02x}" * 32,
    )


def history(names: tuple[ModelName, ...]) -> list[RoundRecord]:
    records = []
    for name in names:
        if name in ("original", "retrained"):
            for r in range(24):
                fall = float(np.exp(-r / 7))
                auc: dict[Branch, float | None] = {
                    b: 0.5 + (0.25 - 0.02 * k) * (1 - fall) for k, b in enumerate(BRANCHES)
                }
                records.append(
                    RoundRecord(
                        model=name, phase="train", round=r, train_loss=0.12 + 1.1 * fall,
                        validation_auc=0.82 - 0.3 * fall + (0.01 if name == "retrained" else 0.0),
                        validation_ce=(0.56 if name == "original" else 0.52) + 0.7 * fall + 0.0004 * r * r,
                        kept=r == 17,
                        calibration_auc=auc if name == "original" else {}, seconds=1.7,
                    )
                )  # fmt: skip
        else:
            for r in range(4):
                base, worse = (0.50, 0.04) if name == "unlearned" else (0.69, 0.0)
                records.append(
                    RoundRecord(
                        model=name, phase="unlearn" if r == 0 else "retain", round=r, train_loss=0.2 - 0.01 * r,
                        validation_auc=0.8 - worse + 0.005 * r, validation_ce=0.6 + worse - 0.01 * r,
                        kept=r == 2, seconds=1.9,
                        calibration_auc={b: base + 0.02 * k + 0.01 * r for k, b in enumerate(BRANCHES)},
                    )
                )  # fmt: skip

    return records


def build(
    sites: int = 4,
    forgetting: int = 1,
    retrained: bool = True,
    outcome: str = "accepted",
) -> Result:
    """A valid result; figures differ from each other so that one shown in another's place is noticed."""
    names = tuple(f"site-{k}" for k in range(1, sites + 1))
    models: tuple[ModelName, ...] = ("original", "retrained", "naive", "unlearned")
    if not retrained:
        models = ("original", "naive", "unlearned")
    cost = {
        "train": Cost(forward_units=182_340, seconds=41.2, bytes_up=62_211_840, bytes_down=64_803_792),
        "retrain": Cost(forward_units=176_580, seconds=39.8, bytes_up=62_211_841, bytes_down=64_803_793),
        "unlearn": Cost(forward_units=8_214, seconds=3.1, bytes_up=648_040, bytes_down=648_041),
        "retain": Cost(forward_units=6_930, seconds=1.9, bytes_up=2_592_160, bytes_down=2_592_161),
        "folds": Cost(forward_units=640_100, seconds=121.6, bytes_up=240_000_000, bytes_down=250_000_000),
    }
    if not retrained:
        del cost["retrain"]
    decision = DecisionResult(
        outcome=outcome,  # type: ignore[arg-type]  # a literal in every test
        reasons=["every branch within 0.40 to 0.60 with 90 % confidence, utility kept at every site"],
    )

    return Result(
        config={
            "experiment": ExperimentConfig().model_dump(mode="json"),
            "hospitals": {"sites": sites},
            "manifest": "",
            "engine": "flower",
        },
        seed=7,
        versions={"python": "3.11.9", "fedforget": "0.1.0", "flwr": "1.41.0", "torch": "2.13.0"},
        data={
            site: {
                "train": 78 + k, "retain": 78 + k, "forget": 10 + k if k < forgetting else 0, "validation": 9 + k,
                "never_seen_calibration": 22 + k, "never_seen_audit": 24 + k, "test": 25 + k,
            }
            for k, site in enumerate(names)
        },
        models={name: model(name, names, names[:forgetting]) for name in models},
        history=history(models),
        cost=cost,  # type: ignore[arg-type]  # keys are literals above
        decision=decision,
        decisions=dict.fromkeys(models, decision),
        seconds=212.4,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """Builds results: `make_result(sites=4, forgetting=1, retrained=True, outcome="accepted")`."""
    return build
