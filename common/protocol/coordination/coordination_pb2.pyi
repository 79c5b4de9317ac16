import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnnounceRequest(_message.Message):
    __slots__ = ("pending", "first_due")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    FIRST_DUE_FIELD_NUMBER: _ClassVar[int]
    pending: int
    first_due: _timestamp_pb2.Timestamp
    def __init__(self, pending: _Optional[int] = ..., first_due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AnnounceReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("version", "held", "clock")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    version: str
    held: _containers.RepeatedScalarFieldContainer[str]
    clock: _timestamp_pb2.Timestamp
    def __init__(self, version: _Optional[str] = ..., held: _Optional[_Iterable[str]] = ..., clock: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("clock", "purge")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    PURGE_FIELD_NUMBER: _ClassVar[int]
    clock: _timestamp_pb2.Timestamp
    purge: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, clock: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purge: _Optional[_Iterable[str]] = ...) -> None: ...

class AcknowledgePurgeRequest(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digests: _Optional[_Iterable[str]] = ...) -> None: ...

class AcknowledgePurgeReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("standing", "pending", "campaign", "version")
    class Standing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STANDING_UNSPECIFIED: _ClassVar[StatusReply.Standing]
        STANDING_ACTIVE: _ClassVar[StatusReply.Standing]
        STANDING_SUSPENDED: _ClassVar[StatusReply.Standing]
    STANDING_UNSPECIFIED: StatusReply.Standing
    STANDING_ACTIVE: StatusReply.Standing
    STANDING_SUSPENDED: StatusReply.Standing
    STANDING_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    standing: StatusReply.Standing
    pending: int
    campaign: str
    version: str
    def __init__(self, standing: _Optional[_Union[StatusReply.Standing, str]] = ..., pending: _Optional[int] = ..., campaign: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ExchangeCheckpointRequest(_message.Message):
    __slots__ = ("checkpoint", "since", "proof", "seen", "cosigned")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    since: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    seen: int
    cosigned: bytes
    def __init__(self, checkpoint: _Optional[bytes] = ..., since: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., seen: _Optional[int] = ..., cosigned: _Optional[bytes] = ...) -> None: ...

class ExchangeCheckpointReply(_message.Message):
    __slots__ = ("cosigned", "known", "checkpoint", "proof")
    COSIGNED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    cosigned: bytes
    known: int
    checkpoint: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, cosigned: _Optional[bytes] = ..., known: _Optional[int] = ..., checkpoint: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ExchangeAttestationsRequest(_message.Message):
    __slots__ = ("answers", "signed")
    class Answer(_message.Message):
        __slots__ = ("campaign", "revocations")
        CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
        REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
        campaign: int
        revocations: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, campaign: _Optional[int] = ..., revocations: _Optional[_Iterable[bytes]] = ...) -> None: ...
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[ExchangeAttestationsRequest.Answer]
    signed: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, answers: _Optional[_Iterable[_Union[ExchangeAttestationsRequest.Answer, _Mapping]]] = ..., signed: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ExchangeAttestationsReply(_message.Message):
    __slots__ = ("wanted", "waiting")
    WANTED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    wanted: _containers.RepeatedScalarFieldContainer[int]
    waiting: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, wanted: _Optional[_Iterable[int]] = ..., waiting: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ExchangeTokensRequest(_message.Message):
    __slots__ = ("tokens", "after")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[bytes]
    after: int
    def __init__(self, tokens: _Optional[_Iterable[bytes]] = ..., after: _Optional[int] = ...) -> None: ...

class ExchangeTokensReply(_message.Message):
    __slots__ = ("tokens", "upto", "others")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    UPTO_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[bytes]
    upto: int
    others: int
    def __init__(self, tokens: _Optional[_Iterable[bytes]] = ..., upto: _Optional[int] = ..., others: _Optional[int] = ...) -> None: ...

class RegisterCountsRequest(_message.Message):
    __slots__ = ("statement",)
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    statement: bytes
    def __init__(self, statement: _Optional[bytes] = ...) -> None: ...

class RegisterCountsReply(_message.Message):
    __slots__ = ("in_force", "pending")
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    in_force: int
    pending: bool
    def __init__(self, in_force: _Optional[int] = ..., pending: _Optional[bool] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RenewCertificateReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: str
    def __init__(self, certificate: _Optional[str] = ...) -> None: ...

class ListRecipientsRequest(_message.Message):
    __slots__ = ("known",)
    class Known(_message.Message):
        __slots__ = ("weights", "digest")
        WEIGHTS_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        weights: str
        digest: bytes
        def __init__(self, weights: _Optional[str] = ..., digest: _Optional[bytes] = ...) -> None: ...
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    known: _containers.RepeatedCompositeFieldContainer[ListRecipientsRequest.Known]
    def __init__(self, known: _Optional[_Iterable[_Union[ListRecipientsRequest.Known, _Mapping]]] = ...) -> None: ...

class Recipient(_message.Message):
    __slots__ = ("kind", "name", "sent", "deleted")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Recipient.Kind]
        KIND_HOSPITAL: _ClassVar[Recipient.Kind]
        KIND_EXPORT: _ClassVar[Recipient.Kind]
    KIND_UNSPECIFIED: Recipient.Kind
    KIND_HOSPITAL: Recipient.Kind
    KIND_EXPORT: Recipient.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    kind: Recipient.Kind
    name: str
    sent: _timestamp_pb2.Timestamp
    deleted: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[Recipient.Kind, str]] = ..., name: _Optional[str] = ..., sent: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deleted: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListRecipientsReply(_message.Message):
    __slots__ = ("versions", "more")
    class Version(_message.Message):
        __slots__ = ("weights", "recipients")
        WEIGHTS_FIELD_NUMBER: _ClassVar[int]
        RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
        weights: str
        recipients: _containers.RepeatedCompositeFieldContainer[Recipient]
        def __init__(self, weights: _Optional[str] = ..., recipients: _Optional[_Iterable[_Union[Recipient, _Mapping]]] = ...) -> None: ...
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[ListRecipientsReply.Version]
    more: bool
    def __init__(self, versions: _Optional[_Iterable[_Union[ListRecipientsReply.Version, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...
