"""Weights are found under any name and in any container, and what holds none is not accused."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from common.learning.model.checkpoint import ModelCard, save_checkpoint, state_digest
from common.learning.model.traces import find_pieces, find_weights


def weights(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(64, 100, generator=draw), "zeros": torch.zeros(64)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of another model, and what else lies about at a site."""
    save_file(weights(1), tmp_path / "kept.safetensors")
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(b"ab")
    (tmp_path / "like.json").write_bytes((20).to_bytes(8, "little") + b"{no header at all, and more")
    (tmp_path / "log.jsonl").write_text('{"event": "published"}\n' * 50)

    return tmp_path


def test_weights_are_found_by_digest_under_any_name_and_depth(folder: Path, card: ModelCard) -> None:
    hidden = folder / "a" / "b" / ".cache.tmp"
    hidden.parent.mkdir(parents=True)
    save_file(weights(0), hidden, metadata={"other": "header"})
    archive = folder / "archive.zip"
    archive.write_bytes(b"some bytes")
    digest = save_checkpoint(folder / "model", card.build().state_dict(), card)
    assert find_weights(folder, [state_digest(weights(0))]) == [hidden]
    assert find_weights(folder, [digest]) == [folder / "model" / "model.safetensors"]
    assert find_weights(folder, [hashlib.sha256(b"some bytes").hexdigest()]) == [archive]
    assert find_weights(folder, [state_digest(weights(2))]) == []


def test_bytes_of_weights_are_found_in_a_database_and_in_half_a_file(folder: Path) -> None:
    assert find_pieces(folder, weights(0)) == []
    save_file(weights(0), folder / "whole.bin")
    content = (folder / "whole.bin").read_bytes()
    (folder / "whole.bin").unlink()
    (folder / "half.part").write_bytes(content[: len(content) // 2])
    with sqlite3.connect(folder / "messages.db") as database:
        database.execute("create table message (body blob)")
        database.execute("insert into message values (?)", (content,))

    database.close()
    assert find_pieces(folder, weights(0)) == [folder / "half.part", folder / "messages.db"]
    assert find_pieces(folder, {"zeros": torch.zeros(64)}) == []
