"""The methods that Forget-MI is compared with, on a model of two weights whose update is worked out by hand.

A first step of AdamW without decay is the learning rate along the sign of the gradient. Of the toy's logits `[z, 0]`
the cross-entropy with label 0 has the slope `sigmoid(z) - 1`, with label 1 `sigmoid(z)`; image and fused branch add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from common.learning.config import UnlearnConfig
from common.learning.evaluation.scores import Scores
from common.learning.model.blocks import last_blocks, reset
from common.learning.model.checkpoint import ModelCard
from common.learning.model.image_text import ImageTextModel
from common.learning.unlearning.base import Unlearned, UnlearnSets
from common.learning.unlearning.compared.cf_k import cf_k
from common.learning.unlearning.compared.eu_k import eu_k
from common.learning.unlearning.compared.fed_quit import fed_quit, without_true_class
from common.learning.unlearning.compared.fine_tune import fine_tune
from common.learning.unlearning.compared.multi_delete import decoupling_loss, multi_delete, unpaired_embeddings
from common.learning.unlearning.compared.neg_grad_plus import neg_grad_plus
from common.learning.unlearning.compared.pga import pga, project
from common.learning.unlearning.compared.salun import salient, salun, wrong_labels
from common.learning.unlearning.compared.scrub import divergence, never_seen_error, rewind_to, scrub
from common.learning.unlearning.compared.ssd import factors, ssd

from ...conftest import Toy

LN2 = math.log(2)
ONE = UnlearnConfig(passes=1, lr=0.01, weight_decay=0.0, clip=10.0)
STEP = pytest.approx(0.01, rel=1e-4)
BACK = pytest.approx(-0.01, rel=1e-4)
IMAGE = (1, 0, 0)
TEXT = (0, 1, 0)
BOTH = (1, 1, 0)


def settings(**tables: object) -> UnlearnConfig:
    return UnlearnConfig.model_validate({**ONE.model_dump(), **tables})


def test_fine_tuning_learns_retain_and_does_not_read_forget(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    model = toy(0.0, 0.0)
    done = fine_tune(model, toy_sets([TEXT], [IMAGE]), ONE, ranking_weight=0.0, seed=0)
    assert model.weights == (STEP, 0.0)
    assert done.passes[0].loss == pytest.approx(3 * LN2)


@pytest.mark.parametrize(("share", "a"), [(0.9, STEP), (0.4, BACK)])
def test_neg_grad_plus_weighs_descent_on_retain_against_ascent_on_forget(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets], share: float, a: float
) -> None:
    # Slope of both losses along a: -1. Together -share + (1 - share); along b only the ascent's 1 - share.
    model = toy(0.0, 0.0)
    config = settings(neg_grad_plus={"retain_share": share})
    done = neg_grad_plus(model, toy_sets([BOTH], [IMAGE]), config, ranking_weight=0.0, seed=0)
    assert model.weights == (a, BACK)
    assert done.passes[0].loss == pytest.approx((2 * share - 1) * 3 * LN2)


def test_the_divergence_by_hand() -> None:
    # p = (3/4, 1/4) against q = (1/2, 1/2), on each of the three branches.
    teacher = torch.tensor([[[math.log(3), 0.0]]]).expand(3, -1, -1)
    student = torch.zeros(3, 1, 2)
    assert divergence(teacher, student).item() == pytest.approx(3 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))
    assert divergence(teacher, teacher).item() == 0.0


def test_scrub_leaves_the_teacher_on_forget_and_keeps_to_it_on_retain(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    # At the teacher its divergence has no slope: the step on forget moves nothing. The one on retain is AdamW's second,
    # with moments .1 g / .19 and .001 g^2 / .001999.
    model = toy(0.0, 0.0)
    config = settings(scrub={"rewind": False, "max_passes": 2})
    done = scrub(model, toy_sets([TEXT], [TEXT]), config, ranking_weight=0.0, seed=0)
    assert model.weights == (0.0, pytest.approx(0.01 * (0.1 / 0.19) / (0.001 / 0.001999) ** 0.5, rel=1e-4))
    assert done.passes[0].loss == pytest.approx((0.0 + 3 * LN2) / 2)
    # Close to the teacher alone, nothing moves.
    held = settings(scrub={"rewind": False, "max_passes": 0, "task_weight": 0.0, "teacher_weight": 2.0})
    student = toy(0.0, 1.0)
    assert scrub(student, toy_sets([TEXT], [TEXT]), held, ranking_weight=0.0, seed=0).passes[0].loss == 0.0
    assert student.weights == (0.0, 1.0)


def test_two_passes_of_scrub_step_by_step(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    # Text and fused branch have the logits [b, 0]; the teacher's are [0, 0]; the image branch sees nothing.
    b = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.AdamW([b], lr=0.5, weight_decay=0.0)
    losses = []

    for number in range(4):
        divergence = -(logsigmoid(b) + logsigmoid(-b)) - 2 * LN2
        loss = -divergence if number % 2 == 0 else 0.25 * divergence + LN2 - 2 * logsigmoid(b)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())

    config = settings(lr=0.5, passes=2, scrub={"rewind": False, "max_passes": 2, "teacher_weight": 0.25})
    model = toy(0.0, 0.0)
    done = scrub(model, toy_sets([TEXT], [TEXT]), config, ranking_weight=0.0, seed=0)
    assert model.weights == (0.0, pytest.approx(b.item(), rel=1e-5))
    assert [p.loss for p in done.passes] == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2], rel=1e-5)


def test_rewinding_goes_to_the_error_nearest_to_the_never_seen_one_and_of_equals_to_the_last() -> None:
    assert rewind_to([0.0, 0.25, 0.5, 0.25, 0.75], level=0.3) == 3
    assert rewind_to([0.9], level=0.0) == 0


def test_the_never_seen_error_is_weighted_to_the_forget_patients_labels() -> None:
    logits = np.zeros((3, 3, 2))
    logits[:, :, 0] = 1.0  # always label 0
    never_seen = Scores(logits, np.array([0, 0, 1]), np.arange(3))
    assert never_seen_error(np.array([0, 1, 1, 1]), never_seen) == pytest.approx(0.75)


def test_scrub_ends_with_the_weights_of_the_pass_it_rewinds_to(card: ModelCard, real_sets: UnlearnSets) -> None:
    def at_the_end(**scrub_settings: object) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        config = UnlearnConfig.model_validate({"passes": 5, "lr": 5e-3, "batch": 6, "scrub": scrub_settings})
        model = card.build(1)
        way: list[dict[str, Tensor]] = []
        scrub(
            model, real_sets, config, ranking_weight=0.1, seed=2,
            on_pass=lambda *_: way.append({n: t.clone() for n, t in model.state_dict().items()}),
        )  # fmt: skip

        return model.state_dict(), way

    rewound, way = at_the_end(max_passes=4)
    assert sum(all(torch.equal(rewound[n], then[n]) for n in then) for then in way) == 1
    kept, way = at_the_end(max_passes=4, rewind=False)
    assert all(torch.equal(kept[n], t) for n, t in way[-1].items())


def test_blocks_are_counted_from_the_output(card: ModelCard) -> None:
    model = card.build()
    prefixes = [{n.split(".")[0] for n in last_blocks(model, k) - last_blocks(model, k - 1)} for k in range(1, 4)]
    assert prefixes == [{"classifiers"}, {"fusion"}, {"image_encoder", "text_encoder"}]
    assert {n for n in last_blocks(model, 3) if "encoder" in n} == {
        f"{side}_encoder.project.{part}" for side in ("image", "text") for part in ("weight", "bias")
    }
    assert last_blocks(model, 64) == {n for n, _ in model.named_parameters()}
    first = last_blocks(model, 64) - last_blocks(model, 3 + 8)
    assert "text_encoder.bert.embeddings.word_embeddings.weight" in first


@pytest.mark.parametrize("method", [cf_k, eu_k])
def test_only_the_last_layers_change(method: Callable[..., Unlearned], card: ModelCard, real_sets: UnlearnSets) -> None:
    model = card.build(1)
    before = card.build(1).state_dict()
    config = settings(cf_k={"layers": 2}, eu_k={"layers": 2})
    method(model, real_sets, config, ranking_weight=0.1, seed=0)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert {n.split(".")[0] for n in changed} == {"classifiers", "fusion"}


def last_layer(model: ImageTextModel, branch: int) -> Tensor:
    layer = model.classifiers[branch]
    assert isinstance(layer, torch.nn.Linear)
    return layer.weight


@pytest.mark.parametrize(("method", "forgotten"), [(eu_k, True), (cf_k, False)])
def test_of_what_the_last_layers_knew_nothing_is_left_by_eu_k(
    method: Callable[..., Unlearned], forgotten: bool, card: ModelCard, real_sets: UnlearnSets
) -> None:
    ends = []
    for scale in (1.0, 5.0):
        model = card.build(1)
        with torch.no_grad():
            last_layer(model, 2).mul_(scale)
        method(model, real_sets, settings(cf_k={"layers": 1}, eu_k={"layers": 1}), ranking_weight=0.1, seed=0)
        ends.append(last_layer(model, 2).detach().clone())

    assert torch.equal(ends[0], ends[1]) == forgotten


def test_what_eu_k_draws_anew_does_not_depend_on_what_was_there(card: ModelCard, real_sets: UnlearnSets) -> None:
    names = last_blocks(card.build(), 1)
    ends = []

    for scale in (1.0, 5.0):
        model = card.build(1)
        with torch.no_grad():
            last_layer(model, 0).mul_(scale)
        reset(model, names, seed=7)
        ends.append(last_layer(model, 0).clone())

    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], last_layer(card.build(1), 0))


def test_the_salient_weights_are_those_with_the_largest_gradients() -> None:
    first, second = salient([torch.tensor([3.0, 0.0]), torch.tensor([[1.0, 2.0]])], share=0.5)
    assert first.tolist() == [True, False]
    assert second.tolist() == [[False, True]]
    assert [m.any().item() for m in salient([torch.zeros(4)], share=0.5)] == [False]
    assert salient([torch.ones(2)], share=0.0)[0].tolist() == [False, False]


def test_a_wrong_label_is_never_the_true_one_and_any_other() -> None:
    labels = torch.arange(4).repeat(100)
    wrong = wrong_labels(labels, 4, np.random.default_rng(0))
    assert not (wrong == labels).any()
    assert {(int(a), int(b)) for a, b in zip(labels, wrong, strict=True)} == {
        (a, b) for a in range(4) for b in range(4) if a != b
    }


def test_salun_learns_wrong_labels_with_the_weights_that_forget_depends_on(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    # Forget shows images alone, so a is salient and b is not, though retain would raise it. Label 1: a goes down.
    model = toy(0.0, 0.0)
    done = salun(model, toy_sets([IMAGE], [TEXT]), ONE, ranking_weight=0.0, seed=0)
    assert model.weights == (BACK, 0.0)
    assert done.passes[0].loss == pytest.approx(6 * LN2)
    everything = toy(0.0, 0.0)
    salun(everything, toy_sets([BOTH], [TEXT]), settings(salun={"share": 1.0}), ranking_weight=0.0, seed=0)
    # Forget wants b down with slope 1, retain up with slope 1; a is forget's alone.
    assert everything.weights == (BACK, 0.0)


def test_dampening_factors_by_hand() -> None:
    forget = torch.tensor([8.0, 8.0, 8.0, 0.0])
    retain = torch.tensor([1.0, 2.0, 4.0, 0.0])
    assert factors(forget, retain, 3.0, 1.0).tolist() == [0.125, 0.25, 1.0, 1.0]
    assert factors(forget, retain, 3.0, 0.5).tolist() == [0.0625, 0.125, 1.0, 1.0]


def test_ssd_shrinks_the_weight_that_matters_more_to_forget(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    # Along a one of four retain studies has the forget study's gradient: a fourth of its importance.
    sets = toy_sets([IMAGE], [TEXT, TEXT, IMAGE, TEXT])
    model = toy(2.0, 2.0)
    done = ssd(model, sets, settings(ssd={"selection": 3.0}), ranking_weight=0.0, seed=0)
    assert model.weights == (pytest.approx(0.5), 2.0)
    # One branch does not see the image.
    assert done.passes[0].loss == pytest.approx(2 * math.log1p(math.exp(-2)) + LN2)
    untouched = toy(2.0, 2.0)
    ssd(untouched, sets, settings(ssd={"selection": 5.0}), ranking_weight=0.0, seed=0)
    assert untouched.weights == (2.0, 2.0)


def test_the_decoupling_loss_by_hand() -> None:
    retain = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
    frozen = torch.tensor([[[0.0]], [[0.0]], [[1.0]]])
    forget = torch.tensor([[[9.0]], [[9.0]], [[5.0]]])
    unpaired = torch.tensor([[2.0]])
    config = settings(multi_delete={"decoupling": 1.0, "unimodal": 10.0, "multimodal": 100.0})
    # 3^2, the mean of 1 and 4, 2^2.
    assert decoupling_loss(retain, frozen, forget, unpaired, config).item() == pytest.approx(9 + 25 + 400)


def test_no_image_meets_its_own_report(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    studies = toy_sets([IMAGE], [(0, t, 0) for t in (1, 2, 3, 4, 5)]).retain
    for seed in range(20):
        found = unpaired_embeddings(toy(0.0, 1.0), studies, ONE, np.random.default_rng(seed))[:, 0].tolist()
        assert sorted(found) == [1, 2, 3, 4, 5]
        assert all(there != own for there, own in zip(found, (1, 2, 3, 4, 5), strict=True))


def test_multi_delete_pulls_a_forget_pair_to_a_pair_that_does_not_belong_together(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    # Unpaired, the two retain studies give 1 and 0; the forget pair has 2 and is pulled down on both weights.
    model = toy(1.0, 1.0)
    multi_delete(model, toy_sets([BOTH], [TEXT, (0, 0, 0)]), ONE, ranking_weight=0.0, seed=0)
    assert model.weights == (pytest.approx(0.99, abs=1e-4), pytest.approx(0.99, abs=1e-4))


def test_the_virtual_teacher_ranks_the_true_class_last_and_keeps_the_rest() -> None:
    logits = torch.tensor([[[5.0, 1.0, 2.0], [0.0, 3.0, 4.0]]]).expand(3, -1, -1)
    found = without_true_class(logits, torch.tensor([0, 2]))
    assert found[1].tolist() == [[1.0, 1.0, 2.0], [0.0, 3.0, 0.0]]


def test_fed_quit_learns_from_it(toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]) -> None:
    # Teacher `[0, 0]` for `[2, 0]`: a goes down, and b, which forget does not show, stays.
    model = toy(2.0, 2.0)
    done = fed_quit(model, toy_sets([IMAGE], [TEXT]), ONE, ranking_weight=0.0, seed=0)
    assert model.weights == (pytest.approx(1.99, abs=1e-4), 2.0)
    sure = 1 / (1 + math.exp(-2))
    other = 1 / (1 + math.exp(2))
    assert done.passes[0].loss == pytest.approx(2 * (-LN2 - 0.5 * math.log(sure * other)), rel=1e-5)


def test_pga_ascends_and_stays_in_the_ball(
    toy: Callable[[float, float], Toy], toy_sets: Callable[..., UnlearnSets]
) -> None:
    # Slope of -CE along a: 1, so one step of SGD goes .01 down. A random toy is (3, 4): 5 away.
    free = toy(0.0, 0.0)
    bound = toy(0.0, 0.0)
    pga(free, toy_sets([IMAGE], [TEXT]), ONE, ranking_weight=0.0, seed=0)
    assert free.weights == (BACK, 0.0)
    pga(bound, toy_sets([IMAGE], [TEXT]), settings(pga={"radius": 0.001}), ranking_weight=0.0, seed=0)
    assert bound.weights == (pytest.approx(-0.005), 0.0)


def test_projection_is_on_the_nearest_point_of_the_ball_over_all_weights() -> None:
    weights = [torch.tensor([3.0]), torch.tensor([5.0])]
    centre = [torch.tensor([0.0]), torch.tensor([1.0])]
    project(weights, centre, radius=10.0)
    assert [w.item() for w in weights] == [3.0, 5.0]
    project(weights, centre, radius=2.5)
    assert [w.item() for w in weights] == [1.5, 3.0]
