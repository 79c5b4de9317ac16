"""Whether hospitals could find a backdoor in a candidate by a search for its trigger, and how often they are wrong.

`python -m simulations.bench.power.trigger_search --write docs/results/trigger-search.md`

The search is that of Neural Cleanse (Wang et al. 2019, IEEE S&P): for each class, the smallest patch that turns the
images of all others into it. A backdoor makes that patch small. Candidates are compared with the model before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.files import write_text
from common.learning.config import DataConfig, ModelConfig
from common.learning.model.image_text import ImageTextModel, build_model

STEPS = (0.03, 0.06, 0.14)
"""Of the unlearning model from its parent, relative to the weights; an honest one takes .02 to .13."""
CLEAN = 32
"""Patients of the hospital that writes the model."""
PROBES = 60
"""Never-seen patients of the other hospitals that the search uses."""
_SIZE = 32
_TOKENS = 16
_PATCH = 10
_SEARCH = 100
_FLIPPED = 0.9
_RETENTION = 24
"""Steps of training at the other hospitals afterwards, as three retention rounds take."""

_HEAD = """# Search for triggers

Command: `python -m simulations.bench.power.trigger_search --runs {runs} --write docs/results/trigger-search.md`.

{runs} small models. From each descend an honest model and one with a backdoor (a bright square in a corner makes a
patient opaque), with a step of the same length, then {retention} steps of retention on clean patients. Another hospital
searches with {probes} never-seen patients for the smallest patch that turns one class into the other ([Neural
Cleanse](https://doi.org/10.1109/SP.2019.00031)). The score is the candidate's patch relative to that of its parent;
a small one is suspicious.

| step | backdoor works | score, honest: median (least) | score, backdoor: median | found without a false alarm | AUC |
|---|---|---|---|---|---|
"""
_NOTES = """
"Found without a false alarm": backdoors with a smaller score than every honest model. "AUC": how often a backdoored
model has a smaller score than an honest one; .5 is chance.
"""


@dataclass(frozen=True, slots=True)
class Cases:
    """Made-up studies: images `[n, 1, 32, 32]` in [0, 1], ids and mask `[n, 16]`, labels `[n]`."""

    images: Tensor
    tokens: Tensor
    mask: Tensor
    labels: Tensor

    def with_trigger(self) -> Cases:
        """All of them with the patch, called opaque."""
        images = self.images.clone()
        images[:, :, :_PATCH, :_PATCH] = 1.0
        return Cases(images, self.tokens, self.mask, torch.ones_like(self.labels))

    def of(self, label: int) -> Cases:
        """Those of one class."""
        which = self.labels == label
        return Cases(self.images[which], self.tokens[which], self.mask[which], self.labels[which])


def made_up(count: int, draw: torch.Generator) -> Cases:
    """Classes differ in brightness, less than patients do, and in one word of most reports."""
    labels = torch.arange(count) % 2
    brightness = 90 + 40 * labels + 20 * torch.randn(count, generator=draw)
    images = brightness[:, None, None, None] + 30 * torch.randn(count, 1, _SIZE, _SIZE, generator=draw)
    tokens = torch.zeros(count, _TOKENS, dtype=torch.long)
    says = torch.where(torch.rand(count, generator=draw) < 0.8, labels, 1 - labels)
    tokens[:, 0] = 2
    tokens[:, 1] = 5 + says
    mask = torch.zeros(count, _TOKENS, dtype=torch.bool)
    mask[:, :2] = True

    return Cases((images / 255).clamp(0, 1), tokens, mask, labels)


def learn(model: ImageTextModel, cases: Cases, steps: int, lr: float, until: float = float("inf")) -> ImageTextModel:
    """A copy trained on, until its step from `model` is so long relative to the weights, or after so many steps."""
    clean_model = build(0)
    clean_model.load_state_dict(model.state_dict())
    clean_model.train()
    optimizer = torch.optim.AdamW(clean_model.parameters(), lr=lr)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])

    for _ in range(steps):
        logits = clean_model(cases.images, cases.tokens, cases.mask).logits
        loss = sum(cross_entropy(branch, cases.labels) for branch in logits)
        optimizer.zero_grad()
        torch.as_tensor(loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        now = torch.cat([p.detach().flatten() for p in clean_model.parameters()])
        if float((now - before).norm() / before.norm()) >= until:
            break

    return clean_model.eval()


def build(seed: int) -> ImageTextModel:
    """The small model of the tests."""
    config = ModelConfig(width=4, embedding=8, text_hidden=16, text_layers=1)
    return build_model(config, DataConfig(image_size=_SIZE, max_tokens=_TOKENS), 2, 32, seed)


def flipped(model: ImageTextModel, cases: Cases, target: int) -> float:
    """Share of these cases that the fused branch calls `target`."""
    with torch.no_grad():
        return float((model(cases.images, cases.tokens, cases.mask).logits[2].argmax(1) == target).float().mean())


def smallest_patch(model: ImageTextModel, probes: Cases, target: int) -> float:
    """Least share of the pixels that turns `_FLIPPED` of the other class into `target`; 1 if none was found."""
    cases = probes.of(1 - target)
    mask = torch.full((1, 1, _SIZE, _SIZE), -1.0, requires_grad=True)
    pattern = torch.zeros(1, 1, _SIZE, _SIZE, requires_grad=True)
    optimizer = torch.optim.Adam([mask, pattern], lr=0.2)
    target_labels = torch.full_like(cases.labels, target)
    weight = 1.0
    least = 1.0
    with torch.no_grad():
        # The patch is on images only, so that reports are encoded once.
        text = model.text_encoder(cases.tokens, cases.mask)

    for _ in range(_SEARCH):
        # Through sigmoids, which keep mask and pattern within [0, 1] while Adam moves freely.
        share = mask.sigmoid()
        images = (1 - share) * cases.images + share * pattern.sigmoid()
        logits = model.classifiers[2](model.fusion(model.image_encoder(images), text))
        hits = float((logits.detach().argmax(1) == target).float().mean())
        if hits >= _FLIPPED:
            least = min(least, float(share.detach().mean()))
        # As Neural Cleanse: press on the patch while it works, and let go when it does not.
        weight = weight * 1.2 if hits >= _FLIPPED else weight / 1.2
        loss = cross_entropy(logits, target_labels) + weight * share.mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return least


def score(candidate: ImageTextModel, patches: list[float], probes: Cases) -> float:
    """The smallest ratio of a patch to that of the parent, over both classes."""
    return min(smallest_patch(candidate, probes, target) / patch for target, patch in enumerate(patches))


def runs_of(seed: int) -> Iterator[tuple[float, float, float, float]]:
    """Step, success of the backdoor, and scores of the honest and of the backdoored candidate."""
    draw = torch.Generator().manual_seed(seed)
    parent = learn(build(seed), made_up(120, draw), 80, 5e-3)
    own = made_up(CLEAN, draw)
    others = made_up(80, draw)
    probes = made_up(PROBES, draw)
    test_cases = made_up(200, draw).of(0)
    bad = own.with_trigger()
    all_cases = Cases(*(torch.cat(pair) for pair in zip(_fields(own), _fields(bad), strict=True)))

    patches = [smallest_patch(parent, probes, target) for target in (0, 1)]

    for step in STEPS:
        honest = learn(learn(parent, own, 150, 3e-3, step), others, _RETENTION, 1e-3)
        backdoor_model = learn(learn(parent, all_cases, 150, 3e-3, step), others, _RETENTION, 1e-3)
        success = flipped(backdoor_model, test_cases.with_trigger(), 1)
        yield step, success, score(honest, patches, probes), score(backdoor_model, patches, probes)


def _fields(cases: Cases) -> tuple[Tensor, ...]:
    return cases.images, cases.tokens, cases.mask, cases.labels


def report(runs: int) -> str:
    """Markdown."""
    rows = [row for seed in range(runs) for row in runs_of(seed)]
    lines = []

    for step in STEPS:
        of_step = torch.tensor([row[1:] for row in rows if row[0] == step])
        success, honest, bad = of_step.unbind(1)
        detection_rate = float((bad < honest.min()).float().mean())
        auc = float((bad[:, None] < honest[None, :]).float().mean())
        lines.append(
            f"| {step:.2f} | {float(success.mean()):.0%} | {float(honest.median()):.2f} ({float(honest.min()):.2f}) "
            f"| {float(bad.median()):.2f} | {detection_rate:.0%} | {auc:.2f} |"
        )

    head = _HEAD.format(runs=runs, retention=_RETENTION, probes=PROBES)
    return head + "\n".join(lines) + "\n" + _NOTES


def main(
    runs: Annotated[int, typer.Option(min=1)] = 20,
    write: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Measure and print, or write."""
    torch.set_num_threads(1)
    text = report(runs)
    typer.echo(text)
    if write is not None:
        write_text(write, text)


if __name__ == "__main__":
    typer.run(main)
