"""Settings of unlearning: those shared by all methods, and a table for each method with settings of its own.

Each table has the name of its method. Nothing here imports torch: a hospital reads the settings before it accepts them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Fraction, Positive, Settings


class Weights(Settings):
    """The four weights of Forget-MI; see `WEIGHTINGS` in `common.learning.unlearning.forget_mi`."""

    uu: Fraction
    ur: Fraction
    mu: Fraction
    mr: Fraction


class NegGradPlusConfig(Settings):
    """See `common/learning/unlearning/compared/neg_grad_plus.py`."""

    retain_share: Fraction = 0.95
    """Weight of the retain loss; the rest is the weight of the forget loss, which is maximised."""


class ScrubConfig(Settings):
    """See `common/learning/unlearning/compared/scrub.py`."""

    max_passes: int = Field(default=2, ge=0)
    """Number of first passes that also walk the forget set, away from the teacher."""
    teacher_weight: float = Field(default=0.5, ge=0.0)
    """Weight of the divergence from the teacher on retain."""
    task_weight: float = Field(default=1.0, ge=0.0)
    rewind: bool = True
    """Go back to the pass at which the error on forget patients equals the final error on never-seen patients."""


class LastLayersConfig(Settings):
    """See `common/learning/unlearning/compared/cf_k.py` and `eu_k.py`."""

    layers: int = Field(default=3, ge=1, le=64)
    """Number of blocks, counted from the output: classifiers, fusion, projections, then the encoders' own layers."""


class SalunConfig(Settings):
    """See `common/learning/unlearning/compared/salun.py`."""

    share: Fraction = 0.5
    """Share of weights that may change: those with the largest gradient of the forget loss."""
    retain_weight: float = Field(default=1.0, ge=0.0)


class SsdConfig(Settings):
    """See `common/learning/unlearning/compared/ssd.py`. Weights only ever shrink."""

    selection: float = Field(default=10.0, ge=1.0)
    """Dampen weights that matter this many times more to forget than to retain (alpha in the paper)."""
    dampening: Fraction = 1.0
    """Lambda in the paper; the smaller it is, the more weights shrink."""


class MultiDeleteConfig(Settings):
    """Weights of the three losses; see `common/learning/unlearning/compared/multi_delete.py`."""

    decoupling: float = Field(default=1.0, ge=0.0)
    unimodal: float = Field(default=1.0, ge=0.0)
    multimodal: float = Field(default=1.0, ge=0.0)


class PgaConfig(Settings):
    """See `common/learning/unlearning/compared/pga.py`."""

    radius: Fraction = 1 / 3
    """Radius of the ball around the reference model, as a multiple of its distance to a random model."""


class FedEraserConfig(Settings):
    """See `server/rounds/unlearning/fed_eraser.py`."""

    interval: int = Field(default=2, ge=1)
    """Replay every n-th training round."""
    epochs: int = Field(default=1, ge=1)
    """Local epochs of a replayed round; training uses `train.local_epochs`."""


class ExactConfig(Settings):
    """See `server/campaign/running/exact.py`."""

    declared_by: str = Field(default="", max_length=200)
    """Name and office of who declares that no patient of this federation was in the data that the frozen encoders were
    pretrained on. The attestation states it, and all who sign that sign it; empty: exact forgetting is not possible."""


class UnlearnConfig(Settings):
    """One hospital's unlearning."""

    method: str = "forget_mi_calibrated"
    weighting: Literal["equal", "unimodal", "multimodal", "retention"] = "equal"
    noise: Literal["none", "image", "text", "both"] = "both"
    image_noise: float = Field(default=0.1, ge=0.0)
    """Standard deviation of the Gaussian noise on pixels in [0, 1]."""
    text_noise: Fraction = 0.5
    passes: int = Field(default=12, ge=1)
    """Maximum number of passes over the forget set, or over the retain set for methods that walk that."""
    batch: int = Field(default=32, ge=1)
    """Forget studies per step."""
    retain_batch: int = Field(default=16, ge=1)
    """Retain studies per step, with forget studies or alone."""
    micro_batch: int = Field(default=0, ge=0)
    """Maximum studies of a step in memory at once, forget and retain together; 0 is all."""
    lr: Positive = 1e-3
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: Positive = 1.0
    forget_weight: float = Field(default=1.0, ge=0.0)
    task_weight: float = Field(default=1.0, ge=0.0)
    push: float = Field(default=0.0, ge=0.0)
    """Calibrated only: scale of the paper's two push terms, for patients still above their target."""
    push_bounded: bool = True
    """Calibrated only: if off, the push continues below the target."""
    targets: Literal["each", "fused"] = "each"
    """Calibrated only: targets and a stop for each branch, or for the fused branch alone."""
    fold_targets: Literal["scaled", "raw", "mean", "off"] = "scaled"
    """Calibrated only: how a fold model's margin becomes a target. `scaled` moves it to the current model's scale;
    `raw` takes it as it is; `mean` scales the mean over both families of fold models; `off` uses ranks alone."""
    renew: int = Field(default=3, ge=1)
    """Calibrated only: passes between two updates of the targets."""
    tolerance: float = Field(default=0.05, ge=0.0)
    """Calibrated only: stop when margins are on average (nats) closer than this to their targets in every branch."""
    neg_grad_plus: NegGradPlusConfig = NegGradPlusConfig()
    scrub: ScrubConfig = ScrubConfig()
    cf_k: LastLayersConfig = LastLayersConfig()
    eu_k: LastLayersConfig = LastLayersConfig()
    salun: SalunConfig = SalunConfig()
    ssd: SsdConfig = SsdConfig()
    multi_delete: MultiDeleteConfig = MultiDeleteConfig()
    pga: PgaConfig = PgaConfig()
    fed_eraser: FedEraserConfig = FedEraserConfig()
    exact: ExactConfig = ExactConfig()
