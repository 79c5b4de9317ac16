"""Settings of a console. Files are relative to the folder of the site or the coordinator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.settings import Positive, Settings

Language = Literal["en", "de", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "de", "fr")


class OpenIdConfig(Settings):
    """Sign-in by the hospital's identity provider (OpenID Connect, authorization code with PKCE)."""

    issuer: str = ""
    """Issuer, exactly as its metadata says, e.g. `https://login.example.org/realms/hospital`; empty: no provider."""
    client_id: str = ""
    client_secret_file: str = ""
    """File with the client's secret, readable by its owner only; empty: a public client."""
    ca: str = ""
    """Authority (PEM) of the provider's certificate; empty: those of the operating system."""
    scope: str = "openid profile"
    groups_claim: str = "groups"
    """Claim of the ID token that lists the groups of a person."""
    groups: dict[str, str] = Field(default_factory=dict)
    """Role by group; a person with none of these groups is refused."""


class ConsoleConfig(Settings):
    """A console for browsers. See `docs/how-to/console.md`."""

    enabled: bool = False
    host: str = "127.0.0.1"
    """Address to listen on: in the own network, never on the internet."""
    port: int = Field(default=19097, ge=1, le=65535)
    certificate: str = ""
    """TLS certificate (PEM); needed unless `host` is loopback."""
    key: str = ""
    """Its private key (PEM), readable by its owner only."""
    public_url: str = ""
    """Address that people type, e.g. `https://consents.example.org`; empty: that of `host` and `port`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of reverse proxies whose `X-Forwarded-For` counts."""
    language: Language = "en"
    """Language for browsers that ask for none of ours."""
    idle_minutes: Positive = 20.0
    """Minutes without a request after which a session ends."""
    session_hours: Positive = 10.0
    """Hours after sign-in after which a session ends."""
    fresh_minutes: Positive = 5.0
    """Minutes after sign-in in which irreversible steps are allowed; afterwards the console asks again."""
    local_accounts: bool = True
    """Whether accounts of the console itself may sign in, with password and code or with a passkey."""
    openid: OpenIdConfig = OpenIdConfig()
