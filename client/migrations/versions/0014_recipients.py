"""who received a model version"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """The coordinator tells it at the next heartbeat."""
    op.create_table(
        "recipients",
        sa.Column("digest", sa.String(length=200), nullable=False),
        sa.Column("heard", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
