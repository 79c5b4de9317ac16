"""Whatever a site sends has a bound: every list, text, byte string and number of a reply or a call."""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, MaxLen
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo
from rogue.mutations import put, with_body

from common.errors import WireError
from common.learning.evaluation.figures import ClassAuc, Membership, SelectionFigures, SiteFigures, Utility
from common.learning.evaluation.histograms import EDGES, LossHistogram
from common.protocol.coordination import bounds
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.messages import (
    AdoptReply,
    Body,
    ErrorReply,
    EvaluateReply,
    HeldNote,
    StatusReply,
    TrainReply,
    UnlearnReply,
)
from common.protocol.rehearsals import Rehearsed, RehearseReply
from common.protocol.wire import pack, unpack


def subclasses(kind: type[Body]) -> Iterator[type[Body]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith("common."):
            yield subclass
            yield from subclasses(subclass)


BODIES = sorted(subclasses(Body), key=lambda kind: kind.__name__)
FROM_SITES = [kind for kind in BODIES if kind.__name__.endswith("Reply") or kind is HeldNote]
WITHOUT_BOUND = {"UnlearnRequest.config.method", "RehearseRequest.unlearn.method"}
"""Texts of settings, which only the coordinator sends."""


def plain(metadata: Any) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from plain(item.metadata)
        elif isinstance(item, GroupedMetadata):
            yield from item
        else:
            yield item


def limited(metadata: list[Any], *kinds: type[BaseMetadata]) -> bool:
    names: dict[type[BaseMetadata], str] = {MaxLen: "max_length", Le: "le", Lt: "lt", Ge: "ge", Gt: "gt"}
    return any(
        isinstance(item, kind) or getattr(item, names[kind], None) is not None for item in metadata for kind in kinds
    )


def unbounded(kind: Any, where: str, metadata: Any = (), numbers: bool = True) -> Iterator[str]:  # noqa: PLR0912
    """Places in a type that a value of any size fits into."""
    of = list(plain(metadata))
    origin = get_origin(kind)
    inner = get_args(kind)

    if origin is Annotated:
        yield from unbounded(inner[0], where, [*of, *inner[1:]], numbers)
    elif origin in {Union, types.UnionType}:
        for one in inner:
            yield from unbounded(one, where, of, numbers)
    elif origin is tuple and Ellipsis not in inner:
        for number, one in enumerate(inner):
            yield from unbounded(one, f"{where}[{number}]", (), numbers)
    elif origin in {tuple, list, set, frozenset, dict}:
        names = get_origin(inner[0]) is Literal
        if not limited(of, MaxLen) and not (origin is dict and names):
            yield where
        for one in inner[: 2 if origin is dict else 1]:
            yield from unbounded(one, f"{where}[]", (), numbers)
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from unbounded(field.annotation, f"{where}.{name}", field.metadata, numbers)
    elif kind in {str, bytes}:
        if not limited(of, MaxLen) and not any(getattr(item, "pattern", None) for item in of):
            yield where
    elif kind in {int, float}:
        least = kind is float or limited(of, Ge, Gt)
        if numbers and not (least and limited(of, Le, Lt)):
            yield where
    elif origin is not Literal and kind not in {bool, type(None), datetime, AwareDatetime}:
        yield f"{where}: {kind}, which this test does not know"


@pytest.mark.parametrize("kind", FROM_SITES, ids=lambda kind: kind.__name__)
def test_every_field_of_what_a_site_sends_has_a_bound(kind: type[Body]) -> None:
    assert list(unbounded(kind, kind.__name__)) == []


@pytest.mark.parametrize("kind", [kind for kind in BODIES if kind not in FROM_SITES], ids=lambda kind: kind.__name__)
def test_every_list_and_text_of_what_the_coordinator_sends_has_a_bound(kind: type[Body]) -> None:
    assert set(unbounded(kind, kind.__name__, numbers=False)) <= WITHOUT_BOUND


def test_the_search_finds_a_field_without_a_bound() -> None:
    class Loose(BaseModel):
        names: tuple[str, ...]
        figures: dict[str, float]
        count: int | None = None
        blob: bytes = b""

    expected = ["names", "names[]", "figures", "figures[]", "figures[]", "count", "blob"]
    assert list(unbounded(Loose, "Loose")) == [f"Loose.{name}" for name in expected]


UTILITY = Utility(
    patients=9,
    confusion=((4, 1), (0, 4)),
    auc=(ClassAuc(wins=1.0, pairs=20, positives=4, negatives=5),) * 2,
    loss_sum=1.0,
    loss_median=0.1,
    losses=LossHistogram(edges=(0.0, EDGES[-1]), counts=(9,)),
)
MEMBER = Membership(
    forget_patients=2, control_patients=3, auc=0.5, variance=0.1, ks=0.1, ks_p=0.5, missing={"svc": "too few"}
)
DIGEST = "a" * 64
REPLIES: list[Body] = [
    StatusReply(site="north", registered={"train": 9}, train_studies=9, retain_studies=7, pending=2),
    TrainReply(
        site="north",
        loss=1.0,
        cost=1.0,
        seconds=1.0,
        received=SelectionFigures(validation={"fused": UTILITY}, membership={"fused": MEMBER}),
    ),
    UnlearnReply(site="north", passes=1, gaps=(0.1, 0.1, 0.1), cost=1.0, seconds=1.0, cohort=DIGEST),
    EvaluateReply(
        site="north",
        cost=1.0,
        seconds=1.0,
        audit=SiteFigures(groups={"test": {"fused": UTILITY}}, membership={"fused": MEMBER}, distance=1.0),
    ),
    AdoptReply(site="north", purged=(DIGEST,), closed=1),
    ErrorReply(code="failed"),
    HeldNote(held=(DIGEST,)),
    RehearseReply(
        site="north",
        cost=1.0,
        seconds=1.0,
        unlearned=(Rehearsed(number=1, passes=1, gaps=None),),
        refused={1: "few"},
        distances={1: 0.1},
    ),
]


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Each place whose value can grow, and a value of the same form that is far too large."""
    if isinstance(value, dict):
        some = next(iter(value.values()), 0)
        yield at, {**value, **{str(number): some for number in range(20_000)}}
        for key, one in value.items():
            yield from places(one, (*at, key))
    elif isinstance(value, list):
        yield at, (value or [0]) * 20_000
        for number, one in enumerate(value):
            yield from places(one, (*at, number))
    elif isinstance(value, str):
        yield at, value * 20_000
    elif isinstance(value, int | float):
        yield at, 10**40
        yield at, -(10**40)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_a_reply_that_is_far_too_large_in_any_place_is_refused_in_one_short_line(reply: Body) -> None:
    assert {type(reply) for reply in REPLIES} == set(FROM_SITES)
    if not isinstance(reply, ErrorReply):
        assert unpack(pack(reply), type(reply)) == reply

    for path, large in places(reply.model_dump(mode="json", by_alias=True)):
        changed = with_body(pack(reply), partial(put, path=path, new=large))
        with pytest.raises(WireError) as refused:
            unpack(changed, type(reply))
        assert len(str(refused.value)) < 300, path


def fields(message: Descriptor) -> Iterator[FieldDescriptor]:
    for field in message.fields:
        yield field
        if field.message_type is not None and field.message_type.file is messages.DESCRIPTOR:
            yield from fields(field.message_type)


CALLS = [method.input_type for method in messages.DESCRIPTOR.services_by_name["Coordination"].methods]


def test_every_field_of_every_call_of_the_coordination_service_has_a_bound() -> None:
    all_fields = [field for call in CALLS for field in fields(call)]
    lists = {bounds.field_key(field) for field in all_fields if field.is_repeated}
    sized = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
    texts = {bounds.field_key(field) for field in all_fields if field.type in sized}
    assert lists == set(bounds.ITEMS)
    assert texts == set(bounds.LENGTHS)


def _nested(request: Any, outer: list[str]) -> Any:
    """The message that holds a field: a request, or an item of its list."""
    lists = {"Answer": "answers", "Known": "known"}
    return getattr(request, lists[outer[-1]]).add() if len(outer) > 1 else request


@pytest.mark.parametrize("key", bounds.ITEMS)
def test_a_call_with_a_list_beyond_its_bound_is_refused_by_the_name_of_the_field(key: str) -> None:
    *outer, name = key.split(".")
    request = getattr(messages, outer[0])()
    inner = _nested(request, outer)
    items = getattr(inner, name)
    field = inner.DESCRIPTOR.fields_by_name[name]

    for _ in range(bounds.ITEMS[key]):
        items.add() if field.message_type else items.append("a" if field.type == field.TYPE_STRING else b"a")
    assert bounds.excess(request) is None
    items.add() if field.message_type else items.append(items[0])
    assert bounds.excess(request) == f"{name} has more than {bounds.ITEMS[key]} items"


@pytest.mark.parametrize("key", bounds.LENGTHS)
def test_a_call_with_a_text_beyond_its_bound_is_refused_by_the_name_of_the_field(key: str) -> None:
    *outer, name = key.split(".")
    request = getattr(messages, outer[0])()
    inner = _nested(request, outer)
    field = inner.DESCRIPTOR.fields_by_name[name]
    long: Any = "a" if field.type == field.TYPE_STRING else b"a"

    for extra, said in ((0, None), (1, f"{name} is longer than {bounds.LENGTHS[key]}")):
        value = long * (bounds.LENGTHS[key] + extra)
        if field.is_repeated:
            del getattr(inner, name)[:]
            getattr(inner, name).append(value)
        else:
            setattr(inner, name, value)
        assert bounds.excess(request) == said
