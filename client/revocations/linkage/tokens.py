"""Linkage tokens: keyed digests of an agreed identifier, by which hospitals recognize a common patient.

Only the hospitals have the key (HMAC-SHA-256, RFC 2104): the coordinator forwards tokens and can neither make nor guess
one. Each token is made with every key in `site.toml`, so that old and new tokens match after a rotation.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sqlalchemy import insert, select, update

from client.consent.kinds import NOT_STATED
from client.revocations.ledger import Ledger
from client.revocations.revocation import LIFTED, Request, Source, State
from client.revocations.rows.ledger_rows import chunks
from client.revocations.rows.ledger_tables import LinkPeersRow, LinkReceivedRow, LinkTokenRow
from client.settings import SiteFolder
from common.errors import ConfigError
from common.files import read_private
from common.learning.data.tables.table import Problems, read_table
from common.platform.sql import reading, transaction

_COLUMNS = ("patient_id", "identifier")
# RFC 2104 advises against keys that are shorter than the digest.
_LEAST_KEY_BYTES = 32
NOT_YET = frozenset({State.ON_HOLD, State.AWAITING_APPROVAL, *LIFTED})
"""States that are not forwarded."""
_PREFIXES: Mapping[bool, bytes] = MappingProxyType({False: b"fedforget/linkage/", True: b"fedforget/linkage/opt-out/"})
"""Prefix of the hashed text, by whether it is an opt-out: the token tells only hospitals the kind."""


@dataclass(frozen=True, slots=True)
class Linkage:
    """Makes tokens.

    Attributes:
        keys: all versions.
        identifier: gives the agreed identifier of a patient of the cohort, or None.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    identifier: Callable[[str], str | None]

    def tokens(self, patient: str, *, opt_out: bool = False) -> frozenset[str]:
        """Tokens of a patient, one per key, in hexadecimal; letter case and spaces of the identifier do not matter.

        An opt-out has different tokens, so that no hospital takes it for a withdrawal, which cannot be undone.
        """
        if (identifier := self.identifier(patient)) is None:
            return frozenset()
        text = _PREFIXES[opt_out] + "".join(identifier.split()).casefold().encode()
        return frozenset(hmac.digest(key, text, hashlib.sha256).hex() for key in self.keys)


def read_linkage(folder: SiteFolder) -> Linkage | None:
    """The linkage settings of `site.toml`, or None if no key is configured.

    Raises:
        ConfigError: a key is too short.
        InputError: cannot read a key or the list of identifiers.
    """
    config = folder.settings().linkage if folder.settings_file.exists() else None
    if config is None or not config.keys:
        return None
    keys = []
    for name, path in sorted(config.keys.items()):
        key = read_private(folder.root / path)
        if len(key) < _LEAST_KEY_BYTES:
            where = f"{folder.settings_file} [linkage] keys.{name}"
            raise ConfigError(
                "the key is too short", where=where, remedy="use the same 32 random bytes at every hospital"
            )

        keys.append(key)

    if not config.identifiers:
        return Linkage(tuple(keys), lambda patient: patient)
    rows = read_table(folder.root / config.identifiers, _COLUMNS)
    problems = Problems()
    tokens_of_cohort = dict[str, str]()
    for line, row in rows:
        if row["identifier"]:
            tokens_of_cohort[problems.identifier(row["patient_id"], "patient_id", rows.place(line))] = row["identifier"]

    problems.raise_any()

    return Linkage(tuple(keys), tokens_of_cohort.get)


def make_tokens(ledger: Ledger, linkage: Linkage) -> int:
    """Create the missing tokens of this site's own revocations, with every key; returns their number.

    Revocations that came by linkage, or await a steward or a second person, are not forwarded.
    """
    names = ledger.identifiers()
    own = {
        (s.pseudonym, s.kind == "opt-out")
        for s in ledger.standing()
        if s.source.kind != "link" and s.state not in NOT_YET and s.pseudonym in names
    }
    patient_of_token = {token: p for p, opt_out in own for token in linkage.tokens(names[p], opt_out=opt_out)}

    with transaction(ledger.engine) as session:
        missing = patient_of_token.keys() - set(session.scalars(select(LinkTokenRow.token)))
        if missing:
            rows = [{"token": token, "pseudonym": patient_of_token[token], "told": None} for token in sorted(missing)]
            session.execute(insert(LinkTokenRow), rows)

    return len(missing)


def untold(ledger: Ledger, most: int) -> tuple[str, ...]:
    """Tokens that the coordinator does not have yet, up to a limit."""
    with reading(ledger.engine) as session:
        query = select(LinkTokenRow.token).where(LinkTokenRow.told.is_(None)).order_by(LinkTokenRow.token)
        return tuple(session.scalars(query.limit(most)))


def mark_told(ledger: Ledger, tokens: Collection[str], others: int) -> None:
    """Record that the coordinator has these tokens, and to how many other hospitals it forwards them."""
    with transaction(ledger.engine) as session:
        session.execute(update(LinkTokenRow).where(LinkTokenRow.token.in_(tokens)).values(told=ledger.clock()))
        session.merge(LinkPeersRow(id=1, others=others))


def receive(ledger: Ledger, linkage: Linkage, tokens: Collection[str]) -> int:
    """Keep tokens of other hospitals, and record a revocation of every patient here whom a new token means."""
    with transaction(ledger.engine) as session:
        there = set[str]()
        for some in chunks(tokens):
            there |= set(session.scalars(select(LinkReceivedRow.token).where(LinkReceivedRow.token.in_(some))))
        new = [{"token": token, "at": ledger.clock()} for token in sorted(set(tokens) - there)]
        if new:
            session.execute(insert(LinkReceivedRow), new)

    # Also for tokens that are here already: a process that was killed may have kept them and matched nobody.
    return match(ledger, linkage, ledger.known_patients()) if tokens else 0


def match(ledger: Ledger, linkage: Linkage, patients: Iterable[str]) -> int:
    """Record a revocation of each of `patients` whom another hospital's token means; returns the number of new ones.

    May be repeated; every import does so for its patients.
    """
    with reading(ledger.engine) as session:
        arrival_of_token = {row.token: row.at for row in session.scalars(select(LinkReceivedRow))}
    if not arrival_of_token:
        return 0
    matches = 0
    with ledger.writing() as writing:
        for patient in patients:
            for opt_out in (False, True):
                # One is enough: the tokens of several keys stand for one person.
                for token in sorted(linkage.tokens(patient, opt_out=opt_out) & arrival_of_token.keys())[:1]:
                    request = Request(
                        Source("link", token),
                        # Made of the token: a match that is repeated has the same receipt.
                        ledger.pseudonyms.receipt("link", token),
                        arrival_of_token[token],
                        kind="opt-out" if opt_out else "withdrawal",
                        legal_basis=NOT_STATED,
                        requester="another hospital",
                    )
                    receipt = ledger.add(writing, request, [patient], also_unknown=True, exact=True)
                    matches += receipt.patients - receipt.earlier

    return matches
