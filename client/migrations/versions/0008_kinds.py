"""kinds of revocations, and what the names of those who acted were bound to"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Earlier revocations were all handled as withdrawals, whatever they were; of earlier names nothing is known."""
    for table, name, default in (
        ("revocations", "kind", "withdrawal"),
        ("revocations", "identity", ""),
        ("revocation_events", "identity", ""),
    ):
        op.add_column(table, sa.Column(name, sa.String(length=200), nullable=False, server_default=default))
    op.add_column("revocation_events", sa.Column("signature", sa.Text(), nullable=False, server_default=""))
