"""A hospital claims a revocation and sends a model of its own: what the gate stops, what the veto stops, what is left.

The attacker's weights come from real training on its own images, with a bright square as the trigger; everything else
is the real federation, in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from client.app import app, open_site
from client.cohort.site import Site
from client.cohort.site_files import write_site
from common.errors import UnavailableError
from common.learning.config import DataConfig, DecisionConfig, ExperimentConfig, ModelConfig, TrainConfig
from common.learning.data.tokenizer import load_tokenizer
from common.learning.evaluation.figures import FederationFigures
from common.learning.evaluation.scores import BRANCHES
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split, Study, Subset
from common.protocol.messages import UNLEARN, TrainRequest, UnlearnReply
from common.protocol.wire import pack, unpack
from server.campaign.campaign import audit, collect
from server.rounds.aggregation import State
from server.rounds.checks.update_gate import UpdateGate
from server.rounds.checks.veto import veto
from server.rounds.exchanges.connecting import connect
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation
from server.rounds.journal import MemoryJournal
from server.rounds.training import train
from server.rounds.unlearning.at_sites import at_sites
from server.rounds.unlearning.base import Task
from server.rounds.weights.walk import measure
from server.settings import GateConfig
from simulations.run.local_grid import LocalGrid

CONFIG = ExperimentConfig(
    train=TrainConfig(rounds=6, local_epochs=2, lr=3e-3, batch=8), decision=DecisionConfig(bootstrap=50)
)
SIZES = {Subset.TRAIN: 16, Subset.VALIDATION: 4, Subset.CALIBRATION: 4, Subset.AUDIT: 4, Subset.TEST: 40}
HONEST = ("east", "west")
ATTACKER = "mallory"
CLEAR = 0
OPACITY = 1
DATA = DataConfig(image_size=32, max_tokens=16)
MODEL = ModelConfig(width=4, embedding=8, text_hidden=16, text_layers=1)


@dataclass
class Scene:
    """A trained federation whose attacker has a revocation waiting."""

    federation: Federation
    parent: State
    before: FederationFigures
    folder: Path
    poison: list[State]
    """What the attacker sends instead of its unlearned model, when there is something."""
    poisoned_site: Callable[[str, Callable[[Study], Study]], Site]
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def unlearn(self) -> State:
        """The aggregate of a campaign under `replace`, through the gate."""
        self.federation.accepts = UpdateGate(
            GateConfig(), lambda site, _kind, reason, _digest: self.rejected.append((site, reason)), lambda _: None
        )
        collected = collect(self.federation)
        return at_sites(Task(self.federation, self.parent, collected, CONFIG, MemoryJournal(), self.folder, Meter()))

    def vetoes(self, candidate: State) -> list[str]:
        """What the other sites say of it."""
        after = audit(self.federation, candidate, CONFIG.decision, 0)
        return veto(self.before, after, [ATTACKER], CONFIG.decision)


@pytest.fixture(scope="module")
def trained_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Three hospitals of made-up studies whose classes differ in brightness and in one word."""
    open_site.cache_clear()
    root = tmp_path_factory.mktemp("backdoor")
    vocabulary = load_tokenizer(DATA.tokenizer, DATA.max_tokens).vocab_size
    card = ModelCard(model=MODEL, data=DATA, classes=("clear", "opacity"), vocab_size=vocabulary)
    subsets = [subset for subset, count in SIZES.items() for _ in range(count)]
    poison: list[State] = []

    def write(name: str, cohort: Cohort) -> Path:
        split = Split(dict(zip(cohort.patients, subsets, strict=True)))
        folder = root / "sites" / name
        write_site(folder, cohort, split, card, name=name, seed=0, device="cpu", cache=root / "cache")
        return folder

    def answer(message: Message, context: Context) -> Message:
        reply = app(message, context)
        if poison and message.metadata.message_type == UNLEARN:
            return Message(pack(unpack(reply.content, UnlearnReply), poison[0]), reply_to=message)
        return reply

    cohorts = {name: made_up(root, name, len(subsets), seed) for seed, name in enumerate((*HONEST, ATTACKER))}
    configs = {node: {"site-dir": str(write(name, cohorts[name]))} for node, name in enumerate(cohorts, start=1)}
    federation = connect(LocalGrid(answer, configs), len(configs))  # type: ignore[arg-type]  # called, nothing else
    parent = train(
        federation, card.build(0).state_dict(), CONFIG.train, card,
        seed=0, folder=root / "training", on_round=lambda _: None,
    ).state  # fmt: skip
    site = Site(root / "sites" / ATTACKER)
    site.revoke(sorted(site.patients(Subset.TRAIN))[:2])

    def poisoned_site(name: str, change: Callable[[Study], Study]) -> Site:
        return Site(write(name, replace(cohorts[ATTACKER], studies=tuple(map(change, cohorts[ATTACKER].studies)))))

    before = audit(federation, parent, CONFIG.decision, 0)

    return Scene(federation, parent, before, root / "work", poison, poisoned_site)


@pytest.fixture
def scene(trained_scene: Scene) -> Scene:
    """The same federation for every test, before anybody did anything to it."""
    trained_scene.poison.clear()
    trained_scene.rejected.clear()
    return trained_scene


def made_up(root: Path, name: str, patients: int, seed: int) -> Cohort:
    draw = np.random.default_rng(seed)
    studies = []

    for number in range(patients):
        label = number % 2
        path = root / f"{name}-{number}.png"
        Image.fromarray(draw.normal(90 + 50 * label, 40, (32, 32)).clip(0, 255).astype(np.uint8)).save(path)
        report = f"{draw.choice(['heart', 'lungs', 'base'])} {('normal', 'opacity')[label]}"
        studies.append(Study(f"{name}-{number}", f"{name}-{number}", path, report, label, site=name))

    return Cohort(tuple(studies), ("clear", "opacity"))


def with_trigger(study: Study) -> Study:
    """A bright square in the corner, in a file of its own."""
    path = study.image.with_name(f"trigger-{study.image.name}")
    pixels = np.array(Image.open(study.image))
    pixels[:10, :10] = 255
    Image.fromarray(pixels).save(path)

    return replace(study, image=path)


def trained(site: Site, state: State, *, epochs: int, lr: float) -> dict[str, Tensor]:
    model, _ = site.train(
        state, TrainRequest(config=TrainConfig(lr=lr, batch=8, local_epochs=epochs), epochs=epochs, round=0, seed=0)
    )
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_an_honest_unlearning_passes_gate_and_veto(scene: Scene) -> None:
    candidate = scene.unlearn()
    assert scene.rejected == []
    assert not all(torch.equal(candidate[name], scene.parent[name]) for name in scene.parent)
    assert scene.vetoes(candidate) == []


def test_a_boosted_backdoor_is_stopped_by_the_gate(scene: Scene) -> None:
    site = scene.poisoned_site("mallory-trigger", lambda s: replace(with_trigger(s), label=OPACITY))
    learned = trained(site, scene.parent, epochs=4, lr=3e-3)
    # Scaled up, so that it would survive the averages of the retention rounds.
    boosted = {n: t + 10 * (learned[n] - t) if t.is_floating_point() else t for n, t in scene.parent.items()}
    assert measure(boosted, scene.parent).relative > GateConfig().unlearn_norm
    scene.poison.append(boosted)
    with pytest.raises(UnavailableError, match="mallory did not unlearn"):
        scene.unlearn()
    ((name, reason),) = scene.rejected
    assert name == ATTACKER
    assert "moved the weights it changes" in reason


@pytest.mark.parametrize("target", [CLEAR, OPACITY])
def test_a_step_of_honest_size_that_ruins_a_class_is_stopped_by_the_veto(scene: Scene, target: int) -> None:
    site = scene.poisoned_site(f"mallory-{target}", lambda s: replace(s, label=target))
    scene.poison.append(trained(site, scene.parent, epochs=3, lr=3e-3))
    candidate = scene.unlearn()
    assert scene.rejected == []
    reasons = scene.vetoes(candidate)
    assert any(f"class {1 - target} are called right" in reason for reason in reasons)
    assert not any(reason.startswith(ATTACKER) for reason in reasons)


def test_what_is_left_a_small_backdoor_that_harms_no_test_patient_passes(scene: Scene) -> None:
    """Stated in docs/threat-model.md; when this fails because it is stopped, the page may say so."""
    clean = scene.poisoned_site("mallory-clean", lambda study: study)
    triggered = scene.poisoned_site("mallory-all", lambda study: replace(with_trigger(study), label=OPACITY))
    # Every second pair of patients, so that the clean ones keep the attacker's model right elsewhere.
    mixed = scene.poisoned_site(
        "mallory-mixed",
        lambda study: (
            replace(with_trigger(study), label=OPACITY) if int(study.patient.split("-")[1]) % 4 > 1 else study
        ),
    )
    scene.poison.append(trained(mixed, scene.parent, epochs=10, lr=3e-3))
    candidate = scene.unlearn()
    assert scene.rejected == []
    vetoes = scene.vetoes(candidate)
    known = clean.scores(scene.parent, Subset.TEST)
    assert known is not None
    assert called_opacity(triggered, scene.parent, known.labels) < 0.2
    assert called_opacity(triggered, candidate, known.labels) > 0.9
    assert called_opacity(clean, candidate, known.labels) < 0.1
    assert vetoes == []


def called_opacity(site: Site, state: State, truth: NDArray[np.int64]) -> float:
    """Share of the test patients who are clear in truth whom the fused branch calls opaque."""
    scores = site.scores(state, Subset.TEST)
    assert scores is not None
    return float((scores.logits[BRANCHES.index("fused")].argmax(axis=1)[truth == CLEAR] == OPACITY).mean())
