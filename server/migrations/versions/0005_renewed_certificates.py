"""a hospital's renewed certificate, until it is used"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """A column that is empty for all hospitals."""
    with op.batch_alter_table("sites") as table:
        table.add_column(sa.Column("next_certificate", sa.Text(), nullable=True))
