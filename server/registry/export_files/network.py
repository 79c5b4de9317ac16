"""The network of this version as functions of its weights: needs torch, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

WIDTH_OF_A_GROUP = 4
MOST_GROUPS = 8
BERT_EPSILON = 1e-12


class Network:
    """Two encoders, a gate that fuses their embeddings, and a classifier for each of image, report and both."""

    def __init__(self, weights: dict[str, Tensor], shape: dict[str, Any]) -> None:
        """`weights` as of `model.safetensors`, `shape` as `model` in `model.json`."""
        kinds = (shape["image_encoder"], shape["text_encoder"])
        if kinds[0] not in {"small_cnn", "resnet7"} or kinds[1] != "small_bert":
            raise SystemExit(f"encoders {kinds[0]} and {kinds[1]} need transformers and FedForget: see README.md")
        self.weights = weights
        self.shape = shape

    @torch.inference_mode()
    def logits(self, images: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Images `[batch, 1, h, w]` in [0, 1], ids and mask `[batch, tokens]`; gives `[3, batch, classes]`."""
        # The encoders are trained on values in [-1, 1].
        image = self._image(images * 2.0 - 1.0)
        text = self._linear("text_encoder.project", self._bert(tokens, mask)[:, 0])
        branches = (image, text, self._fused(image, text))

        return torch.stack([self._linear(f"classifiers.{n}", branch) for n, branch in enumerate(branches)])

    def _image(self, maps: Tensor) -> Tensor:
        if self.shape["image_encoder"] == "small_cnn":
            for at in range(4):
                maps = self._convolved(f"image_encoder.stages.{3 * at}", maps, stride=2)
                maps = self._normed(f"image_encoder.stages.{3 * at + 1}", maps).relu()

            features = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        else:
            for at in range(7):
                name = f"image_encoder.stages.{at}"
                inner = self._normed(f"{name}.body.1", self._convolved(f"{name}.body.0", maps, stride=2)).relu()
                inner = self._normed(f"{name}.body.4", self._convolved(f"{name}.body.3", inner, stride=1))
                shortcut = self._normed(f"{name}.skip.1", self._convolved(f"{name}.skip.0", maps, stride=2))
                maps = (inner + shortcut).relu()

            features = maps.mean(dim=(2, 3))

        return self._linear("image_encoder.project", features)

    def _bert(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Devlin et al. 2019 (arXiv 1810.04805)."""
        name = "text_encoder.bert.embeddings"
        words = self.weights[f"{name}.word_embeddings.weight"][tokens]
        places = self.weights[f"{name}.position_embeddings.weight"][: tokens.shape[1]]
        kinds = self.weights[f"{name}.token_type_embeddings.weight"][0]
        hidden = self._layer_normed(f"{name}.LayerNorm", words + places + kinds)

        for at in range(self.shape["text_layers"]):
            name = f"text_encoder.bert.encoder.layer.{at}"
            attention_out = self._linear(f"{name}.attention.output.dense", self._attention(name, hidden, mask))
            hidden = self._layer_normed(f"{name}.attention.output.LayerNorm", attention_out + hidden)
            inner = functional.gelu(self._linear(f"{name}.intermediate.dense", hidden))
            hidden = self._layer_normed(
                f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", inner) + hidden
            )

        return hidden

    def _attention(self, name: str, hidden: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        heads = self.shape["text_heads"]
        query, key, value = (
            self._linear(f"{name}.attention.self.{part}", hidden).view(batch, length, heads, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        visible = mask[:, None, None, :].bool()
        attention_out = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)

        return attention_out.transpose(1, 2).reshape(batch, length, width)

    def _fused(self, image: Tensor, text: Tensor) -> Tensor:
        """Rahman et al. 2020 (arXiv 1908.05787), section 4."""
        gate = self._linear("fusion.gate", torch.cat([text, image], dim=1)).relu()
        shift = gate * self._linear("fusion.shift", image)
        ratio = text.norm(dim=1, keepdim=True) / shift.norm(dim=1, keepdim=True).clamp_min(1e-6)
        fusion = text + (ratio * self.shape["fusion_beta"]).clamp(max=1.0) * shift

        return self._layer_normed("fusion.norm", fusion, epsilon=1e-5)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _layer_normed(self, name: str, x: Tensor, epsilon: float = BERT_EPSILON) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return functional.layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"], epsilon)

    def _convolved(self, name: str, x: Tensor, stride: int) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def _normed(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        bias = self.weights[f"{name}.bias"]

        if self.shape["norm"] == "batch":
            mean = self.weights[f"{name}.running_mean"]
            variance = self.weights[f"{name}.running_var"]
            return functional.batch_norm(x, mean, variance, weight, bias)

        groups = max(1, min(MOST_GROUPS, x.shape[1] // WIDTH_OF_A_GROUP))

        return functional.group_norm(x, groups, weight, bias)
