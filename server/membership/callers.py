"""What every call of the coordination service goes through: who calls, which fields are possible, how it is refused.

A site is who its client certificate says (mutual TLS, RFC 8446), if that is, byte for byte, the certificate which the
database holds for an approved site, or the one that renews it: one that was revoked, rotated out or followed by a
renewed one that was used opens nothing, although it is still valid.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import wraps
from typing import NoReturn, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common.errors import EvidenceError
from common.protocol.coordination.bounds import MAX_DIGESTS, excess
from server.database import EventRow, SiteRow

_DIGEST = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger("fedforget.coordination")

S = TypeVar("S")
Q = TypeVar("Q", bound=Message)
A = TypeVar("A")


class Refusal(Exception):
    """A call that is answered with a status code and one line."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> NoReturn:
    """Refuse a field."""
    raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def answered(
    method: Callable[[S, Q, grpc.ServicerContext], A],
) -> Callable[[S, Q, grpc.ServicerContext], A]:
    """A status code for whatever goes wrong; what it was stays in the coordinator's log."""

    @wraps(method)
    def answer(self: S, request: Q, context: grpc.ServicerContext) -> A:
        try:
            # Before anything is read: the bounds of the messages also bound what this call costs.
            if beyond := excess(request):
                invalid(beyond)
            return method(self, request, context)
        except Refusal as refusal:
            code = refusal.code
            message = refusal.message
        except EvidenceError as err:
            _log.error("%s refused: %s", method.__name__, err)
            code = grpc.StatusCode.FAILED_PRECONDITION
            message = str(err)
        except SQLAlchemyError:
            _log.exception("%s: the database failed", method.__name__)
            code = grpc.StatusCode.UNAVAILABLE
            message = "try again later"
        except Exception:  # noqa: BLE001 - grpc would send the text of the exception to the site
            _log.exception("%s failed", method.__name__)
            code = grpc.StatusCode.INTERNAL
            message = "internal error"

        context.abort(code, message)
        raise AssertionError("abort returned")

    return answer


def admitted(session: Session, pem: bytes, now: datetime) -> SiteRow:
    """The site whose approved certificate this is. A suspended one is heard: its patients wait, its copies must go.

    The first use of a renewed certificate ends the one before it.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    # Locked until the call ends: two calls of a site must not overwrite what the other one wrote.
    site = session.get(SiteRow, str(names[0].value), with_for_update=True) if len(names) == 1 else None
    if site is None or site.state not in {"active", "suspended"} or not _is_one_of(site, certificate):
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "this certificate is not that of an approved site")
    if site.next_certificate is not None and _der(site.next_certificate) == _der(certificate):
        site.certificate = site.next_certificate
        site.next_certificate = None
        detail = f"renewed, until {certificate.not_valid_after_utc:%Y-%m-%d}"
        session.add(EventRow(at=now, site=site.name, kind="certificate", detail=detail))
        _log.info("%s uses its renewed certificate", site.name)
    return site


def _is_one_of(site: SiteRow, certificate: x509.Certificate) -> bool:
    der = _der(certificate)
    # Not by name and issuer: a certificate that was rotated out has the same ones.
    return any(_der(pem) == der for pem in (site.certificate, site.next_certificate) if pem)


def _der(certificate: x509.Certificate | str) -> bytes:
    if isinstance(certificate, str):
        certificate = x509.load_pem_x509_certificate(certificate.encode())
    return certificate.public_bytes(Encoding.DER)


def digests_of(digests: Iterable[str]) -> frozenset[str]:
    """Digests of a request; raises a `Refusal` unless they are some, and not too many."""
    digest_set = frozenset(digests)
    if len(digest_set) > MAX_DIGESTS or not all(_DIGEST.fullmatch(digest) for digest in digest_set):
        invalid(f"digests are at most {MAX_DIGESTS} of 64 hexadecimal digits")
    return digest_set


def moment_of(stamp: Timestamp, field: str) -> datetime:
    """Time of a request; raises a `Refusal` if it is none."""
    try:
        moment: datetime = stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        invalid(f"{field} is not a moment")

    return moment
