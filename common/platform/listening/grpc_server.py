"""A gRPC server for clients with a certificate of one authority: limits, keep-alive, health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from common.errors import UnavailableError


def serve(
    register: Callable[[grpc.Server], object],
    service: str,
    address: str,
    *,
    certificate: bytes,
    key: bytes,
    ca: bytes,
    max_message_bytes: int,
    workers: int = 8,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
) -> tuple[grpc.Server, int]:
    """Start a service at `address` (`host:port`, port 0 for a free one); returns the server and its port.

    Only clients with a certificate of the authority `ca` get past the handshake, for the health service too.

    Args:
        register: adds the servicer to the server.
        service: full name of the service whose health is reported.
        certificate: PEM, for TLS.
        key: PEM.
        ca: PEM.
        max_message_bytes: larger requests are refused unread.
        workers: concurrent calls; four times as many may be open, further ones are refused.
        interceptors: applied to every call, those of the health service too.

    Raises:
        UnavailableError: the address is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(workers, thread_name_prefix=service.rpartition(".")[2].lower()),
        interceptors=interceptors,
        maximum_concurrent_rpcs=4 * workers,
        options=[
            # Otherwise a second server would share the port silently, and get every other call.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_message_bytes),
            # Bounds on what a client can hold open or make us buffer before its call is even looked at.
            ("grpc.max_metadata_size", 8192),
            ("grpc.max_concurrent_streams", 8),
            ("grpc.server_handshake_timeout_ms", 10_000),
            # Half-open connections, e.g. behind a firewall that forgot them, are found and closed.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ("grpc.max_connection_idle_ms", 120_000),
            ("grpc.max_connection_age_ms", 3_600_000),
            ("grpc.max_connection_age_grace_ms", 10_000),
        ],
    )
    register(server)
    checks = health.HealthServicer()
    checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    credentials = grpc.ssl_server_credentials([(key, certificate)], root_certificates=ca, require_client_auth=True)

    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError:
        raise UnavailableError(f"cannot listen at {address}: is another process there?") from None

    server.start()

    return server, port
