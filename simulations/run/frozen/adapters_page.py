"""The page of the study of adapters: LoRA beside fine-tuning the whole text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from common.learning.evaluation.figures import Branch
    from simulations.run.frozen.adapters import AdapterResult

_AIM = 0.02
_BRANCHES: tuple[Branch, ...] = ("text", "fused")


def page(lora: Sequence[AdapterResult], whole: Sequence[AdapterResult]) -> str:
    """Markdown with utility, bytes and membership, before and after."""
    columns = [("LoRA", lora), ("whole text encoder", whole)]
    columns = [(name, seeds) for name, seeds in columns if seeds]
    lines = [
        "# Adapters on the real set",
        "",
        "Command: `make study-adapters`. Three hospitals, federated, COVID-19 Image Data Collection; frozen",
        "EfficientNet-Lite0; MiniLM with LoRA of rank 8, or all of MiniLM trained; 64 tokens, six rounds of one epoch,",
        "the best of which is kept, fp16 on the wire. Ten patients revoke and are forgotten by calibrated Forget-MI in",
        "what was trained, with one retention round.",
        f"{max(len(seeds) for _, seeds in columns)} seeds: mean with its 95 % interval (Student's t).",
        "The settings of LoRA are those of `make study-frozen`; the whole encoder has a tenth of its learning rate and",
        "was not tuned. Test AUC compares patients of one hospital, macro one-vs-rest.",
        "MIA: loss AUC of forgotten against never-seen patients; .5 cannot tell, above remembers, below has",
        "over-forgotten.",
        "",
        f"| | {' | '.join(name for name, _ in columns)} |",
        "|---|" + "---|" * len(columns),
    ]
    rows: list[tuple[str, Callable[[AdapterResult], float | None], str]] = [
        ("weights that are trained and sent", lambda one: one.weights, ",.0f"),
        ("MB that a hospital sends a round", lambda one: one.up / 1e6, ".2f"),
        ("share of FedAvg of the whole model, fp32, %", lambda one: 100 * one.up / (4 * one.whole), ".2f"),
    ]
    for branch in _BRANCHES:
        rows += [
            (f"{branch}: test AUC", lambda one, branch=branch: one.test[branch], ".3f"),  # type: ignore[misc]
            (f"{branch}: test AUC after forgetting", lambda one, branch=branch: one.test_after[branch], ".3f"),  # type: ignore[misc]
            (f"{branch}: MIA", lambda one, branch=branch: one.membership[branch], ".3f"),  # type: ignore[misc]
            (f"{branch}: MIA after forgetting", lambda one, branch=branch: one.membership_after[branch], ".3f"),  # type: ignore[misc]
        ]
    rows += [
        ("processor seconds of training", lambda one: one.train_seconds, ".0f"),
        ("processor seconds of forgetting, with its audits", lambda one: one.unlearn_seconds, ".0f"),
    ]
    for name, figure, form in rows:
        cells = [_cell([figure(one) for one in seeds], form) for _, seeds in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")

    if lora:
        share = float(np.mean([one.up / (4 * one.whole) for one in lora]))
        verdict = "met" if share <= _AIM else "**not met**"
        lines += [
            "",
            f"Bytes with LoRA: {share:.2%} of FedAvg of the whole model; the aim of at most {_AIM:.0%} is {verdict}.",
        ]

    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float | None], form: str) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = f"{np.mean(numbers):{form}}"
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
    if not spread:
        return mean

    return f"{mean} ± {stats.t.ppf(0.975, len(numbers) - 1) * spread / len(numbers) ** 0.5:{form}}"
