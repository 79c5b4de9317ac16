import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError
from common.learning.data.tokenizer import VOCABULARY, load_tokenizer
from simulations.synthetic.vocabulary import build, write_vocabulary

CLS = 2
PAD = 0
UNK = 1


def test_the_shipped_vocabulary_is_what_the_generator_writes(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == VOCABULARY.read_bytes()


def test_rows_begin_with_cls_and_are_padded_with_mask_zero() -> None:
    tokenizer = load_tokenizer("builtin", 8)
    ids, mask = tokenizer.encode(["Heart size is normal", "clear"])
    assert ids.shape == mask.shape == (2, 8)
    assert ids.dtype == mask.dtype == np.int64
    assert (ids[:, 0] == CLS).all()
    assert mask.sum(1).tolist() == [6, 3]  # [CLS] words [SEP]
    assert ((ids == PAD) == (mask == 0)).all()


def test_long_reports_are_cut() -> None:
    ids, mask = load_tokenizer("builtin", 6).encode(["one two three four five six seven eight"])
    assert ids.shape == (1, 6)
    assert mask.all()


def test_no_reports_give_empty_arrays_of_the_right_width() -> None:
    ids, mask = load_tokenizer("builtin", 8).encode([])
    assert ids.shape == mask.shape == (0, 8)


def test_case_does_not_matter() -> None:
    ids, _ = load_tokenizer("builtin", 16).encode(["PULMONARY Oedema", "pulmonary oedema"])
    assert (ids[0] == ids[1]).all()


@pytest.mark.parametrize("text", ["zzyzx qwfp", "bronchoalveolar lavage", "Ødem, café 3.5 mm² (12%)!"])
def test_words_outside_the_vocabulary_fall_into_pieces_and_none_are_lost(text: str) -> None:
    tokenizer = load_tokenizer("builtin", 64)
    ids, _ = tokenizer.encode([text.replace("Ø", "o")])
    assert UNK not in ids
    letters = "".join(tokenizer.decode(ids[0]).split())
    assert letters == "".join(text.lower().replace("ø", "o").replace("é", "e").split())


def test_ids_fit_the_embedding() -> None:
    tokenizer = load_tokenizer("builtin", 8)
    vocabulary = build().get_vocab()
    assert sorted(vocabulary.values()) == list(range(tokenizer.vocab_size))


def write_folder(folder: Path, settings: dict[str, str]) -> Path:
    folder.mkdir()
    build().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_local_folder_gives_the_same_tokens(tmp_path: Path) -> None:
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    folder = write_folder(tmp_path / "bert", {"tokenizer_class": "PreTrainedTokenizerFast", **special})
    mine = load_tokenizer(str(folder), 16)
    builtin = load_tokenizer("builtin", 16)
    texts = ["Perihilar haze.", "The heart is enlarged"]
    assert mine.encode(texts)[0].tolist() == builtin.encode(texts)[0].tolist()
    assert mine.vocab_size == builtin.vocab_size


def test_a_folder_without_cls_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "plain", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"})
    with pytest.raises(ConfigError, match=r"no \[CLS\]"):
        load_tokenizer(str(folder), 16)


def test_a_missing_or_empty_folder_is_refused_without_asking_the_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_tokenizer("bert-base-uncased", 16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="not a tokenizer"):
        load_tokenizer(str(tmp_path / "empty"), 16)


def test_hashed_words_are_counted_and_differ_only_where_reports_do() -> None:
    words = load_tokenizer("words", 32)
    ids, counts = words.encode(["heart large heart", "Heart, large heart", "lungs clear", ""])
    assert ids[0].tolist() == ids[1].tolist()
    assert sorted(counts[0][counts[0] > 0].tolist()) == [1, 1, 1, 2]
    assert not {*ids[0][counts[0] > 0]} & {*ids[2][counts[2] > 0]}
    assert not counts[3].any()
    assert 0 < ids.max() < words.vocab_size
