"""Tables of a console's own accounts, in a file of their own. The process that serves the console alone writes it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine, LargeBinary, MetaData, String
from sqlalchemy.orm import Mapped, mapped_column

from common.platform.sql import Tables


class Base(Tables):
    """Base class of the tables."""

    __abstract__ = True
    metadata = MetaData()


class AccountRow(Base):
    """An account. It is disabled, never deleted: the record of revocations names it."""

    __tablename__ = "accounts"
    subject: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    """As shown to others."""
    login: Mapped[str] = mapped_column(unique=True)
    """As typed at sign-in, case-folded."""
    roles: Mapped[list[str]]
    password: Mapped[str] = mapped_column(String(300))
    """Argon2 hash; empty: passkeys only."""
    totp_secret: Mapped[str]
    totp_last: Mapped[int]
    """Time step of the last code that was used: no code counts twice."""
    created: Mapped[datetime]
    signed_in: Mapped[datetime | None]
    disabled: Mapped[datetime | None]


class PasskeyRow(Base):
    """A passkey of an account."""

    __tablename__ = "passkeys"
    credential: Mapped[str] = mapped_column(String(1400), primary_key=True)
    """Base64url of the credential's id."""
    subject: Mapped[str] = mapped_column(index=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    added: Mapped[datetime]


class InvitationRow(Base):
    """A one-time token with which somebody makes an account, or new credentials for theirs."""

    __tablename__ = "invitations"
    digest: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the token."""
    roles: Mapped[list[str]]
    subject: Mapped[str]
    """The account that gets new credentials; empty: a new account."""
    expires: Mapped[datetime]


def create(engine: Engine) -> None:
    """Create what is missing."""
    Base.metadata.create_all(engine)
