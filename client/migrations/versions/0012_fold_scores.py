"""scores of patients under fold models that never saw them"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Sites that took part in earlier trainings have none."""
    op.create_table(
        "fold_scores",
        sa.Column("lineage", sa.String(length=200), nullable=False),
        sa.Column("family", sa.String(length=200), nullable=False),
        sa.Column("patient", sa.String(length=200), nullable=False),
        sa.Column("fold", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("member", sa.Boolean(), nullable=False),
        sa.Column("image", sa.Double(), nullable=True),
        sa.Column("text", sa.Double(), nullable=True),
        sa.Column("fused", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("lineage", "family", "patient", "fold"),
    )
    op.create_index("ix_fold_scores_patient", "fold_scores", ["patient"])
