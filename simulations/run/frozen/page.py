"""The page of the study: every variant beside logistic regression on the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from simulations.baseline_result import BaselineResult
from simulations.run.frozen.runs import SeedResult

TITLES = {
    "heads": "frozen MiniLM and EfficientNet-Lite0, 256 tokens",
    "long": "the same, 512 tokens",
    "words": "hashed words (linear) and frozen EfficientNet-Lite0",
    "lora": "MiniLM with LoRA (128 tokens) and frozen EfficientNet-Lite0",
}
_COLUMNS = (
    "model",
    "image within",
    "text within",
    "fused within",
    "text across",
    "fused across",
    "weights",
    "bytes up",
    "seeds",
)
_BASE = "heads"
_AIM = 0.02
_BRANCHES = {"image": "frozen image encoder", "text": "frozen text encoder", "fused": "both frozen encoders"}


def page(results: Mapping[str, Sequence[SeedResult]]) -> str:
    """Markdown with a table of variants, one of baselines, and the paired differences to the aim."""
    lines = [
        "# Frozen encoders on the real set",
        "",
        "Command: `make study-frozen`. Three hospitals, federated, COVID-19 Image Data Collection; split, hospitals",
        "and initial weights change with the seed, settings do not. Macro one-vs-rest AUC of about 18 test patients",
        "a seed: mean over seeds with its 95 % interval (Student's t). *Within* compares patients of one hospital,",
        "*across* also those of different hospitals: what is gained across alone is style rather than disease.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
        *(_row(title, results[name]) for name, title in TITLES.items() if name in results),
        *(_not_run(title) for name, title in TITLES.items() if name not in results),
        "",
        "Weights are those that are trained and sent. Bytes are those of all rounds of a seed, of all hospitals.",
        "",
    ]
    if _BASE in results:
        lines += [*_baselines(results[_BASE]), "", *_differences(results[_BASE])]

    return "\n".join(lines) + "\n"


def _not_run(title: str) -> str:
    return f"| {title} |{' not run |' * (len(_COLUMNS) - 1)}"


def _row(title: str, seeds: Sequence[SeedResult]) -> str:
    within = [_mean([one.within[name] for one in seeds]) for name in ("image", "text", "fused")]
    across = [_mean([one.across[name] for one in seeds], interval=False) for name in ("text", "fused")]
    weights = f"{seeds[0].weights:,}"
    sent_text = f"{np.mean([one.up for one in seeds]) / 1e6:.1f} MB"
    return f"| {' | '.join([title, *within, *across, weights, sent_text, str(len(seeds))])} |"


def _baselines(seeds: Sequence[SeedResult]) -> list[str]:
    lines = ["| logistic regression | trained | within | across |", "|---|---|---|---|"]
    for first in seeds[0].baselines:
        same = [_same(one, first.name, first.training) for one in seeds]
        within = _mean([each.auc for each in same if each])
        across = _mean([each.auc_across for each in same if each], interval=False)
        lines.append(
            f"| {first.name.removesuffix(' + logistic regression')} | {first.training} | {within} | {across} |"
        )
    return lines


def _differences(seeds: Sequence[SeedResult]) -> list[str]:
    lines = [
        f"Model minus logistic regression on the same features, paired by seed. The aim is at least -{_AIM}.",
        "",
        "| branch | minus pooled | minus federated | not below by more than the aim (mean) |",
        "|---|---|---|---|",
    ]
    for branch, name in _BRANCHES.items():
        gaps = {training: _gaps(seeds, branch, name, training) for training in ("pooled", "federated")}
        verdict_text = "yes" if all(np.mean(gap) >= -_AIM for gap in gaps.values()) else "**no**"
        lines.append(f"| {branch} | {_signed(gaps['pooled'])} | {_signed(gaps['federated'])} | {verdict_text} |")

    return lines


def _gaps(seeds: Sequence[SeedResult], branch: str, name: str, training: str) -> list[float]:
    pairs = [(one.within[branch], _same(one, f"{name} + logistic regression", training)) for one in seeds]
    return [ours - other.auc for ours, other in pairs if ours is not None and other and other.auc is not None]


def _same(result: SeedResult, name: str, training: str) -> BaselineResult | None:
    return next((one for one in result.baselines if (one.name, one.training) == (name, training)), None)


def _mean(values: Sequence[float | None], *, interval: bool = True) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    return f"{np.mean(there):.3f} ± {_half(there):.3f}" if interval and len(there) > 1 else f"{np.mean(there):.3f}"


def _signed(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.3f} ± {_half(values):.3f}" if len(values) > 1 else "-"


def _half(values: Sequence[float]) -> float:
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
