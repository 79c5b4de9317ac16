"""weights that nothing may start from again"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """What was purged until now is not in it: it may have been one version too many."""
    op.create_table(
        "retired",
        sa.Column("digest", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
