"""Identifies callers by their client certificate, and checks their role against `site.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType

import grpc
from cryptography import x509

from client.settings_sections import Role
from common.platform.keys.certificates import certificate_fingerprint, common_name

MAY: Mapping[str, frozenset[Role]] = MappingProxyType(
    {
        "RevokeConsent": frozenset({"steward", "ehr"}),
        "GetRevocation": frozenset({"steward", "ehr", "auditor"}),
        "ListRevocations": frozenset({"steward", "auditor"}),
        "WatchRevocation": frozenset({"steward", "auditor"}),
        "CheckPermission": frozenset({"steward", "ehr"}),
        "CheckPermissions": frozenset({"steward", "ehr"}),
    }
)
"""Roles by method."""


class Refusal(Exception):
    """A refused call. Its text goes to the caller and identifies nobody."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Caller:
    """A client with a role.

    Attributes:
        name: the common name of its certificate.
        fingerprint: of its certificate.
    """

    name: str
    role: Role
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Names:
    common: str
    all: frozenset[str]
    fingerprint: str
    first: datetime
    last: datetime


def caller_of(pem: bytes, roles: Mapping[str, Role], withdrawn: frozenset[str], now: datetime) -> Caller:
    """The caller with the certificate `pem`, which TLS verified when the connection was made.

    Raises:
        Refusal: it has been withdrawn or has expired, or its names have no role or several.
    """
    names = _names(pem)
    # TLS checked these dates when the connection was made, which may be hours ago.
    if not names.first <= now <= names.last:
        raise Refusal(grpc.StatusCode.UNAUTHENTICATED, "the certificate has expired or is not valid yet")
    if names.fingerprint in withdrawn:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "the certificate was withdrawn")
    # Exactly one: a certificate with two roles would have the rights of both.
    roles_of_caller = {roles[name] for name in names.all if name in roles}
    if len(roles_of_caller) != 1 or not names.common:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, "the certificate has no role here, or several")
    return Caller(names.common, roles_of_caller.pop(), names.fingerprint)


def check_may(caller: Caller, method: str) -> None:
    """Raise a `Refusal` unless the caller's role may call `method` of the service."""
    if caller.role not in MAY[method]:
        raise Refusal(grpc.StatusCode.PERMISSION_DENIED, f"the role {caller.role} may not call {method}")


@lru_cache(maxsize=256)
def _names(pem: bytes) -> _Names:
    certificate = x509.load_pem_x509_certificate(pem)
    common = common_name(certificate)
    roles_of_caller = {f"CN={common}"} if common else set()

    try:
        more = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        roles_of_caller.update(more.get_values_for_type(x509.UniformResourceIdentifier))
        roles_of_caller.update(more.get_values_for_type(x509.DNSName))

    fingerprint = certificate_fingerprint(certificate)

    return _Names(
        common,
        frozenset(roles_of_caller),
        fingerprint,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
