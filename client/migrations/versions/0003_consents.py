"""consents by version, what was decided of them, and how far a FHIR server was read"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Four tables; a consent's versions are only ever added to."""
    op.create_table(
        "consents",
        sa.Column("resource", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=200), nullable=False),
        sa.Column("patient", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=200), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
        sa.Column("receipt", sa.String(length=200), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("weighed", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("resource", "version", "digest"),
    )
    op.create_index("ix_consents_patient", "consents", ["patient"])
    op.create_index("ix_consents_weighed", "consents", ["weighed"])
    op.create_table(
        "consent_patients",
        sa.Column("patient", sa.String(length=200), nullable=False),
        sa.Column("sealed", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("patient"),
    )
    op.create_table(
        "consent_decisions",
        sa.Column("patient", sa.String(length=200), nullable=False),
        sa.Column("answer", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resource", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("receipt", sa.String(length=200), nullable=True),
        sa.Column("received", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("patient"),
    )
    waits = sa.text("receipt is not null and recorded is null")
    op.create_index(
        "ix_consent_decisions_waiting", "consent_decisions", ["patient"], sqlite_where=waits, postgresql_where=waits
    )
    op.create_table(
        "fhir_servers",
        sa.Column("base", sa.String(length=500), nullable=False),
        sa.Column("cursor", sa.DateTime(timezone=True), nullable=True),
        sa.Column("baseline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pulled", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reconciled", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("base"),
    )
