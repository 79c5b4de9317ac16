from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EvidenceError, RefusedError
from common.evidence.keys import SigningKey
from common.protocol.instructions import (
    Context,
    Instruction,
    check_instruction,
    content_of,
    read_instruction,
    sign_reply,
    sign_request,
    verify_reply,
)

COORDINATOR, SITE, STRANGER = (SigningKey.generate() for _ in range(3))
NOW = datetime(2026, 11, 2, 8, 14, tzinfo=UTC)
CONTEXT = Context("f" * 64, 7, "retain:1", 1, "train.retain", "north")
Change = Callable[[Any], Any]


def message(text: str = '{"epochs":1}', offset: float = 0.0) -> RecordDict:
    weights = {"a": Array(np.arange(6, dtype=np.float32).reshape(2, 3) + offset), "b": Array(np.zeros(2, np.int64))}
    return RecordDict({"body": ConfigRecord({"type": "TrainRequest", "json": text}), "arrays": ArrayRecord(weights)})


def signed(
    records: RecordDict, context: Context = CONTEXT, key: SigningKey = COORDINATOR, nonce: str = "0" * 64
) -> tuple[RecordDict, Instruction]:
    return sign_request(
        records, content_of(records), context, key, issued=NOW, lifetime=timedelta(hours=1), nonce=nonce
    )


def check(records: RecordDict, now: datetime = NOW, **changes: Any) -> Instruction:
    instruction = read_instruction(records, COORDINATOR.public)
    expected: dict[str, Any] = {
        "federation": CONTEXT.federation,
        "site": "north",
        "kind": "train.retain",
        "max_lifetime": timedelta(hours=24),
        "skew": timedelta(minutes=5),
    }
    check_instruction(instruction, records, now=now, **{**expected, **changes})
    return instruction


REQUEST, INSTRUCTION = signed(message())


def test_a_signed_request_is_accepted_and_says_what_it_is_for() -> None:
    assert check(REQUEST) == INSTRUCTION
    assert INSTRUCTION.context == CONTEXT
    assert INSTRUCTION.end == NOW + timedelta(hours=1)


def envelope(records: RecordDict) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(records["signature"]["envelope"]))
    return found


def with_envelope(records: RecordDict, content: dict[str, Any]) -> RecordDict:
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return RecordDict({**records, "signature": ConfigRecord({"envelope": text})})


def flip(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << bit
    return bytes(changed)


places = st.integers(0, 10_000)
bits = st.integers(0, 7)


@given(places, bits)
def test_any_changed_bit_of_what_was_signed_is_refused(at: int, bit: int) -> None:
    content = envelope(REQUEST)
    payload = base64.b64encode(flip(base64.b64decode(content["payload"]), at, bit)).decode()
    with pytest.raises(EvidenceError):
        check(with_envelope(REQUEST, {**content, "payload": payload}))


@given(places, bits)
def test_any_changed_bit_of_a_signature_is_refused(at: int, bit: int) -> None:
    content = envelope(REQUEST)
    (one,) = content["signatures"]
    other = base64.b64encode(flip(base64.b64decode(one["sig"]), at, bit)).decode()
    with pytest.raises(EvidenceError):
        check(with_envelope(REQUEST, {**content, "signatures": [{**one, "sig": other}]}))


@given(st.text(max_size=40))
def test_any_other_text_in_place_of_an_envelope_is_refused(text: str) -> None:
    with pytest.raises(EvidenceError):
        check(RecordDict({**REQUEST, "signature": ConfigRecord({"envelope": text})}))


@given(st.sampled_from(["type", "json"]), st.text(max_size=30))
def test_any_other_body_is_refused(field: str, text: str) -> None:
    body = ConfigRecord({**REQUEST.config_records["body"], field: text})
    if body != REQUEST["body"]:
        with pytest.raises(EvidenceError, match="not the ones that were signed"):
            check(RecordDict({**REQUEST, "body": body}))


@given(st.sampled_from(["a", "b"]), places, bits)
def test_any_changed_bit_of_the_weights_is_refused(name: str, at: int, bit: int) -> None:
    arrays = dict(REQUEST.array_records["arrays"])
    old = arrays[name]
    arrays[name] = Array(old.dtype, old.shape, old.stype, flip(old.data, at, bit))
    with pytest.raises(EvidenceError, match="not the ones that were signed"):
        check(RecordDict({**REQUEST, "arrays": ArrayRecord(arrays)}))


def _renamed(records: RecordDict) -> RecordDict:
    a, b = records.array_records["arrays"].values()
    return RecordDict({**records, "arrays": ArrayRecord({"b": a, "a": b})})


def _as_other_type(records: RecordDict) -> RecordDict:
    arrays = dict(records.array_records["arrays"])
    arrays["a"] = replace_array(arrays["a"], dtype="int32")
    return RecordDict({**records, "arrays": ArrayRecord(arrays)})


def _reshaped(records: RecordDict) -> RecordDict:
    arrays = dict(records.array_records["arrays"])
    arrays["a"] = replace_array(arrays["a"], shape=(3, 2))
    return RecordDict({**records, "arrays": ArrayRecord(arrays)})


def replace_array(array: Array, **changes: Any) -> Array:
    return Array(**{"dtype": array.dtype, "shape": array.shape, "stype": array.stype, "data": array.data, **changes})


def _without_weights(records: RecordDict) -> RecordDict:
    return RecordDict({name: record for name, record in records.items() if name != "arrays"})


CHANGES: list[Change] = [
    _renamed,
    _as_other_type,
    _reshaped,
    _without_weights,
    lambda r: RecordDict({**r, "more": ArrayRecord({})}),
    lambda r: RecordDict({**r, "more": ConfigRecord({"path": "elsewhere"})}),
    lambda r: RecordDict({**r, "more": MetricRecord({"num-examples": 1})}),
    lambda r: RecordDict({**r, "body": ConfigRecord({**dict(r["body"]), "more": b"bytes"})}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_added_to_a_message_or_moved_in_it(change: Change) -> None:
    with pytest.raises(EvidenceError):
        check(change(REQUEST))
    with pytest.raises(EvidenceError):
        verify_reply(change(sign_reply(message(), INSTRUCTION, SITE)), INSTRUCTION, SITE.public)


def test_the_order_of_names_does_not_matter() -> None:
    turned = RecordDict({"arrays": ArrayRecord(dict(reversed([*REQUEST.array_records["arrays"].items()])))})
    assert check(RecordDict({**turned, "signature": REQUEST["signature"], "body": REQUEST["body"]})) == INSTRUCTION


@pytest.mark.parametrize(
    ("field", "value"), [("federation", "0" * 64), ("site", "south"), ("kind", "train"), ("kind", "train.unlearn")]
)
def test_an_instruction_for_somebody_or_something_else_is_refused(field: str, value: str) -> None:
    change: dict[str, Any] = {field: value}
    with pytest.raises(RefusedError, match="another federation, site or kind"):
        check(REQUEST, **change)


@pytest.mark.parametrize(
    ("minutes", "says"),
    [(-10, "ahead of this site's clock"), (-5.1, "ahead"), (65.1, "expired"), (60 * 24 * 365, "expired")],
)
def test_an_instruction_out_of_its_time_is_refused(minutes: float, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        check(REQUEST, NOW + timedelta(minutes=minutes))


@pytest.mark.parametrize("minutes", [-5, 0, 60, 65])
def test_clocks_may_differ_by_the_skew(minutes: float) -> None:
    assert check(REQUEST, NOW + timedelta(minutes=minutes)) == INSTRUCTION


def test_an_instruction_must_not_be_in_force_for_longer_than_the_site_allows() -> None:
    with pytest.raises(RefusedError, match="longer than 0:59:59"):
        check(REQUEST, max_lifetime=timedelta(hours=1, seconds=-1))


def test_a_message_without_a_signature_is_refused() -> None:
    for records in (message(), RecordDict(), RecordDict({"signature": ConfigRecord({"envelope": 1})})):
        with pytest.raises(RefusedError, match="without a signature"):
            check(records)


def test_only_the_pinned_key_instructs() -> None:
    with pytest.raises(EvidenceError, match="not among the pinned keys"):
        check(signed(message(), key=STRANGER)[0])


def test_a_reply_to_this_very_request_is_accepted() -> None:
    reply = sign_reply(message(offset=1.0), INSTRUCTION, SITE)
    verify_reply(reply, INSTRUCTION, SITE.public)


@pytest.mark.parametrize(
    "other",
    [
        {"site": "south"},
        {"kind": "train"},
        {"round": 2},
        {"campaign": 8},
        {"step": "retain:2"},
        {"federation": "0" * 64},
    ],
)
def test_a_genuine_reply_in_another_context_is_refused(other: dict[str, Any]) -> None:
    _, earlier = signed(message(), replace(CONTEXT, **other))
    reply = sign_reply(message(offset=1.0), earlier, SITE)
    with pytest.raises(EvidenceError, match="another context"):
        verify_reply(reply, INSTRUCTION, SITE.public)


def test_an_old_genuine_reply_to_the_same_question_is_refused() -> None:
    _, again = signed(message(), nonce="1" * 64)
    with pytest.raises(EvidenceError, match="another request"):
        verify_reply(sign_reply(message(offset=1.0), INSTRUCTION, SITE), again, SITE.public)


def test_a_reply_to_other_weights_is_refused() -> None:
    _, other = signed(message(offset=2.0))
    with pytest.raises(EvidenceError, match="another request"):
        verify_reply(sign_reply(message(offset=1.0), INSTRUCTION, SITE), other, SITE.public)


def test_a_reply_signed_by_another_or_not_at_all_is_refused() -> None:
    for reply in (sign_reply(message(), INSTRUCTION, STRANGER), message(), REQUEST):
        with pytest.raises(EvidenceError):
            verify_reply(reply, INSTRUCTION, SITE.public)


def test_a_request_is_no_reply_even_when_one_key_signs_both() -> None:
    with pytest.raises(EvidenceError, match="payload type"):
        verify_reply(REQUEST, INSTRUCTION, COORDINATOR.public)
    with pytest.raises(EvidenceError, match="payload type"):
        check(sign_reply(message(), INSTRUCTION, COORDINATOR))


@given(places, bits)
def test_any_changed_bit_of_a_replys_weights_is_refused(at: int, bit: int) -> None:
    reply = sign_reply(message(offset=1.0), INSTRUCTION, SITE)
    arrays = dict(reply.array_records["arrays"])
    arrays["a"] = replace_array(arrays["a"], data=flip(arrays["a"].data, at, bit))
    with pytest.raises(EvidenceError, match="not the ones that were signed"):
        verify_reply(RecordDict({**reply, "arrays": ArrayRecord(arrays)}), INSTRUCTION, SITE.public)


def test_a_reply_without_weights_verifies_and_takes_none() -> None:
    bare = RecordDict({"body": message()["body"]})
    reply = sign_reply(bare, INSTRUCTION, SITE)
    verify_reply(reply, INSTRUCTION, SITE.public)
    with pytest.raises(EvidenceError, match="not the ones"):
        verify_reply(RecordDict({**reply, "arrays": message()["arrays"]}), INSTRUCTION, SITE.public)
