"""Image encoders: one-channel radiographs to embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from common.learning.config import ModelConfig
from common.learning.model.folder_encoders import FolderImageEncoder
from common.learning.model.pretrained import IMAGE, load_backbone, try_once


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
    """A local `transformers` vision backbone; the one channel is repeated to the backbone's own number.

    The embedding is that of the class token; without one (SigLIP, Swin, CNN) it is the mean over the image.
    """

    def __init__(self, folder: Path, embedding: int, image_size: int | None = None) -> None:
        super().__init__()
        self.backbone = load_backbone(folder, IMAGE)
        config: Any = self.backbone.config
        self.channels = int(getattr(config, "num_channels", None) or 3)
        sizes = getattr(config, "hidden_sizes", None)
        hidden = sizes[-1] if sizes else getattr(config, "hidden_size", None)

        if not isinstance(hidden, int):
            raise ConfigError(
                f"not a transformers image model that is known here: {config.model_type}",
                where=str(folder),
                remedy="give a folder of e.g. ViT, DINOv2 or ConvNeXt",
            )

        # Families name the token differently, and not every one says in its configuration whether it has one.
        self.has_class_token = any(
            name.endswith(("cls_token", "class_embedding")) for name, _ in self.backbone.named_parameters()
        )
        self.project = nn.Linear(hidden, embedding)

        if image_size is not None:
            own = getattr(config, "image_size", None)
            reads = f"; it is made for {own}" if isinstance(own, int) and own != image_size else ""
            remedy = f"set data.image_size = {own}" if reads else "give a folder of e.g. ViT, DINOv2 or ConvNeXt"
            error = ConfigError(
                f"{config.model_type} cannot read images of {image_size} x {image_size}{reads}",
                where=str(folder),
                remedy=remedy,
            )
            try_once(self, lambda: (torch.zeros(1, 1, image_size, image_size),), (str(folder), str(image_size)), error)

    def forward(self, images: Tensor) -> Tensor:
        """`[batch, 1, h, w]` in [0, 1] to `[batch, embedding]`."""
        hidden = self.backbone(pixel_values=(images * 2.0 - 1.0).expand(-1, self.channels, -1, -1)).last_hidden_state

        # A CNN gives maps, a transformer a row of tokens.
        if hidden.ndim == 4:
            features = hidden.mean(dim=(2, 3))
        else:
            features = hidden[:, 0] if self.has_class_token else hidden.mean(dim=1)

        return cast(Tensor, self.project(features))


def build_image_encoder(config: ModelConfig, image_size: int | None = None) -> nn.Module:
    """The encoder that `config.image_encoder` names.

    Raises:
        ConfigError: the local folder holds no image model, or none for images of `image_size`.
    """
    match config.image_encoder:
        case "small_cnn":
            return SmallEncoder(config.width, config.embedding, config.norm)
        case "resnet7":
            # Doubled by stage up to 32 times the first, or seven stages would end in 64 times.
            widths = tuple(min(config.width * 2**stage, config.width * 32) for stage in range(7))
            return ResidualEncoder(widths, config.embedding, config.norm)
        case "folder":
            return FolderImageEncoder(config)
        case "transformers":
            return TransformersImageEncoder(Path(config.image_folder), config.embedding, image_size)
