"""Features that need no training of their own: weighted words, and embeddings of frozen encoders from local folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from common.errors import ConfigError
from common.learning.data.imaging.images import fit, read_image
from common.learning.model.pretrained import IMAGE, TEXT, load_backbone
from common.learning.records import Study

Matrix = Any
"""`[studies, features]`, a NumPy array or a sparse matrix of SciPy."""
Features = Callable[[Sequence[Study]], Matrix]

_HASHED = 2**18
_BATCH = 16
_MAX_TOKENS = 256


def tf_idf(training: Sequence[Sequence[Study]]) -> Features:
    """Words and pairs of words, weighted by inverse document frequency, rows of length 1.

    Words are hashed, so that no vocabulary leaves a hospital; hospitals add up in how many reports each hash occurs.

    Args:
        training: the training studies of each hospital.
    """
    hashing = HashingVectorizer(n_features=_HASHED, ngram_range=(1, 2), alternate_sign=False, norm=None)
    reports = sum(map(len, training))
    occurrences = np.zeros(_HASHED)

    for studies in training:
        if studies:
            counts = hashing.transform([study.report for study in studies])
            occurrences += np.asarray((counts > 0).sum(axis=0)).ravel()

    idf = np.log((1 + reports) / (1 + occurrences)) + 1

    def features(studies: Sequence[Study]) -> Matrix:
        counts: csr_matrix = hashing.transform([study.report for study in studies])
        counts.data = 1 + np.log(counts.data)
        return normalize(counts @ diags(idf))

    return features


def frozen_text(folder: Path) -> Features:
    """Token embeddings of a local `transformers` text encoder, averaged over the report.

    Raises:
        ConfigError: the folder holds no such encoder or no tokenizer.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds of import, only where a folder is given

    encoder = load_backbone(folder, TEXT).eval()

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError("no tokenizer", where=str(folder), remedy="use the folder of a complete encoder") from None

    @torch.no_grad()
    def features(studies: Sequence[Study]) -> Matrix:
        rows = []
        for start in range(0, len(studies), _BATCH):
            texts = [study.report for study in studies[start : start + _BATCH]]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
            hidden = encoder(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].to(hidden.dtype)
            rows.append((hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1))

        return _array(rows)

    return features


def frozen_image(folder: Path) -> Features:
    """Embeddings of a local `transformers` image encoder, averaged over the image.

    Raises:
        ConfigError: the folder holds no such encoder.
    """
    encoder: Any = load_backbone(folder, IMAGE).eval()
    size = getattr(encoder.config, "image_size", None)
    side = size if isinstance(size, int) else 224
    channels = int(getattr(encoder.config, "num_channels", None) or 3)

    @torch.no_grad()
    def features(studies: Sequence[Study]) -> Matrix:
        rows = []
        for start in range(0, len(studies), _BATCH):
            images = [fit(read_image(study.image), side) for study in studies[start : start + _BATCH]]
            pixels = torch.from_numpy(np.stack(images))[:, None].to(torch.float32) / 127.5 - 1.0
            hidden = encoder(pixel_values=pixels.expand(-1, channels, -1, -1)).last_hidden_state
            rows.append(hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden.mean(dim=1))

        return _array(rows)

    return features


def _array(rows: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    return cast("NDArray[np.float64]", torch.cat(list(rows)).double().numpy())
