"""Join a federation with the coordinator's bundle, and rotate the hospital's keys."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.membership.setup import make_keys, request_for
from client.settings import SiteFolder, SiteSettings
from common.disk import unwritable
from common.errors import ConfigError, EvidenceError, InputError, RefusedError
from common.evidence import dsse
from common.evidence.keys import PinnedKeys, PublicKey
from common.evidence.schema import decode
from common.files import write_bytes, write_text
from common.platform.keys.certificates import (
    SIGNER,
    SITE,
    certificate_fingerprint,
    check_authority,
    check_issued,
    common_name,
    parse_fingerprint,
    public_key,
    read_certificate,
)
from common.platform.keys.private_keys import load_ec_key, load_signing_key, read_passphrase
from common.platform.new_folder import new_folder
from common.protocol.enrolment import JOIN_TYPE, JoinBundle

_ROOM = re.compile(r"keys-([1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class CheckedBundle:
    """A bundle that the federation's authority vouches for."""

    bundle: JoinBundle
    certificate: x509.Certificate
    coordinator: PublicKey


def check_bundle(data: bytes, settings: SiteSettings, now: datetime) -> CheckedBundle:
    """Verify the chain of trust from the fingerprint in `site.toml` to every byte of the bundle.

    Raises:
        EvidenceError: another authority, an expired certificate, a signature that does not hold, another site.
    """
    envelope = dsse.decode_envelope(data)
    bundle = decode(JoinBundle, envelope.body)

    try:
        ca, coordinator, certificate = (
            read_certificate(pem.encode(), "the join bundle")
            for pem in (bundle.authority, bundle.coordinator, bundle.certificate)
        )
    except InputError as err:
        raise EvidenceError(str(err)) from None

    fingerprint = certificate_fingerprint(ca)
    # The coordinator read this fingerprint out by telephone. Everything else in the bundle is trusted because of it.
    if fingerprint != parse_fingerprint(settings.ca_fingerprint, "site.toml: ca_fingerprint"):
        raise EvidenceError(
            f"the bundle is from another federation: the fingerprint of its authority is {fingerprint}; ask the "
            "coordinator by telephone for the fingerprint, and correct ca_fingerprint in site.toml only if they read "
            "out this one"
        )

    # From the authority down: each certificate counts only after the one above has vouched for it.
    check_authority(ca, now)
    check_issued(coordinator, ca, SIGNER, now, "the coordinator's certificate")
    signer = public_key(coordinator)
    dsse.verify(envelope, JOIN_TYPE, PinnedKeys.of([("coordinator", signer)]), {"coordinator": 1})
    check_issued(certificate, ca, SITE, now, "this site's certificate")
    if not bundle.site == common_name(certificate) == settings.name:
        raise EvidenceError(f"the bundle is for the site {bundle.site!r}, not for {settings.name!r}")
    return CheckedBundle(bundle, certificate, signer)


def join(folder: SiteFolder, data: bytes, now: datetime) -> CheckedBundle:
    """Verify the bundle, then install its certificates and addresses and, after a rotation, the new keys.

    The keys change in one step at the end. A second run has the same result, also after an interruption.

    Raises:
        EvidenceError: as `check_bundle`, or the certificate is for a key that is not here.
    """
    settings = folder.settings()
    bundle = check_bundle(data, settings, now)
    room = _room_of(folder, bundle.certificate)
    # Before anything is written: settings that cannot be edited leave the folder as it is.
    text = _with_addresses(folder, bundle.bundle)
    write_bytes(folder.ca_certificate, bundle.bundle.authority.encode())
    write_bytes(folder.coordinator_key, bundle.coordinator.pem)
    write_text(folder.experiment_file, bundle.bundle.experiment)
    write_bytes(folder.join_file, data)
    write_bytes(room / folder.certificate.name, bundle.bundle.certificate.encode())
    write_text(folder.settings_file, text)
    _use(folder, room)

    return bundle


def rotate(folder: SiteFolder) -> bytes:
    """Create new keys beside those in use, and a request signed by both. Nothing changes until `join`.

    Raises:
        RefusedError: an earlier rotation is waiting for its bundle.
    """
    settings = folder.settings()
    used = folder.tls_key.parent.resolve()

    if waiting := [room for room in _rooms(folder) if _number(room) > _number(used)]:
        raise RefusedError(
            f"a rotation is waiting for its bundle: send {folder.request_file}, "
            f"or remove {waiting[0]} if the coordinator never received the request"
        )

    old = load_signing_key(folder.signing_key, folder.passphrase)
    with new_folder(folder.root / f"keys-{_number(used) + 1}") as room:
        keys = make_keys(room, read_passphrase(folder.passphrase))
        request = request_for(settings.name, keys, old)
        # Within the block: keys without a request could never be enrolled.
        write_bytes(folder.request_file, request)

    return request


def _rooms(folder: SiteFolder) -> list[Path]:
    root = folder.root.resolve()
    return sorted((path for path in root.iterdir() if _ROOM.fullmatch(path.name)), key=_number)


def _number(room: Path) -> int:
    match = _ROOM.fullmatch(room.name)
    if match is None:
        raise InputError(
            "`fedforget-site init` did not create these keys", where=str(room), remedy="restore the folder"
        )
    return int(match[1])


def _room_of(folder: SiteFolder, certificate: x509.Certificate) -> Path:
    key_bytes = public_key(certificate).der
    for room in _rooms(folder):
        key = load_ec_key(room / folder.tls_key.name).public_key()
        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == key_bytes:
            return room

    raise EvidenceError("the certificate in the bundle is for a key that is not in this folder")


def _with_addresses(folder: SiteFolder, bundle: JoinBundle) -> str:
    """`site.toml` with the bundle's addresses; nothing else changes."""
    text = folder.settings_file.read_text(encoding="utf-8")

    # Edited as text, so that the hospital's comments and order stay.
    for setting, address in (("gateway", bundle.gateway), ("coordination", bundle.coordination)):
        lines = re.compile(rf"^{setting}\s*=.*$", re.M)
        line_count = len(lines.findall(text))
        if line_count != 1:
            raise ConfigError(f"no line `{setting} = ...`", where=str(folder.settings_file), remedy="put it back")
        # A backslash of the JSON text would otherwise be taken for a group's number.
        line = f"{setting} = {json.dumps(address)}".replace("\\", r"\\")
        text = lines.sub(line, text)

    return text


def _use(folder: SiteFolder, room: Path) -> None:
    """Point `keys` to `room` and remove the private keys before it."""
    link = folder.tls_key.parent
    part = link.with_name(f".{link.name}.part")

    try:
        # A link cannot be changed in place: another one takes its name, in one step.
        part.unlink(missing_ok=True)
        part.symlink_to(room.name, target_is_directory=True)
        os.replace(part, link)
        # Private keys are deleted only once the link points to their successors.
        for other in _rooms(folder):
            if _number(other) < _number(room):
                shutil.rmtree(other)
    except OSError as err:
        raise unwritable(err, link) from err
