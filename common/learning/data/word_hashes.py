"""Reports as hashed words and pairs of words: a cheap choice without a vocabulary, a download or a pretrained model."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import tokenizers
from numpy.typing import NDArray

from common.learning.data.tokenizer import Tokenizer

BUCKETS = 2**14
_WORD = re.compile(r"\w\w+")


class WordHashes(Tokenizer):
    """Distinct words and pairs of a report as bucket numbers from 1, the most frequent first; the mask counts them."""

    def __init__(self, max_tokens: int) -> None:
        super().__init__(tokenizers.Tokenizer(tokenizers.models.WordLevel({"": 0}, unk_token="")), max_tokens, 0)

    @property
    def vocab_size(self) -> int:
        """Number of buckets, with that of nothing."""
        return BUCKETS + 1

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Buckets and their counts, each int64 `[n, max_tokens]`; the rarest beyond `max_tokens` are left out."""
        ids = np.zeros((len(texts), self.max_tokens), dtype=np.int64)
        counts = np.zeros_like(ids)

        for row, text in enumerate(texts):
            words = _WORD.findall(text.lower())
            pairs = (f"{first} {second}" for first, second in pairwise(words))
            common = Counter(map(_bucket, (*words, *pairs))).most_common(self.max_tokens)
            for at, (bucket, count) in enumerate(common):
                ids[row, at] = bucket
                counts[row, at] = count

        return ids, counts


@lru_cache(maxsize=2**16)
def _bucket(words: str) -> int:
    # Equal on every machine, as `hash` is not.
    return 1 + int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big") % BUCKETS
