import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCOPE_UNSPECIFIED: _ClassVar[Scope]
    SCOPE_ALL: _ClassVar[Scope]
    SCOPE_IMAGES: _ClassVar[Scope]
    SCOPE_REPORTS: _ClassVar[Scope]

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_WITHDRAWAL: _ClassVar[Kind]
    KIND_OBJECTION: _ClassVar[Kind]
    KIND_ERASURE: _ClassVar[Kind]
    KIND_OPT_OUT: _ClassVar[Kind]
SCOPE_UNSPECIFIED: Scope
SCOPE_ALL: Scope
SCOPE_IMAGES: Scope
SCOPE_REPORTS: Scope
KIND_UNSPECIFIED: Kind
KIND_WITHDRAWAL: Kind
KIND_OBJECTION: Kind
KIND_ERASURE: Kind
KIND_OPT_OUT: Kind

class RevokeConsentRequest(_message.Message):
    __slots__ = ("patient", "source_id", "source_version", "scope", "received", "requester", "identity_check", "legal_basis", "document", "also_unknown", "kind")
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_CHECK_FIELD_NUMBER: _ClassVar[int]
    LEGAL_BASIS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    ALSO_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    patient: str
    source_id: str
    source_version: str
    scope: Scope
    received: _timestamp_pb2.Timestamp
    requester: str
    identity_check: str
    legal_basis: str
    document: bytes
    also_unknown: bool
    kind: Kind
    def __init__(self, patient: _Optional[str] = ..., source_id: _Optional[str] = ..., source_version: _Optional[str] = ..., scope: _Optional[_Union[Scope, str]] = ..., received: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requester: _Optional[str] = ..., identity_check: _Optional[str] = ..., legal_basis: _Optional[str] = ..., document: _Optional[bytes] = ..., also_unknown: _Optional[bool] = ..., kind: _Optional[_Union[Kind, str]] = ...) -> None: ...

class RevokeConsentReply(_message.Message):
    __slots__ = ("revocation", "created", "other_hospitals")
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    OTHER_HOSPITALS_FIELD_NUMBER: _ClassVar[int]
    revocation: Revocation
    created: bool
    other_hospitals: int
    def __init__(self, revocation: _Optional[_Union[Revocation, _Mapping]] = ..., created: _Optional[bool] = ..., other_hospitals: _Optional[int] = ...) -> None: ...

class GetRevocationRequest(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: str
    def __init__(self, receipt: _Optional[str] = ...) -> None: ...

class ListRevocationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[str]] = ...) -> None: ...

class ListRevocationsReply(_message.Message):
    __slots__ = ("revocations", "next_page_token")
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revocations: _containers.RepeatedCompositeFieldContainer[Revocation]
    next_page_token: str
    def __init__(self, revocations: _Optional[_Iterable[_Union[Revocation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRevocationRequest(_message.Message):
    __slots__ = ("receipt", "after")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    receipt: str
    after: int
    def __init__(self, receipt: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class RevocationChange(_message.Message):
    __slots__ = ("sequence", "receipt", "revocation", "state", "at", "due")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    receipt: str
    revocation: int
    state: str
    at: _timestamp_pb2.Timestamp
    due: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., receipt: _Optional[str] = ..., revocation: _Optional[int] = ..., state: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("receipt", "state", "scope", "received", "recorded", "due", "closed", "remediation", "patients", "kind", "legal_basis", "known", "unknown", "doubtful")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    REMEDIATION_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEGAL_BASIS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    DOUBTFUL_FIELD_NUMBER: _ClassVar[int]
    receipt: str
    state: str
    scope: Scope
    received: _timestamp_pb2.Timestamp
    recorded: _timestamp_pb2.Timestamp
    due: _timestamp_pb2.Timestamp
    closed: _timestamp_pb2.Timestamp
    remediation: str
    patients: int
    kind: Kind
    legal_basis: str
    known: int
    unknown: int
    doubtful: int
    def __init__(self, receipt: _Optional[str] = ..., state: _Optional[str] = ..., scope: _Optional[_Union[Scope, str]] = ..., received: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recorded: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., due: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., closed: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., remediation: _Optional[str] = ..., patients: _Optional[int] = ..., kind: _Optional[_Union[Kind, str]] = ..., legal_basis: _Optional[str] = ..., known: _Optional[int] = ..., unknown: _Optional[int] = ..., doubtful: _Optional[int] = ...) -> None: ...

class CheckPermissionRequest(_message.Message):
    __slots__ = ("patient",)
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    patient: str
    def __init__(self, patient: _Optional[str] = ...) -> None: ...

class CheckPermissionReply(_message.Message):
    __slots__ = ("permission", "reason")
    class Permission(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PERMISSION_UNSPECIFIED: _ClassVar[CheckPermissionReply.Permission]
        PERMISSION_PERMITTED: _ClassVar[CheckPermissionReply.Permission]
        PERMISSION_DENIED: _ClassVar[CheckPermissionReply.Permission]
        PERMISSION_UNKNOWN: _ClassVar[CheckPermissionReply.Permission]
    PERMISSION_UNSPECIFIED: CheckPermissionReply.Permission
    PERMISSION_PERMITTED: CheckPermissionReply.Permission
    PERMISSION_DENIED: CheckPermissionReply.Permission
    PERMISSION_UNKNOWN: CheckPermissionReply.Permission
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    permission: CheckPermissionReply.Permission
    reason: str
    def __init__(self, permission: _Optional[_Union[CheckPermissionReply.Permission, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class CheckPermissionsRequest(_message.Message):
    __slots__ = ("patients",)
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    patients: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, patients: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckPermissionsReply(_message.Message):
    __slots__ = ("permissions",)
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    permissions: _containers.RepeatedCompositeFieldContainer[CheckPermissionReply]
    def __init__(self, permissions: _Optional[_Iterable[_Union[CheckPermissionReply, _Mapping]]] = ...) -> None: ...
