import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.learning.data.imaging.noise import noisy_images, noisy_report

REPORT = "Mild perihilar opacities with a small effusion, the heart is enlarged and the bones are intact today"


def test_no_noise_gives_the_very_same_values() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert noisy_images(images, 0.0, torch.Generator()) is images
    assert noisy_report(REPORT, 0.0, np.random.default_rng(0)) is REPORT


def test_image_noise_has_the_asked_deviation_and_stays_in_range() -> None:
    grey = torch.full((4, 1, 64, 64), 0.5)
    noise = noisy_images(grey, 0.05, torch.Generator().manual_seed(0)) - grey
    assert abs(noise.std().item() - 0.05) < 0.002
    assert abs(noise.mean().item()) < 0.002
    wild = noisy_images(grey, 5.0, torch.Generator().manual_seed(0))
    assert (wild.min().item(), wild.max().item()) == (0.0, 1.0)


def test_the_seed_decides_the_noise() -> None:
    images = torch.rand(1, 1, 8, 8)
    one, again, other = (noisy_images(images, 0.1, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    texts = [noisy_report(REPORT, 0.5, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_image_noise_leaves_its_input_alone() -> None:
    images = torch.full((1, 1, 8, 8), 0.5)
    noisy_images(images, 0.1, torch.Generator().manual_seed(0))
    assert (images == 0.5).all()


@settings(max_examples=200, deadline=None)
@given(report=st.text(max_size=60), level=st.floats(0, 1), seed=st.integers(0, 2**20))
def test_no_report_becomes_empty(report: str, level: float, seed: int) -> None:
    noisy = noisy_report(report, level, np.random.default_rng(seed))
    assert bool(noisy.split()) == bool(report.split())


def test_more_noise_changes_more_words() -> None:
    def kept(level: float) -> float:
        rounds = [noisy_report(REPORT, level, np.random.default_rng(s)).split() for s in range(100)]
        return float(np.mean([len(set(words) & set(REPORT.split())) for words in rounds]))

    assert kept(0.1) > kept(0.4) > kept(1.0)


def test_key_words_are_lost_but_never_more_than_two() -> None:
    keys = frozenset(["red", "blue", "green"])
    lost = []
    for seed in range(300):
        words = noisy_report("red blue green", 0.02, np.random.default_rng(seed), keys).split()
        lost.append(3 - len(words))

    assert 0 < np.mean(lost) < 0.2
    assert all(noisy_report("red", 1.0, np.random.default_rng(seed), keys) for seed in range(20))
