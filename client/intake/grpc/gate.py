"""Checks before every call of the service: certificate, role, rate and deadline. Turns errors into clear answers.

It also guards the health and reflection services, which any client with a role may call.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from sqlalchemy.exc import SQLAlchemyError

from client.intake.grpc.access import Caller, Refusal, caller_of, check_may
from client.settings_sections import Role
from common.errors import FedForgetError
from common.platform.listening.rate_limit import RateLimit

SERVICE = "fedforget.consent.v1.ConsentService"
LONGEST_CALL = 60.0
LONGEST_WATCH = 3600.0
"""Longest accepted deadline, in seconds."""
STREAMS = 16
STREAMS_OF_ONE = 4
"""Open streams at a time, of all clients and of one. Each occupies a thread."""
_PREFIX = f"/{SERVICE}/"

_log = logging.getLogger("fedforget.consent")


class Gate(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no type hints
    """Lets calls in.

    Args:
        roles: by the names of a certificate, as in `site.toml`.
        withdrawn: gives the fingerprints of withdrawn certificates.
        limit: rate limit by client.
        clock: the time.
    """

    def __init__(
        self,
        roles: Mapping[str, Role],
        withdrawn: Callable[[], frozenset[str]],
        limit: RateLimit,
        clock: Callable[[], datetime],
    ) -> None:
        self._roles = roles
        self._withdrawn = withdrawn
        self._limit = limit
        self._clock = clock
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """The caller.

        Raises:
            Refusal: no certificate, or it is withdrawn, expired, not valid yet, or has no role.
        """
        certificates = context.auth_context().get("x509_pem_cert", ())
        if len(certificates) != 1:
            raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "no client certificate")
        return caller_of(certificates[0], self._roles, self._withdrawn(), self._clock())

    def intercept_service(
        self, continuation: Callable[[Any], grpc.RpcMethodHandler], handler_call_details: Any
    ) -> grpc.RpcMethodHandler:
        """Put the gate before the handler of a method."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method is None:
            return handler
        read = handler.request_deserializer
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: self._stream(method, handler.stream_stream, lambda: requests, context),
                read,
                handler.response_serializer,
            )

        # Parsed here because gRPC reports an unreadable request as an internal error.
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                lambda data, context: self._stream(method, handler.unary_stream, lambda: read(data), context),
                None,
                handler.response_serializer,
            )

        return grpc.unary_unary_rpc_method_handler(
            lambda data, context: self._single(method, handler.unary_unary, lambda: read(data), context),
            None,
            handler.response_serializer,
        )

    def _single(self, method: str, behaviour: Any, request: Callable[[], Any], context: grpc.ServicerContext) -> object:
        try:
            self._admit(method, context)
            return behaviour(request(), context)
        except Exception as error:  # noqa: BLE001 - grpc would send the text of the exception to the caller
            code, message = answer_to(error, method)

        _end(method, code, message, context)

    def _stream(
        self, method: str, behaviour: Any, request: Callable[[], Any], context: grpc.ServicerContext
    ) -> Iterator[object]:
        try:
            with self._slot(self._admit(method, context)):
                for reply in behaviour(request(), context):
                    # The certificate may have expired or been withdrawn since the stream was opened.
                    self.caller(context)
                    yield reply

            return
        except Exception as error:  # noqa: BLE001 - as above
            code, message = answer_to(error, method)

        _end(method, code, message, context)

    def _admit(self, method: str, context: grpc.ServicerContext) -> Caller:
        caller = self.caller(context)
        if not self._limit.allows(caller.fingerprint, self._clock()):
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls, slow down")
        if method.startswith(_PREFIX):
            name = method.removeprefix(_PREFIX)
            check_may(caller, name)
            longest = LONGEST_WATCH if name == "WatchRevocation" else LONGEST_CALL
            # Without a deadline gRPC reports about 10^18 seconds.
            if context.time_remaining() > longest:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"a deadline of at most {longest:.0f} s is needed")

        return caller

    @contextmanager
    def _slot(self, caller: Caller) -> Iterator[None]:
        with self._lock:
            of_caller = self._open.get(caller.fingerprint, 0)
            if of_caller >= STREAMS_OF_ONE or sum(self._open.values()) >= STREAMS:
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many open streams")
            self._open[caller.fingerprint] = of_caller + 1

        try:
            yield
        finally:
            with self._lock:
                self._open[caller.fingerprint] -= 1


def answer_to(error: Exception, method: str) -> tuple[grpc.StatusCode, str]:
    """The status and text for a caller. Details stay in the log, without the request's content.

    Plain values, not the exception: a frame that holds an exception whose traceback holds the frame is a cycle, and
    gRPC would count the call as open until the garbage collector happens to run.
    """
    if isinstance(error, Refusal):
        return error.code, error.message
    if isinstance(error, DecodeError):
        return grpc.StatusCode.INVALID_ARGUMENT, "unreadable request"
    if isinstance(error, FedForgetError | SQLAlchemyError | OSError):
        _log.error("%s: %s", method, error if isinstance(error, FedForgetError) else type(error).__name__)
        return grpc.StatusCode.UNAVAILABLE, "temporarily unavailable; retry"

    _log.error("%s failed", method, exc_info=error)

    return grpc.StatusCode.INTERNAL, "internal error"


def _end(method: str, code: grpc.StatusCode, message: str, context: grpc.ServicerContext) -> NoReturn:
    _log.info("%s: %s", method, code.name)
    context.abort(code, message)
    raise AssertionError("abort returned")
