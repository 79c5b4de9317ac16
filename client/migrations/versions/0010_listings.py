"""how consents came, and which of them the FHIR server lists no more"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Of earlier consents nobody knows either."""
    op.add_column("consents", sa.Column("interaction", sa.String(length=200), nullable=False, server_default=""))
    op.create_table(
        "consent_listings",
        sa.Column("resource", sa.String(length=200), nullable=False),
        sa.Column("gone", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("resource"),
    )
    op.create_index("ix_consent_listings_gone", "consent_listings", ["gone"])
