"""What the coordinator's console must not read. It imports nothing heavy: see `server/console/__main__.py`."""

from __future__ import annotations

from pathlib import Path

from common.platform.notices.channels import secret_files
from server.settings import ServerFolder


def keys_of(folder: ServerFolder) -> tuple[Path, ...]:
    """What the console must not read: every private key of the coordinator, and the passphrase that opens them."""
    return (
        folder.ca_key,
        folder.key,
        folder.signing_key,
        folder.passphrase,
        folder.superexec_secret,
        # No keys, but no page needs Flower's messages or the weights of the models.
        folder.flower_database.parent,
        folder.models,
        *secret_files(folder.settings().notify, folder.root),
    )
