"""What a site needs before it can take Consents: made here, once, and never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from sqlalchemy import inspect, select

from client.database import PatientRow, opened
from client.intake.fhir.pull.smart import public_jwk
from client.settings import SiteFolder
from common.errors import InputError
from common.files import write_private, write_text
from common.platform.keys.private_keys import load_ec_key, new_secret, read_passphrase


def make_keys(folder: SiteFolder) -> tuple[Path, ...]:
    """Make the secret of the pseudonyms, the bearer token and the key that signs in; returns what was missing.

    Raises:
        InputError: settings, the passphrase, the folder cannot be written, or a secret that is in use was lost.
    """
    if not folder.pseudonym_secret.exists() and _has_consents(folder):
        raise InputError(
            "the secret that encrypted the patients' ids is missing",
            where=str(folder.pseudonym_secret),
            remedy="restore it from its backup",
        )

    token = folder.root / (folder.settings().fhir.token_file or "fhir/token")
    files_made = []

    for path in (folder.pseudonym_secret, token):
        if not path.exists():
            new_secret(path)
            files_made.append(path)

    passphrase = read_passphrase(folder.passphrase)
    if not folder.fhir_key.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
        write_private(folder.fhir_key, content)
        files_made.append(folder.fhir_key)

    public = public_jwk(load_ec_key(folder.fhir_key, passphrase).public_key())
    write_text(folder.fhir_jwks, json.dumps({"keys": [public]}, indent=2) + "\n")

    return tuple(files_made)


def _has_consents(folder: SiteFolder) -> bool:
    if not folder.has_database:
        return False
    with opened(folder.database_url) as engine, engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        table = PatientRow.__tablename__
        return table in tables and connection.execute(select(PatientRow.patient).limit(1)).first() is not None
