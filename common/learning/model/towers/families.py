"""The closed table of encoder families that a folder may hold; nothing else is ever imported by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Reads = Literal["image", "text"]
Pooling = Literal["class token", "mean", "max", "pooler"]
"""How features of tokens or maps become one row: that of the class token, their mean, or the network's own pooler."""

TIMM = "timm"
_NO_POOLER = {"add_pooling_layer": False}


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    Attributes:
        name: as people call it.
        model: its class in `transformers`.
        pooling: of its features, unless the folder says another.
        options: of `from_pretrained`.
        needs_all_tokens: padding counts as text: the features are those of the last position.
    """

    name: str
    model: str
    pooling: Pooling
    options: Mapping[str, object] = field(default_factory=dict)
    needs_all_tokens: bool = False


IMAGE: Mapping[str, Family] = {
    "vit": Family("ViT", "ViTModel", "class token", _NO_POOLER),
    "deit": Family("DeiT", "DeiTModel", "class token", _NO_POOLER),
    "dinov2": Family("DINOv2", "Dinov2Model", "class token"),
    "dinov2_with_registers": Family("DINOv2 with registers", "Dinov2WithRegistersModel", "class token"),
    "swin": Family("Swin", "SwinModel", "mean", _NO_POOLER),
    "swinv2": Family("Swin v2", "Swinv2Model", "mean", _NO_POOLER),
    "convnext": Family("ConvNeXt", "ConvNextModel", "pooler"),
    "convnextv2": Family("ConvNeXt v2", "ConvNextV2Model", "pooler"),
    "resnet": Family("ResNet", "ResNetModel", "mean"),
    "efficientnet": Family("EfficientNet", "EfficientNetModel", "mean"),
    "clip": Family("CLIP, image tower", "CLIPVisionModel", "pooler"),
    "clip_vision_model": Family("CLIP, image tower", "CLIPVisionModel", "pooler"),
    "siglip": Family("SigLIP, image tower", "SiglipVisionModel", "pooler"),
    "siglip_vision_model": Family("SigLIP, image tower", "SiglipVisionModel", "pooler"),
}
TEXT: Mapping[str, Family] = {
    "bert": Family("BERT", "BertModel", "class token", _NO_POOLER),
    "roberta": Family("RoBERTa", "RobertaModel", "class token", _NO_POOLER),
    "xlm-roberta": Family("XLM-RoBERTa", "XLMRobertaModel", "class token", _NO_POOLER),
    "distilbert": Family("DistilBERT", "DistilBertModel", "class token"),
    "deberta": Family("DeBERTa", "DebertaModel", "class token"),
    "deberta-v2": Family("DeBERTa v2 and v3", "DebertaV2Model", "class token"),
    "modernbert": Family("ModernBERT", "ModernBertModel", "class token"),
    "clip": Family("CLIP, text tower", "CLIPTextModel", "pooler"),
    "clip_text_model": Family("CLIP, text tower", "CLIPTextModel", "pooler"),
    "siglip": Family("SigLIP, text tower", "SiglipTextModel", "pooler", needs_all_tokens=True),
    "siglip_text_model": Family("SigLIP, text tower", "SiglipTextModel", "pooler", needs_all_tokens=True),
}
FAMILIES: Mapping[Reads, Mapping[str, Family]] = {"image": IMAGE, "text": TEXT}


def names(reads: Reads) -> str:
    """Names of all families that read images, or texts, for a message."""
    return ", ".join(dict.fromkeys(family.name for family in FAMILIES[reads].values()))
