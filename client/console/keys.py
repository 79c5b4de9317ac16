"""Which files the console's process hides from itself before it does anything else."""

from __future__ import annotations

from pathlib import Path

from client.settings import SiteFolder
from common.platform.notices.channels import secret_files


def keys_of(folder: SiteFolder) -> tuple[Path, ...]:
    """What the console must not read: every private key of the site, and the passphrase that opens them."""
    settings = folder.settings()
    return (
        folder.root / "keys",
        folder.passphrase,
        folder.supernode_secret,
        folder.root / "steward",
        folder.fhir_key,
        folder.root / settings.consent_service.key,
        folder.flower_home,
        *secret_files(settings.notify, folder.root),
    )
