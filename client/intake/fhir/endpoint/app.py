"""The endpoint by which the hospital's own systems hand in Consents: nothing is answered before it is on the disk."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from client.intake.fhir.endpoint.answers import capability_statement, outcome
from client.intake.fhir.endpoint.telling import Telling
from client.intake.fhir.intake import Intake, OtherPatientError
from client.intake.fhir.pull.page import read_unclear
from client.intake.fhir.resources import Interaction, Resource, RevokeRequest, notified, read_revoke_request, with_id
from client.intake.fhir.strict_json import UnusableResourceError, parse_json
from common.errors import FedForgetError

BODY_BYTES = 2**20
"""Most of a request; a Consent is some thousand."""
BODY_SECONDS = 20.0
ANSWER_SECONDS = 0.05
"""Answers that depend on a patient go out at multiples of it."""
_MEDIA_TYPE = "application/fhir+json"
_TAKEN = {"application/fhir+json", "application/json"}
_CODES = {400: "invalid", 401: "login", 404: "not-found", 405: "not-supported", 413: "too-long", 415: "not-supported"}

_log = logging.getLogger("fedforget.fhir")


class FhirResponse(JSONResponse):
    """JSON as FHIR names it."""

    media_type = _MEDIA_TYPE


def make_app(
    intake: Intake,
    token: bytes | None,
    poke: Callable[[], None],
    clock: Callable[[], datetime],
    telling: Telling | None = None,
) -> FastAPI:
    """The endpoint's routes below `/fhir`.

    Args:
        intake: where everything ends.
        token: the bearer token that every request must show; None where client certificates are asked for instead.
        poke: asks for a pull, and returns at once.
        clock: the site's.
        telling: limits what receipts say about people; None: the usual limits.
    """
    telling = telling or Telling(clock)

    async def signed_in(request: Request) -> None:
        authorization = request.headers.get("authorization", "").encode("latin-1")
        # In constant time: how long a wrong token takes must not tell how much of it is right.
        if token is not None and not hmac.compare_digest(authorization, b"Bearer " + token):
            raise HTTPException(401, "sign in with the site's bearer token", {"www-authenticate": "Bearer"})

    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        default_response_class=FhirResponse,
        dependencies=[Depends(signed_in)],
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(FedForgetError, _foreseen)
    app.add_exception_handler(Exception, _unforeseen)

    @app.get("/fhir/metadata")
    async def metadata() -> FhirResponse:
        return FhirResponse(capability_statement(clock()))

    async def consent(request: Request) -> FhirResponse:
        resource = await _consent(request, intake)
        # FHIR, `update`: the id in the body must be that in the address.
        number = request.path_params.get("number")
        if number is not None and resource.get("id") != number:
            raise HTTPException(400, "the id in the address is not the id of the Consent")
        async with _even_time():
            return FhirResponse(await run_in_threadpool(take, resource, "update"))

    async def create(request: Request) -> FhirResponse:
        resource = await _consent(request, intake)
        async with _even_time():
            if resource.get("id") is not None:
                return FhirResponse(await run_in_threadpool(take, resource, "create"))
            version, answer = await run_in_threadpool(
                telling.receipt, intake, lambda: intake.take(with_id(resource), "create")
            )

        place = {"location": f"{request.url.scheme}://{request.url.netloc}/fhir/Consent/{version.resource}"}

        return FhirResponse(answer, 201 if version.is_new else 200, headers=place)

    def take(resource: Resource, interaction: Interaction) -> dict[str, Any]:
        return telling.receipt(intake, lambda: intake.take(resource, interaction))[1]

    def take_request(revoke_request: RevokeRequest) -> dict[str, Any]:
        return telling.receipt(intake, lambda: intake.revoke(revoke_request))[1]

    app.add_api_route("/fhir/Consent", create, methods=["POST"])
    app.add_api_route("/fhir/Consent", consent, methods=["PUT"])
    app.add_api_route("/fhir/Consent/{number}", consent, methods=["PUT"])

    @app.post("/fhir/Consent/$revokeConsent")
    async def revoke(request: Request) -> FhirResponse:
        revoke_request = read_revoke_request(await _resource(request), *intake.bases)
        async with _even_time():
            return FhirResponse(await run_in_threadpool(take_request, revoke_request))

    async def hook(request: Request) -> FhirResponse:
        body = await _body(request)
        try:
            # A hook of R4 may come without a payload: it says only that something has changed.
            if body:
                resources = notified(parse_json(body))
                async with _even_time():
                    await run_in_threadpool(intake.notice, resources)
        finally:
            # Also where the notification was not understood: that something happened is all it had to say.
            poke()

        return FhirResponse({"resourceType": "Parameters"})

    app.add_api_route("/fhir/hook", hook, methods=["POST", "PUT"])
    app.add_api_route("/fhir/hook/Consent/{number}", hook, methods=["PUT"])

    return app


@asynccontextmanager
async def _even_time() -> AsyncIterator[None]:
    """Ends at a multiple of `ANSWER_SECONDS`: how long the work took would tell whether the patient is known here."""
    start = time.monotonic()

    try:
        yield
    finally:
        await asyncio.sleep(-(time.monotonic() - start) % ANSWER_SECONDS)


async def _consent(request: Request, intake: Intake) -> Resource:
    """A Consent; one of which two readers would read different things is refused, and set aside as in a pull."""
    body = await _fhir_body(request)
    try:
        return parse_json(body)
    except UnusableResourceError as err:
        problem = err

    async with _even_time():
        resource = await run_in_threadpool(read_unclear, body)
        if resource is not None:
            problem = await run_in_threadpool(lambda: intake.set_aside(resource, problem, is_clear=False))
        raise problem


async def _resource(request: Request) -> Resource:
    return parse_json(await _fhir_body(request))


async def _fhir_body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _TAKEN:
        raise HTTPException(415, "send application/fhir+json")
    return await _body(request)


async def _body(request: Request) -> bytes:
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for block in request.stream():
                content += block
                if len(content) > BODY_BYTES:
                    raise HTTPException(413, f"more than {BODY_BYTES} bytes", {"connection": "close"})
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(400, "the request was not sent whole", {"connection": "close"}) from None

    return bytes(content)


async def _refused(_: Request, error: Exception) -> FhirResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = error.detail if isinstance(error, HTTPException) else ""
    headers = error.headers if isinstance(error, HTTPException) else None
    # What the sender still has to say is not read: nobody streams a body at an endpoint that has refused it.
    headers = {**(headers or {}), "connection": "close"}

    return FhirResponse(outcome(_CODES.get(status, "processing"), text), status, headers=headers)


async def _foreseen(_: Request, error: Exception) -> FhirResponse:
    if isinstance(error, UnusableResourceError):
        return FhirResponse(outcome("invalid", error.problem), 422)
    if isinstance(error, OtherPatientError):
        return FhirResponse(outcome("business-rule", error.problem), 422)
    # The site's own trouble: its files are named in the log, not to the sender.
    _log.error("a request was not taken: %s", error)
    return FhirResponse(outcome("transient", "not recorded; send it again later"), 503)


async def _unforeseen(_: Request, error: Exception) -> FhirResponse:
    _log.error("a request failed", exc_info=error)
    return FhirResponse(outcome("exception", "not recorded; send it again later"), 500)
