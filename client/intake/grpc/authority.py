"""The hospital's certificate authority for its consent service, and the clients with certificates.

It is separate from the federation's authority: neither accepts the other's certificates.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from client.settings import SiteFolder
from client.settings_sections import Role
from common.errors import InputError, OutputError
from common.files import write_bytes, write_durable
from common.platform.keys.certificates import (
    certificate_fingerprint,
    certificate_pem,
    common_name,
    issue_role,
    issue_server,
    load_certificate,
    new_authority,
    role_name,
)
from common.platform.keys.private_keys import load_ec_key, new_authority_key, new_tls_key, read_passphrase
from common.platform.new_folder import new_folder

WITHDRAWN_FILE = "withdrawn"
_AUTHORITY = "FedForget consent clients"
_SERVICE = "FedForget consent service"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Client:
    """An issued client certificate."""

    name: str
    role: str
    until: datetime
    withdrawn: bool


def make_authority(folder: SiteFolder, hosts: Sequence[str], now: datetime) -> bool:
    """Create the authority if missing, and issue the service's certificate for `hosts`; returns whether it was created.

    Raises:
        InputError: a host, the passphrase, or half of the authority is missing.
        OutputError: the folder cannot be written.
    """
    room = folder.consent_service
    passphrase = read_passphrase(folder.passphrase)
    is_new = not (room / "ca.crt").exists()

    if is_new:
        with new_folder(room) as part:
            ca_key = new_authority_key(part / "ca.key", passphrase)
            ca = new_authority(ca_key, now, _AUTHORITY)
            write_bytes(part / "ca.crt", certificate_pem(ca))
            key = new_tls_key(part / "server.key")
            certificate = issue_server(ca, ca_key, key.public_key(), hosts, now, _SERVICE)
            write_bytes(part / "server.crt", certificate_pem(certificate))

        return True

    ca = load_certificate(room / "ca.crt")
    ca_key = load_ec_key(room / "ca.key", passphrase)
    key = load_ec_key(room / "server.key")
    certificate = issue_server(ca, ca_key, key.public_key(), hosts, now, _SERVICE)
    write_bytes(room / "server.crt", certificate_pem(certificate))

    return False


def add_client(folder: SiteFolder, name: str, role: Role, now: datetime) -> Path:
    """Create a key and a certificate for a new client; returns the folder to copy to the client's machine.

    Raises:
        InputError: no `consent-client init` yet, a malformed name, or a client of that name has a certificate.
    """
    room = folder.consent_service

    if not _NAME.fullmatch(name):
        raise InputError(
            "a client's name has up to 32 lower-case letters, digits and hyphens", where="NAME", remedy="e.g. ehr-1"
        )

    if not (room / "ca.crt").exists():
        raise InputError("there is no authority yet", where=str(room), remedy="fedforget-site consent-client init")
    if any(client.name == name and not client.withdrawn for client in clients(folder)):
        raise InputError(
            "this client already has a certificate", where=name, remedy="run fedforget-site consent-client remove first"
        )

    ca = load_certificate(room / "ca.crt")
    ca_key = load_ec_key(room / "ca.key", read_passphrase(folder.passphrase))

    with new_folder(room / "handover" / name) as part:
        key = new_tls_key(part / "client.key")
        certificate = issue_role(ca, ca_key, key.public_key(), name, role, now)
        for file, content in (("client.crt", certificate), ("ca.crt", ca)):
            write_bytes(part / file, certificate_pem(content))
        # Within the block: a certificate that is handed over but not on this list could never be withdrawn.
        certificate_file = room / "issued" / f"{_serial(certificate)}.crt"
        write_bytes(certificate_file, certificate_pem(certificate))

    return room / "handover" / name


def remove_client(folder: SiteFolder, name: str) -> int:
    """Withdraw all certificates of a client, starting with the next call; returns their number.

    Raises:
        InputError: it has none.
        OutputError: the folder cannot be written.
    """
    withdrawn_serials = withdrawn(folder)
    fingerprints = [certificate_fingerprint(c) for c in _issued(folder) if common_name(c) == name]
    new = [fingerprint for fingerprint in fingerprints if fingerprint not in withdrawn_serials]
    if not new:
        raise InputError("no client of this name", where=name, remedy="fedforget-site consent-client list")
    content = "".join(f"{fingerprint}\n" for fingerprint in [*sorted(withdrawn_serials), *new])
    write_durable(folder.consent_service / WITHDRAWN_FILE, content.encode())

    try:
        shutil.rmtree(folder.consent_service / "handover" / name)
    except FileNotFoundError:
        pass  # moved to the client's machine, as intended
    except OSError as err:
        raise OutputError(f"cannot delete: {err.strerror}", where=name, remedy="delete its folder by hand") from None

    return len(new)


def clients(folder: SiteFolder) -> tuple[Client, ...]:
    """All issued certificates, by name.

    Raises:
        InputError: a file is damaged.
    """
    withdrawn_serials = withdrawn(folder)
    fingerprints = [
        Client(common_name(c), _role(c), c.not_valid_after_utc, certificate_fingerprint(c) in withdrawn_serials)
        for c in _issued(folder)
    ]
    return tuple(sorted(fingerprints, key=lambda client: (client.name, client.until)))


def withdrawn(folder: SiteFolder) -> frozenset[str]:
    """Fingerprints of withdrawn certificates.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder.consent_service / WITHDRAWN_FILE

    try:
        return frozenset(path.read_text(encoding="ascii").split())
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError):
        raise InputError("cannot be read", where=str(path), remedy="restore it from its backup") from None


def _issued(folder: SiteFolder) -> list[x509.Certificate]:
    return [load_certificate(path) for path in sorted((folder.consent_service / "issued").glob("*.crt"))]


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:040x}"


def _role(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    prefix = role_name("")
    return next(
        name.removeprefix(prefix)
        for name in names.get_values_for_type(x509.UniformResourceIdentifier)
        if name.startswith(prefix)
    )
