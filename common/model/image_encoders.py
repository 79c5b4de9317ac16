"""Image encoders: one-channel radiographs to embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from common.config import ModelConfig
from common.errors import ConfigError


def norm_layer(kind: str, channels: int) -> nn.Module:
    """GroupNorm with groups of at least 4 channels, or BatchNorm, whose running statistics do not federate well."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(max(1, min(8, channels // 4)), channels)


class ResidualStage(nn.Module):
    """A basic residual block that halves the side: `[batch, in, h, w]` to `[batch, out, h/2, w/2]`."""

    def __init__(self, inside: int, outside: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
            norm_layer(norm, outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            norm_layer(norm, outside),
        )
        self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride=2, bias=False), norm_layer(norm, outside))

    def forward(self, x: Tensor) -> Tensor:
        """Residual sum, then ReLU."""
        return torch.relu(self.body(x) + self.skip(x))


class ResidualEncoder(nn.Module):
    """Residual CNN on one channel, global average pooling, linear to `[batch, embedding]`.

    With 7 stages this is the encoder of Chauhan et al. 2020 (arXiv 2008.09884) that Forget-MI uses at 2048 x 2048;
    the input size is free as the pooling is global.
    """

    def __init__(self, widths: tuple[int, ...], embedding: int, norm: str) -> None:
        super().__init__()
        channels = (1, *widths)
        self.stages = nn.Sequential(*(ResidualStage(a, b, norm) for a, b in zip(channels, widths, strict=False)))
        self.project = nn.Linear(widths[-1], embedding)

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, 1, h, w]` in [0, 1] to `[batch, embedding]`."""
        maps = self.stages(images * 2.0 - 1.0)
        return cast(Tensor, self.project(maps.mean(dim=(2, 3))))


class SmallEncoder(nn.Module):
    """Four plain stride-2 convolutions for CPUs: mean and maximum pooled, linear to `[batch, embedding]`."""

    def __init__(self, width: int, embedding: int, norm: str) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        inside = 1
        for position, outside in enumerate(widths):
            size = 5 if position == 0 else 3
            layers += [
                nn.Conv2d(inside, outside, size, stride=2, padding=size // 2, bias=False),
                norm_layer(norm, outside),
                nn.ReLU(),
            ]
            inside = outside
        self.stages = nn.Sequential(*layers)
        self.project = nn.Linear(2 * inside, embedding)

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, 1, h, w]` in [0, 1] to `[batch, embedding]`."""
        maps = self.stages(images * 2.0 - 1.0)
        return cast(Tensor, self.project(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)))


class TransformersImageEncoder(nn.Module):
    """A local `transformers` vision backbone; the one channel is repeated to the backbone's own number."""

    def __init__(self, folder: Path, embedding: int) -> None:
        super().__init__()
        from transformers import AutoModel  # noqa: PLC0415 - seconds of import that other encoders do not need
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415 - as above

        disable_progress_bar()  # type: ignore[no-untyped-call]  # it would be drawn for each model, across ours
        try:
            self.backbone = AutoModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as err:
            raise ConfigError(
                "not a transformers image model", where=str(folder), remedy="give a local folder"
            ) from err
        self.channels = int(getattr(self.backbone.config, "num_channels", 3))
        sizes = getattr(self.backbone.config, "hidden_sizes", None)
        self.project = nn.Linear(int(sizes[-1] if sizes else self.backbone.config.hidden_size), embedding)

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, 1, h, w]` in [0, 1] to `[batch, embedding]`."""
        hidden = self.backbone(pixel_values=(images * 2.0 - 1.0).expand(-1, self.channels, -1, -1)).last_hidden_state
        pooled = hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden[:, 0]
        return cast(Tensor, self.project(pooled))


def build_image_encoder(config: ModelConfig) -> nn.Module:
    """The encoder that `config.image_encoder` names."""
    match config.image_encoder:
        case "small_cnn":
            return SmallEncoder(config.width, config.embedding, config.norm)
        case "resnet7":
            widths = tuple(min(config.width * 2**stage, config.width * 32) for stage in range(7))
            return ResidualEncoder(widths, config.embedding, config.norm)
        case "transformers":
            return TransformersImageEncoder(Path(config.image_folder), config.embedding)
