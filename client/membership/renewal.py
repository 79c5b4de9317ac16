"""Renew this site's client certificate 30 days before it ends, over the connection that it still opens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from cryptography import x509

from client.settings import SiteFolder
from common.errors import EvidenceError, FedForgetError
from common.files import write_durable
from common.platform.keys.certificates import (
    RENEW_WITHIN,
    SITE,
    certificate_pem,
    check_issued,
    common_name,
    load_certificate,
    read_certificate,
)
from common.platform.keys.private_keys import load_ec_key
from common.protocol.coordination import coordination_pb2 as messages
from common.protocol.coordination.coordination_pb2_grpc import CoordinationStub

CALL_SECONDS = 10.0
_log = logging.getLogger("fedforget.coordination")


@dataclass(slots=True)
class CertificateRenewal:
    """Asks when it is due, and replaces the file in one step.

    Until the new certificate has been used, the coordinator accepts the old one too, so a crash costs nothing.
    """

    folder: SiteFolder
    clock: Callable[[], datetime]
    _last_problem: str = field(init=False, default="")

    def step(self, stub: CoordinationStub) -> bool:
        """Renew if due; returns whether there is a new certificate, for which the connection must be opened again.

        A refusal or a wrong answer is logged once, and never keeps the site from announcing.
        """
        try:
            current = load_certificate(self.folder.certificate)
            remaining = current.not_valid_after_utc - self.clock()
            if remaining > RENEW_WITHIN:
                return False
            reply = stub.RenewCertificate(messages.RenewCertificateRequest(), timeout=CALL_SECONDS)
            following = self._checked(reply.certificate, current)
            write_durable(self.folder.certificate, certificate_pem(following))
        except grpc.RpcError as err:
            # What a stub raises is also a `Call`; a plain `RpcError` has neither code nor details.
            if not isinstance(err, grpc.Call):
                raise
            # The coordinator's reasons for not renewing come with this code; other details may be gRPC's own text.
            reason = err.details() if err.code() is grpc.StatusCode.FAILED_PRECONDITION else err.code().name
            self._tell(f"the coordinator did not renew this site's certificate: {reason}")
            return False
        except FedForgetError as err:
            self._tell(f"this site's certificate is not renewed: {err}")
            return False

        self._last_problem = ""
        _log.info("this site's certificate is renewed, until %s", f"{following.not_valid_after_utc:%Y-%m-%d}")
        return True

    def _checked(self, pem: str, current: x509.Certificate) -> x509.Certificate:
        """The answer, if the authority issued it for this site's name and key and it lasts longer."""
        following = read_certificate(pem.encode(), "the coordinator's answer")
        authority = load_certificate(self.folder.ca_certificate)
        check_issued(following, authority, SITE, self.clock(), "the renewed certificate")
        # Whatever the coordinator answers: the site keeps its name and its key.
        ours = load_ec_key(self.folder.tls_key).public_key() == following.public_key() == current.public_key()
        if not ours or common_name(following) != common_name(current):
            raise EvidenceError("the renewed certificate is for another key or name")
        if following.not_valid_after_utc <= current.not_valid_after_utc:
            raise EvidenceError("the renewed certificate does not last longer")
        return following

    def _tell(self, problem: str) -> None:
        if problem != self._last_problem:
            _log.error("%s", problem)
        self._last_problem = problem
