"""What a hospital's support bundle is made of, and the words of its patients that it must not hold."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from client.cohort.site_files import SITE_FILE, read_site
from client.database import pending_migration
from client.intake.fhir.patients import read_patient_map
from client.runtime.doctor import examine
from client.settings import SiteFolder, SiteSettings
from common.errors import FedForgetError
from common.platform.support.bundle import Subject, write_bundle

PROCESSES = (
    *("up", "supernode", "launcher", "coordination", "fhir", "consent-service", "inbox", "notices", "console"),
    "clientapp",
)


def site_bundle(folder: SiteFolder, out: Path, now: datetime) -> list[str]:
    """Write the support bundle of a hospital; returns the names of its parts.

    Raises:
        ConfigError: `site.toml` is missing or wrong.
        OutputError: `out` exists, or cannot be written.
    """
    settings = folder.settings()
    subject = Subject(
        side="site",
        root=folder.root,
        logs=folder.logs,
        settings=settings,
        database_url=folder.database_url,
        monitor=settings.ports.monitor,
        examine=lambda: examine(folder, now),
        pending=pending_migration,
        processes=PROCESSES,
        parts=(folder.database, folder.vault, folder.logs, folder.root / "models", folder.root / "cache"),
        private=_patients(folder, settings),
        aliases={settings.name: "this-hospital"},
    )

    return write_bundle(subject, out, now)


def _patients(folder: SiteFolder, settings: SiteSettings) -> set[str]:
    """Identifiers of patients, studies and files that this folder knows in plain text."""
    # A consent office may name its files by patients.
    words = {path.name for path in folder.inbox.rglob("*")} if folder.inbox.is_dir() else set()
    words |= {Path(word).stem for word in words}

    if (folder.root / SITE_FILE).exists():
        with suppress(FedForgetError):
            for row in read_site(folder.root).studies:
                words |= {row.patient, row.study, *Path(row.image).parts, Path(row.image).stem}

    if settings.fhir.patient_map:
        with suppress(FedForgetError):
            by_key = read_patient_map(folder.root / settings.fhir.patient_map).by_key or {}
            words |= {*by_key, *by_key.values()}

    return words - {settings.name, "/"}
