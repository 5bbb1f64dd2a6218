"""Make the trail of what operators did with parked messages, and the notes of what is in hand."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.TIMESTAMP(timezone=True).with_variant(sa.BigInteger(), "sqlite")
_NUMBERED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself only where the type is exactly INTEGER."""


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "parked_trail",
        sa.Column("entry_id", _NUMBERED, sa.Identity(), primary_key=True),
        sa.Column(
            "parked_id",
            sa.BigInteger,
            sa.ForeignKey("parked_messages.parked_id", name="trail_of_a_message"),
            nullable=False,
        ),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("done_at", _TIME, nullable=False),
        sa.CheckConstraint("act IN ('replay', 'discard')", name="trail_act_known"),
        sqlite_autoincrement=True,
    )
    op.create_index("trail_by_message", "parked_trail", ["parked_id"])
    # A row for each worker that took a message in hand with care; only a death leaves one.
    op.create_table(
        "handling_notes",
        sa.Column("message_key", sa.Text, nullable=False),
        sa.Column("life", sa.Text, nullable=False),
        sa.Column("noted_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("message_key", "life", name="handling_notes_pkey"),
    )
    op.create_index("notes_by_age", "handling_notes", ["noted_at"])
