"""The coordinator's folder from nothing: the federation's authority, keys, `server.toml` and the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from sqlalchemy import inspect

from common.errors import ConfigError, InputError
from common.evidence.keys import SigningKey
from common.files import write_bytes, write_private, write_text
from common.learning.config import FoldsConfig
from common.platform.keys.certificates import (
    certificate_fingerprint,
    certificate_pem,
    issue_server,
    load_certificate,
    new_authority,
)
from common.platform.keys.private_keys import load_ec_key, new_authority_key, new_secret, new_tls_key, read_passphrase
from common.platform.new_folder import new_folder
from common.platform.sql import open_database
from server.database import migrate
from server.settings import PolicyConfig, PortsConfig, ServerFolder

_EXAMPLE = "postgresql+pg8000://fedforget@db.example.org/fedforget"
_TOML = """\
# Settings of the coordinator. What is left out has its default; docs/reference/configuration.md lists them all.

# Names and addresses that hospitals dial. After a change: fedforget-server certificate renew
hosts = {hosts}

# Labels, in the order of the model's outputs; needed before the first hospital is approved.
{classes}

# SQLite in this folder, unless this names a PostgreSQL server.
{database}

# Public key of the evaluator, who checks attestations independently and signs them too.
# evaluator_key = "evaluator.pub"

[ports]
# These two are open to the hospitals; everything else stays on loopback.
gateway = {gateway}
coordination = {coordination}

[policy]
# When enough revocations wait, or the oldest has waited for so long, a campaign starts.
# min_batch = {min_batch}
# window_hours = {window_hours}
# What follows when a campaign cannot decide: wait, retrain or withdraw.
# undecided = "{undecided}"

[experiment.folds]
# Fold models, trained once with the first model: they give unlearning its targets and the audit its yardstick.
# They cost as much as {trainings:g} trainings, before anybody revokes; 0 and 0 turn them off.
targets = {targets}
audit = {audit}
"""


def create_server(
    path: Path, hosts: Sequence[str], now: datetime, classes: Sequence[str] = (), database: str = ""
) -> str:
    """Make the folder `path` and the tables in `database`, and return the fingerprint of the new authority.

    `database` is the URL of an empty PostgreSQL database; without it the folder gets an SQLite file.

    Raises:
        OutputError: the folder has content, or cannot be written; nothing is left behind.
        ConfigError: a host is neither a name nor an address, or the URL names no database that is supported.
        UnavailableError: the database does not answer.
        InputError: the database is not empty.
    """
    if database and not database.startswith("postgresql+pg8000://"):
        raise ConfigError("not a PostgreSQL URL", where="--database", remedy=f"e.g. {_EXAMPLE}")
    if not hosts:
        raise ConfigError("no host", where="--host", remedy="give the name that hospitals connect to")
    with new_folder(path) as part:
        folder = ServerFolder(part)
        passphrase = new_secret(folder.passphrase)
        new_secret(folder.superexec_secret)
        write_private(folder.signing_key, SigningKey.generate().to_pem(passphrase))
        ca_key = new_authority_key(folder.ca_key, passphrase)
        ca = new_authority(ca_key, now)
        write_bytes(folder.ca_certificate, certificate_pem(ca))
        key = new_tls_key(folder.key)
        write_bytes(folder.certificate, certificate_pem(issue_server(ca, ca_key, key.public_key(), hosts, now)))
        text = _settings_text(hosts, classes, database)
        # The URL may hold a password.
        write_private(folder.settings_file, text.encode()) if database else write_text(folder.settings_file, text)
        for room in (folder.flower_database.parent, folder.models, folder.work, folder.logs):
            room.mkdir(mode=0o700)
        # Last: where the database fails, the new folder disappears with everything in it.
        engine = open_database(folder.database_url(folder.settings()))
        try:
            # Another coordinator's database would be migrated, and both would write to it.
            if database and inspect(engine).get_table_names():
                raise InputError(
                    "the database has tables already", where="--database", remedy="create an empty one: createdb NAME"
                )
            migrate(engine)
        finally:
            engine.dispose()

    return certificate_fingerprint(ca)


def renew_certificate(folder: ServerFolder, now: datetime) -> x509.Certificate:
    """A new TLS certificate for the hosts in `server.toml`, for the key that is there; hospitals notice nothing.

    Raises:
        InputError: the authority's key is not in the folder, or does not open.
    """
    ca = load_certificate(folder.ca_certificate)
    ca_key = load_ec_key(folder.ca_key, read_passphrase(folder.passphrase))
    certificate = issue_server(ca, ca_key, load_ec_key(folder.key).public_key(), folder.settings().hosts, now)
    write_bytes(folder.certificate, certificate_pem(certificate))

    return certificate


def _settings_text(hosts: Sequence[str], classes: Sequence[str], database: str) -> str:
    ports = PortsConfig()
    policy = PolicyConfig()
    folds = FoldsConfig(targets=4, audit=2)
    return _TOML.format(
        hosts=json.dumps(list(dict.fromkeys(hosts))),
        classes=f"classes = {json.dumps(list(classes))}" if classes else '# classes = ["no finding", "pneumonia"]',
        database=f"database = {json.dumps(database)}" if database else f'# database = "{_EXAMPLE}"',
        gateway=ports.gateway,
        coordination=ports.coordination,
        min_batch=policy.min_batch,
        window_hours=policy.window_hours,
        undecided=policy.undecided,
        trainings=folds.trainings,
        targets=folds.targets,
        audit=folds.audit,
    )
