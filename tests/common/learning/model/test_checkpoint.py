from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from common.errors import CheckpointError, InputError, OutputError
from common.files import write_text
from common.learning.model.checkpoint import ModelCard, load_checkpoint, save_checkpoint, state_digest


@pytest.fixture
def saved(tmp_path: Path, card: ModelCard) -> Path:
    save_checkpoint(tmp_path / "model", card.build(1).state_dict(), card)
    return tmp_path / "model"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path, card: ModelCard) -> None:
    state = card.build(1).state_dict()
    digest = save_checkpoint(tmp_path / "deep" / "model", state, card)
    found, found_card = load_checkpoint(tmp_path / "deep" / "model", card)
    assert found_card == card
    assert state_digest(found) == state_digest(state) == digest
    card.build().load_state_dict(found)
    assert files(tmp_path / "deep" / "model") == ["model.json", "model.safetensors"]


def test_the_digest_depends_on_names_shapes_types_and_values_and_not_on_order() -> None:
    a = torch.arange(4.0)
    b = torch.tensor(True)
    digest = state_digest({"a": a, "b": b})
    assert state_digest({"b": b, "a": a.clone()}) == digest
    others = [
        {"c": a, "b": b},
        {"a": a.reshape(2, 2), "b": b},
        {"a": a.double(), "b": b},
        {"a": a + 1e-6, "b": b},
        {"a": a, "b": ~b},
    ]
    assert len({digest, *map(state_digest, others)}) == 6


def test_a_digest_is_of_the_values_not_of_how_they_lie_in_memory() -> None:
    a = torch.arange(6.0).reshape(2, 3)
    assert state_digest({"a": a.T}) == state_digest({"a": a.T.contiguous()})


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        load_checkpoint(tmp_path / "nowhere")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def no_json(folder: Path) -> None:
    (folder / "model.json").write_text("{")


def unknown_key(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"vocab_size"', '"more": 1,\n  "vocab_size"'))


def a_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


@pytest.mark.parametrize("damage", [cut, empty, flip, no_json, unknown_key, a_folder])
def test_damage_is_told_in_one_line(saved: Path, damage: Callable[[Path], None]) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match="damaged checkpoint") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


def test_another_config_is_told_with_the_setting_that_differs(saved: Path, card: ModelCard) -> None:
    other = card.model_copy(update={"model": card.model.model_copy(update={"width": 8})})
    with pytest.raises(CheckpointError, match=r"model\.width is 4, expected 8"):
        load_checkpoint(saved, other)
    with pytest.raises(CheckpointError, match="classes"):
        load_checkpoint(saved, card.model_copy(update={"classes": ("clear", "other")}))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, card: ModelCard, bad: float) -> None:
    state = card.build().state_dict()
    state["fusion.gate.bias"][2] = bad
    save_checkpoint(tmp_path, state, card)
    with pytest.raises(CheckpointError, match=r"fusion\.gate\.bias holds NaN or infinity"):
        load_checkpoint(tmp_path)


def test_a_tensor_too_few_too_many_or_of_another_shape_is_named(tmp_path: Path, card: ModelCard) -> None:
    state = card.build().state_dict()
    cases = {
        "lacks tensor fusion.gate.bias": {n: t for n, t in state.items() if n != "fusion.gate.bias"},
        "unknown tensor zzz": {**state, "zzz": torch.zeros(1)},
        r"fusion.gate.bias is torch.float32 \[9\], expected": {**state, "fusion.gate.bias": torch.zeros(9)},
        "fusion.gate.bias is torch.float64": {**state, "fusion.gate.bias": torch.zeros(8).double()},
    }

    for number, (message, weights) in enumerate(cases.items()):
        save_checkpoint(tmp_path / str(number), weights, card)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / str(number), card)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond `room` bytes, which fails in the middle of a write as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))

    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_old_checkpoint_and_no_part(saved: Path, card: ModelCard) -> None:
    before = state_digest(load_checkpoint(saved)[0])
    with full_disk(4096), pytest.raises(OutputError, match="the checkpoint was not written") as caught:
        save_checkpoint(saved, card.build(2).state_dict(), card)
    assert "\n" not in str(caught.value)
    assert files(saved) == ["model.json", "model.safetensors"]
    assert state_digest(load_checkpoint(saved)[0]) == before


def test_a_full_disk_leaves_the_old_text_and_no_part(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with full_disk(4096), pytest.raises(OutputError, match=r"a\.json: the disk is full"):
        write_text(tmp_path / "a.json", "new" * 10_000)
    assert (tmp_path / "a.json").read_text() == "old"
    assert files(tmp_path) == ["a.json"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, card: ModelCard) -> None:
    (tmp_path / "file").write_text("")
    tries: list[Callable[[], object]] = [
        lambda: save_checkpoint(tmp_path / "file" / "model", card.build().state_dict(), card),
        lambda: write_text(tmp_path / "file" / "a.json", "text"),
    ]

    for write in tries:
        with pytest.raises(OutputError) as caught:
            write()
        assert isinstance(caught.value, InputError)
        assert "\n" not in str(caught.value)

    assert files(tmp_path) == ["file"]


def test_a_target_that_cannot_be_replaced_leaves_no_part(tmp_path: Path, card: ModelCard) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OutputError):
        save_checkpoint(tmp_path, card.build().state_dict(), card)
    assert files(tmp_path) == ["model.safetensors"]
