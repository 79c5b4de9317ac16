"""Messages on the wire: a body in a Flower `ConfigRecord`, weights in an `ArrayRecord`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import ValidationError

from common.errors import WireError
from common.protocol.array_bytes import from_array, to_record
from common.protocol.array_groups import Member, group, ungroup
from common.protocol.messages import Body, ErrorReply, WeightsNote

if TYPE_CHECKING:
    from torch import Tensor

_BODY = "body"
_NOTE = "note"
_WEIGHTS = "arrays"
# Maximum characters of a body; all figures of one site take 55 kB.
_MOST_TEXT = 2**20

B = TypeVar("B", bound=Body)


def pack(body: Body, weights: Mapping[str, Tensor] | ArrayRecord | None = None, note: Body | None = None) -> RecordDict:
    """Records of a message; `note` is a `WeightsNote` or a `HeldNote`."""
    records = RecordDict({_BODY: _record(body)})
    if note is not None:
        records[_NOTE] = _record(note)
    if weights is not None:
        records[_WEIGHTS] = group(weights if isinstance(weights, ArrayRecord) else to_record(weights.items()))
    return records


def _record(body: Body) -> ConfigRecord:
    # Sites of earlier versions refuse fields that they do not know.
    absent = {"encoders"} if isinstance(body, WeightsNote) and not body.encoders else None
    return ConfigRecord({"type": type(body).__name__, "json": body.model_dump_json(exclude=absent)})


def note_of(records: RecordDict, kind: type[B]) -> B | None:
    """The note of a message, None without one.

    Raises:
        WireError: it is not a `kind`.
    """
    return _read(records[_NOTE], kind) if _NOTE in records else None


def unpack(records: RecordDict, kind: type[B]) -> B:
    """The body of a message.

    Raises:
        WireError: it is not a `kind`, or the site sent an `ErrorReply`.
    """
    return _read(records.get(_BODY), kind)


def _read(record: object, kind: type[B]) -> B:
    if not isinstance(record, ConfigRecord):
        raise WireError("message without a body")
    name = record.get("type")
    text = record.get("json")
    if name not in {kind.__name__, ErrorReply.__name__}:
        raise WireError(f"expected {kind.__name__}, got {shown(name, 40)}")
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        raise WireError(f"{kind.__name__} is no text of at most {_MOST_TEXT} characters")
    try:
        if name == ErrorReply.__name__:
            raise WireError(f"the site answered with error {ErrorReply.model_validate_json(text).code!r}, see its log")
        return kind.model_validate_json(text, strict=True)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        # The sender chose the names of unknown fields: print them safely.
        raise WireError(shown(f"{kind.__name__}.{place}: {first['msg']}")) from None


def shown(text: object, most: int = 200) -> str:
    """Text of the other side in ASCII without control characters, cut to `most` characters."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in str(text)[:most])[:most]


def error_code(records: RecordDict) -> str | None:
    """The code of an `ErrorReply`, None for any other message."""
    record = records.get(_BODY)
    if not isinstance(record, ConfigRecord) or record.get("type") != ErrorReply.__name__:
        return None
    try:
        return ErrorReply.model_validate_json(str(record.get("json"))).code
    except ValidationError:
        return "unreadable"


def arrays_of(records: RecordDict) -> dict[str, Array | Member]:
    """The arrays of a message by their names.

    Raises:
        WireError: there are none, or they cannot be read.
    """
    record = records.get(_WEIGHTS)
    if not isinstance(record, ArrayRecord):
        raise WireError("message without weights")
    return ungroup(record)


def weights_of(records: RecordDict) -> dict[str, Tensor]:
    """The arrays of a message as tensors.

    Raises:
        WireError: there are none, or they cannot be read.
    """
    return {name: from_array(array) for name, array in arrays_of(records).items()}


def size(records: RecordDict) -> int:
    """Bytes of the arrays in a message, which are nearly all of it."""
    record = records.get(_WEIGHTS)
    return sum(len(a.data) for a in record.values()) if isinstance(record, ArrayRecord) else 0
