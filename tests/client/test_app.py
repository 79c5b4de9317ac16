from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import RecordDict

from client.app import SITES_VARIABLE
from client.cohort.site import Site
from client.cohort.site_files import SITE_FILE
from client.settings import SiteFolder
from common.errors import WireError
from common.learning.config import TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard, check_state
from common.learning.records import Subset
from common.protocol.messages import (
    EVALUATE,
    RETAIN,
    STATUS,
    TRAIN,
    UNLEARN,
    EvaluateReply,
    EvaluateRequest,
    StatusReply,
    StatusRequest,
    TrainReply,
    TrainRequest,
    UnlearnReply,
    UnlearnRequest,
)
from common.protocol.wire import pack, unpack, weights_of

KINDS = (TRAIN, RETAIN, UNLEARN, EVALUATE)
TRAINING = TrainRequest(config=TrainConfig(batch=4), epochs=1, round=0, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_without_content_is_a_bad_request(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], kind: str
) -> None:
    with pytest.raises(WireError, match="bad-request"):
        unpack(send(site_folder, kind, RecordDict()), TrainReply)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_of_another_kind_is_a_bad_request(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], card: ModelCard, kind: str
) -> None:
    records = pack(StatusRequest(), card.build().state_dict())
    with pytest.raises(WireError, match="bad-request"):
        unpack(send(site_folder, kind, records), TrainReply)


@pytest.mark.parametrize("kind", [TRAIN, RETAIN])
def test_training_answers_with_finite_weights_of_the_same_model(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], card: ModelCard, kind: str
) -> None:
    state = card.build().state_dict()
    reply = send(site_folder, kind, pack(TRAINING, state))
    body = unpack(reply, TrainReply)
    after = weights_of(reply)
    check_state(after, state, where="reply")
    assert any(not torch.equal(after[name], state[name]) for name in state)
    assert body.received is not None
    # Six studies trained on, and two validation studies scored.
    assert body.cost == 3 * 6 + 2


def test_unlearning_without_a_revocation_is_refused(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], card: ModelCard
) -> None:
    request = pack(UnlearnRequest(config=UnlearnConfig(passes=1), seed=0), card.build().state_dict())
    with pytest.raises(WireError, match="refused"):
        unpack(send(site_folder, UNLEARN, request), UnlearnReply)


@pytest.mark.parametrize("method", ["forget_mi_calibrated", "forget_mi_paper"])
def test_a_campaigns_replies_hold_no_patient(
    site_folder: Path,
    send: Callable[[Path | None, str, RecordDict], RecordDict],
    secret: str,
    card: ModelCard,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    site = Site(site_folder)
    site.revoke(sorted(site.patients(Subset.TRAIN))[:2])
    state = card.build().state_dict()
    config = UnlearnConfig(method=method, passes=2, tolerance=0.0)

    with caplog.at_level(logging.DEBUG):
        status = send(site_folder, STATUS, pack(StatusRequest()))
        unlearned = send(site_folder, UNLEARN, pack(UnlearnRequest(config=config, seed=0), state))
        audited = send(site_folder, EVALUATE, pack(EvaluateRequest(purpose="audit", seed=0), state))

    assert unpack(status, StatusReply).pending == 2
    assert unpack(unlearned, UnlearnReply).passes == 2
    check_state(weights_of(unlearned), state, where="reply")
    assert unpack(audited, EvaluateReply).audit is not None
    assert all(secret not in str(records) for records in (status, unlearned, audited))
    assert secret not in caplog.text


def test_an_unknown_method_or_a_nan_is_answered_with_a_code(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], card: ModelCard
) -> None:
    site = Site(site_folder)
    site.revoke(sorted(site.patients(Subset.TRAIN))[:1])
    state = card.build().state_dict()
    unknown = pack(UnlearnRequest(config=UnlearnConfig(method="os.system"), seed=0), state)
    state["fusion.gate.bias"] = torch.full((8,), float("nan"))
    for kind, request in ((UNLEARN, unknown), (TRAIN, pack(TRAINING, state))):
        with pytest.raises(WireError, match="no-data"):
            unpack(send(site_folder, kind, request), TrainReply)


def test_what_a_library_says_of_the_data_is_neither_sent_nor_logged(
    site_folder: Path,
    send: Callable[[Path | None, str, RecordDict], RecordDict],
    card: ModelCard,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # torch says which label is out of bounds.
    file = site_folder / SITE_FILE
    good = file.read_text()
    file.write_text(good.replace('"label":1', '"label":4711'))
    with caplog.at_level(logging.DEBUG):
        reply = send(site_folder, TRAIN, pack(TRAINING, card.build().state_dict()))
    with pytest.raises(WireError, match="'failed'"):
        unpack(reply, TrainReply)
    assert "4711" not in str(reply) + caplog.text
    assert "train failed: IndexError" in caplog.text


def test_a_damaged_site_file_is_answered_with_a_code(
    site_folder: Path,
    send: Callable[[Path | None, str, RecordDict], RecordDict],
    secret: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = site_folder / SITE_FILE
    file.write_text(file.read_text().replace('"label":1', f'"label":"{secret}"'))
    with caplog.at_level(logging.DEBUG):
        reply = send(site_folder, STATUS, pack(StatusRequest()))
    with pytest.raises(WireError, match="'no-data'"):
        unpack(reply, StatusReply)
    assert secret not in str(reply) + caplog.text


def test_nothing_is_trained_while_the_list_of_revocations_is_damaged(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], card: ModelCard
) -> None:
    site = Site(site_folder)
    site.revoke([min(site.cohort.patients)])
    SiteFolder(site_folder).tombstones.write_bytes(b"\n")
    reply = send(site_folder, TRAIN, pack(TRAINING, card.build().state_dict()))
    assert "arrays" not in reply
    with pytest.raises(WireError, match="no-data"):
        unpack(reply, TrainReply)


def test_a_node_that_knows_no_folder_refuses(
    send: Callable[[Path | None, str, RecordDict], RecordDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SITES_VARIABLE, raising=False)
    with pytest.raises(WireError, match="refused"):
        unpack(send(None, STATUS, pack(StatusRequest())), StatusReply)


def test_a_node_of_a_simulation_serves_the_folder_at_its_place(
    site_folder: Path, send: Callable[[Path | None, str, RecordDict], RecordDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SITES_VARIABLE, str(site_folder.parent))
    assert unpack(send(None, STATUS, pack(StatusRequest())), StatusReply).site == "north"
