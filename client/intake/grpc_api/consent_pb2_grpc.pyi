# By hand: protoc writes no stub for services. Keep it in step with consent.proto.
from collections.abc import Iterator
from typing import Protocol, TypeVar

import grpc

from client.intake.grpc_api.consent_pb2 import (
    CheckPermissionReply,
    CheckPermissionRequest,
    CheckPermissionsReply,
    CheckPermissionsRequest,
    GetRevocationRequest,
    ListRevocationsReply,
    ListRevocationsRequest,
    Revocation,
    RevocationChange,
    RevokeConsentReply,
    RevokeConsentRequest,
    WatchRevocationRequest,
)

_Q_contra = TypeVar("_Q_contra", contravariant=True)
_A_co = TypeVar("_A_co", covariant=True)

class _Call(Protocol[_Q_contra, _A_co]):
    def __call__(self, request: _Q_contra, timeout: float | None = None) -> _A_co: ...

class ConsentServiceStub:
    RevokeConsent: _Call[RevokeConsentRequest, RevokeConsentReply]
    GetRevocation: _Call[GetRevocationRequest, Revocation]
    ListRevocations: _Call[ListRevocationsRequest, ListRevocationsReply]
    WatchRevocation: _Call[WatchRevocationRequest, Iterator[RevocationChange]]
    CheckPermission: _Call[CheckPermissionRequest, CheckPermissionReply]
    CheckPermissions: _Call[CheckPermissionsRequest, CheckPermissionsReply]
    def __init__(self, channel: grpc.Channel) -> None: ...

class ConsentServiceServicer(Protocol):
    def RevokeConsent(self, request: RevokeConsentRequest, context: grpc.ServicerContext, /) -> RevokeConsentReply: ...
    def GetRevocation(self, request: GetRevocationRequest, context: grpc.ServicerContext, /) -> Revocation: ...
    def ListRevocations(
        self, request: ListRevocationsRequest, context: grpc.ServicerContext, /
    ) -> ListRevocationsReply: ...
    def WatchRevocation(
        self, request: WatchRevocationRequest, context: grpc.ServicerContext, /
    ) -> Iterator[RevocationChange]: ...
    def CheckPermission(
        self, request: CheckPermissionRequest, context: grpc.ServicerContext, /
    ) -> CheckPermissionReply: ...
    def CheckPermissions(
        self, request: CheckPermissionsRequest, context: grpc.ServicerContext, /
    ) -> CheckPermissionsReply: ...

def add_ConsentServiceServicer_to_server(servicer: ConsentServiceServicer, server: grpc.Server) -> None: ...
