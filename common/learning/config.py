"""All settings of an experiment, as pydantic models; those of unlearning are in `unlearning/settings.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from common.learning.folds.settings import FoldsConfig
from common.learning.unlearning.settings import UnlearnConfig, Weights
from common.settings import Fraction, Positive, Settings

SMALL_BERT_LAYERS = 2

Precision = Literal["fp32", "fp16", "bf16"]

__all__ = [
    "CampaignConfig",
    "DataConfig",
    "DecisionConfig",
    "ExperimentConfig",
    "FoldsConfig",
    "ModelConfig",
    "Precision",
    "SplitConfig",
    "TrainConfig",
    "UnlearnConfig",
    "Weights",
    "WireConfig",
]


class SplitConfig(Settings):
    """Shares of a site's patients in the five sets; `train` gets the rest."""

    validation: Fraction = 0.10
    calibration: Fraction = 0.15
    audit: Fraction = 0.15
    test: Fraction = 0.15


class DataConfig(Settings):
    """Conversion of studies to tensors."""

    image_size: int = Field(default=96, ge=16, le=4096)
    """Side of the square image in pixels; the aspect ratio is kept, with padding. A folder states its encoder's own."""
    max_tokens: int = Field(default=64, ge=4, le=512)
    tokenizer: str = "builtin"
    """`builtin` (the vocabulary shipped with the package) or a local `transformers` folder."""
    cache_bytes: int = Field(default=8 * 2**30, ge=2**20)
    embedding_bytes: int = Field(default=2**30, ge=2**16)
    """Bound of the features of frozen encoders that a site keeps on its disk, in bytes."""
    split: SplitConfig = SplitConfig()


class ModelConfig(Settings):
    """The image-text model."""

    image_encoder: Literal["small_cnn", "resnet7", "transformers", "folder"] = "small_cnn"
    """`folder` takes size, channels, normalisation and pooling from `image_folder`, of any family that is known."""
    text_encoder: Literal["small_bert", "transformers", "folder", "words"] = "small_bert"
    """`folder` takes tokenizer, length and pooling from `text_folder`, of any family that is known. `words` is a linear
    map of hashed words and pairs of words, cheap and without a vocabulary; `max_tokens` bounds their number."""
    image_folder: str = ""
    """Folder of a local image encoder, with its weights."""
    text_folder: str = ""
    """Folder of a local text encoder, with its weights and its tokenizer."""
    frozen: Literal["none", "image", "text", "both"] = "none"
    """Encoders of folders that are never trained: each study is encoded once, and only heads are trained and sent."""
    adapters: Literal["none", "image", "text", "both"] = "none"
    """Encoders of folders that are trained by LoRA adapters alone; needs the extra `adapters`."""
    adapter_rank: int = Field(default=8, ge=1, le=256)
    adapter_alpha: int = Field(default=16, ge=1)
    """Scale of adapters: what they add is multiplied by alpha / rank."""
    text_layers: int = Field(default=0, ge=0, le=48)
    """Layers of the small BERT (0: two), or the number of first layers kept of the local model (0: all)."""
    frozen_text_layers: int = Field(default=0, ge=0, le=48)
    """First layers of the text encoder, with its embeddings, that are never trained and never sent."""
    frozen_image_layers: int = Field(default=0, ge=0, le=48)
    """Likewise of an image encoder of a folder: layers of a transformer, stages or blocks of a CNN."""
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
    def _two_layers(cls, values: Any) -> Any:
        """Resolve 0 to 2 layers for the small BERT: model cards of earlier versions state the number."""
        if isinstance(values, Mapping) and values.get("text_encoder", "small_bert") == "small_bert":
            return {**values, "text_layers": values.get("text_layers") or SMALL_BERT_LAYERS}
        return values

    def adapts(self, kind: Literal["image", "text"]) -> bool:
        """Whether the image or text encoder has adapters."""
        return self.adapters in {kind, "both"}

    def freezes(self, kind: Literal["image", "text"]) -> bool:
        """Whether the whole image or text encoder is frozen."""
        return self.frozen in {kind, "both"}

    @property
    def freezes_layers(self) -> bool:
        """Whether the first layers of an encoder are frozen, and the rest of it is not."""
        return bool(self.frozen_image_layers or self.frozen_text_layers)

    @model_validator(mode="after")
    def _only_folders_freeze(self) -> Self:
        for kind, encoder in (("image", self.image_encoder), ("text", self.text_encoder)):
            for name, setting in (("frozen", self.frozen), ("adapters", self.adapters)):
                if setting in {kind, "both"} and encoder != "folder":
                    raise ValueError(f"{name} {setting!r} needs {kind}_encoder 'folder', not {encoder!r}")
            if self.frozen in {kind, "both"} and self.adapters in {kind, "both"}:
                raise ValueError(f"the {kind} encoder is either frozen or has adapters")
        if self.text_encoder in {"folder", "words"} and self.text_layers:
            # All layers of a folder are kept; silently doing something else would be worse than refusing.
            raise ValueError(f"text_layers has no meaning with text_encoder {self.text_encoder!r}: all are kept")
        return self

    @model_validator(mode="after")
    def _layers_freeze_where_there_are_some(self) -> Self:
        if self.frozen_image_layers and self.image_encoder != "folder":
            raise ValueError(f"frozen_image_layers needs image_encoder 'folder', not {self.image_encoder!r}")
        if self.frozen_text_layers and self.text_encoder == "words":
            raise ValueError("frozen_text_layers has no meaning with text_encoder 'words'")
        for kind, layers in (("image", self.frozen_image_layers), ("text", self.frozen_text_layers)):
            if layers and {kind, "both"} & {self.frozen, self.adapters}:
                raise ValueError(f"frozen_{kind}_layers is for an encoder that is trained: drop frozen or adapters")
        return self

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
    """Maximum number of rounds; the validation patience may stop training earlier."""
    patience: int = Field(default=10, ge=1)
    """Rounds without a lower validation cross-entropy before training stops."""
    min_rounds: int = Field(default=1, ge=1)
    keep: Literal["best", "last"] = "best"
    """Which model is kept: that of the lowest validation cross-entropy, or that of the last round."""
    local_epochs: int = Field(default=2, ge=1)
    batch: int = Field(default=16, ge=1)
    micro_batch: int = Field(default=0, ge=0)
    """Maximum studies of a batch in memory at once, see `common/learning/micro_batches.py`; 0 is the whole batch."""
    lr: Positive = 1e-3
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: Positive = 1.0
    """Maximum norm of the gradient."""
    keep_norms: bool = False
    """Record the norm of each site's step, one number per site and round, for `fed_eraser`."""


class CampaignConfig(Settings):
    """A campaign: from pending revocations to a new global model."""

    aggregation: Literal["auto", "replace", "relay", "scaled", "naive"] = "auto"
    """`auto` means `replace` if one hospital forgets, and `relay` if several do."""
    retention_rounds: int = Field(default=1, ge=0)
    retention_epochs: int = Field(default=1, ge=1)
    retention_lr_scale: Positive = 1.0
    """Learning rate of retention rounds, as a multiple of `train.lr`."""
    retention_orthogonal: bool = False
    """Remove from each retention round, tensor by tensor, the part that would undo the unlearning step."""

    @model_validator(mode="before")
    @classmethod
    def _no_references(cls, settings: Any) -> Any:
        """Drop the number of RMIA's reference models: campaigns of earlier versions state it."""
        if isinstance(settings, Mapping):
            return {name: value for name, value in settings.items() if name != "references"}
        return settings


class DecisionConfig(Settings):
    """The rule that accepts a campaign, fixed before it starts. See `docs/explanation/evaluation.md`."""

    auc_margin: Positive = 0.10
    """Half-width of the band around .5 that must contain the 90 % interval of the matched AUC."""
    ks_alpha: Fraction = 0.05
    accuracy_margin: Fraction = 0.10
    utility_tolerance: Fraction = 0.05
    """Largest allowed drop of the test AUC at any site and class."""
    bootstrap: int = Field(default=1000, ge=50)


class WireConfig(Settings):
    """How weights are sent. See `docs/results/wire.md`."""

    precision: Precision = "fp32"
    """Precision of differences: `fp32` is exact; the others carry rounding errors over to the next difference."""


class ExperimentConfig(Settings):
    """One run of the main job, simulated or real."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    unlearn: UnlearnConfig = UnlearnConfig()
    campaign: CampaignConfig = CampaignConfig()
    decision: DecisionConfig = DecisionConfig()
    wire: WireConfig = WireConfig()
    folds: FoldsConfig = FoldsConfig()
    seed: int = 0
    device: str = "auto"
