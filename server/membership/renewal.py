"""Renew a hospital's client certificate before it ends: for the name and the key that it has, and for nothing else.

A new key needs an enrolment request that is signed with the old one, and a person's approval; see `enrolment`. A
renewed certificate opens nothing that the old one did not: who calls has proved possession of the key in the handshake,
and sends no field.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NoReturn

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.orm import Session

from common.errors import InputError
from common.platform.keys.certificates import (
    RENEW_WITHIN,
    certificate_pem,
    common_name,
    issue_site,
    load_certificate,
    read_certificate,
)
from common.platform.keys.private_keys import load_ec_key, read_passphrase
from server.database import EventRow, SiteRow
from server.membership.callers import Refusal
from server.membership.setup import renew_certificate
from server.settings import ServerFolder

WORTHWHILE = timedelta(days=1)
"""What a renewal of the coordinator's certificate must add at least; its processes are restarted for it."""
URGENT = timedelta(days=7)
"""Before the end of the coordinator's certificate: from here on a campaign does not hold its renewal up."""
Issue = Callable[[x509.Certificate, datetime], x509.Certificate]
"""The certificate that follows one; raises an `InputError` if the authority's key is not here."""

_log = logging.getLogger("fedforget.coordination")


def issuer(folder: ServerFolder) -> Issue:
    """Issue with the authority's key in the coordinator's folder; it is read each time and not kept."""

    def issue(certificate: x509.Certificate, now: datetime) -> x509.Certificate:
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InputError("the certificate has no elliptic-curve key", remedy="approve a new request")
        ca_key = load_ec_key(folder.ca_key, read_passphrase(folder.passphrase))
        return issue_site(load_certificate(folder.ca_certificate), ca_key, key, common_name(certificate), now)

    return issue


def renew_own(folder: ServerFolder, now: datetime, *, is_busy: bool) -> x509.Certificate | None:
    """Renew the coordinator's own TLS certificate if it is due, for its key and the hosts in `server.toml`; else None.

    `up` starts the processes that use it again. That would cost an open campaign or rehearsal a try (`is_busy`), so it
    waits until the last week.

    Raises:
        InputError: the authority's key is not in the folder, or does not open.
    """
    ends = load_certificate(folder.certificate).not_valid_after_utc
    left = ends - now
    if left > RENEW_WITHIN or (is_busy and left > URGENT):
        return None
    # No certificate outlives its authority: at the end of that nothing is gained, and each look would restart all.
    if load_certificate(folder.ca_certificate).not_valid_after_utc - ends < WORTHWHILE:
        return None

    return renew_certificate(folder, now)


def renew(session: Session, site: SiteRow, issue: Issue | None, now: datetime) -> str:
    """PEM of the certificate that follows the site's own; asked again, the same one until it is used.

    Raises:
        Refusal: it is not due, is switched off, or the authority's key or time does not suffice.
    """
    # A call whose answer got lost must not make a certificate that nobody holds.
    if site.next_certificate is not None:
        return site.next_certificate
    current = read_certificate(site.certificate.encode(), f"the certificate of {site.name}")
    if current.not_valid_after_utc - now > RENEW_WITHIN:
        _refuse(f"the certificate is valid until {current.not_valid_after_utc:%Y-%m-%d}, and not renewed yet")
    if issue is None:
        _refuse("certificates are not renewed by themselves here: send an enrolment request")

    try:
        following = issue(current, now)
    except InputError as err:
        _log.error("the certificate of %s cannot be renewed: %s", site.name, err)
        _refuse("the authority's key is not at the coordinator: send an enrolment request")
    # It ends with its authority at the latest, and would then not outlast the present one.
    if following.not_valid_after_utc <= current.not_valid_after_utc:
        _refuse("the federation's authority ends: see the coordinator")

    site.next_certificate = certificate_pem(following).decode()
    detail = f"issued anew for the same key, until {following.not_valid_after_utc:%Y-%m-%d}"
    session.add(EventRow(at=now, site=site.name, kind="certificate", detail=detail))
    _log.info("%s: certificate %s", site.name, detail)

    return site.next_certificate


def _refuse(message: str) -> NoReturn:
    raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
