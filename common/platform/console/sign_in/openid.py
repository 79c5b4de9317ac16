"""Sign-in by OpenID Connect: authorization code with PKCE, one use of each state, every claim of the ID token checked.

https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation, RFC 7636 (PKCE), RFC 9207 (`iss`).
"""

from __future__ import annotations

import secrets
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from common.errors import ConfigError, RefusedError, UnavailableError
from common.files import read_private
from common.platform.console.settings import OpenIdConfig
from common.platform.console.sign_in.person import Person
from common.platform.console.sign_in.sessions import Session, new_token

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
_LIFETIME = timedelta(minutes=10)
_MOST_PENDING = 2000
_METADATA_FOR = timedelta(hours=1)
_SKEW = 60
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in that the provider has not answered yet.

    Attributes:
        browser: value of the cookie of the browser that began it.
        following: page to go to afterwards.
        again: the session whose person must sign in again; None: anybody.
    """

    browser: str
    nonce: str
    verifier: str
    following: str
    again: Session | None
    start: datetime


@dataclass(slots=True)
class OpenId:
    """The identity provider, as one client of it.

    Args:
        config: its settings.
        redirect_url: address of the console to which the provider returns.
        secret: of the client; empty: a public client.
    """

    config: OpenIdConfig
    redirect_url: str
    secret: str = field(default="", repr=False)
    verify: ssl.SSLContext | bool = True
    _pending: dict[str, Pending] = field(init=False, default_factory=dict)
    _metadata: tuple[datetime, dict[str, Any], KeySet] | None = field(init=False, default=None)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def begin(self, following: str, now: datetime, again: Session | None = None) -> tuple[str, str]:
        """The provider's address to send a browser to, and the value of the cookie that ties the answer to it.

        Raises:
            UnavailableError: the provider does not answer, or its metadata are of another issuer.
        """
        metadata, _ = self._provider(now)
        state = new_token()
        pending = Pending(new_token(), new_token(), secrets.token_urlsafe(48), following, again, now)

        with self._lock:
            # Pending sign-ins cost memory and need no account, so they end and are counted.
            self._pending = {key: one for key, one in self._pending.items() if now - one.start < _LIFETIME}
            if len(self._pending) >= _MOST_PENDING:
                raise UnavailableError("too many people are signing in at this moment; try again in a minute")
            self._pending[state] = pending

        # A fresh sign-in must not be answered from the provider's own session.
        more = {"prompt": "login", "max_age": "0"} if again else {}
        url = prepare_grant_uri(
            metadata["authorization_endpoint"],
            client_id=self.config.client_id,
            response_type="code",
            redirect_uri=self.redirect_url,
            scope=self.config.scope,
            state=state,
            nonce=pending.nonce,
            code_challenge=create_s256_code_challenge(pending.verifier),
            code_challenge_method="S256",
            **more,
        )

        return str(url), pending.browser

    def finish(self, answer: Mapping[str, str], browser: str, now: datetime) -> tuple[Person, Pending]:
        """The person whom the provider names in its answer.

        Raises:
            RefusedError: the answer is not to a question of this browser, was used before, or does not hold.
            UnavailableError: the provider does not answer.
        """
        with self._lock:
            pending = self._pending.pop(answer.get("state", ""), None)  # each state counts once, also a refused one
        if pending is None or now - pending.start > _LIFETIME:
            raise RefusedError("this sign-in has ended or was used before: begin again")
        # The cookie ties the answer to the browser that asked: a link with somebody else's answer signs nobody in.
        if not secrets.compare_digest(pending.browser, browser):
            raise RefusedError("this sign-in was started in another browser: begin again")
        if answer.get("iss", self.config.issuer) != self.config.issuer:
            raise RefusedError("the answer is from another identity provider")
        if "error" in answer or not answer.get("code"):
            raise RefusedError("the identity provider did not sign you in")

        metadata, keys = self._provider(now)
        token = self._token(metadata, answer["code"], pending.verifier)
        claims = self._claims(token, keys, pending, now)

        return self._person(claims), pending

    def _token(self, metadata: Mapping[str, Any], code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_url,
            "code_verifier": verifier,
        }
        # RFC 6749, section 2.3.1: both parts are form-encoded before they are put into the header.
        auth = httpx.BasicAuth(quote_plus(self.config.client_id), quote_plus(self.secret)) if self.secret else None
        if auth is None:
            form["client_id"] = self.config.client_id

        try:
            with self._http() as http:
                reply = http.post(metadata["token_endpoint"], data=form, auth=auth or httpx.USE_CLIENT_DEFAULT)
                answer = reply.json()
        except (httpx.HTTPError, ValueError, KeyError):
            raise UnavailableError("the identity provider does not answer") from None

        if reply.status_code != 200 or not isinstance(answer, dict):
            raise RefusedError("the identity provider refuses the code: begin again")
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise RefusedError("the identity provider sent no ID token")
        return token

    def _claims(self, token: str, keys: KeySet, pending: Pending, now: datetime) -> dict[str, Any]:
        at = int(now.timestamp())
        rules = jwt.JWTClaimsRegistry(
            now=at,
            leeway=_SKEW,
            iss={"essential": True, "value": self.config.issuer},
            aud={"essential": True, "value": self.config.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": pending.nonce},
        )

        try:
            claims = jwt.decode(token, keys, algorithms=_ALGORITHMS).claims
            rules.validate(claims)
        except (JoseError, ValueError):
            raise RefusedError("the ID token is invalid: its signature, issuer, audience, time or nonce") from None

        # OpenID Connect Core, 3.1.3.7: with several audiences, `azp` must name this client.
        audience = claims["aud"]
        has_others = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", self.config.client_id) != self.config.client_id or (has_others and "azp" not in claims):
            raise RefusedError("the ID token was issued to another client")
        if pending.again is not None:
            # `max_age=0` was asked for, so the provider must say when the person signed in, and it must be recent.
            signed_in = claims.get("auth_time")
            if not isinstance(signed_in, int) or signed_in < int(pending.start.timestamp()) - _SKEW:
                raise RefusedError("the identity provider did not ask you to sign in again")
            if (self.config.issuer, str(claims["sub"])) != pending.again.person.key:
                raise RefusedError("somebody else signed in: sign out first")

        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        groups = claims.get(self.config.groups_claim, [])
        names = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        roles = frozenset(self.config.groups[name] for name in names if name in self.config.groups)
        if not roles:
            raise RefusedError("none of your groups has a role here: ask IT")
        name = next((str(claims[key]) for key in ("name", "preferred_username", "sub") if claims.get(key)), "")

        return Person(self.config.issuer, str(claims["sub"]), " ".join(name.split())[:100], roles)

    def _provider(self, now: datetime) -> tuple[dict[str, Any], KeySet]:
        """Metadata and keys of the provider, asked for at most once an hour."""
        if self._metadata is not None and now - self._metadata[0] < _METADATA_FOR:
            return self._metadata[1], self._metadata[2]

        try:
            with self._http() as http:
                address = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
                metadata = http.get(address).raise_for_status().json()
                if metadata.get("issuer") != self.config.issuer:
                    raise UnavailableError("the identity provider has another issuer than console.openid.issuer")
                keys = KeySet.import_key_set(http.get(metadata["jwks_uri"]).raise_for_status().json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError, JoseError):
            raise UnavailableError("the identity provider does not answer") from None

        self._metadata = (now, metadata, keys)

        return metadata, keys

    def _http(self) -> httpx.Client:
        return httpx.Client(timeout=_TIMEOUT, verify=self.verify, follow_redirects=False, trust_env=False)


def open_id(config: OpenIdConfig, folder: Path, public_url: str, roles: frozenset[str]) -> OpenId | None:
    """The provider of the settings; None if there is none.

    Raises:
        ConfigError: a setting is missing or wrong.
        InputError: the secret cannot be read, or others can read it.
    """
    if not config.issuer:
        return None
    where = "[console.openid]"
    if not config.client_id:
        raise ConfigError("no client_id", where=where, remedy="set the id that the provider gave this console")
    if not config.issuer.startswith("https://") and "://127.0.0.1" not in config.issuer:
        raise ConfigError("issuer is not an https address", where=where, remedy="use the provider's https address")
    if unknown := sorted(set(config.groups.values()) - roles):
        raise ConfigError(f"no such role: {unknown[0]}", where=where, remedy=f"one of {', '.join(sorted(roles))}")
    secret = read_private(folder / config.client_secret_file).decode().strip() if config.client_secret_file else ""

    try:
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=folder / config.ca) if config.ca else True
    except (OSError, ssl.SSLError):
        raise ConfigError("ca is not a certificate in PEM", where=where, remedy="check the path") from None

    return OpenId(config, f"{public_url}/sign-in/provider/answer", secret, verify)
