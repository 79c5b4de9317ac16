from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from flwr.app import RecordDict
from pydantic import BaseModel
from sqlalchemy import func, select

from client.app import open_site
from client.cohort.site import Site
from client.database import SeenRow
from client.membership.trust import Trust
from client.settings import CONFIG_FILE, FOLDER_VARIABLE, SiteFolder
from client.settings_sections import BoundsConfig
from common.errors import EvidenceError, RefusedError, WireError
from common.evidence.keys import SigningKey
from common.learning.config import DecisionConfig, TrainConfig, UnlearnConfig
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset
from common.platform.keys.certificates import certificate_fingerprint, read_certificate
from common.platform.keys.private_keys import load_signing_key
from common.platform.sql import open_database
from common.protocol.instructions import Context, Instruction, content_of, new_nonce, sign_request, verify_reply
from common.protocol.messages import (
    ADOPT,
    EVALUATE,
    RETAIN,
    STATUS,
    TRAIN,
    UNLEARN,
    AdoptRequest,
    Body,
    ErrorReply,
    EvaluateRequest,
    StatusReply,
    StatusRequest,
    TrainReply,
    TrainRequest,
    UnlearnReply,
    UnlearnRequest,
    WeightsNote,
)
from common.protocol.wire import error_code, pack, unpack
from server.settings import ServerFolder

TRAINING = TrainRequest(config=TrainConfig(batch=4), epochs=1, round=0, seed=0)
Send = Callable[[Path | None, str, RecordDict], RecordDict]
Sign = Callable[..., tuple[RecordDict, Instruction]]


@pytest.fixture
def hospital(site_folder: Path, enrol: Callable[[Path, str], Path]) -> Path:
    return enrol(site_folder, "north")


@pytest.fixture
def sign(coordinator: ServerFolder) -> Sign:
    """Sign a request as the coordinator does, but for what is given."""
    own = load_signing_key(coordinator.signing_key, coordinator.passphrase)
    ca = certificate_fingerprint(read_certificate(coordinator.ca_certificate.read_bytes(), "ca"))

    def make(
        records: RecordDict,
        kind: str = STATUS,
        *,
        key: SigningKey = own,
        late: timedelta = timedelta(0),
        lifetime: timedelta = timedelta(hours=1),
        **context: Any,
    ) -> tuple[RecordDict, Instruction]:
        values = {"federation": ca, "campaign": 1, "step": "train:0", "round": 0, "kind": kind, "site": "north"}
        return sign_request(
            records,
            content_of(records),
            Context(**{**values, **context}),
            key,
            issued=datetime.now(UTC) - late,
            lifetime=lifetime,
            nonce=new_nonce(),
        )

    return make


@pytest.fixture
def site_key(hospital: Path) -> SigningKey:
    folder = SiteFolder(hospital)
    return load_signing_key(folder.signing_key, folder.passphrase)


def test_a_signed_request_is_answered_with_a_signed_reply(
    hospital: Path, send: Send, sign: Sign, site_key: SigningKey, card: ModelCard
) -> None:
    request, instruction = sign(pack(TRAINING, card.build().state_dict()), TRAIN)
    reply = send(hospital, TRAIN, request)
    verify_reply(reply, instruction, site_key.public)
    assert unpack(reply, TrainReply).received is not None


def test_an_unsigned_request_is_refused_by_a_real_site(
    hospital: Path, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    reply = send(hospital, STATUS, pack(StatusRequest()))
    assert error_code(reply) == "refused"
    assert "query.status failed: a message without a signature" in caplog.text


def test_a_real_site_without_its_settings_refuses_instead_of_serving_as_a_simulated_one(
    hospital: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hospital / CONFIG_FILE).unlink()
    monkeypatch.setenv(FOLDER_VARIABLE, str(hospital))
    reply = send(None, STATUS, pack(StatusRequest()))
    assert error_code(reply) == "no-data"


def test_the_folder_set_at_the_site_comes_before_any_other(
    hospital: Path, site_folder: Path, send: Send, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(hospital))
    assert error_code(send(site_folder, STATUS, pack(StatusRequest()))) == "refused"
    assert unpack(send(site_folder, STATUS, sign(pack(StatusRequest()))[0]), StatusReply).site == "north"


def test_the_same_instruction_is_carried_out_once(
    hospital: Path, send: Send, sign: Sign, site_key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    Site(hospital).revoke(sorted(Site(hospital).patients(Subset.TRAIN))[:1])
    state = Site(hospital).card.build().state_dict()
    request, instruction = sign(pack(UnlearnRequest(config=UnlearnConfig(passes=1), seed=0), state), UNLEARN)
    assert unpack(send(hospital, UNLEARN, request), UnlearnReply).passes == 1
    open_site.cache_clear()
    again = send(hospital, UNLEARN, request)
    assert error_code(again) == "refused"
    assert "was already carried out" in caplog.text
    verify_reply(again, instruction, site_key.public)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"site": "south"}, "another federation, site or kind"),
        ({"federation": "0" * 64}, "another federation, site or kind"),
        ({"kind": TRAIN}, "another federation, site or kind"),
        ({"late": timedelta(hours=2)}, "expired 1:0"),
        ({"late": timedelta(minutes=-10)}, "ahead of this site's clock"),
        ({"late": timedelta(minutes=10), "lifetime": timedelta(minutes=4)}, "expired 0:06:0"),
        ({"lifetime": timedelta(hours=25)}, "valid for longer than 1 day"),
    ],
)
def test_an_instruction_that_does_not_fit_is_refused_and_the_refusal_signed(
    hospital: Path,
    send: Send,
    sign: Sign,
    site_key: SigningKey,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    says: str,
) -> None:
    request, instruction = sign(pack(StatusRequest()), **changes)
    reply = send(hospital, STATUS, request)
    assert error_code(reply) == "refused"
    assert says in caplog.text
    verify_reply(reply, instruction, site_key.public)


def test_a_strangers_instruction_gets_no_signature(hospital: Path, send: Send, sign: Sign) -> None:
    request, instruction = sign(pack(StatusRequest()), key=(stranger := SigningKey.generate()))
    reply = send(hospital, STATUS, request)
    assert error_code(reply) == "refused"
    with pytest.raises(EvidenceError, match="without a signature"):
        verify_reply(reply, instruction, stranger.public)


@pytest.mark.parametrize(
    ("kind", "body", "setting"),
    [
        (TRAIN, TRAINING.model_copy(update={"epochs": 21}), "max_epochs"),
        (RETAIN, TRAINING.model_copy(update={"config": TrainConfig(lr=0.2)}), "max_learning_rate"),
        (UNLEARN, UnlearnRequest(config=UnlearnConfig(passes=61), seed=0), "max_passes"),
        (UNLEARN, UnlearnRequest(config=UnlearnConfig(lr=0.2), seed=0), "max_learning_rate"),
        (UNLEARN, UnlearnRequest(config=UnlearnConfig(method="os.system"), seed=0), "methods"),
        (UNLEARN, UnlearnRequest(config=UnlearnConfig(method="scrub"), seed=0), "methods"),
        (TRAIN, TRAINING.model_copy(update={"config": TrainConfig(clip=11.0)}), "max_clip"),
        (UNLEARN, UnlearnRequest(config=UnlearnConfig(clip=11.0), seed=0), "max_clip"),
        (UNLEARN, UnlearnRequest(config=UnlearnConfig(weight_decay=1.5), seed=0), "max_weight_decay"),
        (
            EVALUATE,
            EvaluateRequest(purpose="audit", seed=0, decision=DecisionConfig(bootstrap=10_001)),
            "max_bootstrap",
        ),
        ("query.everything", StatusRequest(), "kinds"),
    ],
)
def test_a_well_signed_instruction_beyond_the_bounds_is_refused(
    hospital: Path, sign: Sign, kind: str, body: Body, setting: str
) -> None:
    request, instruction = sign(pack(body), kind)
    with pytest.raises(RefusedError, match=rf"bounds\.{setting}"):
        Trust.open(SiteFolder(hospital)).admit(instruction, request, kind, datetime.now(UTC))


def test_a_kind_that_the_site_does_not_allow_is_refused(hospital: Path, send: Send, sign: Sign) -> None:
    with (hospital / CONFIG_FILE).open("a") as file:
        file.write('\n[bounds]\nkinds = ["train"]\n')
    assert error_code(send(hospital, STATUS, sign(pack(StatusRequest()))[0])) == "refused"


def test_a_request_of_another_kind_than_signed_for_is_a_bad_request(
    hospital: Path, send: Send, sign: Sign, card: ModelCard
) -> None:
    request, _ = sign(pack(StatusRequest(), card.build().state_dict()), TRAIN)
    assert error_code(send(hospital, TRAIN, request)) == "bad-request"


def test_nonces_are_forgotten_once_no_clock_could_make_them_fresh(hospital: Path, sign: Sign) -> None:
    trust = Trust.open(SiteFolder(hospital))
    now = datetime.now(UTC)
    bounds = BoundsConfig()
    kept = timedelta(hours=1 + bounds.max_lifetime_hours, seconds=bounds.clock_skew_seconds)

    for late in (timedelta(0), -kept + timedelta(minutes=1), -kept - timedelta(minutes=1)):
        request, instruction = sign(pack(StatusRequest()), late=late)
        trust.admit(instruction, request, STATUS, now - late)
        engine = open_database(f"sqlite:///{SiteFolder(hospital).database}")
        with engine.connect() as connection:
            rows = connection.scalar(select(func.count()).select_from(SeenRow))
        engine.dispose()

    # The first is gone when the third comes, the second is not.
    assert rows == 2


def test_a_key_that_others_can_read_is_not_used(
    hospital: Path, send: Send, sign: Sign, caplog: pytest.LogCaptureFixture
) -> None:
    SiteFolder(hospital).signing_key.chmod(0o644)
    assert error_code(send(hospital, STATUS, sign(pack(StatusRequest()))[0])) == "no-data"
    assert "others can read this key" in caplog.text


def test_a_real_sites_replies_and_log_hold_no_patient(
    hospital: Path, send: Send, sign: Sign, secret: str, card: ModelCard, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        status = send(hospital, STATUS, sign(pack(StatusRequest()))[0])
        refused = send(hospital, TRAIN, pack(TRAINING, card.build().state_dict()))

    assert secret not in str(status) + str(refused) + caplog.text


REFUSAL = """
import sys
from flwr.app import Message, RecordDict
from client.app import app
from common.protocol.messages import StatusRequest
from common.protocol.wire import error_code, pack
from simulations.run.local_grid import LocalGrid
(reply,) = LocalGrid(app, {1: {}}).send_and_receive([Message(pack(StatusRequest()), 1, "query.status")])
print(error_code(reply.content), "torch" in sys.modules)
"""


def test_a_refusal_costs_no_import_of_torch(hospital: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSAL],
        env={**os.environ, FOLDER_VARIABLE: str(hospital)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["refused", "False"]


def fields(model: type[BaseModel]) -> set[str]:
    """Names of all fields, of nested models too, as `config.lr`."""
    found = set()

    for name, field in model.model_fields.items():
        nested = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        inner = {f"{name}.{f}" for t in nested if issubclass(t, BaseModel) for f in fields(t)}
        found |= inner or {name}

    return found


REQUESTS: dict[str, tuple[type[BaseModel], str]] = {
    # Compared with names that are here; a base's is refused by `client.cohort.holdings` unless it is a digest.
    "note": (WeightsNote, "base weights precision line encoders"),
    STATUS: (StatusRequest, ""),
    ADOPT: (AdoptRequest, "version digest campaign how retired reason"),
    TRAIN: (
        TrainRequest,
        "epochs round seed reference config.rounds config.patience config.min_rounds config.keep config.local_epochs"
        " config.batch config.lr config.weight_decay config.clip config.micro_batch config.keep_norms"
        # A lineage is a key of the site's own database.
        " folds.lineage folds.models.family folds.models.number folds.models.of",
    ),
    UNLEARN: (
        UnlearnRequest,
        "seed config.method config.weighting config.noise config.image_noise config.text_noise config.passes"
        " config.batch config.retain_batch config.lr config.weight_decay config.clip config.forget_weight"
        " config.task_weight config.push config.push_bounded config.targets config.renew config.tolerance"
        " config.micro_batch"
        # Numbers and switches of single methods.
        " config.neg_grad_plus.retain_share config.scrub.max_passes config.scrub.teacher_weight"
        " config.scrub.task_weight config.scrub.rewind config.cf_k.layers config.eu_k.layers config.salun.share"
        " config.salun.retain_weight config.ssd.selection config.ssd.dampening config.multi_delete.decoupling"
        " config.multi_delete.unimodal config.multi_delete.multimodal config.pga.radius config.fed_eraser.interval"
        " config.fed_eraser.epochs config.fold_targets config.exact.declared_by",
    ),
    EVALUATE: (
        EvaluateRequest,
        "purpose seed reference decision.auc_margin decision.ks_alpha decision.accuracy_margin"
        " decision.utility_tolerance decision.bootstrap"
        " folds.lineage folds.models.family folds.models.number folds.models.of",
    ),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_no_request_has_a_field_that_could_name_a_path(kind: str) -> None:
    model, names = REQUESTS[kind]
    unlisted = fields(model) ^ set(names.split())
    assert unlisted == set(), (
        "list a new field in REQUESTS, and say there what keeps it from opening a file at a hospital"
    )


def test_error_replies_hold_a_code_and_nothing_else() -> None:
    assert fields(ErrorReply) == {"code"}
    with pytest.raises(WireError):
        unpack(pack(ErrorReply(code="failed")), StatusReply)
