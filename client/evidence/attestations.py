"""Attestations that this site has signed, as files: with the signatures of site and coordinator, for a dossier."""

from __future__ import annotations

from client.settings import SiteFolder
from common.files import write_bytes


def keep_attestation(folder: SiteFolder, campaign: int, envelope: bytes) -> None:
    """Keep a signed attestation; the newest counts. Raises an `OutputError`."""
    folder.attestations.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(folder.attestations / f"{campaign}.json", envelope)


def kept_attestation(folder: SiteFolder, campaign: int) -> bytes | None:
    """The attestation of a campaign; None if none was signed here, or an earlier release did not keep it."""
    try:
        return (folder.attestations / f"{campaign}.json").read_bytes()
    except FileNotFoundError:
        return None
