from __future__ import annotations

import pytest
import torch
from flwr.app import RecordDict

from common.errors import WireError
from common.learning.config import UnlearnConfig
from common.protocol.messages import ErrorReply, StatusReply, UnlearnRequest
from common.protocol.wire import pack, size, unpack, weights_of


def test_a_request_and_its_weights_come_back_as_they_were() -> None:
    request = UnlearnRequest(config=UnlearnConfig(lr=1e-4), seed=3)
    records = pack(request, {"w": torch.arange(6.0).reshape(2, 3)})
    assert unpack(records, UnlearnRequest) == request
    assert torch.equal(weights_of(records)["w"], torch.arange(6.0).reshape(2, 3))
    assert size(records) >= 24


def test_another_type_an_error_reply_and_an_empty_message_are_wire_errors() -> None:
    with pytest.raises(WireError, match="expected StatusReply"):
        unpack(pack(UnlearnRequest(config=UnlearnConfig(), seed=0)), StatusReply)
    with pytest.raises(WireError, match="no-data"):
        unpack(pack(ErrorReply(code="no-data")), StatusReply)
    with pytest.raises(WireError, match="without a body"):
        unpack(RecordDict(), StatusReply)
    with pytest.raises(WireError, match="without weights"):
        weights_of(pack(ErrorReply(code="failed")))
