"""A mail server under TLS and webhooks, on loopback, that keep every byte they get."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from common.platform.keys.certificates import certificate_pem, issue_server, new_authority

USER = "fedforget"
PASSWORD = "p4ss-word"
HOOK_SECRET = "hook-secret-9f2c"
TOKEN = "tk_topic"
NAMES = ("localhost", "mail.example", "chat.example")


def content_of(mail: Envelope) -> bytes:
    """A mail as it came."""
    content = mail.content or b""
    return content if isinstance(content, bytes) else content.encode()


@dataclass(slots=True)
class Servers:
    """What came in.

    Attributes:
        status: what the webhooks answer; 0: they close the connection without an answer.
        refused: addresses that the mail server refuses.
        is_down: whether the mail server refuses everybody for now.
    """

    mail_port: int = 0
    hook_port: int = 0
    ca: Path = Path()
    status: int = 200
    is_down: bool = False
    refused: set[str] = field(default_factory=set)
    mails: list[Envelope] = field(default_factory=list)
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    has_mail: threading.Event = field(default_factory=threading.Event)

    def everything(self) -> bytes:
        """All that was sent, with addresses and headers."""
        mails = [b"\n".join([content_of(mail), *map(str.encode, mail.rcpt_tos)]) for mail in self.mails]
        posts = [f"{path} {headers}".encode() + body for path, headers, body in self.posts]
        return b"\n".join([*mails, *posts])

    def hook(self, name: str) -> str:
        """The address of a webhook."""
        return f"https://localhost:{self.hook_port}/{name}/{HOOK_SECRET}"

    async def handle_RCPT(self, _server: SMTP, _session: Any, envelope: Envelope, to: str, _options: Any) -> str:
        if to in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Envelope) -> str:
        if self.is_down:
            return "451 try again later"
        self.mails.append(envelope)
        self.has_mail.set()
        return "250 OK"


def settings_of(servers: Servers, root: Path) -> str:
    """`[notify]` for every channel, to the usual people and to the deputy, and its files in `root`."""
    (root / "secrets").mkdir(exist_ok=True)
    texts = {"smtp": PASSWORD, "token": TOKEN}
    texts |= {name: servers.hook(name) for name in ("teams", "slack", "ntfy", "deputy")}
    for name, text in texts.items():
        (root / "secrets" / name).write_text(text + "\n")
        (root / "secrets" / name).chmod(0o600)

    return f"""
[notify]
enabled = true
ca = "{servers.ca}"
[notify.smtp]
host = "localhost"
port = {servers.mail_port}
ca = "{servers.ca}"
user = "{USER}"
sender = "fedforget@north.example"
to = ["steward@north.example", "office@north.example"]
deputy = ["deputy@north.example"]
[notify.teams]
url_file = "secrets/teams"
[notify.slack]
url_file = "secrets/slack"
deputy_url_file = "secrets/deputy"
[notify.ntfy]
url_file = "secrets/ntfy"
token_file = "secrets/token"
"""


@contextmanager
def notice_servers(folder: Path, *, at_once: bool = False) -> Iterator[Servers]:
    """Both servers, with a certificate of an authority of their own; `at_once`: mail with TLS from the first byte."""
    servers = Servers(ca=folder / "notice-ca.pem")
    context = _context(servers.ca, folder / "notice-pair.pem")

    with _mail(servers, context, at_once=at_once), _hooks(servers, context):
        yield servers


def _context(ca_file: Path, pair: Path) -> ssl.SSLContext:
    now = datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = new_authority(ca_key, now - timedelta(days=1))
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issue_server(ca, ca_key, key.public_key(), list(NAMES), now)
    ca_file.write_bytes(certificate_pem(ca))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair.write_bytes(certificate_pem(issued) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)

    return context


@contextmanager
def _mail(servers: Servers, context: ssl.SSLContext, *, at_once: bool) -> Iterator[None]:
    def signed_in(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=is_right)

    def connected() -> SMTP:
        if at_once:
            return SMTP(servers, authenticator=signed_in, auth_require_tls=False, loop=loop)
        return SMTP(
            servers, authenticator=signed_in, auth_required=True, tls_context=context, require_starttls=True, loop=loop
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = loop.create_server(connected, "127.0.0.1", 0, ssl=context if at_once else None)
    server = asyncio.run_coroutine_threadsafe(serving, loop).result(10)
    servers.mail_port = server.sockets[0].getsockname()[1]

    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _ended(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def _hooks(servers: Servers, context: ssl.SSLContext) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            servers.posts.append((self.path, dict(self.headers), body))
            if not servers.status:
                self.close_connection = True
                return
            self.send_response(servers.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    servers.hook_port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()

    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
