"""requests that came while another revocation of the patient stood"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Earlier releases kept none of them."""
    op.create_table(
        "covered_requests",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("source", sa.String(length=500), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", name="uq_covered_requests_source"),
    )
    op.create_table(
        "covered_patients",
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("pseudonym", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["covered_requests.id"]),
        sa.PrimaryKeyConstraint("request", "pseudonym"),
    )
    op.create_index("ix_covered_patients_pseudonym", "covered_patients", ["pseudonym"])
