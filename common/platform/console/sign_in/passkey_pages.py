"""Passkeys (WebAuthn): an account adds them, and signs in with one of them instead of password and code.

https://www.w3.org/TR/webauthn-3/; a passkey proves possession and, as user verification is required, the person.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response
from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from common.errors import RefusedError
from common.platform.console.answering import set_cookie
from common.platform.console.page import Page, Visit
from common.platform.console.sign_in.accounts import Accounts
from common.platform.console.sign_in.starting import start

if TYPE_CHECKING:
    from common.platform.console.app import Console

_LIFETIME = timedelta(minutes=5)
_MOST = 1000
_REFUSED = "this passkey was not accepted"


@dataclass(frozen=True, slots=True)
class _Challenge:
    challenge: bytes
    at: datetime


class _Passkeys:
    """Challenges in progress, by the cookie of their browser; each counts once."""

    def __init__(self, console: Console, accounts: Accounts) -> None:
        self._accounts = accounts
        self._host = urlsplit(console.public_url).hostname or "localhost"
        self._pending: dict[str, _Challenge] = {}
        self._lock = threading.Lock()

    def begin_adding(self, visit: Visit) -> Response:
        subject = self._own(visit)
        options = generate_registration_options(
            rp_id=self._host,
            rp_name=f"FedForget {visit.console.side.title}",
            user_name=visit.person.name,
            user_id=subject.encode(),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in self._accounts.passkeys(subject)
            ],
        )
        self._keep(visit, options.challenge)

        return JSONResponse(json.loads(options_to_json(options)))

    def finish_adding(self, visit: Visit) -> Response:
        subject = self._own(visit)

        try:
            verification = verify_registration_response(
                credential=_credential(visit),
                expected_challenge=self._take(visit),
                expected_rp_id=self._host,
                expected_origin=visit.console.public_url,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError):
            raise RefusedError(_REFUSED) from None

        credential = bytes_to_base64url(verification.credential_id)
        if self._accounts.passkey(credential) is not None:
            raise RefusedError("this passkey is in use")
        self._accounts.add_passkey(
            subject, credential, verification.credential_public_key, verification.sign_count, visit.now
        )
        visit.console.record("passkey-added", visit.now, (*visit.person.key, visit.person.name))

        return JSONResponse({"next": "/account"})

    def begin_signing_in(self, visit: Visit) -> Response:
        options = generate_authentication_options(
            rp_id=self._host, user_verification=UserVerificationRequirement.REQUIRED
        )
        self._keep(visit, options.challenge)

        return JSONResponse(json.loads(options_to_json(options)))

    def finish_signing_in(self, visit: Visit) -> Response:
        if not visit.console.attempts.allows(f"address {visit.address}", visit.now):
            raise RefusedError("too many attempts: wait a minute")
        answer = _credential(visit)
        name = str(answer.get("id", ""))[:1400]
        passkey = self._accounts.passkey(name)
        # Taken before anything is checked: a challenge counts once, also a failed one.
        challenge = self._take(visit)
        if passkey is None:
            raise RefusedError(_REFUSED)
        subject, public_key, sign_count = passkey

        try:
            verification = verify_authentication_response(
                credential=answer,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=visit.console.public_url,
                credential_public_key=public_key,
                credential_current_sign_count=sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError):
            raise RefusedError(_REFUSED) from None

        person = self._accounts.person(subject)
        # Whoever proves their identity again must be the person of the session.
        if person is None or (visit.session is not None and visit.person.key != person.key):
            raise RefusedError(_REFUSED)
        self._accounts.used_passkey(name, verification.new_sign_count, visit.now)
        token, target = start(visit, person, str(visit.body.get("next", "/"))[:1000], "passkey")
        response = JSONResponse({"next": target})
        set_cookie(response, visit.console.cookie("session"), token)

        return response

    def _own(self, visit: Visit) -> str:
        if visit.person.issuer != self._accounts.issuer:
            raise RefusedError("your identity provider keeps your credentials")
        return visit.person.subject

    def _keep(self, visit: Visit, challenge: bytes) -> None:
        with self._lock:
            self._pending = {key: one for key, one in self._pending.items() if visit.now - one.at < _LIFETIME}
            if len(self._pending) >= _MOST:
                raise RefusedError("too many people are signing in at this moment: try again in a minute")
            self._pending[visit.cookie] = _Challenge(challenge, visit.now)

    def _take(self, visit: Visit) -> bytes:
        with self._lock:
            pending = self._pending.pop(visit.cookie, None)
        if pending is None or visit.now - pending.at > _LIFETIME:
            raise RefusedError("this took too long: begin again")
        return pending.challenge


def passkey_pages(console: Console) -> list[Page]:
    """The page of the own account, and what its script asks."""
    if console.accounts is None:
        return []
    keys = _Passkeys(console, console.accounts)
    everybody = frozenset(console.side.roles)
    accounts = console.accounts

    def account(visit: Visit) -> Response:
        is_own = visit.person.issuer == accounts.issuer
        count = len(accounts.passkeys(visit.person.subject)) if is_own else 0
        return visit.render("account.html.j2", is_own=is_own, passkeys=count)

    return [
        Page("/account", account, roles=everybody),
        Page("/account/passkey", keys.begin_adding, roles=everybody, method="POST", is_api=True, is_fresh=True),
        Page("/account/passkey/add", keys.finish_adding, roles=everybody, method="POST", is_api=True, is_fresh=True),
        Page("/sign-in/passkey", keys.begin_signing_in, is_public=True, method="POST", is_api=True),
        Page("/sign-in/passkey/answer", keys.finish_signing_in, is_public=True, method="POST", is_api=True),
    ]


def _credential(visit: Visit) -> dict[str, Any]:
    credential = visit.body.get("credential")
    if not isinstance(credential, dict):
        raise RefusedError(_REFUSED)
    return credential
