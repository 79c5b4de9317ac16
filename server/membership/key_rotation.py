"""A new signing key for the coordinator; hospitals follow with join bundles for which the same authority vouches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, select

from common.disk import unwritable
from common.errors import RefusedError
from common.evidence.keys import PublicKey, SigningKey
from common.files import sync_folder, write_bytes, write_private
from common.platform.keys.private_keys import load_signing_key, read_passphrase
from common.platform.processes.up_lock import only_one
from common.platform.sql import transaction
from server.database import CampaignRow, EventRow
from server.membership.enrolment import open_authority, renewed_bundles
from server.settings import ServerFolder


@dataclass(frozen=True, slots=True)
class Rotated:
    """The keys before and after, and the files of the new bundles by hospital."""

    old: PublicKey
    new: PublicKey
    bundles: Mapping[str, Path]


def rotate(folder: ServerFolder, engine: Engine, out: Path, now: datetime) -> Rotated:
    """Write new bundles to the folder `out`, then replace the coordinator's signing key.

    What the old one signed stays good, as the log names both with their times. A run that was interrupted is taken up
    again with the key that it made.

    Raises:
        RefusedError: `up` runs here, or a campaign is open, whose instructions are signed with the old key.
        InputError: a key is missing, readable by others, or does not open.
        OutputError: `out` cannot be written, or the new key cannot be put in place; the old one is still in use.
    """
    waiting = folder.signing_key.with_name("signing-next.pem")

    with only_one(folder.root):
        old = load_signing_key(folder.signing_key, folder.passphrase)
        with transaction(engine) as session:
            if session.scalars(select(CampaignRow.number).where(CampaignRow.open.is_(True))).first() is not None:
                raise RefusedError("a campaign is open: wait for its end, or cancel it, before the key changes")

        # The key of an interrupted run is used again: bundles with it may have reached hospitals.
        if not waiting.exists():
            write_private(waiting, SigningKey.generate().to_pem(read_passphrase(folder.passphrase)))
        new = load_signing_key(waiting, folder.passphrase)
        authority = replace(open_authority(folder), signing=new)
        detail = f"signing key {new.public.keyid} takes over from {old.public.keyid}"

        with transaction(engine) as session:
            bundles = renewed_bundles(session, authority, now)
            # A run that was interrupted has written it already.
            if session.scalars(select(EventRow.id).where(EventRow.detail == detail)).first() is None:
                session.add(EventRow(at=now, kind="key-rotated", detail=detail))

        bundle_files = {name: out / f"{name}-join.json" for name in bundles}
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise unwritable(err, out, remedy="choose another") from err

        for name, path in bundle_files.items():
            write_bytes(path, bundles[name])
        # Last: until here the old key signs, and hospitals without their new bundle know no other.
        try:
            os.replace(waiting, folder.signing_key)
            sync_folder(folder.signing_key.parent)
        except OSError as err:
            raise unwritable(err, folder.signing_key, remedy="run it again") from err

    return Rotated(old.public, new.public, bundle_files)
