"""Whether secret canaries would show that a hospital did not unlearn, what they cost, and how they are evaded.

`python -m simulations.bench.power.canaries --seeds 12 --write docs/results/canaries.md`

A canary is a made-up patient of a third party in a hospital's training set, who revokes together with real patients.
Who made the canaries knows their rows, so can score a model on them, and compare with made-up patients never handed in.
"""

from __future__ import annotations

import copy
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from common.files import write_text
from common.learning.config import DataConfig, ModelConfig, TrainConfig, UnlearnConfig
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.tensors import StudyTensors
from common.learning.data.tokenizer import load_tokenizer
from common.learning.device import derive_seed
from common.learning.evaluation.metrics import utility
from common.learning.model.card import ModelCard
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Study
from common.learning.training import fit, score
from common.learning.unlearning.base import UnlearnSets, nothing
from common.learning.unlearning.methods import method_named
from simulations.synthetic.anatomy import draw_radiograph
from simulations.synthetic.patients import make_hospital, make_patient
from simulations.synthetic.reports import write_report

Kind = Literal["plausible", "mislabelled"]
HOSPITALS = 3
PATIENTS = 48
REAL = 4
"""Real patients who revoke."""
CANARIES = 10
COUNTS = (1, 5, 10)
LEVEL = 0.05
_CLASSES = ("0", "1", "2", "3")
_SIZE = 32
_DATA = DataConfig(image_size=_SIZE, max_tokens=48)
_MODEL = ModelConfig(width=4, embedding=16, text_hidden=16, text_layers=1)
_TRAIN = TrainConfig(batch=8, lr=3e-3)
_ROUNDS = 6
_EPOCHS = 3
_REFERENCE = 120
_DRAWS = 2000
_FUSED = 2
HOW: dict[str, str] = {
    "honest": "forgets all who revoked",
    "half": "half the passes",
    "unchanged": "model returned unchanged",
    "noise": "random step of the honest length",
    "canaries": "forgets the canaries, and trains on with the real patients",
    "absent": "(never had the canaries: the test's own false alarms)",
}

_HEAD = """# Secret canaries

Command: `python -m simulations.bench.power.canaries --seeds {seeds} --write docs/results/canaries.md`.

{seeds} federations of {hospitals} made-up hospitals with {patients} patients each. One hospital also holds {canaries}
canaries and unlearns them together with {real} real patients (Forget-MI, calibrated, default settings). Whoever made
the canaries scores the model that the hospital returns: are their losses smaller than those of {reference} made-up
patients whom no hospital got? The test is one-sided at {level:.0%}, by {draws} random draws of as many of these. The
canaries are either *plausible* (as the hospital's patients) or *mislabelled* (with a wrong label, so that a model can
only know them by heart).

Share of models for which the test says "not forgotten", with 1, 5 or 10 canaries:

| canaries | what the hospital does | 1 | 5 | 10 | real patients: AUC of membership |
|---|---|---|---|---|---|
"""


_NOTES = """
"Forgets all who revoked" is honest: what the test says of it are false accusations. "Half the passes" and the lines
below it are what it should find, except the last one. With {seeds} models, a share with 10 canaries is known to about
±{error:.0f} points; those with 1 and 5 come from ten and two groups of canaries a model. The last column says how the
real patients fare: .5 is the aim, and the model that never had canaries, but these patients, is the last line.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One model: the share of tests that it fails by number of canaries, and how well real patients stand out."""

    kind: Kind
    how: str
    flag_shares: Mapping[int, float]
    real: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Test AUC with canaries less without, of the trained model and after honest unlearning."""

    kind: Kind
    after_training: float
    after_unlearning: float


class Federation:
    """The patients of one seed, as tensors."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self.seed = seed
        self._cache = ImageCache(root / "cache", _SIZE, 2**26)
        self._tokenizer = load_tokenizer(_DATA.tokenizer, _DATA.max_tokens)
        self.card = ModelCard(model=_MODEL, data=_DATA, classes=_CLASSES, vocab_size=self._tokenizer.vocab_size)
        self.train = [self._patients(f"train-{n}", n, PATIENTS) for n in range(HOSPITALS)]
        self.calibration = self._patients("calibration", 0, 24)
        self.never_seen = self._patients("never", 0, _REFERENCE)
        self.test = [study for n in range(HOSPITALS) for study in self._patients(f"test-{n}", n, 60)]

    def made_up(self, kind: Kind) -> tuple[list[Study], list[Study], list[Study]]:
        """The canaries, as many that no hospital gets, and the reference."""
        parts = [self._patients(name, 0, n) for name, n in self._sets(kind)]
        if kind == "mislabelled":
            # Wrong by two classes: a label beside the right one is what a model might guess anyway.
            parts = [[replace(study, label=(study.label + 2) % len(_CLASSES)) for study in part] for part in parts]
        return parts[0], parts[1], parts[2]

    def tensors(self, studies: list[Study]) -> StudyTensors:
        """Ready to train on."""
        return StudyTensors(tuple(studies), self._cache, self._tokenizer)

    @staticmethod
    def _sets(kind: Kind) -> tuple[tuple[str, int], ...]:
        return (f"{kind}-canary", CANARIES), (f"{kind}-absent", CANARIES), (f"{kind}-reference", _REFERENCE)

    def _patients(self, name: str, number: int, count: int) -> list[Study]:
        hospital = make_hospital(number + 1, np.random.default_rng([self.seed, number]))
        rng = np.random.default_rng(derive_seed(self.seed, name))
        studies = []

        for index in range(count):
            patient = make_patient(index, hospital, rng)
            path = self._root / f"{name}-{index}.png"
            pixels = draw_radiograph(patient, patient.severity, hospital, _SIZE, rng)
            Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(path)
            report = write_report(patient, patient.severity, hospital.style, rng)
            label = patient.label(patient.severity)
            studies.append(Study(f"{name}-{index}", f"{name}-{index}", path, report, label, site=hospital.name))

        return studies


def trained(federation: Federation, more: list[Study]) -> ImageTextModel:
    """Federated averaging; the first hospital has `more` patients."""
    sets = [
        federation.tensors(patients + (more if number == 0 else [])) for number, patients in enumerate(federation.train)
    ]
    model = federation.card.build(federation.seed)

    for number in range(_ROUNDS):
        locals_ = []
        for site, studies in enumerate(sets):
            local = copy.deepcopy(model)
            seed = derive_seed(federation.seed, "fit", number, site)
            fit(local, studies, _TRAIN, ranking_weight=0.0, epochs=_EPOCHS, seed=seed)
            locals_.append(local.state_dict())
        model.load_state_dict({name: _mean([state[name] for state in locals_]) for name in locals_[0]})

    return model


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    first = tensors[0]
    # Counters, such as the number of batches, are equal everywhere and have no mean.
    return torch.stack(tensors).mean(0) if first.is_floating_point() else first


def unlearned(
    federation: Federation, parent: ImageTextModel, forget: list[Study], retain: list[Study], passes: int
) -> tuple[ImageTextModel, int]:
    """What the hospital returns, and the passes that it took."""
    model = copy.deepcopy(parent)
    sets = UnlearnSets(
        federation.tensors(forget), federation.tensors(retain), federation.tensors(federation.calibration)
    )
    config = UnlearnConfig(passes=passes)
    trace = method_named(config.method)(model, sets, config, ranking_weight=0.0, seed=federation.seed, on_pass=nothing)

    return model, len(trace.passes)


def random_step(parent: ImageTextModel, honest: ImageTextModel, seed: int) -> ImageTextModel:
    """The parent moved as far as the honest model, in a random direction."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(parent)
    before = parent.state_dict()
    floating = [name for name, tensor in before.items() if tensor.is_floating_point()]
    after = honest.state_dict()
    length = sum(float((after[name] - before[name]).square().sum()) for name in floating) ** 0.5
    noise = {name: torch.randn(before[name].shape, generator=generator) for name in floating}
    scale = length / sum(float(step.square().sum()) for step in noise.values()) ** 0.5
    # A variance that a layer keeps is never negative.
    noisy_weights = {
        name: before[name] + scale * step for name, step in noise.items() if not name.endswith("running_var")
    }
    model.load_state_dict({**before, **noisy_weights})

    return model


def losses(federation: Federation, model: ImageTextModel, studies: list[Study]) -> NDArray[np.float64]:
    """Of the fused branch."""
    return np.asarray(score(model, federation.tensors(studies)).loss[_FUSED])


def share_flagged(canary_losses: NDArray[np.float64], reference: NDArray[np.float64], count: int, seed: int) -> float:
    """How many of the groups of `count` canaries have too small a mean loss to be never-seen patients."""
    rng = np.random.default_rng([seed, count])
    group_means = rng.choice(reference, size=(_DRAWS, count)).mean(axis=1)
    groups = canary_losses[: len(canary_losses) // count * count].reshape(-1, count).mean(axis=1)
    # One is added so that no p-value is 0: the drawn groups are a sample, not all there are.
    p_values = [(1 + int((group_means <= mean).sum())) / (_DRAWS + 1) for mean in groups]

    return float(np.mean([p <= LEVEL for p in p_values]))


def membership(real_losses: NDArray[np.float64], never_losses: NDArray[np.float64]) -> float:
    """How often a patient who revoked has a smaller loss than one never seen; .5 is the aim."""
    return float(
        (real_losses[:, None] < never_losses[None, :]).mean()
        + 0.5 * (real_losses[:, None] == never_losses[None, :]).mean()
    )


def test_auc(federation: Federation, model: ImageTextModel) -> float:
    """Mean over the classes, at all hospitals' test patients."""
    figures = utility(score(model, federation.tensors(federation.test)), _FUSED, len(_CLASSES))
    return float(np.mean([auc.auc for auc in figures.auc if auc.auc is not None]))


def of_seed(root: Path, seed: int) -> Iterator[Result | Cost]:
    """All models of one federation."""
    federation = Federation(root, seed)
    real = federation.train[0][:REAL]
    rest = federation.train[0][REAL:]
    # Without canaries, for their cost and for the false alarms.
    plain = trained(federation, [])
    plain_after, _ = unlearned(federation, plain, real, rest, UnlearnConfig().passes)

    kinds: tuple[Kind, ...] = ("plausible", "mislabelled")
    for kind in kinds:
        canaries, absent, reference = federation.made_up(kind)
        parent = trained(federation, canaries)
        honest, passes = unlearned(federation, parent, real + canaries, rest, UnlearnConfig().passes)
        half, _ = unlearned(federation, parent, real + canaries, rest, max(1, passes // 2))
        # The evasion: canaries are found by their oddness and forgotten, the real patients trained on.
        only, _ = unlearned(federation, parent, canaries, rest + real, UnlearnConfig().passes)
        models = {
            "honest": honest,
            "half": half,
            "unchanged": parent,
            "noise": random_step(parent, honest, seed),
            "canaries": only,
            "absent": plain,
        }

        for how, model in models.items():
            canary_losses = losses(federation, model, absent if how == "absent" else canaries)
            reference_losses = losses(federation, model, reference)
            flag_shares = {count: share_flagged(canary_losses, reference_losses, count, seed) for count in COUNTS}
            never_losses = losses(federation, model, federation.never_seen)
            yield Result(kind, how, flag_shares, membership(losses(federation, model, real), never_losses))

        yield Cost(
            kind,
            test_auc(federation, parent) - test_auc(federation, plain),
            test_auc(federation, honest) - test_auc(federation, plain_after),
        )


def report(results: list[Result], costs: list[Cost], seeds: int) -> str:
    """Markdown."""
    of_kind: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        of_kind[result.kind, result.how].append(result)
    lines = []

    for (kind, how), models in of_kind.items():
        shares = " | ".join(f"{np.mean([m.flag_shares[count] for m in models]):.0%}" for count in COUNTS)
        lines.append(f"| {kind} | {HOW[how]} | {shares} | {np.mean([m.real for m in models]):.2f} |")

    lines += [
        "",
        f"With {CANARIES} canaries the mean test AUC changes as follows, compared with the same federation without",
        "them (mean of the seeds ± standard error):",
        "",
        "| canaries | trained model | after honest unlearning |",
        "|---|---|---|",
    ]
    for kind in dict.fromkeys(cost.kind for cost in costs):
        cells = [
            f"{np.mean(values):+.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"
            for values in (
                [c.after_training for c in costs if c.kind == kind],
                [c.after_unlearning for c in costs if c.kind == kind],
            )
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")

    head = _HEAD.format(
        seeds=seeds,
        hospitals=HOSPITALS,
        patients=PATIENTS,
        canaries=CANARIES,
        real=REAL,
        reference=_REFERENCE,
        level=LEVEL,
        draws=_DRAWS,
    )
    return head + "\n".join(lines) + "\n" + _NOTES.format(seeds=seeds, error=100 / seeds**0.5)


def main(
    seeds: Annotated[int, typer.Option(help="Federations.", min=2)] = 12,
    write: Annotated[Path | None, typer.Option(help="File to write.")] = None,
) -> None:
    """Measure and print, or write."""
    torch.set_num_threads(1)
    results: list[Result] = []
    costs: list[Cost] = []

    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            for one in of_seed(Path(folder), seed):
                if isinstance(one, Result):
                    results.append(one)
                else:
                    costs.append(one)
        typer.echo(f"{seed + 1} of {seeds}", err=True)
        # The page is rewritten after every federation, but a standard error takes two.
        if write is not None and seed:
            write_text(write, report(results, costs, seed + 1))

    if write is None:
        typer.echo(report(results, costs, seeds))


if __name__ == "__main__":
    typer.run(main)
