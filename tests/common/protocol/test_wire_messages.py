from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.learning.config import TrainConfig, UnlearnConfig
from common.protocol.messages import (
    Body,
    EvaluateRequest,
    FoldModel,
    FoldModels,
    StatusReply,
    StatusRequest,
    TrainRequest,
    UnlearnReply,
    UnlearnRequest,
)
from common.protocol.wire import pack, size, unpack, weights_of

BODIES: list[Body] = [
    StatusRequest(),
    StatusReply(site="north", registered={"train": 3}, train_studies=4, retain_studies=2, pending=1),
    TrainRequest(config=TrainConfig(lr=0.1), epochs=1, round=0, seed=2**62, reference=3),
    TrainRequest(
        config=TrainConfig(),
        epochs=1,
        round=0,
        seed=1,
        folds=FoldModels(lineage="a", models=(FoldModel(family="audit", number=1, of=2),)),
    ),
    UnlearnRequest(config=UnlearnConfig(noise="text"), seed=1),
    UnlearnReply(site="north", passes=3, gaps=(0.1, 0.2, 1e-17), cost=9.0, seconds=0.5),
    EvaluateRequest(purpose="audit", seed=5),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: type(b).__name__)
def test_a_body_comes_out_as_it_went_in(body: Body) -> None:
    assert unpack(pack(body), type(body)) == body


def test_weights_keep_names_order_types_and_bits() -> None:
    draw = torch.Generator().manual_seed(0)
    state = {"w": torch.randn(3, 2, generator=draw, requires_grad=True), "steps": torch.tensor(7), "b": torch.ones(0)}
    found = weights_of(pack(StatusRequest(), state))
    assert list(found) == list(state)
    assert all(torch.equal(found[n], state[n]) and found[n].dtype == state[n].dtype for n in state)
    assert not found["w"].requires_grad


def test_a_message_without_weights_has_no_size() -> None:
    assert size(pack(StatusRequest())) == 0


def message(kind: str, text: str) -> RecordDict:
    return RecordDict({"body": ConfigRecord({"type": kind, "json": text})})


@pytest.mark.parametrize("kind", ["StatusReply", "ErrorReply"])
@pytest.mark.parametrize("text", ["", "{", "null", '{"site": "north"}', '{"code": "failed", "detail": "Jane"}'])
def test_a_damaged_body_is_refused_without_its_content(kind: str, text: str) -> None:
    with pytest.raises(WireError) as caught:
        unpack(message(kind, text), StatusReply)
    assert "Jane" not in str(caught.value)


@given(st.sampled_from(["StatusReply", "ErrorReply", "other"]), st.text())
def test_no_text_makes_unpack_raise_anything_else(kind: str, text: str) -> None:
    with pytest.raises(WireError):
        unpack(message(kind, text), StatusReply)


def test_a_body_of_another_record_type_is_refused() -> None:
    with pytest.raises(WireError, match="without a body"):
        unpack(RecordDict({"body": ArrayRecord()}), StatusReply)


def damaged() -> st.SearchStrategy[bytes]:
    """The bytes of a small array with some of them changed, or cut off."""
    good = Array(np.arange(6, dtype=np.float32)).data
    changes = st.dictionaries(st.integers(0, len(good) - 1), st.integers(0, 255), min_size=1, max_size=5)
    replaced = changes.map(lambda at: bytes(at.get(i, byte) for i, byte in enumerate(good)))

    return replaced | st.integers(0, len(good) - 1).map(lambda end: good[:end])


@given(damaged())
def test_no_bytes_of_an_array_make_reading_it_raise_anything_else(data: bytes) -> None:
    array = Array("float32", (6,), "numpy.ndarray", data)
    with contextlib.suppress(WireError):
        weights_of(RecordDict({"arrays": ArrayRecord({"w": array})}))


def test_an_array_that_asks_to_be_unpickled_is_not_read() -> None:
    written = io.BytesIO()
    np.save(written, np.array([object()]), allow_pickle=True)
    array = Array("object", (1,), "numpy.ndarray", written.getvalue())
    with pytest.raises(WireError, match="cannot be read: ValueError"):
        weights_of(RecordDict({"arrays": ArrayRecord({"w": array})}))
