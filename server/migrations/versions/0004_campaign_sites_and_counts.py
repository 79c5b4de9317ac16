"""which sites a campaign holds, its failed tries, sites that are set aside, and registered numbers of studies"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """New columns with defaults, so that what is open goes on, and a table of counts."""
    with op.batch_alter_table("campaigns") as table:
        table.add_column(sa.Column("sites", sa.JSON(), nullable=True))
        table.add_column(sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("progress", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("sites") as table:
        table.add_column(sa.Column("refusals", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("aside_until", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "study_counts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("site", sa.String(length=200), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("train_studies", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=200), nullable=False),
        sa.Column("received", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["sites.name"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("site", "sequence"),
    )
