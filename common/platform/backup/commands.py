"""`backup`, `backup-key`, `restore` and `drill` of both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from common.errors import EvidenceError
from common.platform.terminal.console import AsJson, Folder, clear_errors, show

if TYPE_CHECKING:
    from common.platform.backup import backup as backups

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="Backup file.")]
Identity = Annotated[Path, typer.Option("--identity", metavar="KEY", help="Private key file that `backup-key` wrote.")]


@dataclass(frozen=True, slots=True)
class Side:
    """What differs between the two sides.

    Attributes:
        folder: describes a folder for its backup.
        settle: puts files that belong outside a restored folder into place, and returns what a person must know.
        isolate: makes a restored scratch folder independent of this machine's live files.
        check: verifies a restored folder.
    """

    name: Literal["site", "server"]
    example: str
    folder: Callable[[Path], backups.Folder]
    settle: Callable[[Path, str], list[str]]
    isolate: Callable[[Path], None]
    check: Callable[[Path], list[backups.Finding]]


def add_backup_commands(app: typer.Typer, side: Side) -> None:
    """Add the four commands to a side's command line."""
    program = f"fedforget-{side.name}"

    @app.command("backup-key", epilog=f"Example: {program} backup-key backup.key")
    def backup_key(
        to: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the private key.")],
        as_json: AsJson = False,
    ) -> None:
        """Create a key pair for backups. Keep the private key away from the machine that is backed up."""
        import pyrage  # noqa: PLC0415 - for this command alone

        from common.files import write_private  # noqa: PLC0415

        with clear_errors():
            identity = pyrage.x25519.Identity.generate()
            public = str(identity.to_public())
            write_private(to, f"# public key: {public}\n{identity}\n".encode())
            human = (
                f"{to}: keep it in a safe, on another machine; without it no backup can be read\npublic key: {public}"
            )
            show({"file": str(to), "recipient": public}, human, as_json=as_json)

    @app.command("backup", epilog=f"Example: {program} backup monday.age --recipient age1... --dir {side.example}")
    def backup(
        to: Annotated[Path, typer.Argument(metavar="FILE", help="New backup file.")],
        recipient: Annotated[
            list[str], typer.Option("--recipient", help="Public key that `backup-key` printed; may be repeated.")
        ],
        folder: Folder = Path("."),
        as_json: AsJson = False,
    ) -> None:
        """Write an encrypted, consistent copy of the folder to a new file. `up` may run meanwhile."""
        from common.platform.backup import backup as backups  # noqa: PLC0415 - the database, for this command
        from common.platform.backup.recipients import read_recipients  # noqa: PLC0415

        with clear_errors():
            keys = read_recipients(recipient)
            manifest = backups.backup(side.folder(folder), to, keys, datetime.now(UTC))
            size = sum(record.size for record in manifest.files.values())
            fields = {"file": str(to), "files": len(manifest.files), "bytes": size, "created": manifest.created}
            show(
                fields, f"{to}: {len(manifest.files)} files, {size / 2**20:.1f} MiB before encryption", as_json=as_json
            )

    @app.command("restore", epilog=f"Example: {program} restore monday.age {side.example} --identity backup.key")
    def restore(
        file: BackupFile,
        to: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.")],
        identity: Identity,
        database: Annotated[
            str, typer.Option(help="Empty PostgreSQL database to restore into, if the backup holds one.")
        ] = "",
        as_json: AsJson = False,
    ) -> None:
        """Restore a backup into a new folder, and verify it. Exits with 6 if a check fails."""
        from common.platform.backup import backup as backups  # noqa: PLC0415 - the database, for this command
        from common.platform.backup.archive import age  # noqa: PLC0415
        from common.platform.backup.recipients import read_identity  # noqa: PLC0415

        with clear_errors():
            manifest = backups.restore(file, read_identity(identity), to, side.name, database)
            notes = side.settle(to, database)
            findings = side.check(to)
            old = age(manifest.created, datetime.now(UTC))
            notes.insert(0, f"the backup is {old} old: what was recorded since then is not in it")
            _report(to, manifest.created, old, findings, notes, as_json=as_json)

    @app.command("drill", epilog=f"Example: {program} drill monday.age --identity backup.key")
    def drill(file: BackupFile, identity: Identity, as_json: AsJson = False) -> None:
        """Restore into a scratch folder, verify everything, say how old it is. Exits with 6 if a check fails."""
        from common.platform.backup import backup as backups  # noqa: PLC0415 - the database, for this command
        from common.platform.backup.archive import age  # noqa: PLC0415
        from common.platform.backup.recipients import read_identity  # noqa: PLC0415

        def check(place: Path) -> list[backups.Finding]:
            side.isolate(place)
            return side.check(place)

        with clear_errors():
            manifest, findings = backups.drill(file, read_identity(identity), side.name, check)
            old = age(manifest.created, datetime.now(UTC))
            _report(file, manifest.created, old, findings, [f"made {old} ago"], as_json=as_json)


def _report(
    what: Path, created: datetime, old: str, findings: list[backups.Finding], notes: list[str], *, as_json: bool
) -> None:
    fields: dict[str, Any] = {
        "of": str(what),
        "created": created,
        "age": old,
        "checks": [asdict(finding) for finding in findings],
        "notes": notes,
    }
    lines = [*(f"{'ok' if f.ok else 'FAILED':6} {f.name}: {f.detail}" for f in findings), *notes]
    show(fields, "\n".join(lines), as_json=as_json)
    if failures := [finding.name for finding in findings if not finding.ok]:
        raise EvidenceError(f"{', '.join(failures)}: does not hold; use an earlier backup")
