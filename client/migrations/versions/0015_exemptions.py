"""decisions by an exception of GDPR Art. 17(3)"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Nobody recorded exceptions before, except as text."""
    op.create_table(
        "exemptions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("revocation", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("article", sa.String(length=200), nullable=False),
        sa.Column("code", sa.String(length=200), nullable=False),
        sa.Column("keeps", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("identity", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["revocation"], ["revocations.id"]),
    )
    op.create_index("ix_exemptions_revocation", "exemptions", ["revocation"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "create trigger exemptions_no_change before update or delete or truncate on exemptions "
            "for each statement execute function refuse_change()"
        )
        return
    for verb in ("update", "delete"):
        op.execute(
            f"create trigger exemptions_no_{verb} before {verb} on exemptions "
            "begin select raise(abort, 'exemptions is append-only'); end"
        )
