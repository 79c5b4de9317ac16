"""what patients were used for, and indexes to find their steps by"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """A column for the use; rows from before it are taken for training, which is the cautious reading."""
    op.add_column(
        "participations", sa.Column("use", sa.String(length=200), nullable=False, server_default=sa.text("'train'"))
    )
    op.create_index("ix_members_patient", "members", ["patient"])
    op.create_index("ix_participations_campaign", "participations", ["campaign"])
    op.create_index("ix_participations_cohort", "participations", ["cohort"])
