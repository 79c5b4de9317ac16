"""Create a hospital's folder: keys, which never leave it, `site.toml` and the enrolment request."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from client.database import migrate
from client.settings import SiteFolder, SiteSettings
from common.errors import ConfigError
from common.evidence.keys import SigningKey
from common.files import write_bytes, write_private, write_text
from common.installation import own_version
from common.platform.keys.certificates import certificate_request, parse_fingerprint
from common.platform.keys.private_keys import new_node_key, new_secret, new_tls_key
from common.platform.new_folder import new_folder
from common.platform.sql import open_database
from common.protocol.enrolment import SiteKeys, make_request
from common.settings import parse

GATEWAY_PORT = 8443
COORDINATION_PORT = 8444
FIRST_KEYS = "keys-1"
"""`keys` is a link to a numbered folder, so that a rotation changes all keys in one step."""

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII)
_TOML = """\
# Settings of this hospital. docs/reference/configuration.md lists all settings and their defaults.

name = {name}

# Addresses of the coordinator; `fedforget-site join` replaces them by those in its bundle.
gateway = {gateway}
coordination = {coordination}

# SHA-256 of the federation's authority, compared by telephone. The holder of its key is the coordinator.
ca_fingerprint = {ca_fingerprint}

# auto, cpu or cuda.
# device = "auto"

# URL of a PostgreSQL database, e.g. postgresql+pg8000://user:password@host/name; empty: the file site.db.
# database = ""

# File of patients who must not be used again, preferably on another disk; empty: a file in this folder.
# tombstones = ""

# Whether unlearning waits until a second person has approved a revocation.
# two_person_approval = false

# Public key of the data steward, who also signs statements about revocations; see fedforget-site steward init.
# steward_key = ""

# Limits on what a signed instruction may ask for.
# [bounds]
# max_epochs = 20
# max_passes = 60
# max_bootstrap = 10000
# max_lifetime_hours = 24.0
"""


@dataclass(frozen=True, slots=True)
class SiteRequest:
    """What a new hospital must know before it joins."""

    name: str
    server: str
    ca_fingerprint: str


def create_site(path: Path, asked: SiteRequest) -> bytes:
    """Create the folder `path` and return its enrolment request.

    Raises:
        OutputError: the folder has content, or cannot be written; nothing is left behind.
        ConfigError: the name, the address or the fingerprint is malformed.
    """
    host, port = _address(asked.server)
    values = {
        "name": asked.name,
        "gateway": f"{host}:{port or GATEWAY_PORT}",
        "coordination": f"{host}:{COORDINATION_PORT}",
        "ca_fingerprint": parse_fingerprint(asked.ca_fingerprint, "--ca-fingerprint"),
    }
    settings = parse(SiteSettings, values, "fedforget-site init")

    with new_folder(path) as part:
        folder = SiteFolder(part)
        passphrase = new_secret(folder.passphrase)
        new_secret(folder.supernode_secret)
        new_secret(folder.pseudonym_secret)
        keys = make_keys(part / FIRST_KEYS, passphrase)
        folder.tls_key.parent.symlink_to(FIRST_KEYS, target_is_directory=True)
        write_text(folder.settings_file, _TOML.format(**{key: json.dumps(value) for key, value in values.items()}))
        for room in (folder.flower_home, folder.logs):
            room.mkdir(mode=0o700)
        engine = open_database(f"sqlite:///{folder.database}")
        try:
            migrate(engine)
        finally:
            engine.dispose()

        request = request_for(settings.name, keys, None)
        write_bytes(folder.request_file, request)

    return request


def make_keys(room: Path, passphrase: bytes) -> SiteKeys:
    """Create keys in the new folder `room`, under the names that `SiteFolder` expects."""
    signing = SigningKey.generate()
    write_private(room / "signing.pem", signing.to_pem(passphrase))
    return SiteKeys(tls=new_tls_key(room / "tls.key"), node=new_node_key(room / "node"), signing=signing)


def request_for(name: str, keys: SiteKeys, old: SigningKey | None) -> bytes:
    """The enrolment request for `keys`, or the rotation request, which the `old` signing key signs too."""
    return make_request(name, keys, certificate_request(keys.tls, name), own_version(), old)


def _address(text: str) -> tuple[str, int | None]:
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise ConfigError(f"{text!r} is not HOST or HOST:PORT", where="--server", remedy="e.g. fed.example.org:8443")
    return match["host"], port
