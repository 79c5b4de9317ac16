"""the ledger of revocations"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_APPEND_ONLY = ("revocations", "revocation_events", "accesses")


def upgrade() -> None:
    """Three tables that are only ever added to, which the database itself sees to."""
    op.create_table(
        "revocations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        *(
            sa.Column(name, sa.String(length=200), nullable=False)
            for name in (
                "receipt",
                "pseudonym",
                "source_kind",
                "source_id",
                "source_version",
                "source_digest",
                "scope",
            )
        ),
        sa.Column("policies", sa.JSON(), nullable=False),
        *(
            sa.Column(name, sa.String(length=200), nullable=False)
            for name in ("legal_basis", "requester", "identity_check", "steward")
        ),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effective", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "source_kind", "source_id", "source_version", "pseudonym", name="uq_revocations_source_and_patient"
        ),
    )
    op.create_index("ix_revocations_receipt", "revocations", ["receipt"])
    op.create_index("ix_revocations_pseudonym", "revocations", ["pseudonym"])
    op.create_table(
        "revocation_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("revocation", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("remediation", sa.String(length=200), nullable=True),
        sa.Column("campaign", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("revocation", "seq", name="uq_revocation_events_seq"),
        sa.ForeignKeyConstraint(["revocation"], ["revocations.id"]),
    )
    op.create_table(
        "accesses",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("campaign", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("patients", sa.Integer(), nullable=False),
        sa.Column("purged", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_accesses_campaign", "accesses", ["campaign"])
    if op.get_bind().dialect.name == "postgresql":
        _refuse_on_postgresql()
    else:
        _refuse_on_sqlite()


def _refuse_on_sqlite() -> None:
    for table in _APPEND_ONLY:
        for verb in ("update", "delete"):
            op.execute(
                f"create trigger {table}_no_{verb} before {verb} on {table} "
                f"begin select raise(abort, '{table} is append-only'); end"
            )


def _refuse_on_postgresql() -> None:
    op.execute(
        "create function refuse_change() returns trigger language plpgsql as "
        "$$ begin raise exception '% is append-only', tg_table_name; end $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"create trigger {table}_no_change before update or delete or truncate on {table} "
            "for each statement execute function refuse_change()"
        )
