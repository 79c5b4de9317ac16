"""Features that need no training of their own: weighted words, and embeddings of frozen encoders from local folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

from common.learning.data.embedding_cache import embeddings_beside
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.study_embeddings import StudyEmbeddings
from common.learning.data.tokenizer import BUILTIN, load_tokenizer
from common.learning.model.pinned_encoders import text_settings
from common.learning.model.towers.families import Reads
from common.learning.model.towers.folder import read_folder
from common.learning.model.towers.frozen_tower import FrozenTower
from common.learning.records import Study
from simulations.run.prepare import Prepared

Matrix = Any
"""`[studies, features]`, a NumPy array or a sparse matrix of SciPy."""
Features = Callable[[Sequence[Study]], Matrix]

_HASHED = 2**18


def tf_idf(training: Sequence[Sequence[Study]]) -> Features:
    """Words and pairs of words, weighted by inverse document frequency, rows of length 1.

    Words are hashed, so that no vocabulary leaves a hospital; hospitals add up in how many reports each hash occurs.
    Hashes of no training report have no column: a classifier that starts at zero leaves their coefficients at zero.

    Args:
        training: the training studies of each hospital.
    """
    # No sign and no norm yet: counts must add up between hospitals.
    hashing = HashingVectorizer(n_features=_HASHED, ngram_range=(1, 2), alternate_sign=False, norm=None)
    reports = sum(map(len, training))
    occurrences = np.zeros(_HASHED)

    for studies in training:
        if studies:
            counts = hashing.transform([study.report for study in studies])
            occurrences += np.asarray((counts > 0).sum(axis=0)).ravel()

    # Smoothed, as in scikit-learn: a word that no report has must not divide by zero.
    idf = np.log((1 + reports) / (1 + occurrences)) + 1
    trained_columns = np.flatnonzero(occurrences)

    def features(studies: Sequence[Study]) -> Matrix:
        counts: csr_matrix = hashing.transform([study.report for study in studies])
        # Sublinear: a word said ten times does not count ten times.
        counts.data = 1 + np.log(counts.data)
        # Words that nobody trained on still shorten the others of their report.
        return normalize(counts @ diags(idf)).tocsc()[:, trained_columns].tocsr()

    return features


def frozen_encoders(folder: Path, prepared: Prepared, reads: Reads) -> Features:
    """Features of the encoder in a local folder, as a model with this encoder frozen reads them, from the same cache.

    Raises:
        ConfigError: the folder holds no such encoder.
    """
    encoder = read_folder(folder, reads)
    data = prepared.card.data
    pixels = ImageCache(prepared.cache, encoder.size if reads == "image" else data.image_size, data.cache_bytes)
    data = text_settings(data.model_copy(update={"tokenizer": BUILTIN}), encoder) if reads == "text" else data
    tower = FrozenTower(encoder)
    embeddings = StudyEmbeddings(
        cache=embeddings_beside(pixels.root, data.embedding_bytes),
        pixels=pixels,
        tokenizer=load_tokenizer(data.tokenizer, data.max_tokens),
        image=tower if reads == "image" else None,
        text=tower if reads == "text" else None,
        device=torch.device("cpu"),
    )

    def features(studies: Sequence[Study]) -> Matrix:
        rows = embeddings.of_images(studies) if reads == "image" else embeddings.of_reports(studies)
        return torch.as_tensor(rows).double().numpy()

    return features
