"""The Flower app bundle (FAB) of FedForget: two names and no code, so that each side runs its own installation.

Flower puts the unpacked bundle first on the module path. As it holds no code, `server.app` and `client.app` are found
in the installation. It is not built by `flwr build`, whose compressed archive depends on the installed zlib: here the
same version of FedForget gives the same digest on every machine, and a site can compute the digest that it approves.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import InputError
from common.installation import own_version

# `config` declares the settings of a run: Flower refuses a key that is not listed.
_MANIFEST = """\
[project]
name = "fedforget"
version = "{version}"
description = "Names the installed FedForget; holds no code."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedforget"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
campaign = 0
attempt = 0
qualification = 0
"""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A FAB and its SHA-256 in hexadecimal, by which Flower and the sites identify it."""

    content: bytes
    digest: str


def pack(files: Mapping[str, bytes]) -> Bundle:
    """A FAB of `files` by path: an uncompressed ZIP with fixed dates, and Flower's digests in `.info/CONTENT`."""
    # Flower's format: path, digest, size in bits.
    listing = "\n".join(f"{path},{hashlib.sha256(data).hexdigest()},{8 * len(data)}" for path, data in files.items())
    buffer = io.BytesIO()

    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in [*files.items(), (".info/CONTENT", listing.encode())]:
            # Date, system and mode are fixed, or the archive would differ by machine and umask.
            entry = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)

    content = buffer.getvalue()

    return Bundle(content, hashlib.sha256(content).hexdigest())


def bundle_of(version: str) -> Bundle:
    """The bundle of a version of FedForget."""
    return pack({"pyproject.toml": _MANIFEST.format(version=version).encode()})


def installed_bundle() -> Bundle:
    """The bundle of the FedForget that is installed here."""
    return bundle_of(own_version())


def parse_digest(text: str) -> str:
    """A SHA-256 in lower-case hexadecimal, or an `InputError`."""
    digest = text.strip().lower().removeprefix("sha256:")
    if not _DIGEST.fullmatch(digest):
        raise InputError("not a SHA-256 digest of a bundle", remedy="give its 64 hexadecimal digits")
    return digest
