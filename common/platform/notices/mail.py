"""Sends a notice by SMTP, always under TLS, through the house's proxy if it has one."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Collection, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from common.errors import UnavailableError
from common.platform.notices.notice import Message, UnansweredError
from common.platform.notices.settings import SmtpConfig
from common.platform.proxy import Proxy

_SECONDS = 30.0


class _Connection(smtplib.SMTP):
    """A connection by the proxy or directly, with TLS from the first byte where `at_once` is given."""

    def __init__(self, host: str, port: int, at_once: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        # Before `super().__init__`, which connects.
        self._at_once = at_once
        self._proxy = proxy
        super().__init__(host, port, local_hostname="localhost", timeout=_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        if self._proxy is not None and self._proxy.serves(host, port):
            connection = self._proxy.tunnel(host, port, timeout)
        else:
            connection = socket.create_connection((host, port), timeout)
        return connection if self._at_once is None else self._at_once.wrap_socket(connection, server_hostname=host)


def send_mail(
    config: SmtpConfig,
    password: str,
    to: Sequence[str],
    message: Message,
    context: ssl.SSLContext,
    proxy: Proxy | None,
) -> str:
    """Send a message to all of `to`; returns a problem if the server refuses some of them.

    Raises:
        UnansweredError: the connection broke while it was sent.
        UnavailableError: the server does not answer, has no valid certificate, or refuses user, sender or an address.
    """
    mail = EmailMessage()
    mail["From"] = config.sender
    mail["To"] = ", ".join(to)
    mail["Subject"] = message.subject
    mail["Date"] = formatdate(localtime=True)
    mail["Message-ID"] = make_msgid(domain=config.sender.rpartition("@")[2])
    # RFC 3834: out-of-office programs must not answer it.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    is_tls = config.tls == "tls"

    try:
        with _Connection(config.host, config.port, context if is_tls else None, proxy) as server:
            if not is_tls:
                server.starttls(context=context)
            if config.user:
                server.login(config.user, password)
            refusals = _handed_over(server, mail)
    except smtplib.SMTPAuthenticationError as err:
        raise UnavailableError(f"the mail server refuses user or password ({err.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as err:
        raise UnavailableError(f"the mail server refuses all {len(err.recipients)} addresses") from None
    except smtplib.SMTPResponseException as err:
        raise UnavailableError(f"the mail server refuses ({err.smtp_code})") from None
    except smtplib.SMTPNotSupportedError:
        raise UnavailableError("the mail server offers no STARTTLS, or no sign-in: nothing was sent") from None
    except (OSError, smtplib.SMTPException) as err:
        raise UnavailableError(f"the mail server does not answer as it should ({type(err).__name__})") from None

    return f"(the server refuses {len(refusals)} of {len(to)} addresses)" if refusals else ""


def _handed_over(server: smtplib.SMTP, mail: EmailMessage) -> Collection[str]:
    """Hand a mail over; returns the addresses that are refused."""
    try:
        return server.send_message(mail).keys()
    except (OSError, smtplib.SMTPServerDisconnected) as err:
        if isinstance(err, smtplib.SMTPException) and not isinstance(err, smtplib.SMTPServerDisconnected):
            raise  # an answer, of a class that is an OSError
        raise UnansweredError("the mail server does not confirm the mail") from None
