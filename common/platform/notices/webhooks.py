"""Posts a notice to Teams, Slack or ntfy. The address is a secret and stands in no error and no log."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from common.errors import ConfigError, UnavailableError
from common.platform.notices.notice import Message, UnansweredError
from common.platform.proxy import Proxy
from common.platform.proxy_routes import Routes

_SECONDS = 30.0
_URGENT = 4
_USUAL = 3
"""Priorities of ntfy."""


def check_url(url: str, name: str, where: str) -> str:
    """The address of a webhook, if it is one; HTTP without TLS is for this machine alone.

    Raises:
        ConfigError: it is not one; the message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False

    if not is_address or not url.isprintable() or any(letter.isspace() for letter in url):
        raise ConfigError(f"invalid address for {name}", where=where, remedy="write https://… alone in its file")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(parts.hostname or "")):
        raise ConfigError(f"the address for {name} is not https", where=where, remedy="use TLS")
    if name == "ntfy" and not parts.path.strip("/"):
        raise ConfigError(
            "the address for ntfy names no topic", where=where, remedy="as https://ntfy.example.org/TOPIC"
        )

    return url


def post(name: str, url: str, token: str, message: Message, context: ssl.SSLContext, proxy: Proxy | None) -> None:
    """Post a message.

    Raises:
        UnansweredError: it may have arrived.
        UnavailableError: no connection, or a refusal.
    """
    for library in ("httpx", "httpcore"):  # they log addresses
        logging.getLogger(library).setLevel(logging.CRITICAL)
    target, body = _FORMATS[name](url, message)
    headers = {"authorization": f"Bearer {token}"} if token else {}

    try:
        # The status is the answer; what follows may be of any length.
        with (
            httpx.Client(transport=Routes(context, proxy), timeout=_SECONDS, trust_env=False) as http,
            http.stream("POST", target, json=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError) as err:
        raise UnansweredError(f"{name} does not confirm it ({type(err).__name__})") from None
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise UnavailableError(f"{name} does not answer ({type(err).__name__})") from None

    if not 200 <= status < 300:
        raise UnavailableError(f"{name} refuses ({status})")


def _teams(url: str, message: Message) -> tuple[str, Mapping[str, Any]]:
    """An adaptive card, as the workflow "Send webhook alerts to a channel" takes it."""
    title = {"type": "TextBlock", "text": message.subject, "weight": "Bolder", "size": "Medium", "wrap": True}
    lines = [line for line in message.text.splitlines() if line.strip()]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, *({"type": "TextBlock", "text": line, "wrap": True, "spacing": "Small"} for line in lines)],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}

    return url, {"type": "message", "attachments": [attachment]}


def _slack(url: str, message: Message) -> tuple[str, Mapping[str, Any]]:
    text = f"{message.subject}\n{message.text}"
    return url, {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def _ntfy(url: str, message: Message) -> tuple[str, Mapping[str, Any]]:
    """The form in JSON, which takes every letter; it is posted to the server, not to the topic."""
    parts = urlsplit(url)
    above, _, topic = parts.path.rstrip("/").rpartition("/")
    priority = _URGENT if message.kind == "escalation" else _USUAL
    body: dict[str, Any] = {"topic": topic, "title": message.subject, "message": message.text, "priority": priority}
    if message.address:
        body["click"] = message.address

    return f"{parts.scheme}://{parts.netloc}{above}/", body


_FORMATS: Mapping[str, Callable[[str, Message], tuple[str, Mapping[str, Any]]]] = {
    "teams": _teams,
    "slack": _slack,
    "ntfy": _ntfy,
}


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
