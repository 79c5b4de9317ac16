"""The data steward's key, which no service can open. It signs the hospital's statements about revocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.evidence.event_log import SiteLog, steward_source
from client.settings import SiteFolder
from common.errors import EvidenceError, InputError
from common.evidence import dsse, statements
from common.evidence.canonical import Json, canonical, parse_canonical
from common.evidence.countersignature import claims_of
from common.evidence.keys import PinnedKeys, PublicKey, SigningKey
from common.evidence.schema import time_text
from common.files import read_private, write_bytes, write_private
from common.platform.actor import Actor, by_key
from common.platform.event_log.store import Record
from common.platform.keys.private_keys import read_public_key

_REVOCATION = "revocation:"
DECISION_TYPE = "application/vnd.fedforget.decision+json"


@dataclass(frozen=True, slots=True)
class UnsignedStatement:
    """A statement that the steward has not signed, and its claims."""

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
    """The steward's key that `site.toml` names, or None.

    Raises:
        InputError: the file it names is not a public key.
    """
    key_file = folder.settings().steward_key
    if not key_file:
        return None
    return read_public_key(folder.root / key_file, "steward_key in site.toml")


def steward_keys(folder: SiteFolder) -> tuple[PublicKey, ...]:
    """All keys that may sign decisions about revocations: `steward_key` and `steward_keys` of `site.toml`."""
    first = steward_key(folder)
    others = [read_public_key(folder.root / name, "steward_keys in site.toml") for name in _named(folder)]
    return (*([] if first is None else [first]), *others)


def _named(folder: SiteFolder) -> tuple[str, ...]:
    return folder.settings().steward_keys


def open_key(folder: SiteFolder, path: Path, passphrase: bytes, *, may_sign_statements: bool = False) -> SigningKey:
    """A steward's private key.

    Args:
        may_sign_statements: it must be the one of `steward_key`.

    Raises:
        InputError: `site.toml` names no steward, or another one; the key does not open, or others can read it.
    """
    first = steward_key(folder)
    allowed_keys = steward_keys(folder) if not may_sign_statements else () if first is None else (first,)
    if not allowed_keys:
        raise InputError("no steward_key", where=str(folder.settings_file), remedy="fedforget-site steward init")
    key = SigningKey.from_pem(read_private(path), passphrase)
    if key.public not in allowed_keys:
        raise InputError(
            "the key is not the one that site.toml names", where=str(path), remedy="steward_key in site.toml"
        )
    return key


def sign_decision(actor: Actor, what: str, receipt: str, at: datetime, key: SigningKey) -> tuple[Actor, str]:
    """Sign a decision about a receipt; returns the actor, bound to the key, and the envelope for the record."""
    document: dict[str, Json] = {"at": time_text(at), "by": actor.name, "decision": what, "receipt": receipt}
    envelope = dsse.encode_envelope(dsse.sign(DECISION_TYPE, canonical(document), key)).decode()
    return Actor(actor.name, f"{actor.identity} {by_key(key.public.keyid)}".strip()), envelope


def signature_holds(envelope: str, receipt: str, keys: Sequence[PublicKey]) -> bool:
    """Whether a decision's envelope is about this receipt and signed by one of these keys."""
    steward_pins = PinnedKeys.of([(f"steward {number}", key) for number, key in enumerate(keys)])

    try:
        read = dsse.decode_envelope(envelope.encode())
        dsse.verify(read, DECISION_TYPE, steward_pins, {})
        value = parse_canonical(read.body)
    except EvidenceError:
        return False

    return isinstance(value, dict) and value.get("receipt") == receipt


def unsigned(site: SiteLog) -> list[UnsignedStatement]:
    """Statements about revocations that are waiting for the steward, oldest first, without erased ones."""
    with site.session() as session:
        vault_items = [item for item in site.log.vault(session) if item.source.startswith(_REVOCATION)]
        receipts = {item.source: item.source.removeprefix(_REVOCATION) for item in vault_items}
        signed_sources = site.log.known(session, map(steward_source, receipts.values()))

    return [
        UnsignedStatement(receipts[item.source], item.document, claims_of(statements.read_revocation(item.document)))
        for item in vault_items
        if steward_source(receipts[item.source]) not in signed_sources
    ]


def sign(site: SiteLog, waiting: Sequence[UnsignedStatement], steward: SigningKey) -> None:
    """Sign statements as the steward, and log the signatures."""
    records = []

    for item in waiting:
        (signature,) = dsse.sign(statements.PAYLOAD_TYPE, item.payload, steward).signatures
        document = canonical({"receipt": item.receipt, "keyid": signature.keyid, "sig": signature.sig})
        records.append(Record(steward_source(item.receipt), "steward-signed", document))

    with site.session() as session:
        site.log.append(session, records, site.key())
