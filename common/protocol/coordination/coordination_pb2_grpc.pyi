# By hand: protoc writes no stub for services. Keep it in step with coordination.proto.
from typing import Protocol, TypeVar

import grpc

from common.protocol.coordination.coordination_pb2 import (
    AcknowledgePurgeReply,
    AcknowledgePurgeRequest,
    AnnounceReply,
    AnnounceRequest,
    ExchangeAttestationsReply,
    ExchangeAttestationsRequest,
    ExchangeCheckpointReply,
    ExchangeCheckpointRequest,
    ExchangeTokensReply,
    ExchangeTokensRequest,
    HeartbeatReply,
    HeartbeatRequest,
    ListRecipientsReply,
    ListRecipientsRequest,
    RegisterCountsReply,
    RegisterCountsRequest,
    RenewCertificateReply,
    RenewCertificateRequest,
    StatusReply,
    StatusRequest,
)

_Q_contra = TypeVar("_Q_contra", contravariant=True)
_A_co = TypeVar("_A_co", covariant=True)

class _Call(Protocol[_Q_contra, _A_co]):
    def __call__(self, request: _Q_contra, timeout: float | None = None) -> _A_co: ...

class CoordinationStub:
    Announce: _Call[AnnounceRequest, AnnounceReply]
    Heartbeat: _Call[HeartbeatRequest, HeartbeatReply]
    AcknowledgePurge: _Call[AcknowledgePurgeRequest, AcknowledgePurgeReply]
    Status: _Call[StatusRequest, StatusReply]
    ExchangeCheckpoint: _Call[ExchangeCheckpointRequest, ExchangeCheckpointReply]
    ExchangeAttestations: _Call[ExchangeAttestationsRequest, ExchangeAttestationsReply]
    ExchangeTokens: _Call[ExchangeTokensRequest, ExchangeTokensReply]
    RegisterCounts: _Call[RegisterCountsRequest, RegisterCountsReply]
    RenewCertificate: _Call[RenewCertificateRequest, RenewCertificateReply]
    ListRecipients: _Call[ListRecipientsRequest, ListRecipientsReply]
    def __init__(self, channel: grpc.Channel) -> None: ...

class CoordinationServicer(Protocol):
    def Announce(self, request: AnnounceRequest, context: grpc.ServicerContext, /) -> AnnounceReply: ...
    def Heartbeat(self, request: HeartbeatRequest, context: grpc.ServicerContext, /) -> HeartbeatReply: ...
    def AcknowledgePurge(
        self, request: AcknowledgePurgeRequest, context: grpc.ServicerContext, /
    ) -> AcknowledgePurgeReply: ...
    def Status(self, request: StatusRequest, context: grpc.ServicerContext, /) -> StatusReply: ...
    def ExchangeCheckpoint(
        self, request: ExchangeCheckpointRequest, context: grpc.ServicerContext, /
    ) -> ExchangeCheckpointReply: ...
    def ExchangeAttestations(
        self, request: ExchangeAttestationsRequest, context: grpc.ServicerContext, /
    ) -> ExchangeAttestationsReply: ...
    def ExchangeTokens(
        self, request: ExchangeTokensRequest, context: grpc.ServicerContext, /
    ) -> ExchangeTokensReply: ...
    def RegisterCounts(
        self, request: RegisterCountsRequest, context: grpc.ServicerContext, /
    ) -> RegisterCountsReply: ...
    def RenewCertificate(
        self, request: RenewCertificateRequest, context: grpc.ServicerContext, /
    ) -> RenewCertificateReply: ...
    def ListRecipients(
        self, request: ListRecipientsRequest, context: grpc.ServicerContext, /
    ) -> ListRecipientsReply: ...

def add_CoordinationServicer_to_server(servicer: CoordinationServicer, server: grpc.Server) -> None: ...
