"""A client for a hospital's consent service: for its EHR and consent office, and as an example for other languages.

    with ConsentClient.open("consent.hospital.example:19096", Path("ehr-1")) as service:
        answer = service.revoke("MRN-1", source_id="form-2026-0042")
        print(answer.revocation.receipt)

`ehr-1` is the folder that `fedforget-site consent-client add ehr-1 --role ehr` created.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import grpc

from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_api.consent_pb2_grpc import ConsentServiceStub
from common.errors import FedForgetError, InputError, RefusedError, UnavailableError
from common.files import read_private

Scope = Literal["all", "images", "reports"]
Kind = Literal["withdrawal", "objection", "erasure", "opt-out"]
SECONDS = 20.0
"""Seconds for one call, including retries."""
_WATCH_SECONDS = 1800.0
_PAGE = 200
_SCOPES = {"all": messages.SCOPE_ALL, "images": messages.SCOPE_IMAGES, "reports": messages.SCOPE_REPORTS}
_KINDS = {
    "withdrawal": messages.KIND_WITHDRAWAL,
    "objection": messages.KIND_OBJECTION,
    "erasure": messages.KIND_ERASURE,
    "opt-out": messages.KIND_OPT_OUT,
}
_ERRORS: dict[grpc.StatusCode, Callable[[str], FedForgetError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InputError,
    grpc.StatusCode.NOT_FOUND: InputError,
    grpc.StatusCode.FAILED_PRECONDITION: InputError,
    grpc.StatusCode.UNAUTHENTICATED: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: RefusedError,
}
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "fedforget.consent.v1.ConsentService"}],
            # Every call may be retried: the sender's name and version identify a revocation.
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "3s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class ConsentClient:
    """Answers are the messages of `consent.proto`. Every method raises:

    - InputError: the request is wrong, or the service does not know the patient or receipt; nothing was recorded.
    - RefusedError: the certificate's role may not call this method, or the certificate was withdrawn.
    - UnavailableError: no answer, even after retries; a revocation may have been recorded: send the same one again.
    """

    stub: ConsentServiceStub

    @classmethod
    @contextmanager
    def open(cls, address: str, folder: Path) -> Iterator[ConsentClient]:
        """A client of the service at `address` (`host:port`), with the certificate in `folder`.

        Raises:
            InputError: a file is missing, or others can read the key.
        """
        try:
            ca, certificate = ((folder / name).read_bytes() for name in ("ca.crt", "client.crt"))
        except OSError as err:
            raise InputError(
                f"cannot read: {err.strerror}",
                where=str(folder),
                remedy="give the folder that consent-client add created",
            ) from None

        credentials = grpc.ssl_channel_credentials(ca, read_private(folder / "client.key"), certificate)
        # Not by a proxy that the environment names: a call carries a patient's identifier.
        options = [("grpc.service_config", json.dumps(_RETRIES)), ("grpc.enable_http_proxy", 0)]
        with grpc.secure_channel(address, credentials, options) as channel:
            yield cls(ConsentServiceStub(channel))

    def revoke(
        self,
        patient: str,
        *,
        source_id: str,
        source_version: str = "1",
        scope: Scope = "all",
        kind: Kind = "withdrawal",
        received: datetime | None = None,
        document: bytes = b"",
        **more: Any,
    ) -> messages.RevokeConsentReply:
        """Revoke a patient's consent. It is on the disk when this returns, and recorded once however often it is sent.

        Args:
            patient: identifier in the cohort.
            source_id: the sender's own name for this revocation.
            source_version: version of `source_id`; a later version is another revocation.
            scope: what is revoked.
            kind: kind of request; only an opt-out can be taken back.
            received: when the hospital received it; now by default.
            document: the signed form.
            more: further fields of `RevokeConsentRequest`.
        """
        request = messages.RevokeConsentRequest(
            patient=patient,
            source_id=source_id,
            source_version=source_version,
            scope=_SCOPES[scope],
            kind=_KINDS[kind],
            document=document,
            **more,
        )
        if received is not None:
            request.received.FromDatetime(received)
        return _asked(lambda: self.stub.RevokeConsent(request, timeout=SECONDS))

    def get(self, receipt: str) -> messages.Revocation:
        """The state of one revocation."""
        return _asked(lambda: self.stub.GetRevocation(messages.GetRevocationRequest(receipt=receipt), timeout=SECONDS))

    def list(self, states: Collection[str] = ()) -> Iterator[messages.Revocation]:
        """All revocations, oldest first; only those in one of `states`, if any are given."""
        token = ""

        while True:
            request = messages.ListRevocationsRequest(page_size=_PAGE, page_token=token, states=states)
            page = self._page(request)
            yield from page.revocations
            token = page.next_page_token
            if not token:
                return

    def watch(self, receipt: str = "", after: int = 0) -> Iterator[messages.RevocationChange]:
        """Changes of one revocation, or of all, after a sequence number. Endless; survives interruptions.

        Raises:
            UnavailableError: five attempts in a row failed.
        """
        failures = 0

        while True:
            request = messages.WatchRevocationRequest(receipt=receipt, after=after)
            try:
                for change in self.stub.WatchRevocation(request, timeout=_WATCH_SECONDS):
                    # Before it is handed over: a stream that breaks now goes on after this change.
                    after = change.sequence
                    failures = 0
                    yield change
            except grpc.RpcError as error:
                failures += 1
                if failures >= 5 or _code(error) not in _INTERRUPTED:
                    raise _as_ours(error) from None
                time.sleep(0.2 * 2**failures)

    def check(self, patient: str) -> messages.CheckPermissionReply:
        """Whether the site may use a patient's data now. Only PERMISSION_PERMITTED means yes."""
        request = messages.CheckPermissionRequest(patient=patient)
        return _asked(lambda: self.stub.CheckPermission(request, timeout=SECONDS))

    def check_all(self, patients: Sequence[str]) -> tuple[messages.CheckPermissionReply, ...]:
        """`check` for up to 1000 patients at once, in their order."""
        request = messages.CheckPermissionsRequest(patients=patients)
        return tuple(_asked(lambda: self.stub.CheckPermissions(request, timeout=SECONDS)).permissions)

    def _page(self, request: messages.ListRevocationsRequest) -> messages.ListRevocationsReply:
        return _asked(lambda: self.stub.ListRevocations(request, timeout=SECONDS))


_INTERRUPTED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def _asked(call: Callable[[], A]) -> A:
    try:
        return call()
    except grpc.RpcError as error:
        raise _as_ours(error) from None


def _code(error: Any) -> grpc.StatusCode:
    return error.code()


def _as_ours(error: Any) -> FedForgetError:
    text = f"the consent service: {error.details()} ({error.code().name})"
    return _ERRORS.get(error.code(), UnavailableError)(text)
