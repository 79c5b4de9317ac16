"""An identity provider on loopback that can be told to misbehave: one fault at a time."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT = "fedforget console"
SECRET = "a secret: with / signs"


@dataclass(slots=True)
class Provider:
    """The provider.

    Attributes:
        claims: change the ID token's.
        fault: what is wrong with its signature: `key`, `none` or `hmac`; empty: nothing.
    """

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))

    def authorize(self, address: str, **more: str) -> str:
        """What the provider's page does once a person has signed in: the address to which it sends the browser."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return (
            f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer, **more})}"
        )

    def token(self, form: dict[str, str], authorization: str) -> dict[str, str] | None:
        """The answer to a code, which counts once and needs its verifier."""
        asked = self.codes.pop(form["code"], None)
        name, _, secret = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if asked is None or (unquote_plus(name), unquote_plus(secret)) != (CLIENT, SECRET):
            return None
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return None
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "s-1",
            "name": "Ada Lee",
            "groups": ["office"],
        }
        claims |= {"iat": now, "exp": now + 300, "auth_time": now, "nonce": asked["nonce"], **self.claims}
        claims = {name: value for name, value in claims.items() if value is not None}

        return {"id_token": self._signed(claims), "access_token": "x", "token_type": "Bearer"}

    def _signed(self, claims: dict[str, Any]) -> str:
        if self.fault == "none":
            parts = (json.dumps({"alg": "none"}), json.dumps(claims))
            return ".".join(urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts) + "."
        if self.fault == "hmac":
            return jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key(self.key.as_pem(private=False)))
        key = RSAKey.generate_key(2048, {"kid": "one"}) if self.fault == "key" else self.key
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)


@contextmanager
def openid_provider() -> Iterator[Provider]:
    """A provider that answers on a free port of loopback."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/jwks"):
                self.say({"keys": [provider.key.as_dict(private=False)]})
            else:
                issuer = provider.issuer
                names = {"authorization_endpoint": "auth", "token_endpoint": "token", "jwks_uri": "jwks"}
                self.say({"issuer": issuer, **{name: f"{issuer}/{path}" for name, path in names.items()}})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            answer = provider.token(form, self.headers.get("authorization", ""))
            self.say(answer or {"error": "invalid_grant"}, 200 if answer else 400)

        def say(self, value: object, status: int = 200) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
