"""Accounts of a console itself, for places without an identity provider: a password and a code, or a passkey.

There is no default password: the first account is made with a one-time token that a command prints on the machine.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Engine, delete, func, select, update

from common.errors import InputError, RefusedError
from common.platform.console.sign_in.account_tables import AccountRow, InvitationRow, PasskeyRow, create
from common.platform.console.sign_in.person import Person
from common.platform.sql import open_database, reading, transaction

FILE = "accounts.db"
LEAST_PASSWORD = 12
MOST_PASSWORD = 256
INVITATION = timedelta(hours=48)
_TOKEN_BYTES = 24
_STEP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Account:
    """An account, without its secrets."""

    subject: str
    name: str
    login: str
    roles: frozenset[str]
    created: datetime
    signed_in: datetime | None
    disabled: datetime | None
    passkeys: int = 0


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a one-time token allows: an account with these roles, or new credentials for `subject`."""

    digest: str
    roles: frozenset[str]
    subject: str


class Accounts:
    """The accounts in one file.

    Args:
        issuer: names this console as the issuer of its people, e.g. `local:north`.
        hasher: of passwords.
    """

    def __init__(self, engine: Engine, issuer: str, hasher: PasswordHasher) -> None:
        self._engine = engine
        self.issuer = issuer
        self._hasher = hasher
        # Somebody without an account must take as long to refuse as a wrong password.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def invite(self, roles: Collection[str], now: datetime, *, subject: str = "") -> str:
        """A new one-time token; only its digest is stored."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        row = InvitationRow(digest=_digest(token), roles=sorted(roles), subject=subject, expires=now + INVITATION)

        with transaction(self._engine) as session:
            session.execute(delete(InvitationRow).where(InvitationRow.expires < now))
            session.add(row)

        return token

    def invitation(self, token: str, now: datetime) -> Invitation | None:
        """What a token allows; None if it is unknown, used or too old."""
        with reading(self._engine) as session:
            row = session.get(InvitationRow, _digest(token))
            if row is None or row.expires < now:
                return None
            return Invitation(row.digest, frozenset(row.roles), row.subject)

    def check_new(self, name: str, password: str, *, subject: str = "") -> None:
        """Refuse a name that is taken and a password that is too weak.

        Raises:
            InputError: says what is wrong.
        """
        login = _login(name)
        if not login:
            raise InputError("Give a name.")
        if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
            raise InputError("The password needs at least 12 characters.")
        if login in password.casefold() or len(set(password)) < 6:
            raise InputError("The password is too easy to guess.")
        with reading(self._engine) as session:
            there = session.scalar(select(AccountRow.subject).where(AccountRow.login == login))
        if there is not None and there != subject:
            raise InputError("This name is taken.")

    def create(self, invitation: Invitation, name: str, password: str, totp_secret: str, now: datetime) -> Account:
        """Use an invitation: a new account, or new credentials for one. Its first code was checked before.

        Raises:
            InputError: the name is taken, or the password too weak.
            RefusedError: the invitation was used meanwhile.
        """
        self.check_new(name, password, subject=invitation.subject)
        password_hash = self._hasher.hash(password)

        with transaction(self._engine) as session:
            if session.get(InvitationRow, invitation.digest) is None:
                raise RefusedError("the invitation has been used in the meantime")
            # Deleted in the transaction that makes the account: a token counts once, also for two browsers at once.
            session.execute(delete(InvitationRow).where(InvitationRow.digest == invitation.digest))
            row = session.get(AccountRow, invitation.subject) if invitation.subject else None
            if row is None:
                row = AccountRow(subject=secrets.token_hex(8), roles=sorted(invitation.roles), created=now)
                session.add(row)
            else:
                # New credentials replace all old ones: whoever lost their device must not leave a passkey behind.
                session.execute(delete(PasskeyRow).where(PasskeyRow.subject == row.subject))
            row.name = name.strip()
            row.login = _login(name)
            row.password = password_hash
            row.totp_secret = totp_secret
            # The first code was used to make the account, so it must not sign in as well.
            row.totp_last = _step(now)
            row.signed_in = None
            row.disabled = None
            session.flush()

            return _account(row)

    def sign_in(self, name: str, password: str, code: str, now: datetime) -> Person | None:
        """The person behind a name, a password and a code; None if any of them is wrong, whichever it is."""
        with reading(self._engine) as session:
            row = session.scalar(select(AccountRow).where(AccountRow.login == _login(name)))
            # The hash is computed in any case: the time must not tell which names exist.
            expected_hash = row.password if row is not None and row.password else self._nobody
            is_right = self._verifies(expected_hash, password)
            if row is None or not is_right or row.disabled is not None:
                return None
            subject = row.subject
            step = code_step(row.totp_secret, code, now)

        if step is None or not self._use_code(subject, step, now):
            return None
        return self.person(subject)

    def person(self, subject: str) -> Person | None:
        """Somebody with an account that is not disabled."""
        with reading(self._engine) as session:
            row = session.get(AccountRow, subject)
            if row is None or row.disabled is not None:
                return None
            return Person(self.issuer, row.subject, row.name, frozenset(row.roles))

    def listed(self) -> list[Account]:
        """All accounts, by name."""
        with reading(self._engine) as session:
            keys = dict(session.execute(select(PasskeyRow.subject, func.count()).group_by(PasskeyRow.subject)).all())
            rows = session.scalars(select(AccountRow).order_by(AccountRow.login))
            return [_account(row, keys.get(row.subject, 0)) for row in rows]

    def set_roles(self, subject: str, roles: Collection[str]) -> None:
        """Give an account other roles; its sessions must be ended."""
        with transaction(self._engine) as session:
            session.execute(update(AccountRow).where(AccountRow.subject == subject).values(roles=sorted(roles)))

    def disable(self, subject: str, now: datetime) -> None:
        """Let nobody sign in with an account any more; its sessions must be ended."""
        with transaction(self._engine) as session:
            session.execute(update(AccountRow).where(AccountRow.subject == subject).values(disabled=now))

    def add_passkey(self, subject: str, credential: str, public_key: bytes, sign_count: int, now: datetime) -> None:
        """Add a passkey."""
        row = PasskeyRow(
            credential=credential, subject=subject, public_key=public_key, sign_count=sign_count, added=now
        )
        with transaction(self._engine) as session:
            session.add(row)

    def passkey(self, credential: str) -> tuple[str, bytes, int] | None:
        """Account, public key and sign count of a passkey."""
        with reading(self._engine) as session:
            row = session.get(PasskeyRow, credential)
            return None if row is None else (row.subject, row.public_key, row.sign_count)

    def passkeys(self, subject: str) -> list[str]:
        """The credentials of an account."""
        with reading(self._engine) as session:
            return [*session.scalars(select(PasskeyRow.credential).where(PasskeyRow.subject == subject))]

    def used_passkey(self, credential: str, sign_count: int, now: datetime) -> None:
        """Store the sign count after a sign-in."""
        with transaction(self._engine) as session:
            row = session.get(PasskeyRow, credential)
            if row is not None:
                row.sign_count = sign_count
                of_account = update(AccountRow).where(AccountRow.subject == row.subject)
                session.execute(of_account.values(signed_in=now))

    def _use_code(self, subject: str, step: int, now: datetime) -> bool:
        """Use up the codes until a time step; False if this one, or a later one, was used before."""
        # One statement decides: of two sign-ins with the same code at once, one finds the step used.
        statement = update(AccountRow).where(AccountRow.subject == subject, AccountRow.totp_last < step)
        with transaction(self._engine) as session:
            result = session.execute(statement.values(totp_last=step, signed_in=now))
            return bool(result.rowcount == 1)  # type: ignore[attr-defined]  # of an update it has one

    def _verifies(self, stored: str, password: str) -> bool:
        try:
            # Cut, as hashing a text of megabytes would keep the console busy.
            return self._hasher.verify(stored, password[:MOST_PASSWORD])
        except (VerificationError, InvalidHashError):
            return False


@contextmanager
def open_accounts(folder: Path, issuer: str, hasher: PasswordHasher | None = None) -> Iterator[Accounts]:
    """The accounts in `folder`, which only its owner can read.

    Raises:
        UnavailableError: the file cannot be opened.
        InputError: it is damaged.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    # Made with its mode before SQLite opens it, which would use the umask.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = open_database(f"sqlite:///{path.resolve()}")

    try:
        create(engine)
        yield Accounts(engine, issuer, hasher or PasswordHasher())
    finally:
        engine.dispose()


def new_totp() -> str:
    """A new secret for codes."""
    return pyotp.random_base32()


def totp_address(secret: str, name: str, console: str) -> str:
    """What an authenticator app reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=console)


def code_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step of a code, which may be one step old or early; None if it is wrong."""
    digits = "".join(code.split())
    if not secret or len(digits) != 6 or not (digits.isascii() and digits.isdecimal()):
        return None
    totp = pyotp.TOTP(secret)
    here = _step(now)
    steps = (here, here - 1, here + 1)

    return next((step for step in steps if secrets.compare_digest(totp.at(step * _STEP_SECONDS), digits)), None)


def _step(now: datetime) -> int:
    return int(now.timestamp()) // _STEP_SECONDS


def _login(name: str) -> str:
    return " ".join(name.split()).casefold()[:100]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _account(row: AccountRow, passkeys: int = 0) -> Account:
    return Account(
        row.subject, row.name, row.login, frozenset(row.roles), row.created, row.signed_in, row.disabled, passkeys
    )
