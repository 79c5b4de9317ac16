"""The channels of a house: where a kind of notice goes, and the secrets for it."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.errors import ConfigError
from common.files import read_private
from common.platform.notices.notice import Kind, Message
from common.platform.notices.settings import NotifyConfig, WebhookConfig
from common.platform.proxy import Proxy

ChannelName = Literal["mail", "teams", "slack", "ntfy"]
CHANNELS: tuple[ChannelName, ...] = ("mail", "teams", "slack", "ntfy")

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}", re.ASCII)
_PASSWORD = "FEDFORGET_SMTP_PASSWORD"  # noqa: S105 - a name
_TOKEN = "FEDFORGET_NTFY_TOKEN"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Channels:
    """What `[notify]` sets, with its files in `root`.

    Attributes:
        where: the settings file, for messages about it.
        proxy: of the house's outbound connections.
        environment: may hold secrets instead of files.
    """

    config: NotifyConfig
    root: Path
    where: str
    proxy: Proxy | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def of(self, kind: Kind) -> tuple[ChannelName, ...]:
        """The channels that a kind of notice goes to."""
        return tuple(name for name in CHANNELS if self._is_set(name, kind))

    def check(self, name: ChannelName, kind: Kind) -> None:
        """Read all that sending needs, without sending.

        Raises:
            InputError: a secret is missing, or others can read it.
            ConfigError: an address, an authority or a setting is wrong.
        """
        if name == "mail":
            self._mail_password()
            _context(self._path(self.config.smtp.ca), self.where)
            self._check_mail()
        else:
            self._url(name, kind)
            self._token(name)
            _context(self._path(self.config.ca), self.where)

    def send(self, name: ChannelName, kind: Kind, message: Message) -> str:
        """Send a message to those who get this kind of notice; returns what went wrong for some of them.

        Raises:
            InputError: as `check`.
            UnansweredError: it may have arrived.
            UnavailableError: the server does not answer, or refuses; what it says is not repeated, as it may tell a
                secret.
        """
        if name == "mail":
            from common.platform.notices.mail import send_mail  # noqa: PLC0415 - for those who send

            self._check_mail()
            smtp = self.config.smtp
            context = _context(self._path(smtp.ca), self.where)
            to = smtp.deputy if kind == "escalation" else smtp.to
            return send_mail(smtp, self._mail_password(), to, message, context, self.proxy)

        from common.platform.notices.webhooks import post  # noqa: PLC0415 - for those who send

        context = _context(self._path(self.config.ca), self.where)
        post(name, self._url(name, kind), self._token(name), message, context, self.proxy)
        return ""

    def _is_set(self, name: ChannelName, kind: Kind) -> bool:
        smtp = self.config.smtp
        if name == "mail":
            return bool(smtp.host and (smtp.deputy if kind == "escalation" else smtp.to))
        return bool(self.environment.get(_variable(name, kind)) or _url_file(self._webhook(name), kind))

    def _webhook(self, name: ChannelName) -> WebhookConfig:
        return {"teams": self.config.teams, "slack": self.config.slack, "ntfy": self.config.ntfy}[name]

    def _check_mail(self) -> None:
        smtp = self.config.smtp
        addresses = (smtp.sender, *smtp.to, *smtp.deputy)
        if not all(_ADDRESS.fullmatch(address) for address in addresses):
            raise ConfigError(
                "an address is missing or malformed",
                where=f"{self.where} [notify.smtp]",
                remedy='as sender = "fedforget@example.org", to = ["steward@example.org"]',
            )

    def _mail_password(self) -> str:
        smtp = self.config.smtp
        return self._secret(_PASSWORD, smtp.password_file) if smtp.user else ""

    def _token(self, name: ChannelName) -> str:
        file = self.config.ntfy.token_file
        needs_token = name == "ntfy" and (file or self.environment.get(_TOKEN))
        return self._secret(_TOKEN, file) if needs_token else ""

    def _url(self, name: ChannelName, kind: Kind) -> str:
        from common.platform.notices.webhooks import check_url  # noqa: PLC0415 - with httpx, for those who send

        return check_url(self._secret(_variable(name, kind), _url_file(self._webhook(name), kind)), name, self.where)

    def _secret(self, variable: str, file: str) -> str:
        value = self.environment.get(variable)
        path = self._path(file)
        if not value and path is None:
            raise ConfigError("a secret is not set", where=self.where, remedy=f"name its file, or set {variable}")
        where = variable if value else str(path)
        content = value.encode() if value else read_private(path) if path else b""
        secret = content.decode("utf-8", "replace").strip()
        # A line break within a header or an address would begin another one.
        if not secret.isascii() or not secret.isprintable():
            raise ConfigError("not plain text", where=where, remedy="write the secret alone, on one line")

        return secret

    def _path(self, file: str) -> Path | None:
        return self.root / file if file else None


def secret_files(config: NotifyConfig, root: Path) -> tuple[Path, ...]:
    """Files with secrets, which the console need not read."""
    files = (
        config.smtp.password_file,
        config.ntfy.token_file,
        *(file for one in (config.teams, config.slack, config.ntfy) for file in (one.url_file, one.deputy_url_file)),
    )
    return tuple(root / file for file in files if file)


def _variable(name: ChannelName, kind: Kind) -> str:
    deputy = "_DEPUTY" if kind == "escalation" else ""
    return f"FEDFORGET_{name.upper()}{deputy}_URL"


def _url_file(config: WebhookConfig, kind: Kind) -> str:
    return config.deputy_url_file if kind == "escalation" else config.url_file


def _context(ca: Path | None, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError):
        raise ConfigError("an authority is not a certificate in PEM", where=where, remedy="check `ca`") from None
