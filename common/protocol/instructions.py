"""Signed instructions and replies: who requested what from which site, over which exact bytes, and until when.

A request carries an envelope (DSSE, see `common.evidence.dsse`) by the coordinator, a reply one by the site. Each binds
the context, the digests of all that the message holds and the nonce; a reply also binds the request it answers.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from common.errors import EvidenceError, RefusedError
from common.evidence import dsse
from common.evidence.canonical import Json, canonical
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.schema import check_digest, check_text, check_time, decode, encode, time_text

REQUEST_TYPE = "application/vnd.fedforget.instruction+json"
REPLY_TYPE = "application/vnd.fedforget.reply+json"

_SIGNATURE = "signature"
_ENVELOPE = "envelope"
_COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Context:
    """What an instruction belongs to; `campaign` 0 means none."""

    federation: str
    """Fingerprint of its CA, as `common.platform.keys.certificates.certificate_fingerprint` writes it."""
    campaign: int
    step: str
    round: int
    kind: str
    """Type of the Flower message."""
    site: str


@dataclass(frozen=True, slots=True)
class Content:
    """Digests that together cover all records of a message except its signature; `weights` is empty without arrays."""

    body: str
    weights: str

    def __post_init__(self) -> None:
        check_digest(self.body, "body")
        if self.weights:
            check_digest(self.weights, "weights")


@dataclass(frozen=True, slots=True)
class Instruction:
    """The statement that the coordinator signs; times are UTC in whole seconds."""

    context: Context
    content: Content
    issued: str
    expires: str
    nonce: str

    def __post_init__(self) -> None:
        check_time(self.issued, "issued")
        check_time(self.expires, "expires")
        check_digest(self.nonce, "nonce")
        check_text(self.context.site, "context.site")

    @property
    def digest(self) -> str:
        """SHA-256 of the signed bytes, by which a reply names its request."""
        return hashlib.sha256(encode(self)).hexdigest()

    @property
    def end(self) -> datetime:
        """When it expires."""
        return datetime.fromisoformat(self.expires)


@dataclass(frozen=True, slots=True)
class Reply:
    """The statement that a site signs."""

    context: Context
    request: str
    nonce: str
    content: Content


def new_nonce() -> str:
    """32 bytes from the operating system's randomness, in hexadecimal."""
    return secrets.token_hex(32)


def content_of(records: RecordDict) -> Content:
    """Digests of a message. Reads all bytes of its arrays, so compute it once if several sites get the same message.

    Raises:
        EvidenceError: the message holds a record that neither digest covers.
    """
    bodies: dict[str, Json] = {}
    arrays: dict[str, ArrayRecord] = {}

    for name, record in records.items():
        if isinstance(record, ArrayRecord):
            arrays[name] = record
        elif not isinstance(record, ConfigRecord):
            raise EvidenceError("a message with a record that no signature covers")
        elif name != _SIGNATURE:
            bodies[name] = cast(Json, dict(record))  # `canonical` refuses bytes and fractions

    return Content(hashlib.sha256(canonical(bodies)).hexdigest(), _digest_arrays(arrays) if arrays else "")


def _digest_arrays(records: dict[str, ArrayRecord]) -> str:
    """SHA-256 over the head of each record and array (its length in front) and the arrays' bytes, in order of names."""
    digest = hashlib.sha256()

    def add(*head: Json) -> None:
        data = canonical(list(head))
        # The length in front, so that no two sequences of heads and arrays give the same bytes.
        digest.update(len(data).to_bytes(8, "big") + data)

    for record_name in sorted(records):
        record = records[record_name]
        add(record_name, len(record))

        for name in sorted(record):
            array = record[name]
            add(name, array.dtype, list(array.shape), array.stype, len(array.data))
            digest.update(array.data)

    return digest.hexdigest()


def sign_request(
    records: RecordDict,
    content: Content,
    context: Context,
    key: SigningKey,
    *,
    issued: datetime,
    lifetime: timedelta,
    nonce: str,
) -> tuple[RecordDict, Instruction]:
    """A message with the records of `records` and an instruction over `content`, their digests from `content_of`."""
    instruction = Instruction(context, content, time_text(issued), time_text(issued + lifetime), nonce)
    return _attach(records, dsse.sign(REQUEST_TYPE, encode(instruction), key)), instruction


def read_instruction(records: RecordDict, coordinator: PublicKey) -> Instruction:
    """The instruction in a message, after its signature is verified as the coordinator's.

    It may be for another site, time or message: `check_instruction` decides that.

    Raises:
        RefusedError: the message is not signed.
        EvidenceError: the signature does not hold.
    """
    return decode(Instruction, _payload(records, REQUEST_TYPE, _COORDINATOR, coordinator))


def check_instruction(
    instruction: Instruction,
    records: RecordDict,
    *,
    federation: str,
    site: str,
    kind: str,
    now: datetime,
    max_lifetime: timedelta,
    skew: timedelta,
) -> None:
    """Raise unless `instruction` asks `site` for `kind`, is in force at `now` (up to `skew`), and covers `records`.

    Raises:
        RefusedError: it is for another federation, site or kind, is not yet or no longer in force, or for too long.
        EvidenceError: the message holds other bytes than were signed.
    """
    # Cheap checks first: the digests read all bytes of the weights.
    context = instruction.context
    if (context.federation, context.site, context.kind) != (federation, site, kind):
        raise RefusedError("an instruction for another federation, site or kind of request")
    start = datetime.fromisoformat(instruction.issued)
    if instruction.end - start > max_lifetime:
        raise RefusedError(f"an instruction that is valid for longer than {max_lifetime}")
    if now < start - skew:
        raise RefusedError(f"an instruction issued {start - now} ahead of this site's clock; check both clocks")
    if now > instruction.end + skew:
        raise RefusedError(f"an instruction that expired {now - instruction.end} ago; check both clocks")
    if content_of(records) != instruction.content:
        raise EvidenceError("a request whose body or weights are not the ones that were signed")


def sign_reply(records: RecordDict, instruction: Instruction, key: SigningKey) -> RecordDict:
    """A message with the records of `records`, signed as the answer to `instruction`."""
    reply = Reply(instruction.context, instruction.digest, instruction.nonce, content_of(records))
    return _attach(records, dsse.sign(REPLY_TYPE, encode(reply), key))


def verify_reply(records: RecordDict, instruction: Instruction, key: PublicKey) -> None:
    """Raise unless `records` are the answer of the holder of `key` to `instruction`, and to no other.

    Raises:
        EvidenceError: not signed, signed with another key, an answer to another request, or other bytes.
    """
    try:
        reply = decode(Reply, _payload(records, REPLY_TYPE, instruction.context.site, key))
    # An unsigned reply from an enrolled site is evidence of a fault, and not a refusal.
    except RefusedError as err:
        raise EvidenceError(str(err)) from None

    if reply.context != instruction.context:
        raise EvidenceError("a reply in another context: campaign, step, round, kind or site differ")
    # Both: the digest names the request, and the nonce in it was never used before.
    if (reply.request, reply.nonce) != (instruction.digest, instruction.nonce):
        raise EvidenceError("a reply to another request")
    if reply.content != content_of(records):
        raise EvidenceError("a reply whose body or weights are not the ones that were signed")


def _attach(records: RecordDict, envelope: dsse.Envelope) -> RecordDict:
    signature = ConfigRecord({_ENVELOPE: dsse.encode_envelope(envelope).decode()})
    return RecordDict({**records, _SIGNATURE: signature})


def _payload(records: RecordDict, payload_type: str, name: str, key: PublicKey) -> bytes:
    """The payload that `name` signed with `key`."""
    record = records.get(_SIGNATURE)
    text = record.get(_ENVELOPE) if isinstance(record, ConfigRecord) and len(record) == 1 else None
    if not isinstance(text, str):
        raise RefusedError("a message without a signature")
    envelope = dsse.decode_envelope(text.encode("utf-8", "replace"))
    dsse.verify(envelope, payload_type, PinnedKeys.of([(name, key)]), {name: 1})

    return envelope.body
