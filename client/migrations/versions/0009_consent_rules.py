"""consents that say nothing, other names of a patient; everything is weighed again by the rules as they are now"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """What the earlier rules took for silence or doubt may be a refusal."""
    op.create_table(
        "consent_silences",
        sa.Column("patient", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("patient", "reason"),
    )
    op.create_table(
        "consent_other_keys",
        sa.Column("patient", sa.String(length=200), nullable=False),
        sa.Column("other", sa.String(length=200), nullable=False),
        sa.Column("sealed", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("patient", "other"),
    )
    op.execute("update consents set weighed = null")
