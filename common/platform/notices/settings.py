"""Settings of notices. Files are relative to the folder of the site or the coordinator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.platform.console.settings import Language
from common.settings import Settings


class SmtpConfig(Settings):
    """Notices by mail. `FEDFORGET_SMTP_PASSWORD` may hold the password instead of a file."""

    host: str = Field(default="", pattern=r"^[A-Za-z0-9._:-]*$")
    """Mail server; empty: no mail."""
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls"] = "starttls"
    """`starttls` (port 587) or `tls` from the first byte (port 465); nothing is sent without TLS."""
    ca: str = ""
    """Authority (PEM) of the server's certificate; empty: those of the operating system."""
    user: str = ""
    """User; empty: the server asks for none."""
    password_file: str = "secrets/smtp"  # noqa: S105 - a name
    """File with the password, readable by its owner only."""
    sender: str = ""
    """Address of the sender."""
    to: tuple[str, ...] = ()
    """Addresses that get the digest."""
    deputy: tuple[str, ...] = ()
    """Addresses that get the escalation."""


class WebhookConfig(Settings):
    """Notices in a chat. The address is a secret: whoever knows it can write there."""

    url_file: str = ""
    """File with the address that gets the digest, readable by its owner only; empty: no digest there."""
    deputy_url_file: str = ""
    """File with the address that gets the escalation."""


class NtfyConfig(WebhookConfig):
    """Notices by ntfy; the address is that of the topic, e.g. `https://ntfy.example.org/consents`."""

    token_file: str = ""
    """File with an access token, readable by its owner only; empty: none."""


class NotifyConfig(Settings):
    """A daily digest, and an escalation before a due date. See `docs/how-to/notify.md`."""

    enabled: bool = False
    at: str = Field(default="07:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Time of day of this machine from which the day's notices go out."""
    soon_days: int = Field(default=7, ge=1, le=60)
    """Days before its due date from which an answer is in the digest."""
    escalate_days: int = Field(default=3, ge=1, le=60)
    """Days before its due date from which an open answer is told to the deputy, each day."""
    when_empty: bool = False
    """Whether a digest goes out on days on which nothing needs anybody."""
    language: Language = "en"
    """Language of the notices."""
    ca: str = ""
    """Authority (PEM) of the webhooks' certificates; empty: those of the operating system."""
    smtp: SmtpConfig = SmtpConfig()
    teams: WebhookConfig = WebhookConfig()
    slack: WebhookConfig = WebhookConfig()
    ntfy: NtfyConfig = NtfyConfig()
