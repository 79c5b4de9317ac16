"""Reports as token ids: the WordPiece vocabulary shipped with the package, or a local `transformers` folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from common.errors import ConfigError
from common.learning.data.vocabulary import BUILTIN, VOCABULARY, WORDS

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model", "sentencepiece.bpe.model")

__all__ = ["BUILTIN", "VOCABULARY", "WORDS", "Tokenizer", "load_tokenizer"]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Cuts reports to `max_tokens` and pads them to it; the first token is `[CLS]`."""

    backend: tokenizers.Tokenizer
    max_tokens: int
    pad_id: int

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding of these tokens needs."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and mask (1 for a token, 0 for padding), each int64 `[n, max_tokens]`."""
        rows = self.backend.encode_batch(list(texts))
        shape = (len(rows), self.max_tokens)
        ids = np.array([row.ids for row in rows], dtype=np.int64).reshape(shape)
        mask = np.array([row.attention_mask for row in rows], dtype=np.int64).reshape(shape)

        return ids, mask

    def decode(self, ids: Sequence[int] | NDArray[np.int64]) -> str:
        """The text of one row of ids, without special tokens."""
        return str(self.backend.decode([int(i) for i in ids], skip_special_tokens=True))


def load_tokenizer(spec: str, max_tokens: int) -> Tokenizer:
    """Load `builtin`, `words` (hashed words and pairs), or the tokenizer in the folder `spec`; all from this machine.

    Raises:
        ConfigError: the folder holds no tokenizer, or one without `[CLS]` (or a token that ends texts) or padding.
    """
    if spec == WORDS:
        from common.learning.data.word_hashes import WordHashes  # noqa: PLC0415 - is a tokenizer itself

        return WordHashes(max_tokens)
    if spec == BUILTIN:
        return _ready(tokenizers.Tokenizer.from_file(str(VOCABULARY)), max_tokens, "[PAD]")
    return _from_folder(Path(spec), max_tokens)


def _from_folder(folder: Path, max_tokens: int) -> Tokenizer:
    where = f"data.tokenizer = {str(folder)!r}"
    remedy = "give 'builtin' or the folder of a BERT-like tokenizer"
    if not folder.is_dir():
        raise ConfigError("no such folder", where=where, remedy=remedy)
    # Without any of them transformers makes an empty tokenizer, to which all reports are the same.
    if not any((folder / name).is_file() for name in _FILES):
        raise ConfigError("not a tokenizer: no tokenizer.json and no vocabulary", where=where, remedy=remedy)
    # transformers takes seconds to import, and the builtin vocabulary does without it.
    from transformers import AutoTokenizer  # noqa: PLC0415 (see above)

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"not a tokenizer ({type(err).__name__})", where=where, remedy=remedy) from None

    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError("the tokenizer has no tokenizer.json", where=where, remedy=remedy)
    # Those of CLIP and SigLIP mark the end of a text instead of its beginning.
    if (tokenizer.cls_token is None and tokenizer.eos_token is None) or tokenizer.pad_token is None:
        raise ConfigError("the tokenizer has no [CLS] or no padding token", where=where, remedy=remedy)
    return _ready(tokenizer.backend_tokenizer, max_tokens, tokenizer.pad_token)


def _ready(backend: tokenizers.Tokenizer, max_tokens: int, pad: str) -> Tokenizer:
    pad_id = backend.token_to_id(pad)
    if pad_id is None:
        raise ConfigError("the padding token is not in the vocabulary", where="data.tokenizer", remedy="fix its files")
    backend.enable_truncation(max_tokens)
    # To a fixed length: the result for a report must not depend on the others of its batch.
    backend.enable_padding(length=max_tokens, pad_id=pad_id, pad_token=pad)

    return Tokenizer(backend, max_tokens, int(pad_id or 0))
