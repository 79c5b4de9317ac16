"""The data steward's own key: no service can open it, and it signs what the hospital states about revocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.event_log import SiteLog, steward_source
from client.settings import SiteFolder
from common.errors import InputError
from common.event_log import Record
from common.evidence import dsse, statements
from common.evidence.canonical import canonical
from common.evidence.countersignature import claims_of
from common.evidence.keys import PublicKey, SigningKey
from common.files import read_private, write_bytes, write_private
from common.private_keys import read_public_key

_REVOCATION = "revocation:"


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A statement that the steward has not signed, and what it says."""

    receipt: str
    payload: bytes
    says: tuple[str, ...]


def make_key(path: Path, passphrase: bytes) -> PublicKey:
    """Write a new key to `path`, encrypted, and its public half beside it as `.pub`.

    Raises:
        OutputError: there is a key already, or the folder cannot be written.
    """
    key = SigningKey.generate()
    write_private(path, key.to_pem(passphrase))
    write_bytes(path.with_suffix(".pub"), key.public.pem)
    return key.public


def steward_key(folder: SiteFolder) -> PublicKey | None:
    """Whom `site.toml` names as the steward; None if nobody.

    Raises:
        InputError: the file it names is not a public key.
    """
    named = folder.settings().steward_key
    if not named:
        return None
    return read_public_key(folder.root / named, "steward_key in site.toml")


def open_key(folder: SiteFolder, path: Path, passphrase: bytes) -> SigningKey:
    """The steward's private key.

    Raises:
        InputError: `site.toml` names no steward, or another one; the key does not open, or others can read it.
    """
    named = steward_key(folder)
    if named is None:
        raise InputError("no steward_key", where=str(folder.settings_file), remedy="fedforget-site steward init")
    key = SigningKey.from_pem(read_private(path), passphrase)
    if key.public != named:
        raise InputError("not the key that site.toml names", where=str(path), remedy="steward_key in site.toml")
    return key


def unsigned(site: SiteLog) -> list[Unsigned]:
    """Statements about revocations that wait for the steward, oldest first; those that were erased do not."""
    with site.session() as session:
        found = [item for item in site.log.vault(session) if item.source.startswith(_REVOCATION)]
        receipts = {item.source: item.source.removeprefix(_REVOCATION) for item in found}
        signed = site.log.known(session, map(steward_source, receipts.values()))
    return [
        Unsigned(receipts[item.source], item.document, claims_of(statements.read_revocation(item.document)))
        for item in found
        if steward_source(receipts[item.source]) not in signed
    ]


def sign(site: SiteLog, waiting: Sequence[Unsigned], steward: SigningKey) -> None:
    """Sign statements as the steward; that it was done, and the signature, stand in the site's log."""
    records = []
    for item in waiting:
        (signature,) = dsse.sign(statements.PAYLOAD_TYPE, item.payload, steward).signatures
        document = canonical({"receipt": item.receipt, "keyid": signature.keyid, "sig": signature.sig})
        records.append(Record(steward_source(item.receipt), "steward-signed", document))
    with site.session() as session:
        site.log.append(session, records, site.key())
