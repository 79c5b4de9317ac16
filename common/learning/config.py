"""Every setting of an experiment, as pydantic models; those of unlearning are in `unlearning/settings.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from common.learning.unlearning.settings import UnlearnConfig, Weights
from common.settings import Fraction, Positive, Settings

SMALL_BERT_LAYERS = 2

Precision = Literal["fp32", "fp16", "bf16"]

__all__ = [
    "CampaignConfig",
    "DataConfig",
    "DecisionConfig",
    "ExperimentConfig",
    "ModelConfig",
    "Precision",
    "SplitConfig",
    "TrainConfig",
    "UnlearnConfig",
    "Weights",
    "WireConfig",
]


class SplitConfig(Settings):
    """Shares of a site's patients in the five sets; `train` takes what the others leave."""

    validation: Fraction = 0.10
    calibration: Fraction = 0.15
    audit: Fraction = 0.15
    test: Fraction = 0.15


class DataConfig(Settings):
    """How studies become tensors."""

    image_size: int = Field(default=96, ge=16, le=4096)
    """Side of the square image in pixels, aspect kept and padded."""
    max_tokens: int = Field(default=64, ge=4, le=512)
    tokenizer: str = "builtin"
    """`builtin` (the vocabulary shipped with the package) or a local `transformers` folder."""
    cache_bytes: int = Field(default=8 * 2**30, ge=2**20)
    split: SplitConfig = SplitConfig()


class ModelConfig(Settings):
    """The image-text model."""

    image_encoder: Literal["small_cnn", "resnet7", "transformers"] = "small_cnn"
    text_encoder: Literal["small_bert", "transformers"] = "small_bert"
    image_folder: str = ""
    """Local `transformers` image backbone; its weights are read from this folder."""
    text_folder: str = ""
    text_layers: int = Field(default=0, ge=0, le=48)
    """Layers of the small BERT (0: two), or how many first layers of the local folder are kept (0: all)."""
    frozen_text_layers: int = Field(default=0, ge=0, le=48)
    """First layers of the text encoder, its embeddings with them, that are never trained and never travel."""
    width: int = Field(default=16, ge=4, le=256)
    """Channels of the first image stage."""
    embedding: int = Field(default=64, ge=8, le=4096)
    text_hidden: int = Field(default=64, ge=8, le=4096)
    text_heads: int = Field(default=4, ge=1, le=64)
    dropout: Fraction = 0.1
    norm: Literal["group", "batch"] = "group"
    fusion_beta: Positive = 1.0
    ranking_weight: float = Field(default=0.1, ge=0.0)

    @model_validator(mode="before")
    @classmethod
    def _two_layers(cls, given: Any) -> Any:
        """The small BERT has 2 layers unless told otherwise; cards of earlier versions say so in numbers."""
        if isinstance(given, Mapping) and given.get("text_encoder", "small_bert") == "small_bert":
            return {**given, "text_layers": given.get("text_layers") or SMALL_BERT_LAYERS}
        return given

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.text_hidden % self.text_heads:
            raise ValueError(f"text_hidden {self.text_hidden} is not a multiple of text_heads {self.text_heads}")
        if self.text_layers and self.frozen_text_layers > self.text_layers:
            raise ValueError(f"frozen_text_layers {self.frozen_text_layers} of {self.text_layers} text_layers")
        return self


class TrainConfig(Settings):
    """Supervised federated training."""

    rounds: int = Field(default=40, ge=1)
    """Most rounds; the validation patience may stop earlier."""
    patience: int = Field(default=10, ge=1)
    """Rounds without a lower validation cross-entropy before training stops."""
    min_rounds: int = Field(default=1, ge=1)
    local_epochs: int = Field(default=2, ge=1)
    batch: int = Field(default=16, ge=1)
    micro_batch: int = Field(default=0, ge=0)
    """Most studies of a batch in memory at once, see `common/learning/micro_batches.py`; 0 is the whole batch."""
    lr: Positive = 1e-3
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: Positive = 1.0
    """Bound of the gradient's norm."""
    keep_norms: bool = False
    """Record the norm of each site's step: one number a site and round, which `fed_eraser` replays."""


class CampaignConfig(Settings):
    """From pending revocations to a new global model."""

    aggregation: Literal["auto", "replace", "relay", "scaled", "naive"] = "auto"
    """`auto` is `replace` where one hospital forgets, and `relay` where several do."""
    retention_rounds: int = Field(default=1, ge=0)
    retention_epochs: int = Field(default=1, ge=1)
    retention_lr_scale: Positive = 1.0
    """Learning rate of retention rounds, as a multiple of `train.lr`."""
    retention_orthogonal: bool = False
    """No retention round goes back along the unlearning step: that part of it is left out, tensor by tensor."""
    references: int = Field(default=4, ge=0)
    """Reference models of offline RMIA, an attack that no stop rule uses."""


class DecisionConfig(Settings):
    """The rule by which a campaign is accepted; fixed before it starts. See `docs/explanation/evaluation.md`."""

    auc_margin: Positive = 0.10
    """Half-width of the band around .5 in which the 90 % interval of the matched AUC must lie."""
    ks_alpha: Fraction = 0.05
    accuracy_margin: Fraction = 0.10
    utility_tolerance: Fraction = 0.05
    """Largest drop of test AUC at any site and class."""
    bootstrap: int = Field(default=1000, ge=50)


class WireConfig(Settings):
    """How weights travel. See `docs/results/wire.md`."""

    precision: Precision = "fp32"
    """Of differences: `fp32` loses nothing; the error of the others is fed back into the next difference."""


class ExperimentConfig(Settings):
    """One run of the main job, simulated or real."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    unlearn: UnlearnConfig = UnlearnConfig()
    campaign: CampaignConfig = CampaignConfig()
    decision: DecisionConfig = DecisionConfig()
    wire: WireConfig = WireConfig()
    seed: int = 0
    device: str = "auto"
