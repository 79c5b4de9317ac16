"""The cache of embeddings: whole rows or none, bounded, named by digests that nobody can guess a report from."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import numpy as np
import pytest

from common.errors import ConfigError
from common.learning.data.embedding_cache import EmbeddingCache

ROW = np.arange(8, dtype=np.float32)
KEY = hashlib.sha256(b"image").hexdigest()
ENCODER = hashlib.sha256(b"encoder").hexdigest()


def test_a_row_is_kept_for_one_study_and_encoder(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 2**16)
    cache.put(KEY, ENCODER, ROW)
    row = EmbeddingCache(tmp_path, 2**16).fetch(KEY, ENCODER, 8)
    assert row is not None
    assert row.tolist() == ROW.tolist()
    assert cache.fetch(KEY, hashlib.sha256(b"other").hexdigest(), 8) is None
    assert cache.fetch(KEY, ENCODER, 9) is None


def test_a_damaged_row_is_none_and_is_written_again(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 2**16)
    cache.put(KEY, ENCODER, ROW)
    (entry,) = tmp_path.glob(f"{KEY}*")
    entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    assert cache.fetch(KEY, ENCODER, 8) is None
    cache.put(KEY, ENCODER, ROW)
    assert cache.fetch(KEY, ENCODER, 8) is not None


def test_the_bound_holds_and_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10 * 64)
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(30)]
    for key in keys:
        cache.put(key, ENCODER, ROW)
    assert sum(entry.stat().st_size for entry in tmp_path.glob("*-v*")) <= 10 * 64
    assert cache.fetch(keys[-1], ENCODER, 8) is not None
    assert cache.fetch(keys[0], ENCODER, 8) is None


def test_a_bound_below_one_row_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.embedding_bytes"):
        EmbeddingCache(tmp_path, 32).put(KEY, ENCODER, ROW)


def test_a_reports_name_cannot_be_guessed_without_the_folders_secret(tmp_path: Path) -> None:
    here, there = EmbeddingCache(tmp_path / "a", 2**16), EmbeddingCache(tmp_path / "b", 2**16)
    key = here.key_of_report("no finding")
    assert key == EmbeddingCache(tmp_path / "a", 2**16).key_of_report("no finding")
    assert key not in {there.key_of_report("no finding"), hashlib.sha256(b"no finding").hexdigest()}
    assert stat.S_IMODE((tmp_path / "a" / ".secret").stat().st_mode) == 0o600


def test_what_is_discarded_is_gone_and_counted(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 2**16)
    report = cache.key_of_report("no finding")
    other = cache.key_of_report("effusion")
    for key in (KEY, report, other):
        cache.put(key, ENCODER, ROW)
    assert cache.discard_studies({KEY, ""}, {"no finding", "never seen"}) == 2
    assert [cache.fetch(key, ENCODER, 8) is None for key in (KEY, report, other)] == [True, True, False]
