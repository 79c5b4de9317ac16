"""Who takes part: hospitals are approved, rotate their keys, are revoked and readmitted. Nobody else's row changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from common.errors import InputError, RefusedError
from common.evidence import dsse
from common.evidence.keys import PublicKey, SigningKey
from common.evidence.schema import encode
from common.platform.keys.certificates import certificate_pem, issue_signer, issue_site, load_certificate
from common.platform.keys.private_keys import load_ec_key, load_signing_key, read_passphrase
from common.protocol.enrolment import JOIN_TYPE, CheckedRequest, JoinBundle, check_request
from server.database import EventRow, SiteRow, unsigned64
from server.membership.federation_card import card_json, federation_card
from server.settings import ServerFolder

Kind = Literal["enrolled", "rotated", "renewed", "replaced"]


@dataclass(frozen=True, slots=True)
class Authority:
    """What the coordinator needs to let a hospital in."""

    ca: x509.Certificate
    ca_key: ec.EllipticCurvePrivateKey
    signing: SigningKey
    gateway: str
    coordination: str
    experiment: str


@dataclass(frozen=True, slots=True)
class Approval:
    """What was done, and the file for the hospital."""

    site: str
    kind: Kind
    bundle: bytes


def open_authority(folder: ServerFolder) -> Authority:
    """Read the keys and the settings from the coordinator's folder.

    Raises:
        ConfigError: `server.toml` names no classes, without which a hospital cannot import its data.
        InputError: a key is missing, readable by others, or does not open.
    """
    settings = folder.settings()
    return Authority(
        ca=load_certificate(folder.ca_certificate),
        ca_key=load_ec_key(folder.ca_key, read_passphrase(folder.passphrase)),
        signing=load_signing_key(folder.signing_key, folder.passphrase),
        gateway=settings.gateway_address,
        coordination=settings.coordination_address,
        experiment=card_json(federation_card(settings, str(folder.settings_file))),
    )


def read_request(session: Session, data: bytes, *, replace_keys: bool = False) -> CheckedRequest:
    """A request whose sender may have its name: nobody else has it, or it is signed with that hospital's key.

    Args:
        replace_keys: the hospital has lost its keys, so that nothing but two persons here can vouch for the request.

    Raises:
        EvidenceError: damaged, changed after signing, or a key that the sender does not hold.
        RefusedError: the name or a key belongs to another hospital, or the hospital is revoked.
    """
    site_request = check_request(data)
    name = site_request.request.name
    row = session.get(SiteRow, name)
    if row is None and site_request.request.replaces is not None:
        raise RefusedError(f"the request replaces the keys of {name}, which is not known here")
    if row is not None and row.state == "revoked":
        raise RefusedError(f"{name} is revoked: a hospital that returns enrols under a new name")
    if row is not None and PublicKey.from_pem(row.signing_key.encode()).keyid not in site_request.signers:
        if not replace_keys:
            raise RefusedError(
                f"the name {name} is taken, and its hospital has not signed this request: `fedforget-site rotate` "
                "makes one that it has; if its keys are lost, two people approve this one with --replace-keys"
            )
    elif replace_keys:
        raise RefusedError(f"{name} has not lost its keys, or is not known here: approve without --replace-keys")

    same_key = or_(
        SiteRow.signing_key == site_request.request.signing_key, SiteRow.node_key == site_request.request.node_key
    )
    # Two hospitals with one key could sign for each other, and one revocation would exclude both.
    if other := session.scalars(select(SiteRow.name).where(same_key, SiteRow.name != name)).first():
        raise RefusedError(f"a key in the request belongs to {other}: every hospital makes its own")
    return site_request


def approve(
    session: Session, authority: Authority, checked: CheckedRequest, now: datetime, *, replaced: str = ""
) -> Approval:
    """Register the hospital, or its new keys, and make the bundle that it joins with.

    A rotated node key has no id until the coordinator's process registers it with Flower.

    Args:
        replaced: where keys that were lost are replaced, by whom and instead of which.
    """
    request = checked.request
    certificate = issue_site(authority.ca, authority.ca_key, checked.certificate_key, request.name, now)
    pem = certificate_pem(certificate).decode()
    row = session.get(SiteRow, request.name)

    if row is None:
        kind: Kind = "enrolled"
        row = SiteRow(
            name=request.name, state="active", enrolled=now, bad_replies=0, pending=0, version=request.software
        )
        session.add(row)
    else:
        kind = "replaced" if replaced else "renewed" if row.signing_key == request.signing_key else "rotated"

    # Flower's id belongs to the old key.
    if row.node_key != request.node_key:
        row.node = None
    row.node_key = request.node_key
    row.signing_key = request.signing_key
    row.certificate = pem
    # A renewal for the old key must not come into force after this.
    row.next_certificate = None
    _record(session, row, kind, f"signing key {checked.signing_key.keyid}{replaced}", now)

    return Approval(request.name, kind, _bundle(authority, request.name, pem, row.node, now))


def renewed_bundles(session: Session, authority: Authority, now: datetime) -> dict[str, bytes]:
    """New bundles for all hospitals that are not revoked, for the certificates that they have; by name."""
    rows = session.scalars(select(SiteRow).where(SiteRow.state != "revoked").order_by(SiteRow.name))
    return {row.name: _bundle(authority, row.name, row.certificate, row.node, now) for row in rows}


def revoke(session: Session, name: str, reason: str, now: datetime) -> None:
    """Close the federation to a hospital; the coordinator's process unregisters its node.

    Raises:
        InputError: there is no such hospital.
        RefusedError: it is revoked already.
    """
    row = find(session, name)
    if row.state == "revoked":
        raise RefusedError(f"{name} is revoked already")
    row.state = "revoked"
    row.revoked = now
    row.next_certificate = None
    _record(session, row, "revoked", reason, now)


def readmit(session: Session, name: str, now: datetime) -> None:
    """Let a suspended hospital take part again.

    Raises:
        InputError: there is no such hospital.
        RefusedError: it is not suspended.
    """
    row = find(session, name)
    if row.state != "suspended":
        raise RefusedError(f"{name} is {row.state}: only a suspended hospital is readmitted")
    row.state = "active"
    row.bad_replies = 0
    row.refusals = 0
    row.aside_until = None
    _record(session, row, "readmitted", "", now)


def find(session: Session, name: str) -> SiteRow:
    """The hospital's row, or an `InputError`."""
    row = session.get(SiteRow, name)
    if row is None:
        raise InputError(f"no site is called {name!r}", remedy="see `fedforget-server site list`")
    return row


def _bundle(authority: Authority, name: str, certificate: str, node: int | None, now: datetime) -> bytes:
    signer = issue_signer(authority.ca, authority.ca_key, authority.signing.public, now)
    bundle = JoinBundle(
        site=name,
        authority=certificate_pem(authority.ca).decode(),
        certificate=certificate,
        coordinator=certificate_pem(signer).decode(),
        gateway=authority.gateway,
        coordination=authority.coordination,
        experiment=authority.experiment,
        node=None if node is None else str(unsigned64(node)),
    )
    return dsse.encode_envelope(dsse.sign(JOIN_TYPE, encode(bundle), authority.signing))


def _record(session: Session, row: SiteRow, kind: str, detail: str, now: datetime) -> None:
    session.add(EventRow(at=now, site=row.name, kind=kind, detail=detail))
